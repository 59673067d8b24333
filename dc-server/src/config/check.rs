//! Looks up the keys of a text: each becomes a typed setting, a warning or a problem.

use std::collections::BTreeMap;

use lan_agent::duration;
use serde_json::{Map, Value};

use super::{
    error::Problem,
    hcl::Position,
    keys::{self, Fate, Key, Kind},
    settings::{Given, Setting},
    source::Content,
};

/// What the keys of a text came to.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

/// Looks up every key of a text.
pub(super) fn content(content: &Content) -> Checked {
    let mut check =
        Check { name: &content.name, places: &content.places, checked: Checked::default() };
    if let Value::Object(items) = &content.value {
        check.block("", items);
    }
    check.checked
}

/// Takes a single value for a key from elsewhere, such as a flag.
pub(super) fn value(key: &'static Key, value: &Value, place: &str) -> Checked {
    let places = BTreeMap::new();
    let mut check = Check { name: place, places: &places, checked: Checked::default() };
    check.leaf(key, key.path, value);
    check.checked
}

struct Check<'a> {
    name: &'a str,
    places: &'a BTreeMap<String, Position>,
    checked: Checked,
}

impl Check<'_> {
    fn place(&self, path: &str) -> String {
        match self.places.get(path) {
            Some(at) => format!("{}:{at}", self.name),
            None => self.name.to_owned(),
        }
    }

    fn block(&mut self, block: &str, items: &Map<String, Value>) {
        for (name, value) in items {
            let path = if block.is_empty() { name.clone() } else { format!("{block}.{name}") };
            match keys::find(&path) {
                None => self.checked.problems.push(Problem::UnknownKey {
                    place: self.place(&path),
                    key: path.clone(),
                    nearest: keys::nearest(&path),
                }),
                Some(key) if key.kind == Kind::Block => self.nested(key, &path, value),
                Some(key) => self.leaf(key, &path, value),
            }
        }
    }

    fn nested(&mut self, key: &'static Key, path: &str, value: &Value) {
        match value {
            Value::Object(items) => self.block(path, items),
            Value::Array(blocks) if blocks.iter().all(Value::is_object) => {
                for block in blocks {
                    self.nested(key, path, block);
                }
            }
            Value::Null => self.warn(key, path),
            other => self.bad(key, path, key.kind.expected().to_owned(), other),
        }
    }

    fn leaf(&mut self, key: &'static Key, path: &str, value: &Value) {
        self.warn(key, path);
        if value.is_null() {
            return;
        }
        let target = match key.fate {
            Fate::Alias(of) => keys::find(of).unwrap_or(key),
            Fate::Used | Fate::Ignored(_) => key,
        };
        match typed(key.kind, value) {
            Ok(value) => {
                let place = self.place(path);
                self.checked.settings.push(Setting { key: target, value, place });
            }
            Err(expected) => self.bad(key, path, expected, value),
        }
    }

    fn warn(&mut self, key: &'static Key, path: &str) {
        let place = self.place(path);
        let of = match key.fate {
            Fate::Used => return,
            Fate::Ignored(reason) => {
                self.checked.warnings.push(format!("{place}: {path} is ignored: {reason}"));
                return;
            }
            Fate::Alias(of) => of,
        };
        let then = match keys::find(of).map(|key| key.fate) {
            Some(Fate::Ignored(reason)) => format!("; it is ignored: {reason}"),
            _ => String::new(),
        };
        self.checked.warnings.push(format!("{place}: {path} is deprecated: use {of}{then}"));
    }

    fn bad(&mut self, key: &'static Key, path: &str, expected: String, value: &Value) {
        let found =
            if key.kind == Kind::Secret { "something else".to_owned() } else { shown(value) };
        let place = self.place(path);
        self.checked.problems.push(Problem::BadValue {
            place,
            key: path.to_owned(),
            expected,
            found,
        });
    }
}

/// Makes a value what its key holds, or says what was expected.
fn typed(kind: Kind, value: &Value) -> Result<Given, String> {
    let expected = || kind.expected().to_owned();
    match (kind, value) {
        (Kind::Bool, Value::Bool(value)) => Ok(Given::Bool(*value)),
        (Kind::Integer, Value::Number(number)) => {
            whole(number).map(Given::Integer).ok_or_else(expected)
        }
        (Kind::Port, Value::Number(number)) => whole(number)
            .filter(|port| *port <= i64::from(u16::MAX))
            .map(Given::Integer)
            .ok_or_else(expected),
        (Kind::Float, Value::Number(number)) => {
            number.as_f64().map(Given::Float).ok_or_else(expected)
        }
        (Kind::Text | Kind::Secret, Value::String(text)) => Ok(Given::Text(text.clone())),
        (Kind::Duration, Value::String(text)) => duration::parse(text)
            .map(Given::Duration)
            .map_err(|error| format!("{} ({error})", kind.expected())),
        (Kind::Texts, Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map(Given::Texts)
            .ok_or_else(expected),
        (Kind::TextMap, value) => text_map(value).map(Given::TextMap).ok_or_else(expected),
        (Kind::Raw, value) => Ok(Given::Raw(value.clone())),
        _ => Err(expected()),
    }
}

/// Returns a number as a whole one; a fraction is cut off, as Consul does.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_f64().filter(|n| n.abs() < 9e15).map(|n| n as i64))
}

fn text_map(value: &Value) -> Option<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    match value {
        Value::Object(items) => {
            for (name, value) in items {
                map.insert(name.clone(), value.as_str()?.to_owned());
            }
        }
        Value::Array(blocks) => {
            for block in blocks {
                map.extend(text_map(Some(block).filter(|block| block.is_object())?)?);
            }
        }
        _ => return None,
    }
    Some(map)
}

/// Describes a value in a few words.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a block".to_owned(),
    }
}
