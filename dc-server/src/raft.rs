//! Raft, by openraft: what this server and its peers agree on.
//!
//! [`Raft`] is a handle; openraft runs as tasks behind it. The parts around it are ours: the log
//! and the snapshots on a [`disk::Disk`], the messages over a [`network::Wire`], the state machine
//! that publishes [`State`]. A simulation or a test replaces the disk ([`disk::Memory`]) and the
//! wire, and gives every server its own seed in [`Config`]; nothing else draws at random or reads
//! a clock but tokio's.
//!
//! Failures. A server that can't write its log stops taking part: [`RaftError::Broken`] says why, and
//! the state as it was can still be read. A write whose fate is not known is
//! [`RaftError::Unknown`]: it may be repeated under the same request id only. A leader that was cut
//! off, or frozen, for longer than its lease refuses reads and writes at once. A server that
//! restarts has forgotten the lease that it granted with its last answer to a leader; so it neither
//! votes nor stands for election until that lease has run out.

mod contact;
pub mod disk;
mod inbound;
mod log;
mod machine;
mod membership;
pub mod network;
pub mod protocol;
mod runtime;
pub mod snapshot;
mod stamps;
mod status;
mod timing;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use openraft::{
    LinearizerOption, ReadPolicy,
    errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError},
};
use tokio::time::{Instant, sleep};
use topology::NodeName;

pub use inbound::Rejected;
pub use runtime::watch::Receiver as Watching;
pub use status::{Leader, Leadership, Role, Server, Status};
pub use timing::Timing;

use self::{
    contact::Contact,
    disk::{Disk, DiskError},
    inbound::Inbound,
    log::{Health, Log},
    machine::Machine,
    network::{Myself, Network, Wire},
    protocol::TypeConfig,
    runtime::Runtime,
    snapshot::{SnapshotError, Store, receive::Receiver},
    stamps::Stamps,
};
use crate::state::{Applied, Command, State, view::View};

type OpenRaft = openraft::Raft<TypeConfig, Machine>;

/// Entries between two snapshots.
pub const SNAPSHOT_ENTRIES: u64 = 8192;

/// Entries kept in the log below the newest snapshot, in intervals between snapshots: so many that
/// the snapshot before and the log make up for a damaged newest one, and followers that are a little
/// behind need none.
const INTERVALS_KEPT: u64 = 2;

/// Entries in one message at most; their bytes are bounded too.
const APPEND_ENTRIES_MAX: u64 = 1024;

/// Largest command, so that an entry always fits in one message. The interfaces have lower bounds
/// of their own; one that is larger comes from a mistake there.
pub const COMMAND_LEN_MAX: usize = 8 * 1024 * 1024;

/// How long the transfer of a snapshot may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a new leader is waited for that has not yet heard from a quorum, which takes it a few
/// milliseconds.
const FRESH_LEADER_WAIT: Duration = Duration::from_secs(1);

/// The longest pause between two tries meanwhile.
const FRESH_LEADER_PAUSE_MAX: Duration = Duration::from_millis(10);

/// What a server needs to take part.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its number: never used again by another data directory.
    pub id: u64,
    /// Its name.
    pub name: NodeName,
    /// Where it takes Raft's messages.
    pub addr: SocketAddr,
    /// Consul's `raft_multiplier`, 1 to 10: stretches all times.
    pub multiplier: u8,
    /// Entries between two snapshots; [`SNAPSHOT_ENTRIES`] unless a test wants it otherwise.
    pub snapshot_entries: u64,
    /// Where randomness (of election timeouts) starts: entropy, or the simulation's seed.
    pub seed: u64,
    /// The time of the start in milliseconds since 1970: what the very first stamp says.
    pub boot_ms: u64,
}

/// Why Raft does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log can't be used.
    #[error("the Raft log can't be opened: {0}")]
    Disk(#[from] DiskError),
    /// The snapshots can't be used.
    #[error("the state can't be restored: {0}")]
    Snapshot(#[from] SnapshotError),
    /// openraft refuses what it finds.
    #[error("Raft can't be started: {0}")]
    Raft(String),
}

/// Why Raft did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaftError {
    /// Another server leads, or nobody; nothing was done.
    #[error("this server does not lead")]
    NotLeader {
        /// The one that leads, as far as known.
        leader: Option<(u64, SocketAddr)>,
    },
    /// It was done or not, or will be.
    #[error("the outcome of the write is not known")]
    Unknown,
    /// It can't be done now, for the reason given; nothing was done.
    #[error("{0}")]
    Refused(String),
    /// This server's disk or log does not work any more.
    #[error("{0}")]
    Broken(String),
    /// This server is stopping.
    #[error("Raft has been shut down")]
    Shutdown,
}

