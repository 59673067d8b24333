//! What servers ask for that keep a mirror of a datacenter: what changed since they asked last.

use serde::{Deserialize, Serialize};

use crate::catalog::Text;

/// Most prefixes of keys that are mirrored.
pub const PREFIXES_MAX: usize = 64;

/// Longest prefix, in bytes.
pub const PREFIX_LEN_MAX: usize = 512;

/// How far a mirror is, and what it is of. The answer is bytes that servers understand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Feed {
    /// Which datacenter it mirrors, of all that ever had the name: when it came to be, in milliseconds
    /// since 1970. 0 when nothing is mirrored yet.
    #[serde(rename = "b", default)]
    pub born_ms: u64,
    /// The version of the catalog that it has; 0 for none.
    #[serde(rename = "c", default)]
    pub catalog: u64,
    /// The page of a newer version that it wants; `None` for the first one of the newest.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Page>,
    /// The prefixes of the keys that it mirrors, at most [`PREFIXES_MAX`].
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// The index up to which it has their changes; 0 for none.
    #[serde(rename = "i", default)]
    pub kv_index: u64,
    /// The index up to which deletions were forgotten when it was told of any last.
    #[serde(rename = "r", default)]
    pub kv_reaped: u64,
}

/// A page of what changed up to a version of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The version.
    #[serde(rename = "v")]
    pub version: u64,
    /// The node after which the page begins.
    #[serde(rename = "a")]
    pub after: Text,
}
