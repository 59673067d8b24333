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
//! more. Dropping the future ends the wait and the registration.

use std::{pin::pin, time::Duration};

use lan_agent::ask::{Answer, Blocking, Outcome, Question};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use crate::{
    query::{self, Glance},
    state::view::View,
};

/// How long a blocking query waits when it does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(300);

/// How long a blocking query waits at most.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// A wait is stretched by up to this part of it, so that many clients do not come back at once.
pub const JITTER_PART: u32 = 16;

/// Returns how long to wait: 0 means the default, and at most [`WAIT_MAX`], plus the jitter.
pub fn wait_of(wait: Duration, seed: u64) -> Duration {
    let wait = if wait.is_zero() { WAIT_DEFAULT } else { wait.min(WAIT_MAX) };
    let jitter_max = (wait / JITTER_PART).as_nanos() as u64;
    wait + Duration::from_nanos(SmallRng::seed_from_u64(seed).random_range(0..=jitter_max))
}

/// Answers a question about the state, waiting for a change if asked to; `None` for a question
/// that is not about the state or changes it.
///
/// The caller has made sure that the state is fresh enough. `seed` decides the jitter.
pub async fn answer(
    view: &View,
    question: &Question,
    blocking: Option<Blocking>,
    seed: u64,
) -> Option<Answer> {
    if let Some(blocking) = blocking
        && let Some(topic) = query::topic(question)
        && blocking.index > 0
    {
        let until = Instant::now() + wait_of(blocking.wait, seed);
        let watch = view.watches().watch(topic);
        wait(view, question, &watch, blocking.index, until).await;
    }
    query::answer(&view.load(), question)
}

async fn wait(
    view: &View,
    question: &Question,
    watch: &crate::state::watch::Watch,
    mut above: u64,
    until: Instant,
) {
    let restores = view.watches().restores();
    let mut timer = pin!(tokio::time::sleep_until(until));
    let mut was_absent = false;
    loop {
        let mut changed = pin!(watch.changed());
        let Some(Glance { index, outcome }) = query::glance(&view.load(), question) else {
            return;
        };
        if was_absent && outcome == Outcome::Absent {
            above = above.max(index);
        }
        was_absent = outcome == Outcome::Absent;
        if index > above || view.watches().restores() != restores {
            return;
        }
        tokio::select! {
            biased;
            () = &mut changed => {}
            () = &mut timer => return,
        }
    }
}

#[cfg(test)]
mod tests;
