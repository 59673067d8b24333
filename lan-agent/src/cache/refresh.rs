//! Keeps one entry up to date: a query that waits for the next change, over and over.
//!
//! When servers don't answer, the entry says since when nobody vouches for it. When they are back,
//! the refreshes of all entries come back one after the other.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{entry::Entry, rules};
use crate::{
    agent::Agent,
    ask::{Answer, Ask, AskError, Blocking, Consistency, Question},
    standing::NOTICED_WITHIN,
};

/// How long a query waits for a change: the most that a server lets one wait.
const WAIT: Duration = Duration::from_secs(600);

/// What a query takes beyond its wait: the jitter of a sixteenth, and this for the way.
const SLACK: Duration = Duration::from_secs(10);

/// Shortest time between two answers: a service that changes all the time is fetched ten times
/// a second.
const PACE: Duration = Duration::from_millis(100);

/// Keeps an entry up to date until it leaves the cache or the agent stops.
pub(crate) async fn run(agent: Arc<Agent>, entry: Arc<Entry>) {
    let stop = agent.stopping().clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = entry.evicted.cancelled() => {}
        () = keep(&agent, &entry) => {}
    }
}

async fn keep(agent: &Arc<Agent>, entry: &Arc<Entry>) {
    let mut random =
        SmallRng::seed_from_u64(agent.new_request().0.as_u64_pair().1 ^ agent.config.seed);
    let mut index = entry.held().map_or(0, |held| held.meta.index);
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        match agent.ask(query(agent, entry, index)).await {
            Ok(answer) => {
                failures = 0;
                index = next_index(index, &answer);
                agent.cache.replace(entry, &answer, agent.now_ms());
                entry.resume();
                tokio::time::sleep_until(asked + PACE).await;
            }
            Err(error) => {
                let heard_ms = agent.now_ms().saturating_sub(NOTICED_WITHIN.as_millis() as u64);
                entry.break_off(heard_ms);
                failures += 1;
                debug!(%error, failures, "an answer of the cache is not kept fresh");
                rest(agent, &error, failures, &mut random).await;
                // What changed meanwhile is of interest, and that it did not, too.
                index = 0;
            }
        }
    }
}

/// The first index to wait above: anew when indexes went backwards, as after a wiped cluster.
fn next_index(asked: u64, answer: &Answer) -> u64 {
    if answer.meta.index < asked { 0 } else { answer.meta.index.max(1) }
}

/// Waits until it makes sense to ask again.
async fn rest(agent: &Agent, error: &AskError, failures: u32, random: &mut SmallRng) {
    let mut standing = agent.caller.standing();
    if !matches!(error, AskError::CutOff(_)) {
        return sleep(rules::pause(failures, random)).await;
    }
    if standing.wait_for(|it| it.cut_off().is_none()).await.is_ok() {
        sleep(rules::stagger(agent.cache.len(), random)).await;
    }
    // Not at once, should servers come and go.
    sleep(PACE.mul_f64(random.random_range(0.5..1.0))).await;
}

fn query(agent: &Agent, entry: &Entry, index: u64) -> Ask {
    let blocking = (index > 0).then_some(Blocking { index, wait: WAIT });
    let time = blocking.map_or(agent.config.ask_timeout, |it| it.wait + it.wait / 16 + SLACK);
    Ask {
        dc: entry.key.dc.clone(),
        consistency: Consistency::Stale,
        max_stale: None,
        blocking,
        token: entry.key.token.clone(),
        trace: agent.new_trace(),
        request: agent.new_request(),
        deadline: Instant::now() + time,
        question: Question::Lookup(entry.key.lookup.clone()),
    }
}
