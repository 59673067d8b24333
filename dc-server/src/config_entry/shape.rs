//! Which fields an object may have, and how each is read: values by which clients' spellings become one.

use std::{collections::BTreeMap, time::Duration};

use lan_agent::{definition::block, duration};
use serde_json::{Map, Value};

use super::Mistake;

/// The fields of an object in the order in which they are given back.
pub(super) type Fields = &'static [(&'static str, Shape)];

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Flag,
    /// A whole number that is not negative.
    Number,
    /// Go's text, or nanoseconds; given back as text.
    Duration,
    /// How many instances have to be healthy: a number, or a part such as `50%`.
    Share,
    /// A list of texts.
    Texts,
    /// Names with texts.
    Pairs,
    /// An object that is nobody's business here.
    Opaque,
    Object(Fields),
    /// A list of objects.
    Objects(Fields),
    /// Names with objects.
    Named(Fields),
    /// A text that must say nothing, or the default: what it names is not here.
    Absent(&'static str),
    /// Whatever it says is passed over.
    PassedOver,
}

/// What the namespace and the partition are called that everything is in.
const DEFAULT: &str = "default";

/// Longest duration that makes sense: Go's are not much longer than three lives.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads an object: each of its fields has one of these names and that shape. What says nothing (null, an empty text or
/// list) is left out.
pub(super) fn read(
    object: &Map<String, Value>,
    fields: Fields,
) -> Result<Map<String, Value>, Mistake> {
    let mut given = BTreeMap::new();
    for (written, value) in object {
        if given.insert(plain(written), (written.as_str(), value)).is_some() {
            return Err(Mistake::here("it is given twice, in two spellings").in_field(written));
        }
    }
    let mut said = Map::new();
    for (name, shape) in fields {
        let Some((_, value)) = given.remove(&plain(name)) else { continue };
        let value = value_of(value, *shape).map_err(|mistake| mistake.in_field(name))?;
        if let Some(value) = value {
            said.insert((*name).to_owned(), value);
        }
    }
    match given.into_values().next() {
        None => Ok(said),
        Some((written, _)) => {
            let shown = fields.iter().filter(|(_, shape)| !matches!(shape, Shape::PassedOver));
            let names: Vec<_> = shown.map(|(name, _)| *name).collect();
            let why = format!("there is no such field here, but {}", names.join(", "));
            Err(Mistake::here(why).in_field(written))
        }
    }
}

/// A name as all its spellings come to: small letters, no underscores.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// Says what a value is.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Returns a value as it is kept; `None` if it says nothing.
fn value_of(value: &Value, shape: Shape) -> Result<Option<Value>, Mistake> {
    if value.is_null() {
        return Ok(None);
    }
    let wanted = |what: &str| Mistake::here(format!("expected {what}, found {}", found(value)));
    let some = |value| Ok(Some(value));
    match shape {
        Shape::Text => match value {
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(_) => some(value.clone()),
            _ => Err(wanted("a text")),
        },
        Shape::Flag if value.is_boolean() => some(value.clone()),
        Shape::Flag => Err(wanted("true or false")),
        Shape::Number if value.as_u64().is_some() => some(value.clone()),
        Shape::Number => Err(wanted("a whole number that is not negative")),
        Shape::Duration => Ok(duration_of(value)?.map(|it| duration::format(it).into())),
        Shape::Share => match value {
            Value::Number(_) | Value::String(_) => some(value.clone()),
            _ => Err(wanted("a number, or a part such as \"50%\"")),
        },
        Shape::Texts => list_of(value, |item| match item {
            Value::String(_) => Ok(item.clone()),
            _ => Err(Mistake::here(format!("expected a text, found {}", found(item)))),
        }),
        Shape::Pairs => {
            let pairs = named(value, "names with texts", |item| match item {
                Value::String(_) => Ok(item.clone()),
                _ => Err(Mistake::here(format!("expected a text, found {}", found(item)))),
            })?;
            Ok(Some(pairs).filter(|pairs| pairs.as_object().is_some_and(|it| !it.is_empty())))
        }
        Shape::Opaque => match block(value) {
            Some(object) => some(sorted(&Value::Object(object.clone()))),
            None => Err(wanted("an object")),
        },
        Shape::Object(fields) => match block(value) {
            Some(object) => some(Value::Object(read(object, fields)?)),
            None => Err(wanted("an object")),
        },
        Shape::Objects(fields) => list_of(value, |item| match item {
            Value::Object(object) => Ok(Value::Object(read(object, fields)?)),
            _ => Err(Mistake::here(format!("expected an object, found {}", found(item)))),
        }),
        Shape::Named(fields) => {
            let objects = named(value, "names with objects", |item| match block(item) {
                Some(object) => Ok(Value::Object(read(object, fields)?)),
                None => Err(Mistake::here(format!("expected an object, found {}", found(item)))),
            })?;
            Ok(Some(objects).filter(|it| it.as_object().is_some_and(|it| !it.is_empty())))
        }
        Shape::Absent(what) => match value {
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) if what != PEERS && text == DEFAULT => Ok(None),
            _ => Err(Mistake::here(format!("{what} are not supported here"))),
        },
        Shape::PassedOver => Ok(None),
    }
}

