//! The configuration entries of a datacenter, by kind and name.
//!
//! An entry has two kinds of indexes. Those that clients see and compare (`CreateIndex`, `ModifyIndex`) are those of
//! the primary datacenter, where entries are written, and the same everywhere, so that what was read in one datacenter
//! can be compared in another. Those that blocking queries go by are those of this datacenter's log. A kind remembers
//! when anything of it changed or went last. Names are found whatever their capitals.

mod rows;

use std::{borrow::Cow, sync::Arc};

use imbl::OrdMap;
use lan_agent::{ask::AskError, catalog::Text};

use super::{Touched, catalog::Key};
use crate::config_entry::{Definition, SERVICE_RESOLVER, ServiceResolver};

pub use rows::{EntryRow, Indexes};

/// Most bytes of all entries together: some ten thousand services with a resolver each. They are all in memory, and
/// cross the WAN whenever one of them changes.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What an entry takes beside its text, about.
const ENTRY_FRAME_LEN: usize = 128;

/// An entry with its indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub definition: Definition,
    /// The index at which it came to be, in the primary datacenter.
    pub create_index: u64,
    /// The index at which it changed last, in the primary datacenter.
    pub modify_index: u64,
    /// The index at which it changed last here.
    pub changed_index: u64,
}

/// Names an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its kind.
    pub kind: Text,
    /// Its name in small letters.
    pub name: Key,
}

/// The entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    kinds: OrdMap<Text, Kind>,
    index: u64,
    bytes: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kind {
    entries: OrdMap<Key, Arc<Entry>>,
    index: u64,
}

impl Place {
    /// Names an entry, whatever the capitals of its name.
    pub fn new(kind: &Text, name: &str) -> Self {
        Self { kind: kind.clone(), name: folded(name).into() }
    }
}

impl Entry {
    fn len(&self) -> usize {
        ENTRY_FRAME_LEN + self.definition.body.len()
    }
}

impl Table {
    /// Returns the index of the last change of any entry; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns the index of the last change of any entry of a kind; of any at all where nothing of it is known.
    pub fn index_of_kind(&self, kind: &str) -> u64 {
        self.kinds.get(kind).map_or(self.index, |kind| kind.index)
    }

    /// Tells whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Returns an entry, whatever the capitals of its name.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Arc<Entry>> {
        self.kinds.get(kind)?.entries.get(&*folded(name))
    }

    /// Returns how lookups of a service are to be answered, if anything is said of that.
    pub fn resolver(&self, service: &str) -> Option<&Arc<ServiceResolver>> {
        self.get(SERVICE_RESOLVER, service)?.definition.resolver()
    }

    /// Returns the entries of a kind in the order of their names.
    pub fn of_kind<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        self.kinds.get(kind).into_iter().flat_map(|kind| kind.entries.values())
    }

    /// Returns all entries in the order of their kinds and names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.kinds.values().flat_map(|kind| kind.entries.values())
    }

    /// Refuses an entry for which there is no room.
    pub fn check_room(&self, definition: &Definition) -> Result<(), AskError> {
        let replaced = self.get(&definition.kind, &definition.name).map_or(0, |entry| entry.len());
        let len = self.bytes - replaced + ENTRY_FRAME_LEN + definition.body.len();
        if len <= BYTES_MAX {
            return Ok(());
        }
        Err(AskError::TooLarge(format!(
            "all config entries together would have {len} bytes, max: {BYTES_MAX}"
        )))
    }

    /// Sets an entry and tells whether it is set now as asked; `false` when `cas` does not hold.
    ///
    /// Setting what is already there changes no index and wakes nobody. `cas` 0 means that there must be none.
    pub fn set(
        &mut self,
        index: u64,
        definition: &Definition,
        cas: Option<u64>,
        touched: &mut Touched,
    ) -> bool {
        let found = self.get(&definition.kind, &definition.name);
        if cas.is_some_and(|cas| cas != found.map_or(0, |entry| entry.modify_index)) {
            return false;
        }
        if found.is_some_and(|entry| entry.definition == *definition) {
            return true;
        }
        let entry = Entry {
            definition: definition.clone(),
            create_index: found.map_or(index, |entry| entry.create_index),
            // Another datacenter's log may have given it a greater one, when that was the primary.
            modify_index: found.map_or(index, |entry| index.max(entry.modify_index + 1)),
            changed_index: index,
        };
        self.put(entry, touched);
        true
    }

    /// Deletes an entry and tells whether it is gone now; `false` when `cas` is given and does not hold.
    pub fn delete(
        &mut self,
        index: u64,
        place: &Place,
        cas: Option<u64>,
        touched: &mut Touched,
    ) -> bool {
        let found = self.get(&place.kind, &place.name);
        if cas.is_some() && found.map(|entry| entry.modify_index) != cas {
            return false;
        }
        if found.is_some() {
            self.remove(index, place, touched);
        }
        true
    }

    /// Makes entries what they are in the primary datacenter.
    pub fn replicate(
        &mut self,
        index: u64,
        set: &[EntryRow],
        gone: &[(Text, Text)],
        touched: &mut Touched,
    ) {
        for (kind, name) in gone {
            if self.get(kind, name).is_some() {
                self.remove(index, &Place::new(kind, name), touched);
            }
        }
        for row in set {
            let entry = Entry { changed_index: index, ..row.clone().entry() };
            let found = self.get(&entry.definition.kind, &entry.definition.name);
            let is_there = found.is_some_and(|found| {
                Entry { changed_index: index, ..Entry::clone(found) } == entry
            });
            if !is_there {
                self.put(entry, touched);
            }
        }
    }

    fn put(&mut self, entry: Entry, touched: &mut Touched) {
        let place = Place::new(&entry.definition.kind, &entry.definition.name);
        let kind = self.kinds.entry(place.kind.clone()).or_default();
        kind.index = kind.index.max(entry.changed_index);
        self.index = self.index.max(entry.changed_index);
        self.bytes += entry.len();
        if let Some(replaced) = kind.entries.insert(place.name.clone(), Arc::new(entry)) {
            self.bytes -= replaced.len();
        }
        touched.config_entries.push(place);
    }

    fn remove(&mut self, index: u64, place: &Place, touched: &mut Touched) {
        let Some(kind) = self.kinds.get_mut(&place.kind) else { return };
        let Some(removed) = kind.entries.remove(&place.name) else { return };
        kind.index = index;
        self.index = index;
        self.bytes -= removed.len();
        touched.config_entries.push(place.clone());
    }
}

/// Returns a name in small letters.
fn folded(name: &str) -> Cow<'_, str> {
    if name.is_ascii() && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.to_lowercase())
}

#[cfg(test)]
mod tests;
