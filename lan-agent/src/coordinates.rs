//! Tells the servers where this node is, so that they can sort by distance (`near`, `rtt`).
//!
//! The pool finds the coordinate; here it is decided when it is worth telling ([`is_news`], [`interval`]). All agents of a
//! datacenter together send some 64 updates a second at most, and next to none while nothing moves. What the
//! servers did not take is told again with the next look.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep};
use topology::Coordinate;
use tracing::debug;

use crate::{
    agent::Agent,
    ask::{Question, coordinate::Update},
};

/// The time between two looks in a small datacenter, as in Consul.
const INTERVAL_MIN: Duration = Duration::from_secs(15);

/// Most updates of all agents of a datacenter in a second, as in Consul.
const RATE_MAX: f64 = 64.0;

/// How long an agent that starts has to meet others before its first word.
const FIRST: Duration = Duration::from_secs(2);

/// The time between two looks in a small datacenter as long as the servers were never told: an agent that
/// starts may be there before its node is in the catalog.
const UNTOLD_INTERVAL_MIN: Duration = Duration::from_secs(3);

/// Moving less than this is not worth telling: round trips in one network differ by more.
const MOVED_MIN: f64 = 25e-6;

/// After this it is told in any case: the catalog may have forgotten the node and learned of it anew.
const TOLD_MAX: Duration = Duration::from_secs(600);

/// Tells the servers until the agent stops. Ends at once if the node does not measure.
pub async fn run(agent: Arc<Agent>, seed: u64) {
    let stopping = agent.stopping().clone();
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = tell_on(&agent, SmallRng::seed_from_u64(seed)) => {}
    }
}

async fn tell_on(agent: &Agent, mut random: SmallRng) {
    sleep(FIRST).await;
    let members = || agent.pool.members().len();
    sleep(interval(members(), UNTOLD_INTERVAL_MIN).mul_f64(random.random_range(0.0..1.0))).await;
    let mut told: Option<(Coordinate, Instant)> = None;
    while let Some(now) = agent.pool.coordinate() {
        let before = told.as_ref().map(|(coordinate, when)| (coordinate, when.elapsed()));
        if is_news(before, &now) && tell(agent, now).await {
            told = Some((now, Instant::now()));
        }
        let least = told.as_ref().map_or(UNTOLD_INTERVAL_MIN, |_| INTERVAL_MIN);
        let interval = interval(members(), least);
        sleep(interval + interval.mul_f64(random.random_range(0.0..1.0))).await;
    }
}

async fn tell(agent: &Agent, coordinate: Coordinate) -> bool {
    let node = agent.config.me.name.as_str().into();
    let question = Question::CoordinateUpdate(Update { node, coordinate });
    match agent.ask_for_itself(question).await {
        Ok(answer) => &*answer.body == b"true",
        Err(error) => {
            debug!(%error, "the servers were not told where this node is");
            false
        }
    }
}

/// Returns the time between two looks in a datacenter of so many, which need that long to say one word each; up to as
/// much again is added at random.
fn interval(members: usize, least: Duration) -> Duration {
    Duration::from_secs_f64(members as f64 / RATE_MAX).max(least)
}

/// Tells whether a coordinate is worth telling after what was told before, and how long ago.
fn is_news(told: Option<(&Coordinate, Duration)>, now: &Coordinate) -> bool {
    told.is_none_or(|(before, age)| age >= TOLD_MAX || now.moved_from(before) > MOVED_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_say_64_words_a_second_together_at_most() {
        assert_eq!(interval(1, INTERVAL_MIN), INTERVAL_MIN);
        assert_eq!(interval(960, INTERVAL_MIN), INTERVAL_MIN);
        for (members, least) in
            [(192, UNTOLD_INTERVAL_MIN), (961, INTERVAL_MIN), (100_000, INTERVAL_MIN)]
        {
            let rate = members as f64 / interval(members, least).as_secs_f64();
            assert!(rate <= 64.001, "{members} say {rate} words a second");
        }
    }

    #[test]
    fn who_did_not_move_says_nothing_for_ten_minutes() {
        let here = Coordinate::ORIGIN;
        let near = Coordinate { height: here.height + 20e-6, ..here };
        let far = Coordinate { height: here.height + 30e-6, ..here };
        let soon = Duration::from_secs(15);
        assert!(is_news(None, &here));
        assert!(!is_news(Some((&here, soon)), &here));
        assert!(!is_news(Some((&here, soon)), &near));
        assert!(is_news(Some((&here, soon)), &far));
        assert!(is_news(Some((&here, TOLD_MAX)), &here));
    }
}
