//! What an agent may ask a server, and what it gets back.
//!
//! A request comes in over HTTP, DNS or a link, becomes an [`Ask`], passes through one
//! dispatch, and comes back as an [`Answer`] whose body is already what the application is to
//! read: the server that holds the state encodes it once, and everyone on the way copies bytes.
//!
//! On the wire an ask is a named map whose question is a kind number and a named map of its own
//! ([`wire`]), so that servers of different versions can talk: unknown fields are ignored and an
//! unknown kind is refused with a sentence.

pub mod coordinate;
pub mod error;
pub mod feed;
pub mod question;
pub mod union;
pub mod wire;

mod span;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use topology::Datacenter;
use uuid::Uuid;

pub use error::AskError;
pub use feed::Feed;
pub use question::{
    CatalogOp, CatalogRecord, CatalogVerb, FailoverExplain, KvOp, KvVerb, Question, TxnOp,
};
pub use union::{Part, Union};

/// How fresh a read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// From the leader, by its lease.
    #[default]
    Default,
    /// From the leader, confirmed by a quorum (read index).
    Consistent,
    /// From any server, however far behind.
    Stale,
}

/// Asks to be answered only when something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocking {
    /// Answer when the index is above this one; never 0.
    pub index: u64,
    /// Answer with what there is after this long, jitter not included. At most 10 minutes.
    pub wait: Duration,
}

/// Identity of a request: a write with one that was applied before is not applied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

/// Identity of what a client did, through all agents and datacenters that had a part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceId(pub Uuid);

/// A question with everything that decides how it is answered.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The datacenter to answer; `None` is the own one.
    pub dc: Option<Datacenter>,
    /// How fresh a read has to be. Writes ignore it.
    pub consistency: Consistency,
    /// How old the answer of a stale read may be; `None` for as old as those allow who answer.
    pub max_stale: Option<Duration>,
    /// Whether a read waits for a change.
    pub blocking: Option<Blocking>,
    /// The client's token, empty when it gave none.
    pub token: String,
    /// Follows the request everywhere.
    pub trace: TraceId,
    /// Makes a repeated write apply once.
    pub request: RequestId,
    /// When the asker stops listening. Shrinks at every hop by the time that passed.
    pub deadline: Instant,
    /// What is asked.
    pub question: Question,
}

/// What an answer says of itself, beside its body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// `X-Consul-Index`; 0 when the question has none.
    #[serde(default)]
    pub index: u64,
    /// `X-Consul-KnownLeader`; `None` when the question has none of the three.
    #[serde(default)]
    pub known_leader: Option<bool>,
    /// `X-Consul-LastContact`: how long ago the answering server heard from its leader.
    #[serde(default)]
    pub last_contact: Duration,
    /// `X-Consul-Effective-Consistency`.
    #[serde(default)]
    pub consistency: Consistency,
    /// `X-Causeway-Path`: the datacenters that the question passed, from the asker's to the one that
    /// answered; empty when it never left its own.
    #[serde(default)]
    pub path: Vec<Datacenter>,
    /// `X-Causeway-Source: mirror`: another datacenter answered for the one that was asked, with what it
    /// had heard of it.
    #[serde(default)]
    pub mirrored: bool,
    /// `X-Causeway-Served-Dc`: the datacenters whose instances these are; empty unless a policy decides that.
    #[serde(default)]
    pub served: Vec<Datacenter>,
    /// `X-Causeway-Datacenters`: what each part of a union is; empty for what is none.
    #[serde(default)]
    pub parts: Vec<Part>,
}

impl Meta {
    /// Tells whether some of the instances are those of another datacenter than this one.
    pub fn is_served_elsewhere(&self, home: &Datacenter) -> bool {
        self.served.iter().any(|dc| dc != home)
    }
}

/// Whether there was something to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// 200.
    Found,
    /// 404 with the body as given; the headers of [`Meta`] are true all the same.
    Absent,
    /// 409: a transaction was rolled back; the body says why.
    Conflict,
}

/// An answer, ready to be handed to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether there was something to answer with.
    pub outcome: Outcome,
    /// Index, freshness.
    pub meta: Meta,
    /// JSON, or the bytes of a value where the question asked for those.
    pub body: Bytes,
}

impl Answer {
    /// An answer without freshness of its own, such as that of a write.
    pub fn plain(body: impl Into<Bytes>) -> Self {
        Self { outcome: Outcome::Found, meta: Meta::default(), body: body.into() }
    }
}
