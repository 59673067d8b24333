//! Keys and tombstones as rows, for snapshots and for the mirrors of other datacenters.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Entry, Key, Table};

/// A key with what is stored under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    #[serde(rename = "k")]
    key: Key,
    #[serde(rename = "v")]
    value: Bytes,
    #[serde(rename = "f", default)]
    flags: u64,
    #[serde(rename = "c")]
    create_index: u64,
    #[serde(rename = "m")]
    modify_index: u64,
}

/// A key that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneRow {
    #[serde(rename = "k")]
    key: Key,
    #[serde(rename = "i")]
    index: u64,
}

impl KeyRow {
    /// Makes the row of an entry.
    pub fn of(key: &Key, entry: &Entry) -> Self {
        let Entry { value, flags, create_index, modify_index } = entry.clone();
        Self { key: key.clone(), value, flags, create_index, modify_index }
    }

    /// Returns the key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        64 + self.key.len() + self.value.len()
    }
}

impl TombstoneRow {
    /// Makes the row of a tombstone.
    pub fn of(key: &Key, index: u64) -> Self {
        Self { key: key.clone(), index }
    }

    /// Returns the key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        32 + self.key.len()
    }
}

impl Table {
    /// Puts an entry in.
    pub fn restore(&mut self, row: KeyRow) {
        let KeyRow { key, value, flags, create_index, modify_index } = row;
        self.entries.insert(key, Entry { value, flags, create_index, modify_index }.into());
    }

    /// Puts a tombstone in.
    pub fn restore_tombstone(&mut self, row: TombstoneRow) {
        self.tombstones.insert(row.key, row.index);
    }

    /// Sets the index of the table, and up to which deletions are forgotten.
    pub fn restore_indexes(&mut self, index: u64, reaped: u64) {
        self.index = index;
        self.reaped = reaped;
    }
}
