//! Typed settings by key, and how layers of them become one.
//!
//! A later layer overrides an earlier one, except that lists add up and objects of texts are
//! merged key by key, as Consul does it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::keys::{self, Key};

/// A value that is what its key holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Duration(Duration),
    Texts(Vec<String>),
    TextMap(BTreeMap<String, String>),
    Raw(Value),
}

/// A value, and where it is from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    pub(super) value: Given,
    /// File, with line and column where known, or flag.
    pub(super) place: String,
}

/// The settings of all layers so far, by path.
#[derive(Debug, Default)]
pub(super) struct Settings {
    by_path: BTreeMap<&'static str, Setting>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl Settings {
    /// Puts a setting over what is there.
    pub(super) fn put(&mut self, setting: Setting) {
        match self.by_path.get_mut(setting.key.path) {
            Some(there) => over(there, setting),
            None => {
                self.by_path.insert(setting.key.path, setting);
            }
        }
    }

    /// Returns a setting; the path must be a key's.
    pub(super) fn get(&self, path: &str) -> Option<&Setting> {
        let key = keys::find(path);
        assert!(key.is_some(), "only known keys are asked for, not {path}");
        self.read.borrow_mut().extend(key.map(|key| key.path));
        self.by_path.get(path)
    }

    /// Returns all settings.
    pub(super) fn all(&self) -> impl Iterator<Item = &Setting> {
        self.by_path.values()
    }

    /// Returns where a setting is from, or the key's own path when it is a default.
    pub(super) fn place(&self, path: &str) -> String {
        self.get(path).map_or_else(|| path.to_owned(), |s| s.place.clone())
    }

    pub(super) fn bool(&self, path: &str) -> Option<bool> {
        match self.get(path)?.value {
            Given::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn integer(&self, path: &str) -> Option<i64> {
        match self.get(path)?.value {
            Given::Integer(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn duration(&self, path: &str) -> Option<Duration> {
        match self.get(path)?.value {
            Given::Duration(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match &self.get(path)?.value {
            Given::Text(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        match self.get(path).map(|s| &s.value) {
            Some(Given::Texts(value)) => value.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn text_map(&self, path: &str) -> BTreeMap<String, String> {
        match self.get(path).map(|s| &s.value) {
            Some(Given::TextMap(value)) => value.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns the settings of definitions that are kept raw.
    pub(super) fn raw(&self, path: &str) -> Option<&Value> {
        match &self.get(path)?.value {
            Given::Raw(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the paths that were asked for so far.
    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<&'static str> {
        self.read.borrow().clone()
    }
}

fn over(there: &mut Setting, setting: Setting) {
    there.place = setting.place;
    match (&mut there.value, setting.value) {
        (Given::Texts(list), Given::Texts(more)) => list.extend(more),
        (Given::TextMap(map), Given::TextMap(more)) => map.extend(more),
        (Given::Raw(value), Given::Raw(more)) => gather(value, more),
        (value, new) => *value = new,
    }
}

/// Makes a list of definitions that stand in several files.
fn gather(there: &mut Value, more: Value) {
    let mut all = match there.take() {
        Value::Array(list) => list,
        one => vec![one],
    };
    match more {
        Value::Array(list) => all.extend(list),
        one => all.push(one),
    }
    *there = Value::Array(all);
}
