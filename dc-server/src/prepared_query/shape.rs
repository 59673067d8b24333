//! Reads a definition whatever the capitals of its fields, as Go's decoder does.

use serde::de::Error as _;
use serde_json::{Map, Value};

use super::Said;

/// The fields of an object by Consul's names, and what those within them are.
struct Fields(&'static [(&'static str, Option<&'static Within>)]);

/// What is within a field.
enum Within {
    Object(&'static Fields),
    Objects(&'static Fields),
}

const QUERY: Fields = Fields(&[
    ("ID", None),
    ("Name", None),
    ("Session", None),
    ("Token", None),
    ("Template", Some(&Within::Object(&TEMPLATE))),
    ("Service", Some(&Within::Object(&SERVICE))),
    ("DNS", Some(&Within::Object(&DNS))),
]);

const TEMPLATE: Fields = Fields(&[("Type", None), ("Regexp", None), ("RemoveEmptyTags", None)]);

const SERVICE: Fields = Fields(&[
    ("Service", None),
    ("Failover", Some(&Within::Object(&FAILOVER))),
    ("OnlyPassing", None),
    ("IgnoreCheckIDs", None),
    ("Near", None),
    ("Tags", None),
    ("NodeMeta", None),
    ("ServiceMeta", None),
    ("Connect", None),
]);

const FAILOVER: Fields = Fields(&[
    ("NearestN", None),
    ("Datacenters", None),
    ("Targets", Some(&Within::Objects(&TARGET))),
]);

const TARGET: Fields = Fields(&[("Peer", None), ("Datacenter", None)]);

const DNS: Fields = Fields(&[("TTL", None)]);

/// Reads a definition. Unknown fields are passed over, `null` is what is not there.
pub(super) fn read(text: &str) -> Result<Said, serde_json::Error> {
    let value: Value = serde_json::from_str(text)?;
    let named = object("a prepared query", value, &QUERY);
    serde_json::from_value(named.map_err(serde_json::Error::custom)?)
}

/// Calls the fields of an object by their names. Whatever is no object is refused: it would be read by position.
fn object(what: &str, value: Value, fields: &Fields) -> Result<Value, String> {
    let Value::Object(object) = value else { return Err(format!("{what} is an object")) };
    let mut found = Map::new();
    for (name, value) in object {
        let known = fields.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        let Some((known, within)) = known.filter(|_| !value.is_null()) else { continue };
        found.insert((*known).to_owned(), named(known, value, *within)?);
    }
    Ok(Value::Object(found))
}

fn named(what: &str, value: Value, within: Option<&Within>) -> Result<Value, String> {
    match (within, value) {
        (None, value) => Ok(value),
        (Some(Within::Object(fields)), value) => object(what, value, fields),
        (Some(Within::Objects(fields)), Value::Array(all)) => {
            all.into_iter().map(|value| object(what, value, fields)).collect()
        }
        (Some(Within::Objects(_)), _) => Err(format!("{what} is a list of objects")),
    }
}
