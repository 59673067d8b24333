//! Raft's messages to other servers.
//!
//! The way there is a [`Wire`]: the server link, or whatever a test or the simulation puts in. A
//! message is a kind and a named map; the answer is a named map. A peer that can't be reached is an
//! error for every message, also for the question before an election, which would otherwise count
//! as a yes.

pub mod link;

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use lan_agent::caller::Promise;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot,
    entry::RaftEntry,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Duration, Instant};

use super::{
    protocol::{LeaderId, Peer, TypeConfig, Vote},
    snapshot::{
        Image, Store,
        receive::{Piece, Taken},
    },
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

/// Makes connections to peers.
#[derive(Clone)]
pub struct Network {
    wire: Arc<dyn Wire>,
    store: Store,
}

/// The way to one peer.
pub struct Connection {
    wire: Arc<dyn Wire>,
    store: Store,
    id: u64,
    peer: Peer,
}

impl Network {
    /// Talks over a wire, and sends snapshots from a store.
    pub fn new(wire: Arc<dyn Wire>, store: Store) -> Self {
        Self { wire, store }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        Connection {
            wire: self.wire.clone(),
            store: self.store.clone(),
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
        let answer = self.call(APPEND, &rpc, option.soft_ttl()).await?;
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
