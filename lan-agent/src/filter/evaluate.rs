//! Programs and records to answers. Everything is borrowed.

use std::{collections::BTreeMap, iter};

use crate::catalog::{Check, Node, Service, ServiceAddress, Text, Texts};

use super::{
    program::{FieldTest, Program, Test},
    schema::{CheckField, Field, Kind, NodeField, ServiceField},
};

/// What a filter looks at. A record has what its schema is about; the rest is not asked for.
pub trait Record {
    /// Returns the node.
    fn node(&self) -> Option<ShownNode<'_>> {
        None
    }

    /// Returns the service.
    fn service(&self) -> Option<&Service> {
        None
    }

    /// Lists the checks.
    fn checks(&self) -> impl Iterator<Item = ShownCheck<'_>> {
        iter::empty()
    }
}

/// A node as it is shown: with its datacenter.
#[derive(Debug, Clone, Copy)]
pub struct ShownNode<'a> {
    /// The name of the datacenter.
    pub datacenter: &'a str,
    /// The node.
    pub node: &'a Node,
}

/// A check as it is shown: with its node and the tags of its service.
#[derive(Debug, Clone, Copy)]
pub struct ShownCheck<'a> {
    /// The name of the node.
    pub node: &'a str,
    /// The check.
    pub check: &'a Check,
    /// The tags of the service that it is about.
    pub tags: &'a [Text],
}

impl Record for ShownNode<'_> {
    fn node(&self) -> Option<ShownNode<'_>> {
        Some(*self)
    }
}

impl Record for Service {
    fn service(&self) -> Option<&Service> {
        Some(self)
    }
}

impl Record for ShownCheck<'_> {
    fn checks(&self) -> impl Iterator<Item = ShownCheck<'_>> {
        iter::once(*self)
    }
}

/// The value of a field.
enum Value<'a> {
    Text(&'a str),
    Number(i64),
    Flag(bool),
    Texts(&'a [Text]),
    Map(&'a Texts),
    Addresses(&'a BTreeMap<Text, ServiceAddress>),
    Records { empty: bool },
}

impl Program {
    /// Tells whether it is true of a record.
    pub(super) fn is_true_of(&self, record: &impl Record) -> bool {
        match self {
            Program::All(terms) => terms.iter().all(|term| term.is_true_of(record)),
            Program::Any(terms) => terms.iter().any(|term| term.is_true_of(record)),
            Program::Not(inner) => !inner.is_true_of(record),
            Program::Test(test) => test.is_true_of(record),
        }
    }
}

impl FieldTest {
    fn is_true_of(&self, record: &impl Record) -> bool {
        let key = self.key.as_deref().unwrap_or_default();
        match self.field {
            Field::Node(field) => {
                self.is_true_of_value(record.node().and_then(|shown| node_value(shown, field, key)))
            }
            Field::Service(field) => {
                let service = record.service();
                self.is_true_of_value(service.and_then(|shown| service_value(shown, field, key)))
            }
            Field::Check(field) => {
                record.checks().any(|shown| self.is_true_of_value(Some(check_value(shown, field))))
            }
            Field::Checks => {
                let empty = record.checks().next().is_none();
                self.is_true_of_value(Some(Value::Records { empty }))
            }
            Field::Unset(kind) => self.is_true_of_value(Some(unset(kind))),
            Field::Nowhere(_) => false,
        }
    }

    /// Of a value that is not there nothing is true but that it is empty.
    fn is_true_of_value(&self, value: Option<Value<'_>>) -> bool {
        let passes = match value {
            Some(value) => self.test.passes(value),
            None => matches!(self.test, Test::Empty),
        };
        passes != self.negated
    }
}

impl Test {
    fn passes(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Test::Text(wanted), Value::Text(text)) => text == wanted,
            (Test::Number(wanted), Value::Number(number)) => number == *wanted,
            (Test::Flag(wanted), Value::Flag(flag)) => flag == *wanted,
            (Test::Contains(part), Value::Text(text)) => text.contains(part.as_str()),
            (Test::Contains(wanted), Value::Texts(texts)) => {
                texts.iter().any(|text| **text == **wanted)
            }
            (Test::Contains(key), Value::Map(map)) => map.contains_key(key.as_str()),
            (Test::Contains(key), Value::Addresses(map)) => map.contains_key(key.as_str()),
            (Test::Matches(pattern), Value::Text(text)) => pattern.is_match(text),
            (Test::Empty, Value::Texts(texts)) => texts.is_empty(),
            (Test::Empty, Value::Map(map)) => map.is_empty(),
            (Test::Empty, Value::Addresses(map)) => map.is_empty(),
            (Test::Empty, Value::Records { empty }) => empty,
            // What was compiled has no test of another type.
            _ => false,
        }
    }
}

fn node_value<'a>(shown: ShownNode<'a>, field: NodeField, key: &str) -> Option<Value<'a>> {
    let ShownNode { datacenter, node } = shown;
    Some(match field {
        NodeField::Id => Value::Text(&node.id),
        NodeField::Name => Value::Text(&node.name),
        NodeField::Address => Value::Text(&node.address),
        NodeField::Datacenter => Value::Text(datacenter),
        NodeField::TaggedAddresses => Value::Map(&node.tagged_addresses),
        NodeField::TaggedAddress => Value::Text(node.tagged_addresses.get(key)?),
        NodeField::Meta => Value::Map(&node.meta),
        NodeField::MetaValue => Value::Text(node.meta.get(key)?),
    })
}

fn service_value<'a>(service: &'a Service, field: ServiceField, key: &str) -> Option<Value<'a>> {
    let tagged = || service.tagged_addresses.get(key);
    Some(match field {
        ServiceField::Kind => Value::Text(&service.kind),
        ServiceField::Id => Value::Text(&service.id),
        ServiceField::Name => Value::Text(&service.name),
        ServiceField::Tags => Value::Texts(&service.tags),
        ServiceField::Address => Value::Text(&service.address),
        ServiceField::TaggedAddresses => Value::Addresses(&service.tagged_addresses),
        ServiceField::TaggedAddress => Value::Text(&tagged()?.address),
        ServiceField::TaggedPort => Value::Number(tagged()?.port.into()),
        ServiceField::Meta => Value::Map(&service.meta),
        ServiceField::MetaValue => Value::Text(service.meta.get(key)?),
        ServiceField::Port => Value::Number(service.port.into()),
        ServiceField::PassingWeight => Value::Number(service.weights.passing.into()),
        ServiceField::WarningWeight => Value::Number(service.weights.warning.into()),
        ServiceField::EnableTagOverride => Value::Flag(service.enable_tag_override),
    })
}

fn check_value(shown: ShownCheck<'_>, field: CheckField) -> Value<'_> {
    let ShownCheck { node, check, tags } = shown;
    Value::Text(match field {
        CheckField::Node => node,
        CheckField::Id => &check.id,
        CheckField::Name => &check.name,
        CheckField::Status => check.status.as_str(),
        CheckField::Notes => &check.notes,
        CheckField::Output => &check.output,
        CheckField::ServiceId => &check.service_id,
        CheckField::ServiceName => &check.service_name,
        CheckField::ServiceTags => return Value::Texts(tags),
        CheckField::Kind => &check.kind,
    })
}

fn unset(kind: Kind) -> Value<'static> {
    match kind {
        Kind::Text => Value::Text(""),
        Kind::Number => Value::Number(0),
        Kind::Flag => Value::Flag(false),
        Kind::Texts => Value::Texts(&[]),
        Kind::Map | Kind::Records => Value::Records { empty: true },
    }
}
