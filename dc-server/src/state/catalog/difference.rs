//! What changed between two versions of a catalog: enough to make one of the other.
//!
//! Both are persistent maps that share what did not change, so that finding the difference takes as
//! long as it is large. It is cut into pages at nodes; what belongs to no node comes with the last
//! page, and only then does what was patched equal the newer version.

use std::{ops::Bound, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};
use lan_agent::catalog::{Check, Node, Service};
use serde::{Deserialize, Serialize};

use super::{
    Catalog, GroupRow, Host, Indexes, Key, Orphan, Record, fold,
    part::{Changes, Part},
};
use crate::state::Touched;

/// What a record takes beside its texts, about.
const RECORD_LEN: usize = 64;

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Nodes that are new or on which something changed, in order.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<HostRow>,
    /// Nodes that are gone, with everything on them.
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Key>,
    /// Indexes of services that changed.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupRow>,
    /// Services that are gone with their last instance.
    #[serde(rename = "xg", default, skip_serializing_if = "Vec::is_empty")]
    gone_groups: Vec<Key>,
    /// The other indexes; only on the last page.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    indexes: Option<Indexes>,
    /// The last node of the page; `None` on the last page.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    last: Option<Key>,
}

/// What changed of a node and on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    #[serde(rename = "n")]
    key: Key,
    #[serde(rename = "i")]
    index: u64,
    #[serde(rename = "k")]
    checks_index: u64,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    node: Option<Arc<Record<Node>>>,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<Arc<Record<Service>>>,
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Arc<Record<Check>>>,
    #[serde(rename = "xs", default, skip_serializing_if = "Vec::is_empty")]
    gone_services: Vec<Key>,
    #[serde(rename = "xc", default, skip_serializing_if = "Vec::is_empty")]
    gone_checks: Vec<Key>,
}

impl Difference {
    /// Returns where the page ends; `None` for the last one.
    pub fn last(&self) -> Option<&Key> {
        self.last.as_ref()
    }

    /// Tells whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Catalog {
    /// Returns what changed since an older version, on the nodes after one: about as many bytes as
    /// given, at least one node.
    pub fn difference(&self, older: &Self, after: Option<&Key>, len_aim: usize) -> Difference {
        let mut page = Difference::default();
        let mut len = 0;
        let mut changes = self.changed_hosts(older, after).peekable();
        while let Some((key, now, before)) = changes.next() {
            match now {
                Some(now) => {
                    let row = HostRow::between(key, before, now);
                    len += row.len();
                    page.hosts.push(row);
                }
                None => {
                    len += key.len();
                    page.gone.push(key.clone());
                }
            }
            if len >= len_aim && changes.peek().is_some() {
                page.last = Some(key.clone());
                return page;
            }
        }
        drop(changes);
        for item in older.groups.diff(&self.groups) {
            match item {
                DiffItem::Add(name, group) | DiffItem::Update { new: (name, group), .. } => {
                    page.groups.push(GroupRow::of(name, group));
                }
                DiffItem::Remove(name, _) => page.gone_groups.push(name.clone()),
            }
        }
        page.indexes = (older.indexes != self.indexes).then(|| self.indexes.clone());
        page
    }

