//! Configuration entries: what operators want of services, the same in all datacenters.
//!
//! ```text
//! JSON ──read: shape, rules──▶ Definition { kind, name, body, resolver }
//!                                           body: JSON as it is kept and given back
//!                                           resolver: what lookups read, parsed once
//! ```
//!
//! Fields are found by either spelling (`DefaultSubset`, `default_subset`) and given back in Consul's. Whatever Consul
//! knows is kept; lookups read [`ServiceResolver`]s alone. A [`Mistake`] says where it is. What was written once
//! is taken as it is ([`Definition::kept`]): it may come from a later version, which knows more.

mod kinds;
mod mistake;
mod resolver;
mod rules;
mod shape;

use std::sync::Arc;

use lan_agent::{ask::AskError, catalog::Text};
use serde_json::{Map, Value};

use shape::Fields;

pub use mistake::Mistake;
pub use resolver::{Failover, MinHealthy, ServiceResolver, Subset, Target};

/// The kind of entries that say how a service is resolved.
pub const SERVICE_RESOLVER: &str = "service-resolver";

/// The kind of entries with defaults for the instances of a service.
pub const SERVICE_DEFAULTS: &str = "service-defaults";

/// The kind of the entry with defaults for all services.
pub const PROXY_DEFAULTS: &str = "proxy-defaults";

/// The only name of an entry of that kind.
const GLOBAL: &str = "global";

/// Longest name: that of a DNS name, and of a service with room to spare.
const NAME_LEN_MAX: usize = 253;

/// An entry as it is written, without the indexes that the state gives it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its kind, by Consul's name.
    pub kind: Text,
    /// Its name: that of a service, or `global`.
    pub name: Text,
    /// Itself, in JSON: an object with `Kind`, `Name` and what else it says, compact and in one order.
    pub body: Text,
    resolver: Option<Arc<ServiceResolver>>,
}

impl Definition {
    /// Reads what a client wrote.
    pub fn read(text: &str) -> Result<Self, AskError> {
        let failed = |error| AskError::Bad(format!("Request decode failed: {error}"));
        let value: Value = serde_json::from_str(text).map_err(failed)?;
        Self::of(&value).map_err(|mistake| AskError::Bad(mistake.to_string()))
    }

    /// Makes an entry of what is said of it.
    pub fn of(value: &Value) -> Result<Self, Mistake> {
        let Value::Object(object) = value else {
            let why = format!("a config entry is an object, not {}", shape::found(value));
            return Err(Mistake::here(why));
        };
        let (kind, fields) = kind_of(object)?;
        let name = field(object, "name").and_then(Value::as_str).unwrap_or_default();
        let at = |mistake: Mistake| mistake.of_entry(kind, name);
        let said = shape::read(object, fields).map_err(at)?;
        check_name(kind, name).map_err(at)?;
        let resolver = match kind {
            SERVICE_RESOLVER => {
                let resolver = ServiceResolver::read(&said).map_err(at)?;
                rules::check(name, &said, &resolver).map_err(at)?;
                Some(Arc::new(resolver))
            }
            _ => None,
        };
        let (name, body) = (name.into(), text_of(said));
        Ok(Self { kind: kind.into(), name, body, resolver })
    }

    /// Takes what was written before. What this version can't read is kept, and nothing is read of it.
    pub fn kept(kind: Text, name: Text, body: Text) -> Self {
        let resolver = if &*kind == SERVICE_RESOLVER { kept_resolver(&name, &body) } else { None };
        Self { kind, name, body, resolver }
    }

    /// Takes what another datacenter has, which may be of a later version; `None` without a kind or a name.
    pub fn replicated(said: Map<String, Value>) -> Option<Self> {
        let text = |field: &str| said.get(field).and_then(Value::as_str).map(Text::from);
        let (kind, name) = (text("Kind")?, text("Name")?);
        Some(Self::kept(kind, name, text_of(said)))
    }

    /// Returns what lookups read, if it is a service-resolver.
    pub fn resolver(&self) -> Option<&Arc<ServiceResolver>> {
        self.resolver.as_ref()
    }
}

/// What is read of an entry follows from its text.
impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        (&self.kind, &self.name, &self.body) == (&other.kind, &other.name, &other.body)
    }
}

impl Eq for Definition {}

/// Refuses a kind that there is not.
pub fn check_kind(kind: &str) -> Result<(), AskError> {
    known(kind).map(|_| ()).map_err(|mistake| AskError::Bad(mistake.to_string()))
}

/// Returns the name that a kind has here, with its fields.
fn known(kind: &str) -> Result<(&'static str, Fields), Mistake> {
    match kind {
        SERVICE_RESOLVER => Ok((SERVICE_RESOLVER, kinds::SERVICE_RESOLVER)),
        SERVICE_DEFAULTS => Ok((SERVICE_DEFAULTS, kinds::SERVICE_DEFAULTS)),
        PROXY_DEFAULTS => Ok((PROXY_DEFAULTS, kinds::PROXY_DEFAULTS)),
        "" => Err(Mistake::here("Kind: a config entry needs a kind")),
        other => Err(Mistake::here(format!(
            "config entry kind {other:?} is not supported here: \
             {SERVICE_RESOLVER}, {SERVICE_DEFAULTS} and {PROXY_DEFAULTS} are"
        ))),
    }
}

fn kind_of(object: &Map<String, Value>) -> Result<(&'static str, Fields), Mistake> {
    match field(object, "kind") {
        None | Some(Value::Null) => known(""),
        Some(Value::String(kind)) => known(kind),
        Some(other) => {
            let why = format!("expected a text, found {}", shape::found(other));
            Err(Mistake::here(why).in_field("Kind"))
        }
    }
}

/// Returns a field by its name in small letters.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(written, _)| shape::plain(written) == name).map(|(_, value)| value)
}

fn check_name(kind: &str, name: &str) -> Result<(), Mistake> {
    let why = match name {
        "" => "a config entry needs a name".to_owned(),
        _ if kind == PROXY_DEFAULTS && name != GLOBAL => {
            format!("there is one entry of this kind, and its name is {GLOBAL:?}")
        }
        _ if name.len() > NAME_LEN_MAX => format!("it is longer than {NAME_LEN_MAX} bytes"),
        _ if name.chars().any(char::is_control) => {
            "it has characters that can't be seen".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Mistake::here(why).in_field("Name"))
}

/// Writes an object as Go does: these characters are only found in texts.
fn text_of(object: Map<String, Value>) -> Text {
    const ESCAPES: [(char, &str); 5] = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    let plain = Value::Object(object).to_string();
    ESCAPES.iter().fold(plain, |text, (from, to)| text.replace(*from, to)).into()
}

fn kept_resolver(name: &str, body: &str) -> Option<Arc<ServiceResolver>> {
    let read = match serde_json::from_str(body) {
        Ok(said) => ServiceResolver::read(&said).map_err(|mistake| mistake.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match read {
        Ok(resolver) => Some(Arc::new(resolver)),
        Err(why) => {
            tracing::warn!(name, why, "service-resolver of another version: lookups pass it over");
            None
        }
    }
}

#[cfg(test)]
mod tests;
