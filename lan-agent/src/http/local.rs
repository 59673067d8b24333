//! `/v1/agent/`: what this node says and does by itself.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use topology::{Member, Profile, Role, Status};

use super::{context::Context, error::Failure, host, reply::Reply, stats::stats};

/// Where the address to join begins.
const JOIN: &str = "/v1/agent/join/";

/// Where the name of a node to be held for left begins.
const FORCE_LEAVE: &str = "/v1/agent/force-leave/";

/// Consul's port of the WAN pool, for addresses without one.
const WAN_PORT: u16 = 8302;

/// `/v1/agent/members`: those of the LAN pool, or of the WAN pool with `?wan`.
pub(super) async fn members(cx: Context) -> Result<Reply, Failure> {
    let query = cx.query();
    // Consul's own command line asks for all segments.
    if query.get("segment").is_some_and(|segment| !matches!(segment.as_ref(), "" | "_all")) {
        return Err(Failure::internal("Network segments are not supported"));
    }
    let list: Vec<Value> = if wants_wan(&cx) {
        let members = cx.agent.caller.server().map(|server| server.wan_members());
        members.unwrap_or_default().iter().map(wan_member_json).collect()
    } else {
        cx.agent.pool.members().iter().map(member_json).collect()
    };
    Ok(Reply::value(&Value::from(list)))
}

/// `/v1/agent/reload`: what can't be applied before the next start is named in the answer, where Consul
/// says nothing.
pub(super) async fn reload(cx: Context) -> Result<Reply, Failure> {
    // A client that goes away meanwhile does not stop it halfway: it has been asked for.
    let reloaded = cx.agent.process.reloads.reload().await.map_err(Failure::internal)?;
    Ok(match reloaded.warning() {
        Some(warning) => Reply::text("text/plain; charset=utf-8", warning),
        None => Reply::empty(),
    })
}

/// `/v1/agent/self`.
pub(super) async fn own(cx: Context) -> Result<Reply, Failure> {
    let config = &cx.agent.config;
    let me = &config.me;
    let members = cx.agent.pool.members();
    let member = members
        .iter()
        .find(|member| member.profile.name == me.name)
        .cloned()
        .unwrap_or_else(|| Member { profile: me.clone(), status: Status::Alive });
    Ok(Reply::value(&json!({
        "Config": {
            "Datacenter": me.dc,
            "PrimaryDatacenter": config.primary_dc,
            "NodeName": me.name,
            "NodeID": me.id,
            "Revision": config.revision,
            "Server": me.role == Role::Server,
            "Version": me.version,
        },
        "DebugConfig": *cx.agent.settings(),
        "Coord": cx.agent.pool.coordinate(),
        "Member": member_json(&member),
        "Stats": stats(&cx.agent, &members),
        "Meta": cx.agent.local.look(|state| state.node().meta.clone()),
    })))
}

/// `/v1/agent/version`.
pub(super) async fn version(cx: Context) -> Result<Reply, Failure> {
    let config = &cx.agent.config;
    let mut shown = Map::new();
    shown.insert("SHA".to_owned(), config.revision.into());
    if let Some(date) = config.build_date {
        shown.insert("BuildDate".to_owned(), date.into());
    }
    shown.insert("HumanVersion".to_owned(), config.me.version.as_str().into());
    shown.insert("FIPS".to_owned(), "".into());
    Ok(Reply::value(&Value::Object(shown)))
}

/// `/v1/agent/host`.
pub(super) async fn host(cx: Context) -> Result<Reply, Failure> {
    let now_ms = cx.agent.now_ms();
    let text = tokio::task::spawn_blocking(move || host::describe(now_ms).to_string()).await;
    text.map(Reply::json).map_err(|error| Failure::internal(error.to_string()))
}

/// `/v1/agent/metrics`, with `?format=prometheus` as text.
pub(super) async fn metrics(cx: Context) -> Result<Reply, Failure> {
    let registry = &cx.agent.process.registry;
    match cx.query().get("format").as_deref() {
        Some("prometheus") => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            Ok(Reply::text(content_type, registry.prometheus()))
        }
        _ => Ok(Reply::value(&registry.json(cx.agent.now_ms()))),
    }
}