/// How sure a read wants to be that nobody else leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// By the leader's lease: no message.
    Lease,
    /// By asking a quorum.
    Index,
}

/// When a leader was heard last.
#[derive(Debug, Clone)]
struct Heard {
    start: Instant,
    nanos: Arc<AtomicU64>,
}

impl Heard {
    fn new() -> Self {
        Self { start: Instant::now(), nanos: Arc::default() }
    }

    fn note(&self, now: Instant) {
        let nanos = (now - self.start).as_nanos() as u64;
        self.nanos.fetch_max(nanos.max(1), Ordering::Relaxed);
    }

    fn ago(&self) -> Duration {
        let heard = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(heard)
    }

    fn ever(&self) -> bool {
        self.nanos.load(Ordering::Relaxed) > 0
    }
}

/// The handle; clones share one server.
#[derive(Clone)]
pub struct Raft {
    id: u64,
    timing: Timing,
    raft: OpenRaft,
    view: View,
    health: Health,
    heard: Heard,
    contact: Contact,
    inbound: Inbound,
    leadership: Watching<Leadership>,
    /// The last term in which this server told another one to lead; 0 before the first.
    handed_over: Arc<AtomicU64>,
    stamps: Arc<Mutex<Stamps>>,
}

impl Raft {
    /// Restores the state from the disk and starts to take part.
    ///
    /// A server that never took part waits to be added by a leader, or for [`Raft::bootstrap`].
    pub async fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        wire: Arc<dyn Wire>,
    ) -> Result<Self, StartError> {
        let timing = Timing::new(config.multiplier);
        let stamps = Arc::new(Mutex::new(Stamps::new(config.boot_ms)));
        let health = Health::default();
        let log = Log::open(config.id, &*disk, health.clone())?;
        let found = log.found();
        let store = Store::new(disk);
        let restored = store.restore(&found).await?;
        let view = View::default();
        let machine = Machine::new(view.clone(), store.clone(), restored);
        let metrics = network::Metrics::default();
        let contact = Contact::default();
        let myself = Myself::new(timing.lease(), metrics.clone(), contact.clone());
        let network = Network::new(wire, store.clone(), myself);
        let mut settings = timing.config(&config)?;
        // Who never voted or wrote can't have promised anybody a lease.
        let promised = found.vote.is_some() || found.last.is_some();
        settings.enable_elect = !promised;
        let settings = Arc::new(settings);
        let raft =
            Runtime::seeded(config.seed, OpenRaft::new(config.id, settings, network, log, machine))
                .await
                .map_err(|fatal| StartError::Raft(fatal.to_string()))?;
        // Nothing else sets it.
        let _ = metrics.set(raft.metrics());
        let heard = Heard::new();
        let receiver = Arc::new(Receiver::new(store));
        let probation = if promised { timing.promise() } else { Duration::ZERO };
        let votes_from = Instant::now() + probation;
        let inbound = Inbound {
            raft: raft.clone(),
            heard: heard.clone(),
            contact: contact.clone(),
            receiver,
            votes_from,
        };
        if promised {
            tokio::spawn(end_probation(raft.clone(), votes_from));
        }
        let leadership = status::follow(config.id, &raft);
        let handed_over = Arc::default();
        Ok(Self {
            id: config.id,
            timing,
            raft,
            view,
            health,
            heard,
            contact,
            inbound,
            leadership,
            handed_over,
            stamps,
        })
    }

    /// Returns this server's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns Raft's times.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns the published state with its watchers.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Returns the state as published last.
    pub fn state(&self) -> State {
        State::clone(&self.view.load())
    }

    /// Answers a Raft message of another server: link kinds 16 to 31.
    pub async fn handle(&self, kind: u16, body: Bytes) -> Result<Bytes, Rejected> {
        self.inbound.handle(kind, body).await
    }

    /// Writes a command to the log and returns what it did once it is committed and applied here.
    ///
    /// Waits as long as there is hope; the caller has a deadline, after which the outcome is not
    /// known.
    pub async fn write(&self, command: Command) -> Result<Applied, RaftError> {
        if command.body.len() > COMMAND_LEN_MAX {
            let len = command.body.len();
            return Err(RaftError::Refused(format!(
                "a write of {len} bytes is larger than {COMMAND_LEN_MAX}"
            )));
        }
        let asked = Instant::now();
        let until = asked + FRESH_LEADER_WAIT;
        let mut pause = Duration::from_millis(1);
        loop {
            let stamp_ms = self.stamp();
            let written = self.raft.client_write(Command { stamp_ms, ..command.clone() }).await;
            let forward = match written {
                Ok(written) => {
                    // All that was acknowledged before it comes before it.
                    self.contact.hear(asked, written.log_id.index);
                    return Ok(written.data);
                }
                Err(openraft::errors::RaftError::Fatal(fatal)) => return Err(self.fatal(&fatal)),
                Err(openraft::errors::RaftError::APIError(error)) => match error {
                    ClientWriteError::ForwardToLeader(forward) => forward,
                    ClientWriteError::LogEntryDiscarded(_) => return Err(RaftError::Unknown),
                    other => return Err(RaftError::Refused(other.to_string())),
                },
            };
            self.pause(forward, until, &mut pause).await?;
        }
    }

    /// Makes sure that this server leads and that [`Raft::state`] holds everything that was
    /// acknowledged before this call.
    pub async fn confirm(&self, read: Read) -> Result<(), RaftError> {
        let policy = match read {
            Read::Lease if self.holds_lease() => return Ok(()),
            // At once or not at all, as openraft's own policy, but with the margin.
            Read::Lease => LinearizerOption::new(Some(self.timing.lease()), false)
                .with_wait_timeout(Duration::ZERO),
            Read::Index => ReadPolicy::ReadIndex.into(),
        };
        let until = Instant::now() + FRESH_LEADER_WAIT;
        let mut pause = Duration::from_millis(1);
        loop {
            let forward = match self.raft.ensure_linearizable(policy.clone()).await {
                Ok(_) => return Ok(()),
                Err(openraft::errors::RaftError::Fatal(fatal)) => return Err(self.fatal(&fatal)),
                Err(openraft::errors::RaftError::APIError(error)) => match error {
                    LinearizableReadError::ForwardToLeader(forward) => forward,
                    LinearizableReadError::QuorumNotEnough(_) => {
                        return Err(RaftError::NotLeader { leader: None });
                    }
                },
            };
            self.pause(forward, until, &mut pause).await?;
        }
    }

    /// Returns the time that a command of this leader is stamped with, once it has applied what the
    /// leaders before it have stamped.
    fn stamp(&self) -> Option<u64> {
        let term = self.applies_its_own()?;
        let last_ms = self.view.load().clock().stamp_ms();
        let now = Instant::now();
        // A copy: the watch is a lock. Should it be behind, the term has just begun.
        let leads = *self.leadership.borrow();
        let since = if leads.term == term { leads.since } else { now };
        // Stamps are whole between any two statements.
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        Some(stamps.next(term, since, last_ms, now))
    }

    /// Waits a moment if this server was elected just now; otherwise says who leads.
    async fn pause(
        &self,
        forward: ForwardToLeader<TypeConfig>,
        until: Instant,
        pause: &mut Duration,
    ) -> Result<(), RaftError> {
        let leader = forward.leader_id.zip(forward.leader_node.map(|peer| peer.addr));
        let other = leader.filter(|(id, _)| *id != self.id);
        if other.is_some() || !self.is_fresh_leader() || Instant::now() >= until {
            return Err(RaftError::NotLeader { leader: other });
        }
        sleep(*pause).await;
        *pause = (*pause * 2).min(FRESH_LEADER_PAUSE_MAX);
        Ok(())
    }

    /// Tells whether this server was elected and has not heard from a quorum since.
    fn is_fresh_leader(&self) -> bool {
        // A copy: the watch is a lock, and borrowed twice at once it can wait for itself.
        let now = *self.leadership.borrow();
        now.role == Role::Leader && now.since.elapsed() < FRESH_LEADER_WAIT
            || self.raft.as_leader().is_ok_and(|leader| leader.last_quorum_acked().is_none())
    }

    fn fatal(&self, fatal: &Fatal<TypeConfig>) -> RaftError {
        match (self.health.broken(), fatal) {
            (Some(sentence), _) => RaftError::Broken(sentence.to_owned()),
            (None, Fatal::Stopped) => RaftError::Shutdown,
            (None, fatal) => RaftError::Broken(format!("Raft has stopped here: {fatal}")),
        }
    }

    /// Stops taking part; what is in memory can still be read.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
    }
}

/// Lets a restarted server stand for election.
async fn end_probation(raft: OpenRaft, when: Instant) {
    tokio::time::sleep_until(when).await;
    raft.runtime_config().elect(true);
}

#[cfg(test)]
mod tests;
