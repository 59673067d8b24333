//! The task that keeps configuration entries the same in all datacenters.
//!
//! ```text
//! primary   leader ──▶ writes the entries that its configuration wants, where they are absent
//! others    leader ──ask, wait──▶ primary ──all entries──▶ plan ──commands──▶ Raft
//! ```
//!
//! A secondary datacenter goes on with what it has when the primary can't be asked, and asks again, later each time. It
//! compares everything with every answer, so that whoever leads next has nothing to remember.

mod plan;

use std::{sync::Arc, time::Duration};

use lan_agent::ask::{
    Answer, Ask, AskError, Blocking, Consistency, Outcome, Question, RequestId, TraceId,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep};
use topology::Datacenter;
use tracing::{debug, info, warn};
use uuid::{Builder, Uuid};

use self::plan::{Doubtful, plan};
use crate::{
    config_entry::Definition,
    dispatch::{Dispatch, way::Map},
    metrics::ConfigReplication,
    raft::{Raft, RaftError, Read},
    state::{Applied, Command, Op},
};

/// How long the primary datacenter waits for a change before it answers all the same.
const WAIT: Duration = Duration::from_secs(60);

/// How long its answer may take beyond that: the jitter of blocking queries, and all entries by a slow path.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Least time between two questions: what changes meanwhile comes together.
const PACE: Duration = Duration::from_millis(200);

/// The wait after a first failure; doubled after each one more.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest wait after a failure: what was missed is there soon after the primary is back.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Keeps configuration entries, while this server leads.
pub struct Replicator {
    /// Which datacenter this is, and which is the primary.
    pub map: Map,
    /// Tells who leads, and writes.
    pub raft: Raft,
    /// Asks.
    pub dispatch: Arc<Dispatch>,
    /// What the primary's configuration wants to be there (`config_entries.bootstrap`).
    pub wanted: Vec<Definition>,
    /// Feeds the ids of the questions and the jitter.
    pub seed: u64,
}

/// Why entries were not brought up to date.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Unanswered(#[from] AskError),
    #[error(transparent)]
    Doubtful(#[from] Doubtful),
    #[error("they can't be written here: {0}")]
    Unwritten(#[from] RaftError),
}

/// Follows the primary datacenter.
struct Following<'a> {
    primary: &'a Datacenter,
    raft: &'a Raft,
    dispatch: &'a Dispatch,
    meters: &'a ConfigReplication,
    random: SmallRng,
    /// Up to which index of the primary everything is here; 0: not known.
    index: u64,
    failures: u32,
}

impl Replicator {
    /// Keeps entries until it is dropped.
    pub async fn run(self) {
        let mut leadership = self.raft.leadership();
        let meters = ConfigReplication::resolve();
        let mut terms = 0_u64;
        loop {
            leadership.mark_unchanged();
            if self.raft.is_leader() {
                terms += 1;
                tokio::select! {
                    biased;
                    Ok(()) = leadership.changed() => {
                        // Whoever leads now says how it goes.
                        meters.failing.set(0.0);
                        continue;
                    }
                    () = self.lead(&meters, terms) => {}
                }
            }
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// Does what the leader does, which ends in the primary datacenter alone.
    async fn lead(&self, meters: &ConfigReplication, term: u64) {
        let Map { home, primary } = &self.map;
        if home == primary {
            return self.write_wanted().await;
        }
        let following = Following {
            primary,
            raft: &self.raft,
            dispatch: &self.dispatch,
            meters,
            random: SmallRng::seed_from_u64(self.seed.wrapping_add(term)),
            index: 0,
            failures: 0,
        };
        following.run().await;
    }

    /// Writes what is wanted and absent.
    async fn write_wanted(&self) {
        for definition in &self.wanted {
            let (kind, name) = (&definition.kind, &definition.name);
            let op = Op::ConfigSet { definition: definition.clone(), cas: Some(0) };
            loop {
                if self.raft.view().load().config_entries().get(kind, name).is_some() {
                    break;
                }
                match self.raft.write(Command::new(None, &op)).await {
                    Ok(Applied::Done(true)) => {
                        info!(%kind, %name, "config entry written, as configured");
                    }
                    // Somebody else wrote it, which is not seen here yet.
                    Ok(_) => sleep(PACE).await,
                    Err(error) => {
                        debug!(%kind, %name, %error, "config entry not written yet");
                        sleep(RETRY_FIRST).await;
                    }
                }
            }
        }
    }
}

impl Following<'_> {
    async fn run(mut self) {
        loop {
            let pause = match self.follow().await {
                Ok(()) => PACE,
                Err(failure) => self.failed(&failure),
            };
            sleep(pause).await;
        }
    }

    /// Asks once for all entries, and makes those here the same.
    async fn follow(&mut self) -> Result<(), Failure> {
        let ask = self.question(Instant::now());
        let Answer { outcome, meta, body } = self.dispatch.pull(ask, true).await?;
        if outcome != Outcome::Found {
            return Err(Doubtful::Unreadable("it has no list of them".to_owned()).into());
        }
        // What the leader before this one wrote has to be in what is compared.
        self.raft.confirm(Read::Index).await?;
        let ops = plan(self.raft.view().load().config_entries(), &body, meta.index)?;
        for op in &ops {
            self.raft.write(Command::new(None, op)).await?;
            self.meters.commands.increment(1);
        }
        if !ops.is_empty() {
            info!(primary = %self.primary, index = meta.index, "config entries replicated");
        }
        // An index that fell is that of another log: it counts, and what it counts for was compared.
        self.index = meta.index;
        if std::mem::take(&mut self.failures) > 0 {
            info!(primary = %self.primary, "config entries are replicated again");
        }
        self.meters.failing.set(0.0);
        Ok(())
    }

    fn question(&mut self, now: Instant) -> Ask {
        let mut id = || -> Uuid { Builder::from_random_bytes(self.random.random()).into_uuid() };
        let wait = if self.index == 0 { Duration::ZERO } else { WAIT };
        Ask {
            dc: Some(self.primary.clone()),
            // A server that lags would take back what others have heard of already.
            consistency: Consistency::Default,
            max_stale: None,
            blocking: (self.index > 0).then_some(Blocking { index: self.index, wait }),
            token: String::new(),
            trace: TraceId(id()),
            request: RequestId(id()),
            deadline: now + wait + ANSWER_MAX,
            question: Question::ConfigRead { kind: None, name: None },
        }
    }

    /// Returns for how long to wait. It is said once that it fails, and once that it works again.
    fn failed(&mut self, failure: &Failure) -> Duration {
        let primary = self.primary;
        if self.failures == 0 {
            warn!(%primary, error = %failure, "config entries are not replicated; reads go on with those that are here");
        } else {
            debug!(%primary, error = %failure, "config entries are not replicated yet");
        }
        self.meters.failures.increment(1);
        self.meters.failing.set(1.0);
        let doubled = RETRY_FIRST.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.index = 0;
        doubled.min(RETRY_MAX).mul_f64(self.random.random_range(0.5..1.0))
    }
}
