//! What reaches the federation's task: from other servers, from its handles, from its errands.

use std::net::SocketAddr;

use bytes::Bytes;
use certs::identity::Identity;
use tokio::sync::oneshot;
use topology::{Datacenter, NodeName, Profile};

use crate::{
    removal::{RemovalError, Wish},
    report::Report,
    sight::Sight,
    timeline::Event,
};

/// Most messages that wait: a burst of gossip from all servers of some dozen datacenters.
pub(crate) const INBOX_MAX: usize = 4096;

/// A message to the federation's task.
#[derive(Debug)]
pub(crate) enum Message {
    /// A gossip packet came in.
    Packet { peer: Identity, from: SocketAddr, data: Bytes },
    /// A full state came in; the sender may want ours.
    Roster { state: Bytes, reply: Option<oneshot::Sender<Bytes>> },
    /// Somebody wants to see all that is known.
    Report { reply: oneshot::Sender<Report> },
    /// Somebody wants the timeline.
    Events { reply: oneshot::Sender<Vec<Event>> },
    /// A datacenter is removed, or let in again.
    Remove { dc: Datacenter, wish: Wish, reply: oneshot::Sender<Result<(), RemovalError>> },
    /// Somebody said that the own datacenter is kept out.
    Excluded { by: SocketAddr, why: String },
    /// Somebody wants our full state.
    Export { reply: oneshot::Sender<Bytes> },
    /// A fellow server says what it sees.
    Sight { from: NodeName, sight: Sight },
    /// A fellow server did not get what it was told.
    Missed { fellow: NodeName },
    /// A server said what its datacenter holds of the others.
    Row { dc: Datacenter, by: NodeName, row: Bytes },
    /// A name to join by was looked up.
    Resolved { host: String, addrs: Vec<SocketAddr> },
    /// The host name of a gateway was looked up.
    Gateways { host: String, addrs: Vec<SocketAddr> },
    /// These addresses are to be joined by.
    Join(Vec<SocketAddr>),
    /// The servers of the own LAN changed.
    Flood,
    /// This server says something new of itself.
    Update(Box<Profile>),
    /// A failed member is not expected back.
    ForceLeave { name: String, prune: bool },
    /// This server leaves.
    Leave,
}
