//! What answers show of the catalog, each part with the index of its last change.
//!
//! The index of what is gone is that of the last time when anything of its kind went: it is above
//! all indexes that the part had, and most of the time it stays as it is when others change.

use std::collections::BTreeSet;

use lan_agent::catalog::Health;
use serde::{Deserialize, Serialize};

use super::{Catalog, Key};
use crate::state::Touched;

/// What changes together, and is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The nodes themselves, without what runs on them.
    Nodes,
    /// A node with what runs on it, without checks.
    Node(Key),
    /// The checks of a node and of what runs on it.
    NodeChecks(Key),
    /// The names of the services with their tags.
    Names,
    /// All instances of all services.
    Instances,
    /// The instances of a service with their nodes.
    Service(Key),
    /// The same with the checks of both.
    Health(Key),
    /// The checks of a service's instances.
    ServiceChecks(Key),
    /// The checks that say this, or all of them.
    Checks(Option<Health>),
}

/// Indexes of the parts that are not kept with what they are about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexes {
    #[serde(rename = "n", default)]
    nodes: u64,
    #[serde(rename = "sn", default)]
    names: u64,
    #[serde(rename = "i", default)]
    instances: u64,
    #[serde(rename = "c", default)]
    checks: u64,
    #[serde(rename = "p", default)]
    passing: u64,
    #[serde(rename = "w", default)]
    warning: u64,
    #[serde(rename = "cr", default)]
    critical: u64,
    /// When a node went last.
    #[serde(rename = "gn", default)]
    gone_node: u64,
    /// When a service went last, that is its last instance.
    #[serde(rename = "gs", default)]
    gone_service: u64,
}

/// What a command changes, gathered while it is carried out.
#[derive(Debug)]
pub(super) struct Changes {
    /// The index of the command.
    pub(super) index: u64,
    parts: BTreeSet<Part>,
}

impl Indexes {
    /// Returns the index of the last change of anything.
    pub fn last(&self) -> u64 {
        let Self { nodes, names, instances, checks, .. } = self;
        // Whatever changes is one of these.
        *nodes.max(names).max(instances).max(checks)
    }

    /// Returns the parts whose indexes differ from those of before.
    pub(super) fn differing(&self, before: &Self) -> Vec<Part> {
        let pairs = [
            (Part::Nodes, self.nodes, before.nodes),
            (Part::Names, self.names, before.names),
            (Part::Instances, self.instances, before.instances),
            (Part::Checks(None), self.checks, before.checks),
            (Part::Checks(Some(Health::Passing)), self.passing, before.passing),
            (Part::Checks(Some(Health::Warning)), self.warning, before.warning),
            (Part::Checks(Some(Health::Critical)), self.critical, before.critical),
        ];
        pairs.into_iter().filter(|(_, now, then)| now != then).map(|(part, ..)| part).collect()
    }
}

impl Changes {
    /// Starts with nothing.
    pub(super) fn at(index: u64) -> Self {
        Self { index, parts: BTreeSet::new() }
    }

    /// Notes that a part is not what it was.
    pub(super) fn add(&mut self, part: Part) {
        self.parts.insert(part);
    }
}

impl Catalog {
    /// Returns the index of a part's last change; 0 when it never had any.
    pub fn index_of(&self, part: &Part) -> u64 {
        let host = |key| self.hosts.get(key);
        let group = |key| self.groups.get(key);
        let Indexes { gone_node, gone_service, .. } = self.indexes;
        match part {
            Part::Nodes => self.indexes.nodes,
            Part::Node(key) => host(key).map_or(gone_node, |host| host.index),
            Part::NodeChecks(key) => host(key).map_or(gone_node, |host| host.checks_index),
            Part::Names => self.indexes.names,
            Part::Instances => self.indexes.instances,
            Part::Service(key) => group(key).map_or(gone_service, |group| group.index),
            Part::Health(key) => group(key).map_or(gone_service, |group| group.health_index),
            Part::ServiceChecks(key) => group(key).map_or(gone_service, |group| group.checks_index),
            Part::Checks(None) => self.indexes.checks,
            Part::Checks(Some(Health::Passing)) => self.indexes.passing,
            Part::Checks(Some(Health::Warning)) => self.indexes.warning,
            Part::Checks(Some(Health::Critical)) => self.indexes.critical,
        }
    }

    /// Raises the indexes of what changed, and says what did.
    pub(super) fn settle(&mut self, changes: Changes, touched: &mut Touched) {
        for part in &changes.parts {
            *self.index_mut(part) = changes.index;
        }
        touched.parts.extend(changes.parts);
    }

    fn index_mut(&mut self, part: &Part) -> &mut u64 {
        let indexes = &mut self.indexes;
        match part {
            Part::Nodes => &mut indexes.nodes,
            Part::Node(key) | Part::NodeChecks(key) => {
                let Some(host) = self.hosts.get_mut(key) else { return &mut indexes.gone_node };
                let host = std::sync::Arc::make_mut(host);
                if matches!(part, Part::Node(_)) { &mut host.index } else { &mut host.checks_index }
            }
            Part::Names => &mut indexes.names,
            Part::Instances => &mut indexes.instances,
            Part::Service(key) | Part::Health(key) | Part::ServiceChecks(key) => {
                let Some(group) = self.groups.get_mut(key) else {
                    return &mut indexes.gone_service;
                };
                let group = std::sync::Arc::make_mut(group);
                match part {
                    Part::Service(_) => &mut group.index,
                    Part::Health(_) => &mut group.health_index,
                    _ => &mut group.checks_index,
                }
            }
            Part::Checks(None) => &mut indexes.checks,
            Part::Checks(Some(Health::Passing)) => &mut indexes.passing,
            Part::Checks(Some(Health::Warning)) => &mut indexes.warning,
            Part::Checks(Some(Health::Critical)) => &mut indexes.critical,
        }
    }
}
