//! What changed below some prefixes since an index: enough to bring a copy of these up to date.
//!
//! Every entry and every tombstone says when it changed, so no older version of the table is needed. Only
//! deletions whose tombstones were reaped since can't be told any more: then everything is sent.
//! Pages are cut between indexes, the oldest changes first.

use serde::{Deserialize, Serialize};

use super::{KeyRow, Table, TombstoneRow};
use crate::state::Touched;

/// How far a copy is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// It has all changes up to this index; 0 for nothing.
    #[serde(rename = "i")]
    pub index: u64,
    /// Up to which deletions were forgotten where it comes from, at the last page.
    #[serde(rename = "r")]
    pub reaped: u64,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is the difference from: with 0 it starts from nothing.
    #[serde(rename = "s")]
    since: u64,
    /// How far who takes it is then.
    #[serde(rename = "u")]
    upto: Progress,
    /// Where the pages lead that begin with this one, if there is more than one: what comes before has what
    /// was deleted meanwhile no more, and is nothing that there ever was.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    aim: Option<u64>,
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    tombstones: Vec<TombstoneRow>,
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    entries: Vec<KeyRow>,
}

enum Row {
    Entry(KeyRow),
    Tombstone(TombstoneRow),
}

impl Difference {
    /// Returns what it is the difference from; 0 for nothing.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Returns how far who takes it is then.
    pub fn upto(&self) -> Progress {
        self.upto
    }

    /// Tells whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.tombstones.is_empty()
    }

    /// Returns the index up to which there have to be pages, if this is not the only one.
    pub fn aim(&self) -> Option<u64> {
        self.aim
    }
}

impl Table {
    /// Tells whether anything changed below the prefixes after an index.
    pub fn changed_since(&self, prefixes: &[String], index: u64) -> bool {
        self.index > index
            && prefixes.iter().any(|prefix| {
                self.below(prefix).any(|(_, entry)| entry.modify_index > index)
                    || self.tombstones(prefix).any(|(_, deleted)| deleted > index)
            })
    }

    /// Returns what changed below the prefixes for a copy that is so far: about as many bytes as
    /// given, at least one change. No prefix may be below another one.
    pub fn difference(&self, prefixes: &[String], from: Progress, len_aim: usize) -> Difference {
        let forgotten = from.index < self.reaped && from.reaped != self.reaped;
        let since = if forgotten || from.index > self.index { 0 } else { from.index };
        let mut changes: Vec<(u64, usize, Row)> = Vec::new();
        for prefix in prefixes {
            let entries = self.below(prefix).filter(|(_, entry)| entry.modify_index > since);
            changes.extend(entries.map(|(key, entry)| {
                let row = KeyRow::of(key, entry);
                (entry.modify_index, row.size(), Row::Entry(row))
            }));
            let tombstones = self.tombstones(prefix).filter(|(_, index)| *index > since);
            changes.extend(tombstones.map(|(key, index)| {
                let row = TombstoneRow::of(key, index);
                (index, row.size(), Row::Tombstone(row))
            }));
        }
        changes.sort_by_key(|(index, ..)| *index);
        let mut page = Difference { since, ..Difference::default() };
        let (mut len, mut upto) = (0, since);
        for (index, row_len, row) in changes {
            if len >= len_aim && index > upto {
                page.aim = Some(self.index);
                break;
            }
            (len, upto) = (len + row_len, index);
            match row {
                Row::Entry(row) => page.entries.push(row),
                Row::Tombstone(row) => page.tombstones.push(row),
            }
        }
        let index = if page.aim.is_some() { upto } else { self.index };
        page.upto = Progress { index, reaped: self.reaped };
        page
    }

