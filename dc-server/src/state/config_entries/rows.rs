//! Configuration entries as rows, for snapshots and for what is replicated from the primary datacenter.

use std::{collections::BTreeMap, ops::Bound};

use lan_agent::catalog::Text;
use serde::{Deserialize, Serialize};

use super::{Entry, Table};
use crate::{config_entry::Definition, state::Touched};

/// An entry with its indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    #[serde(rename = "k")]
    kind: Text,
    #[serde(rename = "n")]
    name: Text,
    #[serde(rename = "b")]
    body: Text,
    #[serde(rename = "c")]
    create_index: u64,
    #[serde(rename = "m")]
    modify_index: u64,
    /// When it changed here; not said of what was just replicated.
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    changed_index: u64,
}

/// Indexes that are not kept with entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexes {
    #[serde(rename = "i", default)]
    index: u64,
    /// Of all kinds that there ever were.
    #[serde(rename = "k", default)]
    kinds: BTreeMap<Text, u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl EntryRow {
    /// Makes the row of an entry.
    pub fn of(entry: &Entry) -> Self {
        let Entry { definition, create_index, modify_index, changed_index } = entry.clone();
        let Definition { kind, name, body, .. } = definition;
        Self { kind, name, body, create_index, modify_index, changed_index }
    }

    /// Makes the row of an entry as it is in the primary datacenter.
    pub fn replicated(entry: &Entry) -> Self {
        Self { changed_index: 0, ..Self::of(entry) }
    }

    /// Returns the entry.
    pub fn entry(self) -> Entry {
        let Self { kind, name, body, create_index, modify_index, changed_index } = self;
        let definition = Definition::kept(kind, name, body);
        Entry { definition, create_index, modify_index, changed_index }
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        64 + self.kind.len() + self.name.len() + self.body.len()
    }
}

impl Table {
    /// Returns the indexes that no entry has.
    pub fn indexes(&self) -> Indexes {
        let kinds = self.kinds.iter().map(|(name, kind)| (name.clone(), kind.index));
        Indexes { index: self.index, kinds: kinds.collect() }
    }

    /// Puts an entry in.
    pub fn restore(&mut self, row: EntryRow) {
        self.put(row.entry(), &mut Touched::default());
    }

    /// Sets the indexes that no entry has.
    pub fn restore_indexes(&mut self, indexes: Indexes) {
        self.index = indexes.index;
        for (name, index) in indexes.kinds {
            self.kinds.entry(name).or_default().index = index;
        }
    }

    /// Returns the entries that follow on one, or all, in the order of their kinds and names.
    pub fn after(
        &self,
        position: Option<&(Text, Text)>,
    ) -> impl Iterator<Item = ((Text, Text), &Entry)> {
        let from = move |kind: &Text| match position {
            Some((at, name)) if at == kind => Bound::Excluded(name.clone()),
            _ => Bound::Unbounded,
        };
        let kinds = position.map_or(Bound::Unbounded, |(kind, _)| Bound::Included(kind.clone()));
        self.kinds.range((kinds, Bound::Unbounded)).flat_map(move |(kind, of)| {
            let entries = of.entries.range((from(kind), Bound::Unbounded));
            entries.map(|(name, entry)| ((kind.clone(), name.clone()), &**entry))
        })
    }
}
