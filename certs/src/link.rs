//! QUIC with mutual TLS between nodes: calls, datagrams and heartbeats on one connection a pair.
//!
//! ```text
//! caller                                   peer
//!   | == handshake: both show certificates == |   refused: both log the reason
//!   | -- ping(instance, seq, word) ---------> |   every 300 ms to 1 s, by the one who cares
//!   | <-------- pong(instance, seq, word) --- |   none for 1.9 s: closed
//!   | == a call is one bidirectional stream = |
//!   | -- version, kind, deadline, body, FIN > |   reset or stop: the work is dropped
//!   | <----------------- status, body, FIN -- |
//! ```
//!
//! A connection counts as up when the first ping or pong was heard on it, which proves that both
//! sides accepted each other. Each endpoint has an instance number, drawn when it starts: two
//! connections with the same instance are duplicates, of which the one dialled by the smaller
//! instance stays and the other one is drained; a new instance at an old address is a restarted
//! peer, whose old connection is closed at once.
//!
//! Certificates are judged by the handshake and looked at again as long as the connection lives: a
//! peer whose certificate has expired, or whose authority is no longer trusted, is closed within a
//! heartbeat. So that this never happens to a node that renewed its certificate in time, its connections are
//! made again with the new one, beside the old ones: by the side that dialled, which the other
//! side asks for it.
//!
//! It fails by closing one connection, never more: what a peer sends is bounded in streams,
//! bytes and time, and a peer that breaks the protocol loses its connection. Calls on a lost
//! connection end at once with [`CallError::Lost`](crate::error::CallError::Lost).

pub mod sockets;

mod admission;
mod backoff;
mod call;
mod connection;
mod dial;
mod endpoint;
mod frame;
mod heartbeat;
mod ids;
mod routes;
mod serve;
mod standing;
mod table;
mod transport;

#[cfg(test)]
mod tests;

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use topology::{Datacenter, NodeName, Role};

pub use self::{endpoint::Endpoint, frame::understands, routes::Routes, sockets::Sockets};
pub use crate::verify::{Accept, Expect};
use crate::{identity::Identity, store::Keys};

/// Longest body of a request: a batch of the Raft log is up to 8 MiB.
pub const REQUEST_LEN_MAX: usize = 16 << 20;

/// Longest body of a reply: a recursive read of a large part of the state.
pub const REPLY_LEN_MAX: usize = 256 << 20;

/// Longest word of a node on itself, so that a heartbeat fits into any packet.
pub const WORD_LEN_MAX: usize = 512;

/// Longest deadline that is carried: the longest blocking query (10 min and its jitter) and some.
pub const DEADLINE_MAX: Duration = Duration::from_secs(15 * 60);

/// How an endpoint is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes any free one.
    pub addr: SocketAddr,
    /// Who this node is. Its certificate must say the same.
    pub me: Identity,
    /// Its certificate and the authorities that it trusts.
    pub keys: Keys,
    /// Who may connect.
    pub accept: Accept,
    /// What network the peers are in.
    pub profile: Profile,
    /// Seeds identifiers and jitter; `None` takes them from the operating system.
    pub seed: Option<u64>,
    /// Bounds on what peers may take.
    pub limits: Limits,
}

/// What network the peers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// One datacenter: short round trips, hardly any loss.
    Lan,
    /// Between datacenters: long round trips, loss.
    Wan,
}

/// How closely a peer of a WAN is watched ([`Endpoint::watch`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Pace {
    /// Not at all: its heartbeats are answered. A connection on which nothing is said for 30 s ends.
    #[default]
    Rest,
    /// A heartbeat a second: its death is known within 3 s.
    Watch,
    /// One every 300 ms, for a peer whose answers are waited for.
    Brisk,
}

/// Bounds on what peers may take of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time, handshakes included. The default is for 5,000 agents and as many
    /// that reconnect while their old connections are not yet given up.
    pub connections: usize,
    /// Handshakes at one time; one costs about 1 ms of CPU. Beyond an eighth of them addresses
    /// must be proven first.
    pub handshakes: usize,
    /// Requests at one time on a connection, blocking queries included.
    pub streams: u32,
    /// Bodies longer than 64 KiB that are held at one time for a connection.
    pub large_bodies: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, handshakes: 256, streams: 16_384, large_bodies: 4 }
    }
}

