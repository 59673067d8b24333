//! What a server does for those who connect to its link: agents' asks, and Raft with its peers.
//!
//! Who may ask for what: any agent of the datacenter may ask and synchronise the roster; only
//! its servers may speak Raft and tell what they see of other datacenters. The link has made sure who is there before anything gets here.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use certs::{
    identity::Identity,
    link::{Answering, Kind, Refusal, Request, Service},
};
use lan_agent::{
    ask::wire::{decode_ask, encode_reply},
    pool::Pool,
    remote::{ASK, ROSTER},
    standing::word,
};
use tokio::time::Instant;
use topology::Role;
use wan_federation::{Federation, sight::SIGHT};

use crate::{
    dispatch::{Dispatch, way::Origin},
    leader::{Agreement, BOOTSTRAP},
    raft::{Raft, Rejected},
};

/// The first and the last kind of Raft's messages.
const RAFT: std::ops::RangeInclusive<u16> = 16..=31;

/// Refused: the server is just starting, or stopping.
const NOT_READY: u16 = Refusal::SERVICE_MIN;

/// Refused: only a server may ask for this.
const SERVERS_ONLY: u16 = Refusal::SERVICE_MIN + 1;

/// Refused: this version does not know the kind of request.
const UNKNOWN_KIND: u16 = Refusal::SERVICE_MIN + 2;

/// Refused: Raft can't answer.
const RAFT_REJECTED: u16 = Refusal::SERVICE_MIN + 3;

/// What answers, once the server is put together.
pub struct Parts {
    /// Answers asks.
    pub dispatch: Arc<Dispatch>,
    /// Answers Raft's messages.
    pub raft: Raft,
    /// Knows the roster.
    pub pool: Pool,
    /// Answers who may be the first voters.
    pub agreement: Agreement,
    /// `bootstrap_expect`.
    pub expect: Option<usize>,
    /// Takes in what fellow servers see of other datacenters.
    pub federation: Option<Federation>,
}

/// The service of a server's link. It is bound before the parts that answer exist, as those need
/// the link; what comes in before that is refused, and asked again by who sent it.
#[derive(Clone, Default)]
pub struct LinkService(Arc<OnceLock<Parts>>);

impl LinkService {
    /// Starts to answer. Only the first time counts.
    pub fn open(&self, parts: Parts) {
        if self.0.set(parts).is_err() {
            tracing::warn!("the link was opened twice");
        }
    }

    fn answer(&self, peer: &Identity, request: Request) -> Option<Answering> {
        let parts = self.0.get()?;
        let is_server = peer.role == Role::Server;
        Some(match request.kind {
            ASK => ask(parts, is_server, request),
            ROSTER => roster(parts, request.body),
            BOOTSTRAP | SIGHT | Kind(16..=31) if !is_server => {
                refuse(SERVERS_ONLY, "only a server may ask for this")
            }
            SIGHT => sight(parts, peer, &request.body),
            BOOTSTRAP => {
                let (agreement, raft) = (parts.agreement.clone(), parts.raft.clone());
                let expect = parts.expect;
                Box::pin(async move { agreement.answer(&raft, expect, &request.body).await })
            }
            Kind(kind) if RAFT.contains(&kind) => {
                let raft = parts.raft.clone();
                Box::pin(async move { raft.handle(kind, request.body).await.map_err(rejected) })
            }
            Kind(kind) => refuse(
                UNKNOWN_KIND,
                format_args!("this server does not know requests of kind {kind}: upgrade it"),
            ),
        })
    }
}

impl Service for LinkService {
    fn call(&self, peer: Arc<Identity>, _from: SocketAddr, request: Request) -> Answering {
        self.answer(&peer, request).unwrap_or_else(|| refuse(NOT_READY, "the server is starting"))
    }

    fn datagram(&self, _peer: &Identity, _from: SocketAddr, _data: Bytes) {}

    fn word(&self) -> Bytes {
        // One that is starting says nothing.
        self.0.get().map(|parts| word(parts.raft.leader().is_some())).unwrap_or_default()
    }
}

fn ask(parts: &Parts, from_server: bool, request: Request) -> Answering {
    let dispatch = parts.dispatch.clone();
    // An agent's own asks never come over the link of a server: a server that sends one took
    // this one for the leader.
    let origin = if from_server { Origin::Follower } else { Origin::Agent };
    Box::pin(async move {
        let answered = match decode_ask(&request.body, Instant::now()) {
            Ok(mut ask) => {
                ask.deadline = ask.deadline.min(request.deadline);
                dispatch.ask(ask, origin).await
            }
            Err(error) => Err(error),
        };
        Ok(encode_reply(&answered))
    })
}

fn sight(parts: &Parts, peer: &Identity, body: &[u8]) -> Answering {
    let fellow = parts.federation.as_ref().zip(peer.node.as_ref());
    match fellow.is_some_and(|(federation, node)| federation.told(node, body)) {
        true => Box::pin(std::future::ready(Ok(Bytes::new()))),
        false => refuse(NOT_READY, "not taken in: the WAN is disabled, or the server is too busy"),
    }
}

fn roster(parts: &Parts, theirs: Bytes) -> Answering {
    let pool = parts.pool.clone();
    Box::pin(async move { pool.sync(theirs).await.map_err(|error| Refusal::new(NOT_READY, error)) })
}

fn refuse(code: u16, reason: impl std::fmt::Display) -> Answering {
    Box::pin(std::future::ready(Err(Refusal::new(code, reason))))
}

fn rejected(why: Rejected) -> Refusal {
    Refusal::new(RAFT_REJECTED, why)
}
