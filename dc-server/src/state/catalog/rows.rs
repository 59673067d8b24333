//! The catalog as rows, for snapshots: nodes first, then what runs on them, then the checks, then the
//! indexes of the services. What can be computed from these is not among them.

use std::ops::Bound;

use lan_agent::catalog::{Check, Node, Service};
use serde::{Deserialize, Serialize};

use super::{Catalog, Group, Indexes, Key, Record, fold};

/// Where a service or a check is: its node and its id.
pub type Position = (Key, Key);

/// A node: `N` is a [`Node`], or a reference to one.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeRow<N> {
    #[serde(rename = "v")]
    node: N,
    #[serde(rename = "c")]
    create_index: u64,
    #[serde(rename = "m")]
    modify_index: u64,
    #[serde(rename = "i")]
    index: u64,
    #[serde(rename = "k")]
    checks_index: u64,
}

/// A service or a check on a node: `T` is the value, or a reference to one.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordRow<T> {
    #[serde(rename = "n")]
    node: Key,
    #[serde(rename = "v")]
    value: T,
    #[serde(rename = "c")]
    create_index: u64,
    #[serde(rename = "m")]
    modify_index: u64,
}

/// The indexes of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    #[serde(rename = "n")]
    name: Key,
    #[serde(rename = "i")]
    index: u64,
    #[serde(rename = "h")]
    health_index: u64,
    #[serde(rename = "k")]
    checks_index: u64,
}

/// Something on a node that there is no row for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has something on node {0:?}, but not the node")]
pub struct Orphan(Key);

impl<T> RecordRow<T> {
    fn new<'a, V>(node: &Key, record: &'a Record<V>) -> RecordRow<&'a V> {
        let Record { value, create_index, modify_index } = record;
        RecordRow {
            node: node.clone(),
            value,
            create_index: *create_index,
            modify_index: *modify_index,
        }
    }

    fn record(self) -> (Key, Record<T>) {
        let Self { node, value, create_index, modify_index } = self;
        (node, Record { value, create_index, modify_index })
    }
}

impl GroupRow {
    pub(super) fn of(name: &Key, group: &Group) -> Self {
        let Group { index, health_index, checks_index, .. } = *group;
        Self { name: name.clone(), index, health_index, checks_index }
    }

    pub(super) fn name(&self) -> &Key {
        &self.name
    }
}

impl Catalog {
    /// Returns the indexes of what is not a row.
    pub fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Returns the nodes after one, each with where it is.
    pub fn nodes_after(&self, after: Option<&Key>) -> impl Iterator<Item = (Key, NodeRow<&Node>)> {
        self.hosts.range::<_, str>(beyond(after)).map(|(key, host)| {
            let Record { value: node, create_index, modify_index } = &*host.node;
            let (create_index, modify_index) = (*create_index, *modify_index);
            let (index, checks_index) = (host.index, host.checks_index);
            (key.clone(), NodeRow { node, create_index, modify_index, index, checks_index })
        })
    }

    /// Returns the services after one, each with where it is.
    pub fn services_after(
        &self,
        after: Option<&Position>,
    ) -> impl Iterator<Item = (Position, RecordRow<&Service>)> {
        let first = after.map(|(node, _)| node);
        self.hosts.range::<_, str>(from(first)).flat_map(move |(node, host)| {
            let after = after.filter(|(first, _)| first == node).map(|(_, id)| id);
            let instances = host.instances.range::<_, str>(beyond(after));
            instances.map(|(id, instance)| {
                ((node.clone(), id.clone()), RecordRow::<Service>::new(node, &instance.record))
            })
        })
    }

    /// Returns the checks after one, each with where it is.
    pub fn checks_after(
        &self,
        after: Option<&Position>,
    ) -> impl Iterator<Item = (Position, RecordRow<&Check>)> {
        let first = after.map(|(node, _)| node);
        self.hosts.range::<_, str>(from(first)).flat_map(move |(node, host)| {
            let after = after.filter(|(first, _)| first == node).map(|(_, id)| id);
            let checks = host.checks.range::<_, str>(beyond(after));
            checks.map(|(id, check)| {
                ((node.clone(), id.clone()), RecordRow::<Check>::new(node, check))
            })
        })
    }

    /// Returns the indexes of the services after one, each with its name.
    pub fn groups_after(&self, after: Option<&Key>) -> impl Iterator<Item = (Key, GroupRow)> {
        let groups = self.groups.range::<_, str>(beyond(after));
        groups.map(|(name, group)| (name.clone(), GroupRow::of(name, group)))
    }

    /// Sets the indexes of what is not a row.
    pub fn restore_indexes(&mut self, indexes: Indexes) {
        self.indexes = indexes;
    }

    /// Puts a node in.
    pub fn restore_node(&mut self, row: NodeRow<Node>) {
        let NodeRow { node, create_index, modify_index, index, checks_index } = row;
        let (key, id) = (fold(&node.name), fold(&node.id));
        self.seat_node(&key, Record { value: node, create_index, modify_index }, index);
        if let Some(host) = self.host_mut(&key) {
            host.checks_index = checks_index;
        }
        if !id.is_empty() {
            self.ids.insert(id, key);
        }
    }

    /// Puts a service on its node.
    pub fn restore_service(&mut self, row: RecordRow<Service>) -> Result<(), Orphan> {
        let (node, mut record) = row.record();
        let key = self.known(node)?;
        self.names.share(&mut record.value);
        self.seat_service(&key, record, 0);
        Ok(())
    }

    /// Puts a check on its node.
    pub fn restore_check(&mut self, row: RecordRow<Check>) -> Result<(), Orphan> {
        let (node, mut record) = row.record();
        let key = self.known(node)?;
        if let Some(host) = self.hosts.get(&key) {
            host.complete(&mut record.value);
        }
        self.seat_check(&key, record);
        Ok(())
    }

    /// Sets the indexes of a service.
    pub fn restore_group(&mut self, row: GroupRow) {
        if let Some(group) = self.groups.get_mut(&row.name) {
            let group = std::sync::Arc::make_mut(group);
            group.index = row.index;
            group.health_index = row.health_index;
            group.checks_index = row.checks_index;
        }
    }

    /// Returns a node's name as the table has it.
    pub(super) fn known(&self, node: Key) -> Result<Key, Orphan> {
        let key = self.shared_key(node);
        if self.hosts.contains_key(&key) { Ok(key) } else { Err(Orphan(key)) }
    }
}

fn from(first: Option<&Key>) -> (Bound<&str>, Bound<&str>) {
    (first.map_or(Bound::Unbounded, |first| Bound::Included(&**first)), Bound::Unbounded)
}

fn beyond(after: Option<&Key>) -> (Bound<&str>, Bound<&str>) {
    (after.map_or(Bound::Unbounded, |after| Bound::Excluded(&**after)), Bound::Unbounded)
}