/// A peer: where it is and who it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its endpoint's address.
    pub addr: SocketAddr,
    /// Who has to answer there.
    pub expect: Expect,
}

impl Target {
    /// A server of a datacenter, by its name.
    pub fn server(dc: &Datacenter, name: &NodeName, addr: SocketAddr) -> Self {
        let expect = Expect { dc: Some(dc.clone()), role: Role::Server, node: Some(name.clone()) };
        Self { addr, expect }
    }
}

/// What kind of request a body is; the services on both sides give it its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u16);

/// A request to a peer.
#[derive(Debug, Clone)]
pub struct Request {
    /// What kind it is.
    pub kind: Kind,
    /// When the caller gives up; carried to the peer as the time that is left.
    pub deadline: Instant,
    /// The body, at most [`REQUEST_LEN_MAX`] bytes.
    pub body: Bytes,
}

/// What a peer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The body.
    pub body: Bytes,
}

/// Why a service will not do what was asked. It says that nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason as a number, at least [`Refusal::SERVICE_MIN`]; lower ones are the link's own.
    pub code: u16,
    /// The reason in words; cut to 4 KiB on the wire.
    pub message: String,
}

impl Refusal {
    /// The request's header or body could not be read.
    pub const MALFORMED: u16 = 1;
    /// The request's body is longer than [`REQUEST_LEN_MAX`].
    pub const TOO_LARGE: u16 = 2;
    /// The lowest code that services may give.
    pub const SERVICE_MIN: u16 = 16;

    /// Refuses with a code and a reason.
    pub fn new(code: u16, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// A service's answer that is on its way.
pub type Answering = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// What an endpoint does for its peers.
pub trait Service: Send + Sync + 'static {
    /// Answers a request. The future is dropped when the caller goes away or its deadline passes.
    fn call(&self, peer: Arc<Identity>, from: SocketAddr, request: Request) -> Answering;

    /// Takes a datagram. Must not block.
    fn datagram(&self, peer: &Identity, from: SocketAddr, data: Bytes);

    /// Says what this node has to say of itself, for every heartbeat: at most [`WORD_LEN_MAX`]
    /// bytes. Must not block.
    fn word(&self) -> Bytes;
}

/// The way to a peer as it is now.
#[derive(Debug, Clone)]
pub struct Path {
    /// Who is there, once it has shown its certificate.
    pub peer: Option<Arc<Identity>>,
    /// Where.
    pub addr: SocketAddr,
    /// Whether it can be used.
    pub state: PathState,
    /// The smoothed round-trip time of the current connection.
    pub rtt: Option<Duration>,
    /// How many heartbeats either side sent lately: the last 64 of each count.
    pub beats: u32,
    /// Those of them that were not answered or did not arrive.
    pub beats_lost: u32,
    /// When the peer was heard last.
    pub last_heard: Option<Instant>,
    /// Since when the answer to a heartbeat is awaited; `None` while all are answered, or none
    /// are sent.
    pub awaited: Option<Instant>,
    /// When the peer tried to connect last, whatever came of it. Its address is not proven then.
    pub knocked: Option<Instant>,
    /// What it said of itself last.
    pub word: Bytes,
}

/// Whether a path can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathState {
    /// A connection is there.
    Up {
        /// Since when.
        since: Instant,
    },
    /// A connection is being made; the last one ended, or attempt failed, for that reason.
    Dialing {
        /// Since when there is none and why; `None` on the first attempt.
        after: Option<(Instant, Arc<str>)>,
    },
    /// There is no connection.
    Down {
        /// Since when.
        since: Instant,
        /// Why.
        reason: Arc<str>,
    },
}

impl Path {
    /// Tells whether there is a connection.
    pub fn is_up(&self) -> bool {
        matches!(self.state, PathState::Up { .. })
    }
}
