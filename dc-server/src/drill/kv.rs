//! Entries of the KV store as the HTTP interface lists them.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// An entry, as far as a drill looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The value in base64; none when it is empty.
    pub value: Option<String>,
    /// The index of the write that created it.
    pub create_index: u64,
    /// The index of the last write to it.
    pub modify_index: u64,
}

impl Listed {
    /// Returns the value as text; empty when it is none.
    pub fn text(&self) -> String {
        let value = self.value.as_deref().and_then(|value| STANDARD.decode(value).ok());
        value.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    }
}
