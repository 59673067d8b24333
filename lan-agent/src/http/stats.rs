//! The numbers of an agent by section, as `agent/self` and `info` show them: texts, all of them.
//!
//! Sections and names are Consul's where the same thing is counted; what Causeway does not have (the
//! clocks and queues of Serf) is not there.

use std::time::Duration;

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::runtime::Handle;
use topology::{Member, Role, Status};

use crate::{agent::Agent, cache::Holdings, catalog::Health, duration, local::Synced};

/// Returns all sections.
pub(super) fn stats(agent: &Agent, members: &[Member]) -> Value {
    let me = &agent.config.me;
    let mut stats = json!({
        "agent": own(agent),
        "cache": cache(agent),
        "build": { "prerelease": "", "revision": agent.config.revision, "version": me.version },
        "consul": { "acl": "disabled", "server": (me.role == Role::Server).to_string() },
        "runtime": runtime(agent),
        "serf_lan": pool(agent, members),
        "servers": servers(agent),
    });
    if me.role == Role::Client {
        let server = |it: &&Member| it.profile.role == Role::Server && it.status == Status::Alive;
        let servers = members.iter().filter(server).count();
        stats["consul"]["known_servers"] = servers.to_string().into();
    }
    for (section, key, value) in agent.caller.server().map(|s| s.stats()).unwrap_or_default() {
        stats[section][key] = Value::from(value);
    }
    stats
}

/// What runs on the node, and what the servers know of it.
fn own(agent: &Agent) -> Value {
    let Synced { failures, untold, last, last_full } = agent.local.synced();
    agent.local.look(|state| {
        let count = |wanted: Health| state.checks().filter(|it| it.check.status == wanted).count();
        let checks = state.checks().count();
        let waiting = state.checks().filter(|it| &*it.check.kind == "ttl").count();
        json!({
            "check_monitors": (checks - waiting).to_string(),
            "check_ttls": waiting.to_string(),
            "checks": checks.to_string(),
            "checks_critical": count(Health::Critical).to_string(),
            "checks_passing": count(Health::Passing).to_string(),
            "checks_warning": count(Health::Warning).to_string(),
            "services": state.services().count().to_string(),
            "sync_failures": failures.to_string(),
            "sync_last": ago(last),
            "sync_last_full": ago(last_full),
            "sync_pending": untold.to_string(),
        })
    })
}

/// Whether anybody answers, and since when.
fn servers(agent: &Agent) -> Value {
    let standing = agent.caller.standing();
    let standing = standing.borrow();
    let age = standing.since.elapsed();
    let began = OffsetDateTime::from_unix_timestamp((agent.now_ms() / 1000) as i64);
    let began = began.ok().and_then(|now| (now - age).replace_nanosecond(0).ok());
    let mut servers = json!({
        "standing": standing.reach.as_str(),
        "since": began.and_then(|began| began.format(&Rfc3339).ok()).unwrap_or_default(),
        "for": duration::format(Duration::from_secs(age.as_secs())),
    });
    if let Some(why) = standing.cut_off() {
        servers["reason"] = Value::from(&**why);
    }
    servers
}

/// What the cache holds.
fn cache(agent: &Agent) -> Value {
    let Holdings { entries, fresh, bytes, age_max } = agent.cache.holdings(agent.now_ms());
    json!({
        "bytes": bytes.to_string(),
        "entries": entries.to_string(),
        "kept_fresh": fresh.to_string(),
        "oldest": duration::format(Duration::from_secs(age_max.as_secs())),
    })
}

fn ago(age: Option<Duration>) -> String {
    match age {
        None => "never".to_owned(),
        Some(age) => format!("{} ago", duration::format(Duration::from_secs(age.as_secs()))),
    }
}

fn runtime(agent: &Agent) -> Value {
    // As Go names them, which those who compare numbers of several agents look for.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let tokio = Handle::current().metrics();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "arch": arch,
        "cpu_count": processors.to_string(),
        "max_procs": tokio.num_workers().to_string(),
        "os": std::env::consts::OS,
        "tasks": tokio.num_alive_tasks().to_string(),
        "uptime_seconds": agent.age().as_secs().to_string(),
    })
}

fn pool(agent: &Agent, members: &[Member]) -> Value {
    let count = |status| members.iter().filter(|member| member.status == status).count();
    let encrypted = !agent.settings()["encrypt"].is_null();
    json!({
        "encrypted": encrypted.to_string(),
        "failed": count(Status::Failed).to_string(),
        "left": count(Status::Left).to_string(),
        "members": members.len().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_whole_seconds() {
        assert_eq!(ago(None), "never");
        assert_eq!(ago(Some(Duration::from_millis(61_900))), "1m1s ago");
        assert_eq!(ago(Some(Duration::ZERO)), "0s ago");
    }
}
