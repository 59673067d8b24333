//! Why an ask got no answer. HTTP maps these in one place, DNS in another.

use serde::{Deserialize, Serialize};
use topology::Datacenter;

/// What [`AskError::Lost`] says.
pub(super) const LOST: &str =
    "No cluster leader any more: the write was sent and may have been applied";

/// Why an ask got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskError {
    /// The question itself is wrong: 400 with this sentence.
    #[error("{0}")]
    Bad(String),
    /// A body or value is over its bound: 413 with this sentence.
    #[error("{0}")]
    TooLarge(String),
    /// Too much is under way; try again later: 429.
    #[error("{0}")]
    Busy(String),
    /// The datacenter has no leader now: 500.
    #[error("No cluster leader")]
    NoLeader,
    /// The leader was lost when it had been sent a write, and no other was found that knows what
    /// became of it: 500.
    #[error("{}", LOST)]
    Lost,
    /// Nobody ever heard of the datacenter: 500.
    #[error("No path to datacenter")]
    NoPath {
        /// As asked.
        dc: Datacenter,
    },
    /// The datacenter is known, but held for lost: 500.
    #[error("Remote DC has no server currently reachable")]
    NoServer {
        /// As asked.
        dc: Datacenter,
        /// Why, and since when, in a sentence.
        reason: String,
    },
    /// No server of the own datacenter answers: 500 with this reason.
    #[error("No known Consul servers: {0}")]
    CutOff(String),
    /// Nobody answered in time. A write may have been applied or not: 500 with what was awaited.
    #[error("deadline exceeded: {0}")]
    Deadline(String),
    /// The server can't do what is asked (a full disk, a broken log): 500 with its sentence.
    #[error("{0}")]
    Failed(String),
}

impl AskError {
    /// Tells whether the request certainly had no effect, so that a write may be sent elsewhere
    /// without its request id.
    pub fn had_no_effect(&self) -> bool {
        match self {
            AskError::Bad(_)
            | AskError::TooLarge(_)
            | AskError::Busy(_)
            | AskError::NoLeader
            | AskError::NoPath { .. }
            | AskError::NoServer { .. }
            | AskError::CutOff(_) => true,
            AskError::Lost | AskError::Deadline(_) | AskError::Failed(_) => false,
        }
    }
}
