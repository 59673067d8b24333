//! `federation`: how the datacenters are, what happened between them.

pub(super) mod remove;
pub(super) mod status;
pub(super) mod timeline;

use serde_json::Value;

/// Returns a text of an answer; empty when it is not there.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Returns a list of an answer; empty when it is not there.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}
