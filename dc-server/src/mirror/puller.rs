//! The task that keeps the mirrors: it asks for what changed in each other datacenter, all the time.
//!
//! The leader asks the servers of the other datacenter, its followers ask the leader: so that one feed
//! crosses the WAN for each pair of datacenters. Who has no leader, or one that doesn't answer, asks for itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lan_agent::ask::{Answer, Ask, AskError, Blocking, Consistency, Question, RequestId, TraceId};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};
use topology::Datacenter;
use tracing::{debug, info, warn};
use uuid::{Builder, Uuid};

use super::{
    Mirror, Mirrors,
    batch::{Batch, Unreadable},
    copy::{Copy, Taken, Unfit},
};
use crate::dispatch::Dispatch;
use wan_federation::Federation;

/// How long an answer waits for news: as old as a mirror gets while nothing changes.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long an answer may take beyond that.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Least time between two questions: what changes meanwhile is told at once.
const PACE: Duration = Duration::from_millis(100);

/// How long to wait after a question that was not answered.
const RETRY: Duration = Duration::from_secs(1);

/// For how long a server asks for itself after its leader did not answer.
const DIRECT_FOR: Duration = Duration::from_secs(10);

/// How far a server of another datacenter may be behind its leader before that one is asked: the nearest server
/// may be the one that is cut off from all others.
const LAG_MAX: Duration = Duration::from_secs(3);

/// Keeps the mirrors of all other datacenters.
pub struct Puller {
    /// The mirrors.
    pub mirrors: Mirrors,
    /// Asks.
    pub dispatch: Arc<Dispatch>,
    /// Knows which datacenters there are.
    pub federation: Federation,
    /// Feeds the ids of the questions.
    pub seed: u64,
}

/// Keeps the mirror of one datacenter.
struct Feeding {
    dc: Datacenter,
    mirror: Arc<Mirror>,
    copy: Copy,
    dispatch: Arc<Dispatch>,
    random: SmallRng,
    /// Until when the leader is not asked.
    direct_until: Option<Instant>,
    /// Whether who answered last lags behind its leader.
    lagging: bool,
    meters: Meters,
}

struct Meters {
    age: Gauge,
    batches: Counter,
    bytes: Counter,
    failures: Counter,
}

