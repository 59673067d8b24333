//! Makes the catalog say what the LAN pool knows: which nodes there are, and whether they live.
//!
//! A function of the members, the catalog and how long the leader has known them to the changes
//! that are due:
//!
//! ```text
//! alive                      node registered, serfHealth passing, a server's own service
//! alive, with another id     node deregistered; the look after this one registers it
//! failed                     serfHealth critical, whatever else is known of it
//! left                       node deregistered
//! in the catalog with a serfHealth, but no member any more     deregistered
//! ```
//!
//! What a node says of itself beside its address (its meta, its other addresses) is its agent's
//! business: a node that is there is not changed. Nodes without `serfHealth` were registered by
//! others and are left alone. A leader that has not yet heard of everyone would take live nodes
//! for gone, so absence counts only after [`SETTLED_AFTER`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lan_agent::catalog::{
    Check, Deregistration, Health, Node, Registration, Removed, SERF_HEALTH, SERVERS, Service,
    Texts,
};
use topology::{Member, NodeName, Profile, Role, Status};

use crate::state::{
    Op,
    catalog::{Catalog, Host},
};

/// How often all of it is looked at although nothing is known to have changed: somebody may have
/// changed the catalog by hand.
pub const RECONCILE: Duration = Duration::from_secs(60);

/// How long this node must have been in the pool before a node that is not in it is gone.
pub const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What `serfHealth` is called.
const NAME: &str = "Serf Health Status";

/// What it says of a node whose agent lives, in the words that Consul's users look for.
const ALIVE: &str = "Agent alive and reachable";

/// What it says of one whose agent is dead.
const FAILED: &str = "Agent not live or unreachable";

/// Returns what has to be changed in the catalog, each change on its own.
///
/// `me` is the leader, which is alive whatever others say. `settled` is how long it has been in
/// the pool.
pub fn plan(members: &[Member], catalog: &Catalog, me: &NodeName, settled: Duration) -> Vec<Op> {
    let mut changes = Vec::new();
    for member in members {
        let profile = &member.profile;
        let host = catalog.host(&profile.name.as_str().into());
        changes.extend(match member.status {
            _ if profile.name == *me => alive(profile, host),
            Status::Alive | Status::Leaving => alive(profile, host),
            Status::Failed => failed(profile, host),
            Status::Left => host.map(gone),
        });
    }
    if settled >= SETTLED_AFTER {
        changes.extend(absent(members, catalog));
    }
    changes
}

fn alive(profile: &Profile, host: Option<&Host>) -> Option<Op> {
    let another = |host: &&Host| {
        let known = &host.node().value.id;
        !known.is_empty() && **known != *profile.id.to_string()
    };
    if let Some(host) = host.filter(another) {
        // Another machine has the name now, and nothing of the old one is true of it.
        return Some(gone(host));
    }
    let health = health(Health::Passing, ALIVE);
    let service = own_service(profile);
    let known = host.is_some_and(|host| {
        let says = host.check(SERF_HEALTH).is_some_and(|check| check.value.status == health.status);
        let serves = service.as_ref().is_none_or(|service| {
            host.instance(&service.id).is_some_and(|it| it.service().value == *service)
        });
        says && serves
    });
    (!known).then(|| registration(profile, service, health))
}

fn failed(profile: &Profile, host: Option<&Host>) -> Option<Op> {
    let known = host.and_then(|host| host.check(SERF_HEALTH));
    let known = known.is_some_and(|check| check.value.status == Health::Critical);
    (!known).then(|| registration(profile, None, health(Health::Critical, FAILED)))
}

fn gone(host: &Host) -> Op {
    Op::Deregister(Deregistration { node: host.node().value.name.clone(), what: Removed::Node })
}

/// Nodes that had an agent of which the pool knows nothing any more.
fn absent<'a>(members: &'a [Member], catalog: &'a Catalog) -> impl Iterator<Item = Op> + 'a {
    let known: BTreeMap<String, ()> =
        members.iter().map(|member| (member.profile.name.as_str().to_lowercase(), ())).collect();
    let had_agent = |host: &&Host| host.check(SERF_HEALTH).is_some();
    catalog
        .hosts()
        .filter(had_agent)
        .filter(move |host| !known.contains_key(&host.node().value.name.to_lowercase()))
        .map(gone)
}

fn registration(profile: &Profile, service: Option<Service>, health: Check) -> Op {
    let node = Node {
        name: profile.name.as_str().into(),
        id: profile.id.to_string().into(),
        address: profile.addr.ip().to_string().into(),
        ..Node::default()
    };
    let checks = vec![health];
    Op::Register(Arc::new(Registration { node, skip_node_update: true, service, checks }))
}

fn health(status: Health, output: &str) -> Check {
    Check {
        id: SERF_HEALTH.into(),
        name: NAME.into(),
        status,
        output: output.into(),
        ..Check::default()
    }
}

/// The service by which servers are found, with what Consul says of its own.
fn own_service(profile: &Profile) -> Option<Service> {
    let link = profile.link.filter(|_| profile.role == Role::Server)?;
    let meta = [
        ("non_voter", "false"),
        ("raft_version", "3"),
        ("serf_protocol_current", "2"),
        ("serf_protocol_max", "5"),
        ("serf_protocol_min", "1"),
        ("version", profile.version.as_str()),
    ];
    let meta: Texts = meta.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let (id, name) = (SERVERS.into(), SERVERS.into());
    Some(Service { id, name, port: link.port(), meta, ..Service::default() })
}

#[cfg(test)]
mod tests;
