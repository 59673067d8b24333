//! Raft's messages from other servers.

use std::sync::Arc;

use bytes::Bytes;
use openraft::Snapshot;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::{
    Heard, OpenRaft,
    contact::Contact,
    network::{APPEND, Append, PRE_VOTE, SNAPSHOT, TRANSFER, VOTE},
    protocol::TypeConfig,
    snapshot::receive::{Piece, Progress, Receiver, Taken},
};

/// Why a message is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is not a message that this version knows.
    #[error("this server does not know Raft messages of kind {0}: upgrade it")]
    UnknownKind(u16),
    /// It can't be read.
    #[error("the Raft message of kind {kind} can't be read: {why}")]
    Malformed {
        /// The kind.
        kind: u16,
        /// What the decoder said.
        why: String,
    },
    /// This server has just restarted and may have granted a leader a lease before.
    #[error("this server has just restarted and does not vote yet")]
    JustStarted,
    /// This server's Raft has stopped.
    #[error("Raft has stopped here: {0}")]
    Stopped(String),
}

/// Answers what other servers send.
#[derive(Clone)]
pub(super) struct Inbound {
    pub(super) raft: OpenRaft,
    pub(super) heard: Heard,
    pub(super) contact: Contact,
    pub(super) receiver: Arc<Receiver>,
    /// When a lease that was granted before the restart has run out.
    pub(super) votes_from: Instant,
}

fn stopped(error: impl ToString) -> Rejected {
    Rejected::Stopped(error.to_string())
}

fn read<T: DeserializeOwned>(kind: u16, body: &[u8]) -> Result<T, Rejected> {
    rmp_serde::from_slice(body)
        .map_err(|error| Rejected::Malformed { kind, why: error.to_string() })
}

fn write<T: Serialize>(answer: &T) -> Result<Bytes, Rejected> {
    rmp_serde::to_vec_named(answer).map(Bytes::from).map_err(stopped)
}

impl Inbound {
    pub(super) async fn handle(&self, kind: u16, body: Bytes) -> Result<Bytes, Rejected> {
        match kind {
            APPEND => self.append(&body).await,
            VOTE | PRE_VOTE if Instant::now() < self.votes_from => Err(Rejected::JustStarted),
            VOTE => write(&self.raft.vote(read(kind, &body)?).await.map_err(stopped)?),
            PRE_VOTE => write(&self.raft.pre_vote(read(kind, &body)?).await.map_err(stopped)?),
            SNAPSHOT => self.snapshot(read(kind, &body)?).await,
            TRANSFER => {
                let request = read(kind, &body)?;
                write(&self.raft.handle_transfer_leader(request).await.map_err(stopped)?)
            }
            kind => Err(Rejected::UnknownKind(kind)),
        }
    }

    async fn append(&self, body: &[u8]) -> Result<Bytes, Rejected> {
        use openraft::raft::AppendEntriesResponse as Response;
        let received = Instant::now();
        let append: Append = read(APPEND, body)?;
        let committed = (!append.unsure).then(|| append.committed());
        let (leader, sent_us) = (append.leader(), append.sent_us);
        let sent = self.contact.sent(leader, sent_us, received);
        let answer: Response<TypeConfig> =
            self.raft.append_entries(append.request()).await.map_err(stopped)?;
        match answer {
            Response::Success | Response::PartialSuccess(_) | Response::Conflict => {
                self.heard.note(received);
                if let Some(committed) = committed {
                    self.contact.hear(sent, committed);
                }
            }
            Response::HigherVote(_) => {}
        }
        write(&answer)
    }

    async fn snapshot(&self, piece: Piece) -> Result<Bytes, Rejected> {
        let vote = piece.vote;
        write(&match self.receiver.take(piece).await.map_err(stopped)? {
            Progress::GoOn(offset) => Taken::GoOn(offset),
            Progress::Busy => Taken::Busy,
            Progress::Complete(meta, snapshot) => {
                let snapshot = Snapshot { meta, snapshot };
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                Taken::Done(installed.map_err(stopped)?.vote)
            }
        })
    }
}
