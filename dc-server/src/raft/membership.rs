//! Who takes part: the first servers, those that join, those that go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use openraft::{
    ChangeMembers,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, InitializeError, RaftError as OpenRaftError},
};
use tokio::time::timeout;

use super::{Raft, RaftError, Role, protocol::Peer, protocol::TypeConfig};

/// How long a leader that goes waits for its successor.
const TRANSFER_WAIT: Duration = Duration::from_secs(3);

impl Raft {
    /// Tells whether this server belongs to a cluster already: [`Raft::bootstrap`] is refused then.
    pub async fn is_bootstrapped(&self) -> Result<bool, RaftError> {
        self.raft.is_initialized().await.map_err(|fatal| self.fatal(&fatal))
    }

    /// Makes these servers, of which this is one, the first voters of a new cluster. Only one of
    /// them needs to do it; should several do it, with the same servers, no harm is done.
    pub async fn bootstrap(&self, servers: BTreeMap<u64, Peer>) -> Result<(), RaftError> {
        match self.raft.initialize(servers).await {
            Ok(()) => Ok(()),
            Err(OpenRaftError::Fatal(fatal)) => Err(self.fatal(&fatal)),
            Err(OpenRaftError::APIError(
                error @ (InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_)),
            )) => Err(RaftError::Refused(error.to_string())),
        }
    }

    /// Lets a server follow, or changes its address. Does not wait until it has caught up.
    pub async fn add_learner(&self, id: u64, peer: Peer) -> Result<(), RaftError> {
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.get_node(&id).cloned()
        };
        match known {
            Some(known) if known == peer => Ok(()),
            Some(_) => self.change(ChangeMembers::SetNodes([(id, peer)].into())).await,
            None => self.change(ChangeMembers::AddNodes([(id, peer)].into())).await,
        }
    }

    /// Lets followers vote.
    pub async fn promote(&self, ids: BTreeSet<u64>) -> Result<(), RaftError> {
        self.change(ChangeMembers::AddVoterIds(ids)).await
    }

    /// Takes servers out. The last voter stays.
    pub async fn remove(&self, ids: BTreeSet<u64>) -> Result<(), RaftError> {
        let voters: BTreeSet<u64> = self.raft.voter_ids().collect();
        if voters.difference(&ids).next().is_none() {
            return Err(RaftError::Refused("the last voter can't be removed".to_owned()));
        }
        if !voters.is_disjoint(&ids) {
            self.change(ChangeMembers::RemoveVoters(ids.clone())).await?;
        }
        self.change(ChangeMembers::RemoveNodes(ids)).await
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<(), RaftError> {
        const RETAIN_AS_LEARNER: bool = true;
        match self.raft.change_membership(change, RETAIN_AS_LEARNER).await {
            Ok(_) => Ok(()),
            Err(OpenRaftError::Fatal(fatal)) => Err(self.fatal(&fatal)),
            Err(OpenRaftError::APIError(error)) => Err(self.refused(error)),
        }
    }

    fn refused(&self, error: ClientWriteError<TypeConfig>) -> RaftError {
        match error {
            ClientWriteError::ForwardToLeader(forward) => RaftError::NotLeader {
                leader: forward
                    .leader_id
                    .zip(forward.leader_node.map(|peer| peer.addr))
                    .filter(|(id, _)| *id != self.id),
            },
            ClientWriteError::LogEntryDiscarded(_) => RaftError::Unknown,
            other => RaftError::Refused(other.to_string()),
        }
    }

    /// Hands leadership to the voter whose log is the longest, before this server goes. Nothing to
    /// do unless it leads and there is another voter.
    pub async fn transfer_leadership(&self) -> Result<(), RaftError> {
        let successor = {
            let servers = self.servers();
            let others = servers.into_iter().filter(|server| server.voter && server.id != self.id);
            others.filter(|server| server.lag.is_some()).min_by_key(|server| server.lag)
        };
        let Some(successor) = successor.filter(|_| self.is_leader()) else { return Ok(()) };
        let mut leadership = self.leadership();
        // The successor is elected although the lease has not run out: it is worth nothing from now.
        let term = self.raft.metrics().borrow_watched().vote.leader_id().term;
        self.handed_over.store(term, Ordering::Release);
        let triggered = self.raft.trigger().transfer_leader(successor.id).await;
        triggered.map_err(|fatal| self.fatal(&fatal))?;
        let gone = leadership.wait_for(|now| now.role != Role::Leader);
        match timeout(TRANSFER_WAIT, gone).await {
            Ok(_) => Ok(()),
            Err(_) => Err(RaftError::Refused("no other server took over in time".to_owned())),
        }
    }
}
