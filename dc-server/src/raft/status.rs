//! What Raft says of itself: who leads, who takes part, how far the log is.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use openraft::{
    Instant as _, RaftMetrics, ServerState, TokioInstant, async_runtime::watch::WatchReceiver,
};
use tokio::time::Instant;
use topology::NodeName;

use super::{
    OpenRaft, Raft, RaftError,
    protocol::TypeConfig,
    runtime::watch::{self, Receiver},
};

/// The server that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: NodeName,
    /// Where it takes Raft's messages and asks.
    pub addr: SocketAddr,
}

/// What this server does in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Stands for election.
    Candidate,
    /// Follows and votes.
    Follower,
    /// Follows.
    Learner,
    /// Has stopped.
    Stopped,
}

impl Role {
    /// Returns the role as Consul's `info` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "Leader",
            Role::Candidate => "Candidate",
            Role::Follower => "Follower",
            Role::Learner => "Learner",
            Role::Stopped => "Shutdown",
        }
    }
}

/// Who leads, as a watch tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// What this server does.
    pub role: Role,
    /// The number of the leader, if one is known.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Since when it is so.
    pub since: Instant,
}

/// A server that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: NodeName,
    /// Where it takes Raft's messages.
    pub addr: SocketAddr,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// How many entries it is known to lack; known to the leader only.
    pub lag: Option<u64>,
}

/// Numbers for metrics and `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What this server does.
    pub role: Role,
    /// The term.
    pub term: u64,
    /// The last entry in the log.
    pub last_index: u64,
    /// The last entry known to be committed.
    pub commit_index: u64,
    /// The last entry applied.
    pub applied_index: u64,
    /// The last entry in the newest snapshot.
    pub snapshot_index: u64,
    /// The term of that entry.
    pub snapshot_term: u64,
    /// The other servers that vote.
    pub peers: usize,
    /// How long ago the leader was heard.
    pub last_contact: Duration,
    /// What is broken, if something is.
    pub broken: Option<String>,
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Follower => Role::Follower,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

/// Follows what openraft says of leadership, until it stops.
pub(super) fn follow(id: u64, raft: &OpenRaft) -> Receiver<Leadership> {
    let mut metrics = raft.server_metrics();
    let look = move |metrics: &openraft::metrics::RaftServerMetrics<TypeConfig>| Leadership {
        role: role(metrics.state),
        leader: metrics.current_leader,
        term: metrics.vote.leader_id().term,
        since: Instant::now(),
    };
    let (tx, rx) = watch::channel(look(&metrics.borrow_watched()));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let now = look(&metrics.borrow_watched());
            tx.send_if_modified(|then| {
                let same = Leadership { since: then.since, ..now } == *then;
                if !same {
                    tracing::info!(
                        id,
                        role = now.role.as_str(),
                        leader = now.leader,
                        term = now.term,
                        "Raft leadership"
                    );
                    *then = now;
                }
                !same
            });
        }
        tx.send_if_modified(|then| {
            *then =
                Leadership { role: Role::Stopped, leader: None, since: Instant::now(), ..*then };
            true
        });
    });
    rx
}

fn applies_its_own(metrics: &RaftMetrics<TypeConfig>) -> Option<u64> {
    let term = metrics.vote.leader_id().term;
    let own = metrics.last_applied.is_some_and(|last| last.committed_leader_id().term == term);
    (own && metrics.state == ServerState::Leader).then_some(term)
}

/// Tells whether a server leads, has heard so from a quorum within the lease, or is alone, and has
/// applied what earlier leaders acknowledged.
pub(super) fn leads_for_certain(metrics: &RaftMetrics<TypeConfig>, lease: Duration) -> bool {
    let acked = metrics.last_quorum_acked.as_ref().map(|acked| acked.elapsed());
    // Nobody answers a leader that is alone, so the time of the last answer stands still.
    let alone = || metrics.membership_config.voter_ids().eq([metrics.id]);
    applies_its_own(metrics).is_some()
        && (acked.is_some_and(|ago| ago < lease) || alone())
        && metrics.running_state.is_ok()
}

impl Raft {
    /// Returns a watch of who leads.
    pub fn leadership(&self) -> Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Tells whether this server leads and a quorum confirmed it within the lease. Only
    /// [`Raft::confirm`] makes sure.
    pub fn is_leader(&self) -> bool {
        let Ok(leader) = self.raft.as_leader() else { return false };
        // Nobody answers a leader that is alone, so the time of the last answer stands still.
        let alone = self.raft.voter_ids().eq([self.id]);
        let recent = |acked: TokioInstant| acked.elapsed() < self.timing.silence_max();
        (alone || leader.last_quorum_acked().is_none_or(recent)) && self.health.broken().is_none()
    }

