//! Blocking queries: an answer that waits for a change.
//!
//! ```text
//! register -> look at the state -> newer than asked for? answer
//!                ^                  else wait for a change of what is asked, or the time
//!                +------ woken ----------+                            time is up: answer
//! ```
//!
//! The rules are Consul's. The answer waits until its index is above the one given. What was
//! absent and is absent still goes on waiting, even though the index for "absent" has grown. When
//! a snapshot replaced the state, one who waits is answered, because old indexes mean nothing any
//! more. What there is to wait for may depend on the state, and is looked at each time. Dropping the
//! future ends the wait and the registration.

use std::{pin::pin, time::Duration};

use lan_agent::ask::{Answer, AskError, Blocking, Outcome, Question};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use crate::{
    query::{self, Answers, Glance},
    state::view::View,
};

/// A wait is stretched by up to this part of it, so that many clients do not come back at once.
pub const JITTER_PART: u32 = 16;

/// How long blocking queries wait, as the operator of a server wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Those that do not say (`default_query_time`).
    pub default: Duration,
    /// All of them, at most (`max_query_time`).
    pub max: Duration,
}

impl Waits {
    /// Holds what another agent asks for to what this server's operator wants.
    pub fn hold(&self, blocking: Blocking) -> Blocking {
        let wait = if blocking.wait.is_zero() { self.default } else { blocking.wait };
        Blocking { wait: wait.min(self.max), ..blocking }
    }
}

/// Adds the jitter to a wait; `seed` decides it.
pub fn stretched(wait: Duration, seed: u64) -> Duration {
    let jitter_max = (wait / JITTER_PART).as_nanos() as u64;
    wait + Duration::from_nanos(SmallRng::seed_from_u64(seed).random_range(0..=jitter_max))
}

/// Answers a question about the state, waiting for a change if asked to.
///
/// The caller has made sure that the state is fresh enough, and says how long ago the leader was
/// heard: it is asked before the state is looked at for the last time, so that whatever happens in between
/// (the process may be stopped for minutes) the answer is no older than it says. `seed` decides the jitter.
pub async fn answer(
    view: &View,
    answers: &Answers,
    question: &Question,
    blocking: Option<Blocking>,
    seed: u64,
    last_contact: impl FnOnce() -> Duration,
) -> Result<Answer, AskError> {
    if let Some(blocking) = blocking.filter(|blocking| blocking.index > 0) {
        query::check(question)?;
        let until = Instant::now() + stretched(blocking.wait, seed);
        wait(view, question, blocking.index, until).await;
    }
    let last_contact = last_contact();
    let mut answer = answers.answer(&view.load(), question)?;
    answer.meta.last_contact = last_contact;
    Ok(answer)
}

async fn wait(view: &View, question: &Question, mut above: u64, until: Instant) {
    let mut state = view.load();
    let lineage = state.lineage();
    let mut timer = pin!(tokio::time::sleep_until(until));
    let mut watch = view.watches().watch(query::topics(&state, question));
    let mut was_absent = false;
    loop {
        let changed = watch.changed();
        state = view.load();
        let topics = query::topics(&state, question);
        if topics.is_empty() {
            return;
        }
        if !watch.is_for(&topics) {
            watch = view.watches().watch(topics);
            continue;
        }
        let Glance { index, outcome } = query::glance(&state, question);
        if was_absent && outcome == Outcome::Absent {
            above = above.max(index);
        }
        was_absent = outcome == Outcome::Absent;
        if index > above || state.lineage() != lineage {
            return;
        }
        drop(state);
        tokio::select! {
            biased;
            () = changed => {}
            () = &mut timer => return,
        }
    }
}

#[cfg(test)]
mod tests;
