//! Keys and values, with the indexes that make blocking queries work.
//!
//! Every change carries the log index at which it happened. A key remembers when it was created
//! and last changed; a deletion leaves a tombstone with its index, so that one who watches a
//! prefix sees the index of that prefix grow although there is less below it. Tombstones are
//! reaped later by a command ([`Table::reap`]); what was not seen by then is found out by the
//! index of the whole table, which never falls.

mod difference;
mod rows;

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use imbl::OrdMap;

use super::Touched;

pub use difference::{Difference, Progress};
pub use rows::{KeyRow, TombstoneRow};

/// A key: UTF-8, without a leading slash by convention only.
pub type Key = Arc<str>;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// The client's own number.
    pub flags: u64,
    /// The index at which the key came to be.
    pub create_index: u64,
    /// The index at which value or flags changed last.
    pub modify_index: u64,
}

/// The table of keys and values with the tombstones of deleted keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    entries: OrdMap<Key, Arc<Entry>>,
    tombstones: OrdMap<Key, u64>,
    index: u64,
    reaped: u64,
}

impl Table {
    /// Returns the index of the last change of any key; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns the index up to which deletions are forgotten.
    pub fn reaped(&self) -> u64 {
        self.reaped
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of tombstones.
    pub fn tombstones_len(&self) -> usize {
        self.tombstones.len()
    }

    /// Returns what is stored under a key.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// Returns the entries from a key on, in the order of their keys.
    pub fn since<'a>(
        &'a self,
        from: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Entry>)> + Clone + use<'a> {
        self.entries.range::<_, str>((Bound::Included(from), Bound::Unbounded))
    }

    /// Returns the entries below a prefix in the order of their keys.
    pub fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Entry>)> + Clone {
        self.since(prefix).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Returns the first entry below a prefix whose key is greater than all that start with
    /// `passed`, which lets one walk groups of keys without visiting each key.
    pub fn after_group<'a>(&'a self, prefix: &str, passed: &str) -> Option<&'a Key> {
        let after = successor(passed)?;
        self.since(&after).next().map(|(key, _)| key).filter(|key| key.starts_with(prefix))
    }

    /// Returns the tombstones below a prefix with the indexes of the deletions.
    pub fn tombstones<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Key, u64)> + 'a {
        self.tombstones_since(prefix).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Returns the tombstones from a key on, in the order of their keys.
    pub fn tombstones_since<'a>(
        &'a self,
        from: &str,
    ) -> impl Iterator<Item = (&'a Key, u64)> + use<'a> {
        let from = (Bound::Included(from), Bound::Unbounded);
        self.tombstones.range::<_, str>(from).map(|(key, index)| (key, *index))
    }

    /// Sets a key and tells whether it is set now as asked; `false` when `cas` does not hold.
    ///
    /// Setting what is already there changes no index and wakes nobody, as in Consul. `cas` 0
    /// means that there must be no such key.
    pub fn set(
        &mut self,
        index: u64,
        key: Key,
        value: Bytes,
        flags: u64,
        cas: Option<u64>,
        touched: &mut Touched,
    ) -> bool {
        let found = self.entries.get(&key);
        if cas.is_some_and(|cas| cas != found.map_or(0, |entry| entry.modify_index)) {
            return false;
        }
        if found.is_some_and(|entry| entry.flags == flags && entry.value == value) {
            return true;
        }
        let create_index = found.map_or(index, |entry| entry.create_index);
        let entry = Entry { value, flags, create_index, modify_index: index };
        touched.keys.push(key.clone());
        self.entries.insert(key, Arc::new(entry));
        self.index = index;
        true
    }

    /// Deletes a key and tells whether it is gone now; `false` when `cas` does not hold.
    pub fn delete(
        &mut self,
        index: u64,
        key: &str,
        cas: Option<u64>,
        touched: &mut Touched,
    ) -> bool {
        let Some((key, entry)) = self.entries.get_key_value(key) else {
            return true;
        };
        if cas.is_some_and(|cas| cas != entry.modify_index) {
            return false;
        }
        let key = key.clone();
        self.bury(index, key, touched);
        true
    }

    /// Deletes all keys below a prefix and returns how many there were.
    pub fn delete_tree(&mut self, index: u64, prefix: &str, touched: &mut Touched) -> usize {
        let keys: Vec<Key> = self.below(prefix).map(|(key, _)| key.clone()).collect();
        let count = keys.len();
        for key in keys {
            self.bury(index, key, touched);
        }
        count
    }

    fn bury(&mut self, index: u64, key: Key, touched: &mut Touched) {
        self.entries.remove(&key);
        self.tombstones.insert(key.clone(), index);
        self.index = index;
        touched.keys.push(key);
    }

    /// Forgets the deletions up to and including an index; the index of the table stays.
    pub fn reap(&mut self, upto: u64) {
        let due: Vec<Key> = self
            .tombstones("")
            .filter(|(_, index)| *index <= upto)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.tombstones.remove(&key);
        }
        // Those to come are not forgotten, whatever is wanted.
        self.reaped = self.reaped.max(upto.min(self.index));
    }

    /// Returns the index for an answer about one key: of its last change, or of the table when
    /// there is no such key.
    pub fn index_of(&self, key: &str) -> u64 {
        self.get(key).map_or(self.index, |entry| entry.modify_index)
    }

    /// Returns the index for an answer about a prefix: of the last change or deletion below it,
    /// or of the table when nothing is known below it or all keys are asked for.
    pub fn index_below(&self, prefix: &str) -> u64 {
        if prefix.is_empty() {
            return self.index;
        }
        let changed = self.below(prefix).map(|(_, entry)| entry.modify_index).max();
        let deleted = self.tombstones(prefix).map(|(_, index)| index).max();
        changed.max(deleted).unwrap_or(self.index)
    }
}

/// Returns the least string that is greater than all strings that start with `prefix`.
fn successor(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (u32::from(last) + 1..=0x10_FFFF).find_map(char::from_u32) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}