/// `/v1/agent/join/:address`, into the WAN pool with `?wan`.
pub(super) async fn join(cx: Context) -> Result<Reply, Failure> {
    let addr = cx.path_after(JOIN)?;
    if addr.is_empty() {
        return Err(Failure::bad("Missing the address to join"));
    }
    if wants_wan(&cx) {
        let Some(server) = cx.agent.caller.server() else {
            return Err(Failure::internal("Must be a server to join WAN cluster"));
        };
        let addrs = resolve(&addr, WAN_PORT).await?;
        server.wan_join(addrs).await.map_err(Failure::internal)?;
    } else {
        cx.agent.pool.join(vec![addr]).await?;
    }
    Ok(Reply::empty())
}

/// `/v1/agent/leave`: answers when the others were told; the agent stops thereafter.
pub(super) async fn leave(cx: Context) -> Result<Reply, Failure> {
    // A client that goes away meanwhile does not stop it halfway.
    let agent = cx.agent.clone();
    let left = tokio::spawn(async move { agent.leave().await }).await;
    left.map_err(|error| Failure::internal(error.to_string()))?.map_err(Failure::internal)?;
    Ok(Reply::empty())
}

/// `/v1/agent/force-leave/:node`, with `?prune` and `?wan`.
pub(super) async fn force_leave(cx: Context) -> Result<Reply, Failure> {
    let name = cx.path_after(FORCE_LEAVE)?;
    let prune = cx.query().has("prune");
    let server = cx.agent.caller.server();
    if wants_wan(&cx) {
        let Some(server) = server else {
            return Err(Failure::internal("Must be a server to force a node out of the WAN"));
        };
        server.wan_force_leave(&name, prune).await.map_err(Failure::internal)?;
        return Ok(Reply::empty());
    }
    cx.agent.pool.force_leave(&name, prune).await?;
    if let (Some(server), Ok(name)) = (server, name.parse()) {
        server.force_leave(&name).await.map_err(Failure::internal)?;
    }
    Ok(Reply::empty())
}

fn wants_wan(cx: &Context) -> bool {
    // As in Consul, `wan=1` and a bare `wan` say the same.
    cx.query().get("wan").is_some_and(|value| !matches!(value.as_ref(), "0" | "false"))
}

async fn resolve(addr: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    crate::pool::join::resolve(addr, port)
        .await
        .map_err(|error| Failure::internal(error.to_string()))
}

/// A member as Consul shows it.
fn member_json(member: &Member) -> Value {
    named_member(member, member.profile.name.to_string())
}

/// A member of the WAN pool, whose name there is `node.dc`.
fn wan_member_json(member: &Member) -> Value {
    let profile = &member.profile;
    named_member(member, profile.name.in_wan(&profile.dc))
}

fn named_member(member: &Member, name: String) -> Value {
    let profile = &member.profile;
    let status = match member.status {
        Status::Alive => 1,
        Status::Leaving => 2,
        Status::Left => 3,
        Status::Failed => 4,
    };
    json!({
        "Name": name,
        "Addr": profile.addr.ip().to_string(),
        "Port": profile.addr.port(),
        "Tags": tags(profile),
        "Status": status,
        // Consul's versions of Serf's protocols: what its clients expect to read.
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}

/// Consul's tags: what the profile says in fields of its own, and its other tags.
fn tags(profile: &Profile) -> Map<String, Value> {
    let mut tags: Map<String, Value> = profile
        .tags
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.clone())))
        .collect();
    let mut add = |name: &str, value: String| {
        tags.insert(name.to_owned(), Value::from(value));
    };
    add("acls", "0".to_owned());
    add("build", format!("{}:", profile.version));
    add("dc", profile.dc.to_string());
    add("id", profile.id.to_string());
    add("segment", String::new());
    add("vsn", "2".to_owned());
    add("vsn_min", "2".to_owned());
    add("vsn_max", "3".to_owned());
    match profile.role {
        Role::Client => add("role", "node".to_owned()),
        Role::Server => {
            add("role", "consul".to_owned());
            add("raft_vsn", "3".to_owned());
            if let Some(link) = profile.link {
                add("port", link.port().to_string());
            }
            if let Some(wan) = profile.wan {
                add("wan_join_port", wan.port().to_string());
            }
        }
    }
    tags.sort_keys();
    tags
}

#[cfg(test)]
mod tests;