    /// Tells whether this server leads for certain and has applied all that was acknowledged before
    /// this call, from what openraft published last, without asking its task.
    ///
    /// A quorum that answered promised to vote for nobody else for longer than the lease, counted
    /// from when it was asked, whatever happened since; but for a leader that told another one to
    /// stand at once. What earlier leaders acknowledged is applied when something of the own term is.
    pub(super) fn holds_lease(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        leads_for_certain(&metrics, self.timing.lease())
            && self.handed_over.load(Ordering::Acquire) != metrics.vote.leader_id().term
    }

    /// Returns the term in which this server leads, once it has applied something of that term, and so
    /// all that earlier leaders acknowledged.
    pub(super) fn applies_its_own(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        applies_its_own(&metrics)
    }

    /// Returns the server that leads, unless it was not heard for longer than a leader may be
    /// silent.
    pub fn leader(&self) -> Option<Leader> {
        let (id, peer) = {
            // A lock: nothing that looks at the metrics again may be called while it is held.
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let id = metrics.current_leader.filter(|_| metrics.running_state.is_ok())?;
            (id, metrics.membership_config.get_node(&id)?.clone())
        };
        let leads = match id == self.id {
            true => self.is_leader(),
            false => self.heard.ever() && self.heard.ago() <= self.timing.silence_max(),
        };
        leads.then_some(Leader { id, name: peer.name, addr: peer.addr })
    }

    /// Returns how old the state is at most, as far as this server can know: how long ago it heard from
    /// a leader that was sure of itself, and has applied since what that one had committed; 0 on such a
    /// leader. A leader that was cut off counts from the last word of its quorum.
    pub fn last_contact(&self) -> Duration {
        let applies_its_own = self.applies_its_own().is_some();
        if applies_its_own && self.is_leader() {
            return Duration::ZERO;
        }
        let heard = self.contact.ago(self.view.load().applied());
        let leader = self.raft.as_leader().ok().filter(|_| applies_its_own);
        let quorum = leader.and_then(|leader| leader.last_quorum_acked());
        let quorum = quorum.map(|acked| acked.elapsed());
        heard.into_iter().chain(quorum).min().unwrap_or_else(|| self.heard.ago())
    }

    /// Notes that the state is the truth now, if this server leads for certain: should it stop to lead, and
    /// hear of no other leader, that is what it knows of its state. To be called again and again.
    pub fn hear_oneself(&self) {
        // Before anybody else can lead.
        let now = Instant::now();
        if self.applies_its_own().is_some() && self.is_leader() {
            self.contact.hear(now, self.view.load().applied());
        }
    }

    /// Tells whether this server ever caught up with a leader, or leads, since it started: a stale read
    /// is refused before.
    pub fn ever_contacted(&self) -> bool {
        self.contact.ago(self.view.load().applied()).is_some() || self.applies_its_own().is_some()
    }

    /// Returns the term.
    pub fn term(&self) -> u64 {
        self.leadership.borrow().term
    }

    /// Returns the last log index that was applied.
    pub fn applied(&self) -> u64 {
        self.state().applied()
    }

    /// Returns what is broken, if this server can't write any more.
    pub fn broken(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let stopped = metrics.borrow_watched().running_state.clone().err();
        match stopped.map(|fatal| self.fatal(&fatal)) {
            Some(RaftError::Broken(sentence)) => Some(sentence),
            _ => self.health.broken().map(str::to_owned),
        }
    }

    /// Returns who takes part, sorted by number.
    pub fn servers(&self) -> Vec<Server> {
        let leader = self.leader().map(|leader| leader.id);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        let voters: Vec<u64> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let lag = |id: &u64| {
            let matched = metrics.replication.as_ref()?.get(id)?;
            Some(last.saturating_sub(matched.map_or(0, |matched| matched.index)))
        };
        let server = |(id, peer): (&u64, &super::protocol::Peer)| Server {
            id: *id,
            name: peer.name.clone(),
            addr: peer.addr,
            voter: voters.contains(id),
            leader: leader == Some(*id),
            lag: lag(id),
        };
        membership.nodes().map(server).collect()
    }

    /// Returns numbers for metrics and `info`.
    pub fn status(&self) -> Status {
        let broken = self.broken();
        let last_contact = self.last_contact();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<super::protocol::LogId>| id.map_or(0, |id| id.index);
        Status {
            role: role(metrics.state),
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            commit_index: index(&metrics.local_committed),
            applied_index: index(&metrics.last_applied),
            snapshot_index: index(&metrics.snapshot),
            snapshot_term: metrics.snapshot.as_ref().map_or(0, |id| id.leader_id.term),
            peers: metrics.membership_config.voter_ids().filter(|id| *id != self.id).count(),
            last_contact,
            broken,
        }
    }
}
