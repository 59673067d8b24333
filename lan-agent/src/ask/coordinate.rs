//! What is asked about network coordinates.

use serde::{Deserialize, Serialize};
use topology::Coordinate;

use crate::catalog::Text;

/// Says where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The node's name.
    #[serde(rename = "n")]
    pub node: Text,
    /// Where it is.
    #[serde(rename = "c")]
    pub coordinate: Coordinate,
}

impl Update {
    /// About how many bytes it takes in the log.
    pub fn written_len(&self) -> usize {
        size_of::<Coordinate>() + self.node.len()
    }
}

/// Asks where nodes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// One node; `None` for all.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Text>,
}
