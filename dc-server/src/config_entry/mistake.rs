//! What is wrong with a config entry, and where.

use std::fmt;

/// A mistake in a config entry: `service-resolver/web: Failover["*"].Datacenters[1]: it is empty`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    entry: String,
    place: String,
    why: String,
}

impl Mistake {
    /// A mistake of what is looked at, whose place those say who look at what is around it.
    pub(super) fn here(why: impl Into<String>) -> Self {
        Self { entry: String::new(), place: String::new(), why: why.into() }
    }

    /// Says in which field of an object it is.
    pub(super) fn in_field(self, field: &str) -> Self {
        let dot = if self.place.is_empty() || self.place.starts_with('[') { "" } else { "." };
        Self { place: format!("{field}{dot}{}", self.place), ..self }
    }

    /// Says of which name it is, in a field that holds something for each name.
    pub(super) fn of_name(self, name: &str) -> Self {
        let at = format!("[{name:?}]");
        self.in_field(&at)
    }

    /// Says of which item of a list it is, counted from 0.
    pub(super) fn in_item(self, item: usize) -> Self {
        let at = format!("[{item}]");
        self.in_field(&at)
    }

    /// Says of which entry it is.
    pub(super) fn of_entry(self, kind: &str, name: &str) -> Self {
        let entry = if name.is_empty() { kind.to_owned() } else { format!("{kind}/{name}") };
        Self { entry, ..self }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.entry, &self.place] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for Mistake {}
