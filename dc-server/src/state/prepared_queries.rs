//! The prepared queries of a datacenter, by id and name.
//!
//! ```text
//! queries    id ──▶ Entry
//! names      name in small letters ──▶ id
//! templates  name in small letters ──▶ id; the longest that a name begins with takes it
//! ```

use std::sync::Arc;

use imbl::OrdMap;
use lan_agent::{ask::AskError, catalog::Text};
use serde::{Deserialize, Serialize};

use super::{
    Touched,
    catalog::{Fault, Key, Refusal, fold},
};
use crate::prepared_query::Definition;

/// Most bytes of all definitions together: tens of thousands of them.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a query takes beside its text, about.
const FRAME_LEN: usize = 256;

/// A query with its indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id: a UUID.
    pub id: Text,
    /// What it says.
    pub definition: Definition,
    /// The index at which it came to be.
    pub create_index: u64,
    /// The index at which it changed last.
    pub modify_index: u64,
}

/// The queries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    queries: OrdMap<Text, Arc<Entry>>,
    names: OrdMap<Key, Text>,
    templates: OrdMap<Key, Text>,
    index: u64,
    bytes: usize,
}

/// A query as snapshots hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRow {
    id: Text,
    #[serde(rename = "b")]
    body: Text,
    #[serde(rename = "c")]
    create_index: u64,
    #[serde(rename = "m")]
    modify_index: u64,
}

impl Table {
    /// Returns the index of the last change of any of them; 0 when there was none.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns all, in the order of their ids.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.queries.values()
    }

    /// Returns the one with an id.
    pub fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.queries.get(id)
    }

    /// Returns the one that runs by a name or an id.
    pub fn find(&self, name: &Text) -> Option<&Arc<Entry>> {
        let key = fold(name);
        let by_name = || self.queries.get(self.names.get(&key)?);
        self.get(name).or_else(by_name).or_else(|| self.queries.get(self.template(&key)?))
    }

    /// Returns the template with the longest name that a name begins with.
    fn template(&self, name: &str) -> Option<&Text> {
        let ends = name.char_indices().map(|(at, _)| at).rev();
        let prefixes = [name.len()].into_iter().chain(ends).map(|end| &name[..end]);
        prefixes.into_iter().find_map(|prefix| self.templates.get(prefix))
    }

    /// Refuses a query for which there is no room.
    pub fn check_room(&self, id: &str, definition: &Definition) -> Result<(), AskError> {
        let replaced = self.get(id).map_or(0, |entry| len(&entry.definition));
        match self.bytes - replaced + len(definition) > BYTES_MAX {
            false => Ok(()),
            true => Err(AskError::TooLarge(format!(
                "there is no room for another prepared query: all together may have {BYTES_MAX} bytes"
            ))),
        }
    }

    /// Sets a query; `new` when there is to be none of its id.
    pub fn set(
        &mut self,
        index: u64,
        id: &Text,
        definition: &Definition,
        new: bool,
        touched: &mut Touched,
    ) -> Result<(), Refusal> {
        let before = self.queries.get(id).cloned();
        if before.is_none() && !new {
            return Err(missing(id));
        }
        let key = fold(&definition.name().into());
        let others = if definition.is_template() { &self.templates } else { &self.names };
        if others.get(&key).is_some_and(|other| other != id) {
            let what = if definition.is_template() { "template" } else { "name" };
            let name = definition.name();
            let sentence = format!("{what} '{name}' aliases an existing query {what}").into();
            return Err(Refusal { fault: Fault::Catalog, sentence });
        }
        let create_index = before.as_ref().map_or(index, |entry| entry.create_index);
        let entry = Entry {
            id: id.clone(),
            definition: definition.clone(),
            create_index,
            modify_index: index,
        };
        self.take_out(id);
        self.put(entry);
        self.changed(index, touched);
        Ok(())
    }

    /// Deletes a query.
    pub fn delete(&mut self, index: u64, id: &Text, touched: &mut Touched) -> Result<(), Refusal> {
        if !self.take_out(id) {
            return Err(missing(id));
        }
        self.changed(index, touched);
        Ok(())
    }

    /// Returns the queries that follow on one, or all, as rows in the order of their ids.
    pub fn after(&self, id: Option<&Text>) -> impl Iterator<Item = (Text, QueryRow)> {
        use std::ops::Bound;
        let from = id.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.queries.range((from, Bound::Unbounded)).map(|(id, entry)| {
            let Entry { definition, create_index, modify_index, .. } = &**entry;
            let (create_index, modify_index) = (*create_index, *modify_index);
            let body = definition.body().clone();
            (id.clone(), QueryRow { id: id.clone(), body, create_index, modify_index })
        })
    }

    /// Puts a query in that a snapshot holds; one that this version can't read is left out.
    pub fn restore(&mut self, row: QueryRow) {
        let QueryRow { id, body, create_index, modify_index } = row;
        match Definition::kept(&body) {
            Some(definition) => self.put(Entry { id, definition, create_index, modify_index }),
            None => tracing::warn!(%id, "a prepared query can't be read and is left out"),
        }
    }

    /// Sets the index of the last change.
    pub fn restore_index(&mut self, index: u64) {
        self.index = index;
    }

    fn changed(&mut self, index: u64, touched: &mut Touched) {
        self.index = index;
        touched.queries = true;
    }

    fn put(&mut self, entry: Entry) {
        let key = fold(&entry.definition.name().into());
        self.bytes += len(&entry.definition);
        match entry.definition.is_template() {
            true => self.templates.insert(key, entry.id.clone()),
            false => self.names.insert(key, entry.id.clone()),
        };
        self.queries.insert(entry.id.clone(), Arc::new(entry));
    }

    /// Takes a query out; tells whether there was one.
    fn take_out(&mut self, id: &Text) -> bool {
        let Some(entry) = self.queries.remove(id) else { return false };
        let key = fold(&entry.definition.name().into());
        self.bytes -= len(&entry.definition);
        match entry.definition.is_template() {
            true => self.templates.remove(&key),
            false => self.names.remove(&key),
        };
        true
    }
}

impl QueryRow {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        FRAME_LEN + self.body.len()
    }
}

fn len(definition: &Definition) -> usize {
    FRAME_LEN + definition.body().len()
}

fn missing(id: &Text) -> Refusal {
    let sentence = format!("Cannot modify non-existent prepared query: '{id}'").into();
    Refusal { fault: Fault::Catalog, sentence }
}

#[cfg(test)]
mod tests;
