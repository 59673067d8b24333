//! Drives the state of this node: time passes for checks, and the servers are told.
//!
//! ```text
//! change ─────────────▶ plan ──▶ tell                    at once
//! every minute or so ─▶ ask what the catalog holds, compare, plan, tell
//! failure ────────────▶ both again, later and later, sooner when the pool changes
//! ```
//!
//! The larger the pool, the rarer and the more spread the full comparisons, as in Consul.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{
    Local,
    sync::{self, Change},
};
use crate::{
    agent::Agent,
    ask::{Answer, AskError, Question},
    catalog::{Check, Form, Inventory, Lookup, Selection, Subject},
};

/// The time between two full comparisons in a small pool.
const FULL_INTERVAL: Duration = Duration::from_secs(60);

/// Pools up to this size are small; each doubling adds [`FULL_INTERVAL`] to the spread.
const SMALL_POOL: usize = 128;

/// The first pause after a failure; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Failures in a row that are worth a warning: an agent that starts has not met a server yet.
const FAILURES_TOLD: u64 = 3;

/// How far agents that failed are spread when the pool changes, which may mean that servers are back.
const BACK_SPREAD: Duration = Duration::from_secs(3);

/// How often services are looked for that have been critical for too long.
const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// Most changes under way at once: they share the servers' way to the disk.
const CHANGES_MAX: usize = 16;

/// When what is due.
struct Times {
    full: Instant,
    reap: Instant,
    /// After failures, nothing is told before this.
    retry: Option<Instant>,
    pause: Duration,
}

/// Keeps the catalog equal to this node until the agent stops.
pub async fn run(local: Local, agent: Arc<Agent>, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let now = Instant::now();
    let mut times = Times { full: now, reap: now + REAP_INTERVAL, retry: None, pause: RETRY_MIN };
    let mut pool = agent.pool.changes();
    loop {
        tokio::select! {
            biased;
            () = agent.stopping().cancelled() => return,
            () = local.0.untold.notified() => {}
            Ok(()) = pool.changed(), if times.retry.is_some() => {
                let soon = Instant::now() + spread(&mut random, BACK_SPREAD);
                times.retry = times.retry.map(|retry| retry.min(soon));
            }
            () = sleep_until(next(&local, &times)) => {}
        }
        let now = Instant::now();
        if local.with(|state| state.tick(now)) {
            local.changed();
        }
        if times.reap <= now {
            times.reap = now + REAP_INTERVAL;
            reap(&local, now);
        }
        if times.retry.is_none_or(|retry| retry <= now) {
            let told = tell(&local, &agent, times.full <= now).await;
            note(&local, &agent, &mut times, &mut random, told);
        }
    }
}

fn next(local: &Local, times: &Times) -> Instant {
    let due = times.retry.unwrap_or(times.full);
    let ticks = local.with(|state| state.next_tick());
    ticks.into_iter().chain([due, times.reap]).min().unwrap_or(due)
}

/// What came of telling the servers.
enum Told {
    /// They know everything; whether a full comparison was made.
    All { full: bool },
    /// They could not be told everything.
    Failed(AskError),
}

fn note(local: &Local, agent: &Agent, times: &mut Times, random: &mut SmallRng, told: Told) {
    let now = Instant::now();
    match told {
        Told::All { full } => {
            local.told_all(full);
            if local.0.failures.swap(0, Ordering::Relaxed) > 0 {
                info!("the catalog knows this node's services again");
            }
            (times.retry, times.pause) = (None, RETRY_MIN);
            if full {
                let scale = scale(agent.pool.members().len());
                times.full = now + FULL_INTERVAL + spread(random, FULL_INTERVAL * scale);
            }
        }
        Told::Failed(error) => {
            let failures = local.0.failures.fetch_add(1, Ordering::Relaxed) + 1;
            const TEXT: &str =
                "the catalog could not be told of this node's services; trying again";
            match failures < FAILURES_TOLD {
                true => debug!(%error, failures, TEXT),
                false => warn!(%error, failures, TEXT),
            }
            times.retry = Some(now + times.pause + spread(random, times.pause));
            times.pause = (times.pause * 2).min(RETRY_MAX);
            // What was told before the failure may have arrived or not.
            times.full = now;
        }
    }
}

/// Returns by how much the spread of full comparisons grows with the pool.
fn scale(members: usize) -> u32 {
    match members.div_ceil(SMALL_POOL).max(1).next_power_of_two().ilog2() {
        0 => 1,
        doublings => doublings + 1,
    }
}

fn spread(random: &mut SmallRng, most: Duration) -> Duration {
    most.mul_f64(random.random_range(0.0..1.0))
}

fn reap(local: &Local, now: Instant) {
    for service in local.look(|state| state.overdue(now)) {
        info!(%service, "deregistering a service that has been critical for too long");
        if let Err(error) = local.deregister(&service) {
            warn!(%service, %error, "it could not be deregistered");
        }
    }
}

async fn tell(local: &Local, agent: &Agent, full: bool) -> Told {
    if full && let Err(error) = compare(local, agent).await {
        return Told::Failed(error);
    }
    let changes = local.look(sync::plan);
    let outcomes: Vec<(Change, Result<Answer, AskError>)> = stream::iter(changes)
        .map(|change| async {
            let outcome = agent.ask_for_itself(change.question.clone()).await;
            (change, outcome)
        })
        .buffer_unordered(CHANGES_MAX)
        .collect()
        .await;
    let mut failure = None;
    for (change, outcome) in outcomes {
        match outcome {
            Ok(_) => {
                debug!(change = ?change.question, "told");
                local.with(|state| sync::settle(state, &change));
            }
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Told::All { full }, Told::Failed)
}

/// Marks what the catalog does not say as this node does.
async fn compare(local: &Local, agent: &Agent) -> Result<(), AskError> {
    let me = local.look(|state| state.node().name.clone());
    let services = lookup(agent, Subject::NodeServices(me.clone())).await?;
    let checks = lookup(agent, Subject::NodeChecks(me)).await?;
    let known: Option<Inventory> = read(&services)?;
    let checks: Vec<Check> = read(&checks)?.unwrap_or_default();
    local.with(|state| sync::compare(state, known.as_ref(), &checks));
    Ok(())
}

async fn lookup(agent: &Agent, subject: Subject) -> Result<Answer, AskError> {
    let lookup = Lookup { subject, selection: Selection::default(), form: Form::Records };
    agent.ask_for_itself(Question::Lookup(lookup)).await
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<Option<T>, AskError> {
    if answer.body.is_empty() {
        return Ok(None);
    }
    rmp_serde::from_slice(&answer.body)
        .map_err(|error| AskError::Failed(format!("the servers' answer can't be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_rarer_in_larger_pools() {
        for (members, expected) in
            [(0, 1), (1, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3), (513, 4), (8192, 7)]
        {
            assert_eq!(scale(members), expected, "{members}");
        }
    }
}