/// What [`Shape::Absent`] calls peers, which have no default.
pub(super) const PEERS: &str = "cluster peers";

/// Reads a duration; none at all is the same as zero.
fn duration_of(value: &Value) -> Result<Option<Duration>, Mistake> {
    let read = match value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => duration::parse(text).map_err(|e| Mistake::here(e.to_string()))?,
        Value::Number(number) => match number.as_u64() {
            Some(nanos) => Duration::from_nanos(nanos),
            None => return Err(Mistake::here(format!("{number} is no number of nanoseconds"))),
        },
        other => {
            let why = format!("expected a duration such as \"10s\", found {}", found(other));
            return Err(Mistake::here(why));
        }
    };
    if read > DURATION_MAX {
        return Err(Mistake::here("it is longer than a year"));
    }
    Ok(Some(read).filter(|read| !read.is_zero()))
}

/// Reads a list; one item that stands alone, as a block of HCL does, is a list of one.
fn list_of(
    value: &Value,
    item: impl Fn(&Value) -> Result<Value, Mistake>,
) -> Result<Option<Value>, Mistake> {
    let alone = [value.clone()];
    let items = match value {
        Value::Array(items) => items.as_slice(),
        Value::Object(_) => &alone,
        _ => return Err(Mistake::here(format!("expected a list, found {}", found(value)))),
    };
    let numbered = items.iter().enumerate();
    let read = numbered.map(|(at, value)| item(value).map_err(|mistake| mistake.in_item(at)));
    let list = read.collect::<Result<Vec<_>, _>>()?;
    Ok(if list.is_empty() { None } else { Some(list.into()) })
}

/// Reads names with something each, in the order of the names. Blocks of HCL that stand more than once are a list of
/// objects.
fn named(
    value: &Value,
    what: &str,
    item: impl Fn(&Value) -> Result<Value, Mistake>,
) -> Result<Value, Mistake> {
    let wanted = || Mistake::here(format!("expected {what}, found {}", found(value)));
    let objects: Vec<&Map<String, Value>> = match value {
        Value::Object(object) => vec![object],
        Value::Array(items) => {
            items.iter().map(Value::as_object).collect::<Option<_>>().ok_or_else(wanted)?
        }
        _ => return Err(wanted()),
    };
    let mut read = BTreeMap::new();
    for (name, value) in objects.into_iter().flatten() {
        let value = item(value).map_err(|mistake| mistake.of_name(name))?;
        if read.insert(name.clone(), value).is_some() {
            return Err(Mistake::here("it is given twice").of_name(name));
        }
    }
    Ok(Value::Object(read.into_iter().collect()))
}

/// Puts names in order, so that the same said differently is the same.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let inner: BTreeMap<_, _> =
                object.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            Value::Object(inner.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