/// Why a mirror was not brought up to date.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Unanswered(#[from] AskError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Puller {
    /// Keeps the mirrors until it is dropped.
    pub async fn run(self) {
        let mut changes = self.federation.changes();
        let mut feeding = JoinSet::new();
        let mut known: BTreeMap<Datacenter, AbortHandle> = BTreeMap::new();
        loop {
            changes.mark_unchanged();
            let all = self.federation.datacenters();
            let others: Vec<_> = all.into_iter().skip(1).map(|(dc, _)| dc).collect();
            known.retain(|dc, task| {
                let stays = others.contains(dc);
                if !stays {
                    task.abort();
                    self.mirrors.close(dc);
                    info!(%dc, "mirror closed: the datacenter left");
                }
                stays
            });
            // Those that were told to end have.
            while feeding.try_join_next().is_some() {}
            for (place, dc) in (0..).zip(others) {
                known
                    .entry(dc)
                    .or_insert_with_key(|dc| feeding.spawn(self.feeding(dc, place).run()));
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn feeding(&self, dc: &Datacenter, place: u64) -> Feeding {
        Feeding {
            dc: dc.clone(),
            mirror: self.mirrors.open(dc),
            copy: Copy::new(self.mirrors.settings.prefixes.clone()),
            dispatch: self.dispatch.clone(),
            random: SmallRng::seed_from_u64(self.seed.wrapping_add(place)),
            direct_until: None,
            lagging: false,
            meters: Meters::resolve(dc),
        }
    }
}

impl Feeding {
    async fn run(mut self) {
        loop {
            let asked = Instant::now();
            let pause = match self.pull(asked).await {
                Ok(Taken::More) => Duration::ZERO,
                Ok(Taken::Whole { .. }) if self.copy.is_whole() => PACE,
                Ok(Taken::Whole { .. } | Taken::Unchanged { .. } | Taken::Behind) => HEARTBEAT,
                Err(failure) => {
                    self.failed(&failure);
                    RETRY
                }
            };
            self.meters.age.set(self.mirror.age().map_or(f64::NAN, |age| age.as_secs_f64()));
            sleep_until(asked + pause).await;
        }
    }

    /// Asks once what changed, and shows it.
    async fn pull(&mut self, asked: Instant) -> Result<Taken, Failure> {
        let (ask, direct) = (self.question(asked), self.goes_direct(asked));
        let Answer { meta, body, .. } = self.dispatch.pull(ask, direct).await?;
        self.meters.batches.increment(1);
        self.meters.bytes.increment(body.len() as u64);
        let batch = Batch::decode(&body)?;
        // What was answered was true when it was, or as long before that as whoever answered says. It can't
        // have been answered before it was asked, and waited for.
        let waited = Duration::from_millis(batch.waited_ms).min(asked.elapsed());
        let answered = asked + waited;
        let as_of = answered.saturating_duration_since(self.mirror.start);
        let as_of = as_of.saturating_sub(meta.last_contact);
        let led = meta.known_leader.unwrap_or_default();
        let mut taken = self.copy.take(batch, as_of)?;
        self.lagging = matches!(taken, Taken::Behind) || meta.last_contact > LAG_MAX;
        match &mut taken {
            Taken::Unchanged { as_of } => self.mirror.confirm(*as_of, led),
            Taken::Whole { state, as_of, wake } => {
                self.mirror.show(std::mem::take(&mut **state), std::mem::take(wake));
                self.mirror.confirm(*as_of, led);
            }
            Taken::More | Taken::Behind => {}
        }
        Ok(taken)
    }

    fn question(&mut self, now: Instant) -> Ask {
        let wait = if self.copy.is_whole() { HEARTBEAT } else { Duration::ZERO };
        let mut id = || -> Uuid { Builder::from_random_bytes(self.random.random()).into_uuid() };
        Ask {
            dc: Some(self.dc.clone()),
            consistency: if self.lagging { Consistency::Default } else { Consistency::Stale },
            max_stale: None,
            // The feed itself says above what; here any number does but 0.
            blocking: (!wait.is_zero()).then_some(Blocking { index: 1, wait }),
            token: String::new(),
            trace: TraceId(id()),
            request: RequestId(id()),
            deadline: now + wait + ANSWER_MAX,
            question: Question::Feed(self.copy.next()),
        }
    }

    fn goes_direct(&self, now: Instant) -> bool {
        self.direct_until.is_some_and(|until| now < until) || !self.dispatch.is_led_by_another()
    }

    fn failed(&mut self, failure: &Failure) {
        self.meters.failures.increment(1);
        // Where nobody leads, what lags is the best there is.
        self.lagging = false;
        let (dc, now) = (&self.dc, Instant::now());
        match failure {
            // There is nothing that a mirror could do about that, and it happens for hours.
            Failure::Unanswered(error) => debug!(%dc, %error, "mirror not fed"),
            Failure::Unreadable(_) | Failure::Unfit(_) => {
                warn!(%dc, error = %failure, "mirror fed wrong: it is asked for anew");
            }
        }
        if !self.goes_direct(now) {
            self.direct_until = Some(now + DIRECT_FOR);
        }
    }
}

impl Meters {
    fn resolve(dc: &Datacenter) -> Self {
        const AGE: &str = "causeway.mirror.age.seconds";
        const BATCHES: &str = "causeway.mirror.batches";
        const BYTES: &str = "causeway.mirror.bytes";
        const FAILURES: &str = "causeway.mirror.failures";
        describe_gauge!(
            AGE,
            "How long ago what is mirrored of a datacenter was true; NaN: nothing is."
        );
        describe_counter!(BATCHES, "Answers to what changed in a datacenter.");
        describe_counter!(BYTES, "Bytes of these answers, as they were on the wire.");
        describe_counter!(FAILURES, "Questions what changed in a datacenter that failed.");
        let dc = || dc.to_string();
        Self {
            age: gauge!(AGE, "dc" => dc()),
            batches: counter!(BATCHES, "dc" => dc()),
            bytes: counter!(BYTES, "dc" => dc()),
            failures: counter!(FAILURES, "dc" => dc()),
        }
    }
}
