//! Lookups in several datacenters at once, and what each part of the answer says of itself.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use topology::Datacenter;

use crate::catalog::{Lookup, Subject};

/// Most datacenters that may be named at once.
pub const NAMED_MAX: usize = 64;

/// A lookup in several datacenters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Union {
    /// The datacenters, at most [`NAMED_MAX`]; none for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<Datacenter>,
    /// What is looked up in each. Addresses as seen from the WAN are for those of other datacenters.
    pub lookup: Lookup,
    /// The index that whoever waits has seen of each datacenter; empty when the sum of all is what it knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<Datacenter, u64>,
}

/// What one datacenter added to a union.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The datacenter.
    #[serde(rename = "d")]
    pub dc: Datacenter,
    /// The index of its part; 0 when it has none.
    #[serde(rename = "i", default)]
    pub index: u64,
    /// How old its part is at most.
    #[serde(rename = "a", default)]
    pub age: Duration,
    /// How many records it added.
    #[serde(rename = "r", default)]
    pub rows: usize,
    /// What it is held for, such as `healthy` or `lost`.
    #[serde(rename = "s", default)]
    pub status: String,
    /// Whether it was not asked itself: a mirror of it answered.
    #[serde(rename = "m", default)]
    pub mirrored: bool,
    /// Why there is nothing of it.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Union {
    /// Tells whether answers from several datacenters can be put together: whether it is a list.
    pub fn is_list(subject: &Subject) -> bool {
        match subject {
            Subject::Nodes
            | Subject::Services
            | Subject::Service(_)
            | Subject::NodeChecks(_)
            | Subject::ServiceChecks(_)
            | Subject::State(_)
            | Subject::Health { .. } => true,
            Subject::Node(_)
            | Subject::NodeServices(_)
            | Subject::Address(_)
            | Subject::Query(_) => false,
        }
    }
}

/// Returns the sum of the indexes: what stands for all of them where there is room for one number.
pub fn sum(parts: &[Part]) -> u64 {
    parts.iter().fold(0, |sum: u64, part| sum.wrapping_add(part.index)).max(1)
}
