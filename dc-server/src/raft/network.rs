//! Raft's messages to other servers.
//!
//! The way there is a [`Wire`]: the server link, or whatever a test or the simulation puts in. A
//! message is a kind and a named map; the answer is a named map. A peer that can't be reached is an
//! error for every message, also for the question before an election, which would otherwise count
//! as a yes.

pub mod link;

use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use lan_agent::caller::Promise;
use openraft::{
    Instant as _, OptionalSend, RaftMetrics, RaftNetworkFactory, RaftNetworkV2, Snapshot,
    async_runtime::watch::WatchReceiver,
    entry::RaftEntry,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Duration, Instant};

use super::{
    contact::Contact,
    protocol::{Entry, LeaderId, LogId, Peer, TypeConfig, Vote},
    runtime::watch::Receiver as Watched,
    snapshot::{
        Image, Store,
        receive::{Piece, Taken},
    },
    status::leads_for_certain,
};

/// Entries to append.
pub const APPEND: u16 = 16;
/// A candidate asks for a vote.
pub const VOTE: u16 = 17;
/// A server asks whether it would be voted for.
pub const PRE_VOTE: u16 = 18;
/// A piece of a snapshot.
pub const SNAPSHOT: u16 = 19;
/// The leader asks a server to take over.
pub const TRANSFER: u16 = 20;

/// Most bytes of entries in one message, well below the link's bound of 16 MiB.
pub const APPEND_LEN_MAX: usize = 8 * 1024 * 1024;

/// How long a piece of a snapshot may take: the last one is answered when all was checked and
/// installed.
const PIECE_DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait before a piece is sent again to a follower that is taking one.
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// Why a message got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It certainly was not delivered.
    #[error("can't be reached: {0}")]
    Unreachable(String),
    /// It was or was not.
    #[error("no answer: {0}")]
    Lost(String),
    /// The peer says no.
    #[error("refused: {0}")]
    Refused(String),
}

/// The way to other servers. A call dropped is a call given up; one that is not answered by its
/// deadline is an error.
pub trait Wire: Send + Sync + 'static {
    /// Sends a message of a kind to the server `id` and returns the answer.
    fn call(
        &self,
        id: u64,
        peer: &Peer,
        kind: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, WireError>>;
}

/// What Raft says of this server, as soon as it runs.
pub(super) type Metrics = Arc<OnceLock<Watched<RaftMetrics<TypeConfig>>>>;

/// What this server knows of itself when it speaks as a leader.
#[derive(Clone, Default)]
pub(super) struct Myself {
    lease: Duration,
    metrics: Metrics,
    contact: Contact,
    start: Option<Instant>,
}

impl Myself {
    pub(super) fn new(lease: Duration, metrics: Metrics, contact: Contact) -> Self {
        Self { lease, metrics, contact, start: Some(Instant::now()) }
    }

    /// Returns the time of this server's own, for what it says as a leader: microseconds, more than 0.
    fn time_us(&self) -> u64 {
        let elapsed = self.start.map(|start| start.elapsed()).unwrap_or_default();
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Tells whether this server may lead without having a quorum, or without having applied what
    /// earlier leaders acknowledged. If not, its state is as fresh as the last word of its quorum:
    /// noted for the time when it leads no more.
    ///
    /// A message that was put together a moment ago may say less than what was committed, and acknowledged, since: that by which
    /// a new leader became sure, say. What it says counts when nothing beyond it has been applied.
    fn is_unsure(&self, said: Option<LogId>) -> bool {
        let Some(metrics) = self.metrics.get() else { return false };
        let metrics = metrics.borrow_watched();
        let sure = leads_for_certain(&metrics, self.lease);
        if let (true, Some(acked), Some(applied)) =
            (sure, metrics.last_quorum_acked, metrics.last_applied)
        {
            self.contact.hear(Instant::now() - acked.elapsed(), applied.index);
        }
        !sure || said < metrics.last_applied
    }
}

/// Makes connections to peers.
#[derive(Clone)]
pub struct Network {
    wire: Arc<dyn Wire>,
    store: Store,
    myself: Myself,
}

/// The way to one peer.
pub struct Connection {
    wire: Arc<dyn Wire>,
    store: Store,
    myself: Myself,
    id: u64,
    peer: Peer,
}

/// openraft's message, and what followers make their own word of ([`Contact`]).
#[derive(Serialize, Deserialize)]
pub(super) struct Append {
    vote: Vote,
    prev_log_id: Option<LogId>,
    entries: Vec<Entry>,
    leader_commit: Option<LogId>,
    /// Whether the leader does not know if others have committed more under another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unsure: bool,
    /// When it was sent by the leader's own time: how much longer than others it was on its way is time that
    /// the state is older by. 0: it does not say.
    #[serde(default)]
    pub(super) sent_us: u64,
}

impl Append {
    fn new(rpc: AppendEntriesRequest<TypeConfig>, sent_us: u64, unsure: bool) -> Self {
        let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = rpc;
        Self { vote, prev_log_id, entries, leader_commit, unsure, sent_us }
    }

