//! What Raft is about here: which command, which answer, which node.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};
use topology::NodeName;

use super::runtime::Runtime;
use crate::state::{Applied, Command};

openraft::declare_raft_types!(
    /// The types that openraft is used with.
    pub TypeConfig:
        D = Command,
        R = Applied,
        NodeId = u64,
        Node = Peer,
        AsyncRuntime = Runtime,
);

/// A server as the Raft membership holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Where it takes Raft's messages (QUIC).
    pub addr: SocketAddr,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.addr)
    }
}

/// A log entry.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// The position of a log entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// Who leads a term.
pub type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// Who takes part, and since which entry.
pub type Membership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot says of itself.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
