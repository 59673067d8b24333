//! The fields of a definition, found by their names in either spelling.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use crate::{
    catalog::{Text, Texts},
    duration,
};

/// Why a definition can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// Its text is not what was expected where it stands.
    #[error("Request decode failed: {0}")]
    Malformed(String),
    /// It can be read and makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// An object whose fields are taken out one by one.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// By their [`plain`] names, with the names as they were written.
    left: BTreeMap<String, (&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, DefinitionError> {
        match value {
            Value::Object(object) => Ok(Self::of_object(object)),
            other => Err(DefinitionError::Malformed(format!(
                "expected an object, found {}",
                kind_of(other)
            ))),
        }
    }

    fn of_object(object: &'a Map<String, Value>) -> Self {
        let named = object.iter().map(|(name, value)| (plain(name), (name.as_str(), value)));
        Self { left: named.collect() }
    }

    /// Takes the value of a field; a null is as good as none.
    fn take(&mut self, name: &str) -> Option<(&'a str, &'a Value)> {
        self.left.remove(name).filter(|(_, value)| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Text, DefinitionError> {
        match self.take(name) {
            None => Ok(Text::default()),
            Some((_, Value::String(text))) => Ok(text.as_str().into()),
            Some((written, other)) => Err(unexpected(written, other, "a text")),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, DefinitionError> {
        self.flag_or(name, false)
    }

    /// Takes a flag that is so when nothing is said.
    pub(super) fn flag_or(&mut self, name: &str, unsaid: bool) -> Result<bool, DefinitionError> {
        match self.take(name) {
            None => Ok(unsaid),
            Some((_, Value::Bool(flag))) => Ok(*flag),
            Some((written, other)) => Err(unexpected(written, other, "true or false")),
        }
    }

    /// Takes a number from 0 to 65535.
    pub(super) fn small(&mut self, name: &str) -> Result<Option<u16>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let wanted = "a whole number from 0 to 65535";
        number.map(Some).ok_or_else(|| unexpected(written, value, wanted))
    }

    /// Takes a whole number that is not negative.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(None) };
        let wanted = "a whole number that is not negative";
        value.as_u64().map(Some).ok_or_else(|| unexpected(written, value, wanted))
    }

    /// Takes a duration: Go's text, or nanoseconds.
    pub(super) fn duration(&mut self, name: &str) -> Result<Duration, DefinitionError> {
        match self.take(name) {
            None => Ok(Duration::ZERO),
            Some((_, Value::String(text))) if text.is_empty() => Ok(Duration::ZERO),
            Some((_, Value::String(text))) => {
                duration::parse(text).map_err(|error| DefinitionError::Malformed(error.to_string()))
            }
            Some((written, value)) => match value.as_f64() {
                Some(nanos) if (0.0..9.3e18).contains(&nanos) => {
                    Ok(Duration::from_nanos(nanos as u64))
                }
                _ => Err(unexpected(written, value, "a duration such as \"10s\"")),
            },
        }
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Text>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(Vec::new()) };
        let text = |item: &Value| item.as_str().map(Text::from);
        let items = value.as_array().and_then(|items| items.iter().map(text).collect());
        items.ok_or_else(|| unexpected(written, value, "a list of texts"))
    }

    /// Takes an object of texts. A block of HCL is a list of one object.
    pub(super) fn texts(&mut self, name: &str) -> Result<Texts, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(Texts::new()) };
        let text = |(name, value): (&String, &Value)| {
            value.as_str().map(|value| (name.as_str().into(), value.into()))
        };
        let object = block(value).and_then(|object| object.iter().map(text).collect());
        object.ok_or_else(|| unexpected(written, value, "names with texts"))
    }

    /// Takes an object of lists of texts, such as HTTP headers.
    pub(super) fn lists(
        &mut self,
        name: &str,
    ) -> Result<BTreeMap<Text, Vec<Text>>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(BTreeMap::new()) };
        let list = |(name, value): (&String, &Value)| {
            let text = |item: &Value| item.as_str().map(Text::from);
            let items = value.as_array()?.iter().map(text).collect::<Option<Vec<Text>>>()?;
            Some((Text::from(name.as_str()), items))
        };
        let object = block(value).and_then(|object| object.iter().map(list).collect());
        object.ok_or_else(|| unexpected(written, value, "names with lists of texts"))
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Fields<'a>>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(None) };
        let object = block(value).ok_or_else(|| unexpected(written, value, "an object"))?;
        Ok(Some(Self::of_object(object)))
    }

    /// Takes the objects in an object by their names.
    pub(super) fn objects_by_name(
        &mut self,
        name: &str,
    ) -> Result<Vec<(Text, Fields<'a>)>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(Vec::new()) };
        let inner = |(name, value): (&'a String, &'a Value)| {
            Some((Text::from(name.as_str()), Self::of_object(block(value)?)))
        };
        let object = block(value).and_then(|object| object.iter().map(inner).collect());
        object.ok_or_else(|| unexpected(written, value, "names with objects"))
    }

    /// Takes a list of objects.
    pub(super) fn objects(&mut self, name: &str) -> Result<Vec<Fields<'a>>, DefinitionError> {
        let Some((written, value)) = self.take(name) else { return Ok(Vec::new()) };
        let items = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_object().map(Self::of_object)).collect()
        });
        items.ok_or_else(|| unexpected(written, value, "a list of objects"))
    }

    /// Refuses fields that nobody took, but for those of Consul's that mean nothing here.
    pub(super) fn finish(mut self, meaningless: &[&str]) -> Result<(), DefinitionError> {
        for name in meaningless {
            self.left.remove(*name);
        }
        match self.left.into_values().next() {
            None => Ok(()),
            Some((written, _)) => {
                Err(DefinitionError::Malformed(format!("json: unknown field {written:?}")))
            }
        }
    }
}

/// A name as all its spellings come to: small letters, no underscores.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// Returns the object that a value is; a block of HCL is a list of one.
pub fn block(value: &Value) -> Option<&Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        Value::Array(items) => match items.as_slice() {
            [Value::Object(object)] => Some(object),
            _ => None,
        },
        _ => None,
    }
}

fn unexpected(written: &str, found: &Value, wanted: &str) -> DefinitionError {
    DefinitionError::Malformed(format!("{written}: expected {wanted}, found {}", kind_of(found)))
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
