//! The catalog: which nodes there are, what runs on them, and what was found out about it.
//!
//! ```text
//! hosts   node ─────▶ Host ──┬── the node itself
//!                            ├── instances by id, each with the ids of the checks about it
//!                            └── checks by id
//! ids     id of a node ───▶ node
//! groups  service ──▶ Group: where its instances are
//! names   service, as it was written ──▶ how many instances have it, with which tags
//! unwell  warning, critical ──▶ the checks that say so
//! ```
//!
//! Names and ids are found whatever their capitals: tables go by their [`fold`]ed form, records
//! keep what was written. What answers show is divided into [`Part`]s; a command raises the
//! indexes of exactly the parts that it changed and rings for exactly these, so that who waits
//! for `web` does not hear of `db`. A command that changes nothing raises no index.
//!
//! Everything here is decided by the command and the state alone, and all of a command is
//! carried out or none: what can be refused is refused before anything is changed
//! ([`Refusal`]). Refusals are part of the replicated state, so the reasons for them stay the
//! same over versions; what may become stricter is checked before a command is written.

mod change;
mod deregister;
mod difference;
mod names;
mod part;
mod register;
mod rows;

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};
use lan_agent::catalog::{Check, Health, Node, SERF_HEALTH, Service, Text};
use serde::{Deserialize, Serialize};

pub use difference::{Difference, HostRow};
pub use names::{Names, Usage};
pub use part::{Indexes, Part};
pub use rows::{GroupRow, NodeRow, Orphan, Position, RecordRow};

/// A name or id as the tables go by it: in small letters.
pub type Key = Text;

/// The nodes, services and checks of a datacenter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    hosts: OrdMap<Key, Arc<Host>>,
    ids: OrdMap<Key, Key>,
    groups: OrdMap<Key, Arc<Group>>,
    names: Names,
    unwell: Unwell,
    indexes: Indexes,
}

/// Something that was registered, with when it came to be and when it changed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<T> {
    /// What was registered.
    #[serde(rename = "v")]
    pub value: T,
    /// The index at which it came to be.
    #[serde(rename = "c")]
    pub create_index: u64,
    /// The index at which it changed last.
    #[serde(rename = "m")]
    pub modify_index: u64,
}

/// A node with everything on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    node: Arc<Record<Node>>,
    instances: OrdMap<Key, Instance>,
    checks: OrdMap<Key, Arc<Record<Check>>>,
    /// The checks that are about the node itself, in order.
    own_checks: Arc<[Key]>,
    index: u64,
    checks_index: u64,
}

/// An instance of a service on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    record: Arc<Record<Service>>,
    /// The checks that are about it, in order.
    checks: Arc<[Key]>,
}

/// The instances of a service, on all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    places: OrdSet<Place>,
    index: u64,
    health_index: u64,
    checks_index: u64,
}

/// Where an instance or a check is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    node: Key,
    id: Key,
}

/// The checks that do not pass; those that do are found by looking at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Unwell {
    warning: OrdSet<Place>,
    critical: OrdSet<Place>,
}

/// Why a registration can't be, so that nothing of it was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Whose fault it is.
    pub fault: Fault,
    /// What is wrong with it.
    pub sentence: Text,
}

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The registration can't be taken in whatever the catalog holds: 400.
    Registration,
    /// It does not go together with what the catalog holds: 500, as in Consul.
    Catalog,
}

impl Catalog {
    /// Returns the index of the last change of anything: servers of a datacenter that have the same
    /// one have the same catalog. 0 before the first.
    pub fn version(&self) -> u64 {
        self.indexes.last()
    }

    /// Tells whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Returns the nodes in the order of their names.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().map(|host| &**host)
    }

    /// Returns a node by its name, whatever its capitals.
    pub fn host(&self, name: &Text) -> Option<&Host> {
        self.hosts.get(&fold(name)).map(|host| &**host)
    }

    /// Returns the node whose id is this or starts with this, if it is the only one.
    pub fn host_by_id(&self, start: &Text) -> Option<&Host> {
        let start = fold(start);
        let from = (Bound::Included(&*start), Bound::Unbounded);
        let mut found =
            self.ids.range::<_, str>(from).take_while(|(id, _)| id.starts_with(&*start));
        match (found.next(), found.next()) {
            (Some((_, key)), None) => self.hosts.get(key).map(|host| &**host),
            _ => None,
        }
    }

    /// Returns the instances of a service with their nodes, in the order of the nodes' names and
    /// then of the instances' ids.
    pub fn instances(&self, service: &Text) -> impl Iterator<Item = (&Host, &Instance)> {
        let group = self.groups.get(&fold(service));
        let places = group.into_iter().flat_map(|group| group.places.iter());
        places.filter_map(|place| {
            let host = self.hosts.get(&place.node)?;
            Some((&**host, host.instances.get(&place.id)?))
        })
    }

    /// Returns the names of the services as they were written, with their tags.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Returns the checks that say this with their nodes, in the order of the nodes' names and
    /// then of their ids.
    pub fn checks_in(
        &self,
        status: Health,
    ) -> Box<dyn Iterator<Item = (&Host, &Record<Check>)> + '_> {
        let places = match status {
            Health::Passing => {
                return Box::new(self.hosts().flat_map(|host| {
                    let checks = host.checks();
                    let passing = checks.filter(|check| check.value.status == Health::Passing);
                    passing.map(move |check| (host, check))
                }));
            }
            Health::Warning => &self.unwell.warning,
            Health::Critical => &self.unwell.critical,
        };
        Box::new(places.iter().filter_map(|place| {
            let host = self.hosts.get(&place.node)?;
            Some((&**host, &**host.checks.get(&place.id)?))
        }))
    }
}

impl Host {
    /// Returns the node itself.
    pub fn node(&self) -> &Record<Node> {
        &self.node
    }

    /// Returns what runs on it, in the order of the ids.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// Returns an instance by its id, whatever its capitals.
    pub fn instance(&self, id: &Text) -> Option<&Instance> {
        self.instances.get(&fold(id))
    }

    /// Returns the checks of the node and of its services, in the order of the ids.
    pub fn checks(&self) -> impl Iterator<Item = &Record<Check>> {
        self.checks.values().map(|check| &**check)
    }

    /// Returns a check by its id, whatever its capitals.
    pub fn check(&self, id: &str) -> Option<&Record<Check>> {
        self.checks.get(&fold(&id.into())).map(|check| &**check)
    }

    /// Returns the checks that are about the node itself.
    pub fn own_checks(&self) -> impl Iterator<Item = &Record<Check>> {
        self.own_checks.iter().filter_map(|id| self.checks.get(id)).map(|check| &**check)
    }

    /// Returns the checks that are about an instance on this node.
    pub fn checks_of<'a>(
        &'a self,
        instance: &'a Instance,
    ) -> impl Iterator<Item = &'a Record<Check>> {
        instance.checks.iter().filter_map(|id| self.checks.get(id)).map(|check| &**check)
    }

    /// Tells whether the node has an agent that was not found dead.
    fn is_alive(&self) -> bool {
        let alive = self.check(SERF_HEALTH);
        alive.is_some_and(|check| check.value.status != Health::Critical)
    }
}

impl Instance {
    /// Returns the instance as it was registered.
    pub fn service(&self) -> &Record<Service> {
        &self.record
    }
}

/// Returns the form of a name or id that tables go by.
pub fn fold(text: &Text) -> Key {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return text.clone();
    }
    let folded = text.to_lowercase();
    if *folded == **text { text.clone() } else { folded.into() }
}

#[cfg(test)]
pub(crate) mod tests;