    fn changed_hosts<'a>(
        &'a self,
        older: &'a Self,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = (&'a Key, Option<&'a Host>, Option<&'a Host>)> + 'a> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        if older.hosts.is_empty() {
            let hosts = self.hosts.range((from, Bound::Unbounded));
            return Box::new(hosts.map(|(key, host)| (key, Some(&**host), None)));
        }
        let after = after.cloned();
        let changed = older.hosts.diff(&self.hosts).map(|item| match item {
            DiffItem::Add(key, host) => (key, Some(&**host), None),
            DiffItem::Update { old: (_, before), new: (key, host) } => {
                (key, Some(&**host), Some(&**before))
            }
            DiffItem::Remove(key, before) => (key, None, Some(&**before)),
        });
        Box::new(changed.filter(move |(key, ..)| after.as_ref().is_none_or(|it| *key > it)))
    }

    /// Makes a catalog that equals the older version equal the newer one; or closer to it, as long as
    /// pages are missing. Adds what may have changed to `touched`.
    ///
    /// Fails when it is not the difference from this catalog; what it is then is good for nothing.
    pub fn patch(&mut self, page: Difference, touched: &mut Touched) -> Result<(), Orphan> {
        // What is noted there has the wrong indexes: those of the newer version come along.
        let mut unused = Changes::at(0);
        for key in &page.gone {
            self.take_node(&mut unused, key);
            touched.parts.extend([Part::Node(key.clone()), Part::NodeChecks(key.clone())]);
        }
        for row in page.hosts {
            touched.parts.extend([Part::Node(row.key.clone()), Part::NodeChecks(row.key.clone())]);
            self.patch_host(row, &mut unused)?;
        }
        let groups = page.groups.iter().map(|row| row.name().clone());
        for group in groups.chain(page.gone_groups) {
            let parts = [Part::Service, Part::Health, Part::ServiceChecks];
            touched.parts.extend(parts.map(|part| part(group.clone())));
        }
        page.groups.into_iter().for_each(|row| self.restore_group(row));
        if let Some(indexes) = page.indexes {
            touched.parts.extend(indexes.differing(&self.indexes));
            self.indexes = indexes;
        }
        Ok(())
    }

    fn patch_host(&mut self, row: HostRow, unused: &mut Changes) -> Result<(), Orphan> {
        let HostRow { key, index, checks_index, node, services, checks, .. } = row;
        if let Some(record) = node {
            let id = fold(&record.value.id);
            let before = self.seat_node(&key, Arc::unwrap_or_clone(record), index);
            if let Some(before) = before {
                self.forget_id(&before.value.id, &key);
            }
            if !id.is_empty() {
                self.ids.insert(id, key.clone());
            }
        }
        let key = self.known(key)?;
        row.gone_checks.iter().for_each(|id| self.take_check(unused, &key, id));
        row.gone_services.iter().for_each(|id| self.take_service(unused, &key, id));
        for record in services {
            let mut record = Arc::unwrap_or_clone(record);
            self.names.share(&mut record.value);
            self.seat_service(&key, record, 0);
        }
        for record in checks {
            let mut record = Arc::unwrap_or_clone(record);
            if let Some(host) = self.hosts.get(&key) {
                host.complete(&mut record.value);
            }
            self.seat_check(&key, record);
        }
        if let Some(host) = self.host_mut(&key) {
            host.index = index;
            host.checks_index = checks_index;
        }
        Ok(())
    }
}

impl HostRow {
    fn between(key: &Key, before: Option<&Host>, now: &Host) -> Self {
        let nothing = (OrdMap::new(), OrdMap::new());
        let (instances, checks) =
            before.map_or((&nothing.0, &nothing.1), |before| (&before.instances, &before.checks));
        let is_new = before.is_none_or(|before| before.node != now.node);
        let mut row = Self {
            key: key.clone(),
            index: now.index,
            checks_index: now.checks_index,
            node: is_new.then(|| now.node.clone()),
            services: Vec::new(),
            checks: Vec::new(),
            gone_services: Vec::new(),
            gone_checks: Vec::new(),
        };
        for item in instances.diff(&now.instances) {
            match item {
                DiffItem::Add(_, it) => row.services.push(it.record.clone()),
                DiffItem::Update { old: (_, before), new: (_, now) } => {
                    // A check that is listed with it is a row of its own.
                    if before.record != now.record {
                        row.services.push(now.record.clone());
                    }
                }
                DiffItem::Remove(id, _) => row.gone_services.push(id.clone()),
            }
        }
        for item in checks.diff(&now.checks) {
            match item {
                DiffItem::Add(_, it) | DiffItem::Update { new: (_, it), .. } => {
                    row.checks.push(it.clone());
                }
                DiffItem::Remove(id, _) => row.gone_checks.push(id.clone()),
            }
        }
        row
    }

    /// About how many bytes it takes.
    fn len(&self) -> usize {
        let node = self.node.iter().map(|node| RECORD_LEN + node.value.text_len());
        let services = self.services.iter().map(|it| RECORD_LEN + it.value.text_len());
        let checks = self.checks.iter().map(|it| RECORD_LEN + it.value.text_len());
        let gone = self.gone_services.iter().chain(&self.gone_checks).map(|id| id.len());
        RECORD_LEN + node.chain(services).chain(checks).chain(gone).sum::<usize>()
    }
}
