//! Members of a pool: what a node says of itself, and what the others hold it for.
//!
//! A [`Profile`] is written by its node alone and spreads by gossip; the one with the higher
//! `incarnation` wins. A [`Member`] is a profile with the [`Status`] that this node holds it for.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::name::{Datacenter, NodeId, NodeName};

/// Most tags a profile may hold, so that it fits in a gossip packet.
pub const TAGS_MAX: usize = 16;

/// Longest version, tag name or tag value, so that a profile fits in a gossip packet.
pub const LABEL_LEN_MAX: usize = 128;

/// The tag in which a server says in the WAN pool which cluster it is of: the identity that the servers of a
/// datacenter agreed on when they began, which tells it from another one of its name.
pub const CLUSTER_TAG: &str = "cluster";

/// What a node does in its datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes part in Raft and in the WAN pool.
    Server,
    /// Asks the servers.
    Client,
}

impl Role {
    /// Returns the role as certificates, logs and tables write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Server => "server",
            Role::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a node holds another one for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Answers, or is not yet known not to.
    Alive,
    /// Says that it is about to leave.
    Leaving,
    /// Said that it left: nobody expects it back.
    Left,
    /// Stopped answering without a word.
    Failed,
}

impl Status {
    /// Returns the status as Consul's tables write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Alive => "alive",
            Status::Leaving => "leaving",
            Status::Left => "left",
            Status::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a node says of itself to its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Name, unique in the datacenter.
    pub name: NodeName,
    /// Identity of the data directory.
    pub id: NodeId,
    /// Datacenter.
    pub dc: Datacenter,
    /// What it does there.
    pub role: Role,
    /// Where it takes this pool's packets (LAN pool: UDP; WAN pool: QUIC).
    pub addr: SocketAddr,
    /// Where it takes asks and Raft (QUIC); servers only.
    pub link: Option<SocketAddr>,
    /// Where it takes the WAN pool (QUIC); servers with a WAN side only. Lets the servers of a
    /// datacenter flood each other into the WAN pool.
    pub wan: Option<SocketAddr>,
    /// The version of the program, such as `0.1.0`.
    pub version: String,
    /// Anything else, at most [`TAGS_MAX`] short pairs (Consul's member tags: `expect`, `bootstrap`, ...).
    pub tags: BTreeMap<String, String>,
}

impl Profile {
    /// Returns the cluster that a server is of; `None` before it knows.
    pub fn cluster(&self) -> Option<&str> {
        self.tags.get(CLUSTER_TAG).map(String::as_str)
    }
}

/// A node as another node of its pool holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it said of itself last.
    pub profile: Profile,
    /// What it is held for.
    pub status: Status,
}

impl Member {
    /// Tells whether requests may be sent to it.
    pub fn is_alive(&self) -> bool {
        self.status == Status::Alive
    }
}