    /// Returns who leads: its term and its number.
    pub(super) fn leader(&self) -> (u64, u64) {
        let leader = self.vote.leader_id();
        (leader.term, leader.node_id)
    }

    /// Returns the last entry that the leader knew to be committed.
    pub(super) fn committed(&self) -> u64 {
        self.leader_commit.map_or(0, |id| id.index)
    }

    /// Returns what is for openraft.
    pub(super) fn request(self) -> AppendEntriesRequest<TypeConfig> {
        let Append { vote, prev_log_id, entries, leader_commit, unsure: _, sent_us: _ } = self;
        AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }
    }
}

impl Network {
    /// Talks over a wire, and sends snapshots from a store.
    pub(super) fn new(wire: Arc<dyn Wire>, store: Store, myself: Myself) -> Self {
        Self { wire, store, myself }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        Connection {
            wire: self.wire.clone(),
            store: self.store.clone(),
            myself: self.myself.clone(),
            id: target,
            peer: node.clone(),
        }
    }
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

fn unreachable_at(peer: &Peer, why: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(format!("{peer}: {}", why.to_string()))
}

impl Connection {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: u16,
        message: &Q,
        timeout: Duration,
    ) -> Result<A, Unreachable<TypeConfig>> {
        let body = rmp_serde::to_vec_named(message).map_err(|e| unreachable_at(&self.peer, e))?;
        let deadline = Instant::now() + timeout;
        let call = self.wire.call(self.id, &self.peer, kind, body.into(), deadline);
        let answer = match tokio::time::timeout_at(deadline, call).await {
            Ok(answer) => answer.map_err(|error| unreachable_at(&self.peer, error))?,
            Err(_) => return Err(unreachable_at(&self.peer, "no answer in time")),
        };
        rmp_serde::from_slice(&answer).map_err(|error| unreachable_at(&self.peer, error))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, u64, Peer, Image>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let Snapshot { meta, snapshot: image } = snapshot;
        let mut offset = 0;
        let mut data = Bytes::new();
        loop {
            let crc = crc32fast::hash(&data);
            let piece = Piece { vote, meta: meta.clone(), len: image.len, offset, data, crc };
            match self.call(SNAPSHOT, &piece, PIECE_DEADLINE).await? {
                Taken::Done(vote) => return Ok(SnapshotResponse::new(vote)),
                Taken::GoOn(next) => offset = next,
                Taken::Busy => tokio::time::sleep(BUSY_WAIT).await,
            }
            let len_max = super::snapshot::PIECE_LEN;
            let read = self.store.disk().read(&image.name, offset, len_max).await;
            data = read.map_err(|error| unreachable_at(&self.peer, error))?;
            if data.is_empty() {
                let gone = "the snapshot to be sent is not what it was";
                return Err(unreachable_at(&self.peer, gone).into());
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Connection {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let whole = rpc.entries.len();
        let fitting = fitting(&rpc.entries);
        rpc.entries.truncate(fitting);
        let last = rpc.entries.last().map(RaftEntry::log_id);
        // What it says was true before it is sent.
        let sent_us = self.myself.time_us();
        let unsure = self.myself.is_unsure(rpc.leader_commit);
        let message = Append::new(rpc, sent_us, unsure);
        let answer = self.call(APPEND, &message, option.soft_ttl()).await?;
        Ok(match answer {
            AppendEntriesResponse::Success if fitting < whole => {
                AppendEntriesResponse::PartialSuccess(last)
            }
            answer => answer,
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        Ok(self.call(VOTE, &rpc, option.soft_ttl()).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        Ok(self.call(PRE_VOTE, &rpc, option.soft_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, u64, Peer, Image>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        Ok(self.call(TRANSFER, &req, option.soft_ttl()).await?)
    }
}

/// Returns how many of the entries fit in one message; one at least.
fn fitting(entries: &[super::protocol::Entry]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        bytes += super::disk::weight(entry);
        bytes <= APPEND_LEN_MAX
    });
    fitting.count().max(entries.len().min(1))
}

#[cfg(test)]
mod tests;