    /// Brings a copy up to date; one that starts from nothing is made anew. Adds what changed to
    /// `touched`.
    pub fn patch(&mut self, page: Difference, touched: &mut Touched) {
        if page.since == 0 {
            touched.keys.extend(self.entries.keys().cloned());
            *self = Self::default();
        }
        for row in page.tombstones {
            touched.keys.push(row.key().clone());
            self.entries.remove(row.key());
            self.restore_tombstone(row);
        }
        for row in page.entries {
            touched.keys.push(row.key().clone());
            self.restore(row);
        }
        self.index = page.upto.index;
        self.reap(page.upto.reaped);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::kv::Key;

    #[derive(Debug, Clone)]
    enum Change {
        Set(Key),
        Delete(Key),
        DeleteTree(Key),
        Reap,
        Pull { len_aim: usize },
    }

    fn changes() -> impl Strategy<Value = Change> {
        let key = prop::sample::select(&["a/1", "a/2", "a/3", "b/1", "b/2", "c", "a"][..]);
        let key = key.prop_map(Key::from);
        prop_oneof![
            4 => key.clone().prop_map(Change::Set),
            2 => key.clone().prop_map(Change::Delete),
            1 => key.prop_map(Change::DeleteTree),
            1 => Just(Change::Reap),
            2 => prop_oneof![Just(1), Just(usize::MAX)].prop_map(|len_aim| Change::Pull { len_aim }),
        ]
    }

    /// What a copy of the prefixes is to be.
    fn restricted(table: &Table, prefixes: &[String]) -> Table {
        let is_below = |key: &Key| prefixes.iter().any(|prefix| key.starts_with(prefix));
        let mut table = table.clone();
        table.entries = table.entries.into_iter().filter(|(key, _)| is_below(key)).collect();
        table.tombstones = table.tombstones.into_iter().filter(|(key, _)| is_below(key)).collect();
        table
    }

    proptest! {
        #[test]
        fn a_copy_that_is_up_to_date_is_what_is_below_the_prefixes(
            changes in prop::collection::vec(changes(), 1..80),
        ) {
            let prefixes = ["a/".to_owned(), "b/".to_owned()];
            let (mut table, mut copy) = (Table::default(), Table::default());
            let (mut progress, mut forgotten) = (Progress::default(), 0);
            for (index, change) in (1..).zip(changes) {
                let mut touched = Touched::default();
                match change {
                    Change::Set(key) => {
                        table.set(index, key, index.to_string().into(), 0, None, &mut touched);
                    }
                    Change::Delete(key) => drop(table.delete(index, &key, None, &mut touched)),
                    Change::DeleteTree(key) => {
                        table.delete_tree(index, &key, &mut touched);
                    }
                    Change::Reap => {
                        forgotten = table.index();
                        table.reap(forgotten);
                    }
                    Change::Pull { len_aim } => {
                        let changed = table.changed_since(&prefixes, progress.index);
                        let page = table.difference(&prefixes, progress, len_aim);
                        let bytes = rmp_serde::to_vec_named(&page).unwrap();
                        let page: Difference = rmp_serde::from_slice(&bytes).unwrap();
                        prop_assert!(page.since() == 0 || page.since() == progress.index);
                        let (upto, more) = (page.upto(), page.aim().is_some());
                        let before = copy.clone();
                        copy.patch(page, &mut touched);
                        prop_assert!(changed || progress.index < forgotten || copy == before
                            || before.entries == copy.entries);
                        progress = upto;
                        if !more {
                            prop_assert_eq!(&copy, &restricted(&table, &prefixes));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pages_are_cut_between_indexes() {
        let mut table = Table::default();
        let mut touched = Touched::default();
        for key in ["a/1", "a/2"] {
            table.set(1, key.into(), "x".into(), 0, None, &mut touched);
        }
        table.set(2, "a/3".into(), "x".into(), 0, None, &mut touched);
        let page = table.difference(&["a/".to_owned()], Progress::default(), 1);
        assert_eq!(page.aim(), Some(2));
        assert_eq!((page.entries.len(), page.upto().index), (2, 1));
        let page = table.difference(&["a/".to_owned()], page.upto(), 1);
        assert_eq!((page.entries.len(), page.upto().index, page.aim()), (1, 2, None));
    }
}
