//! The ways into one datacenter: for each a breaker, and a bound on the requests under way.
//!
//! A sick datacenter may hold as many requests as the bound says and no more, so that it can't
//! use up what requests for the other ones need. Whoever passes holds a [`Pass`] until the
//! outcome is known; dropping it says that the caller went away.
//!
//! Detours have a gate of their own: those that don't help open its breaker, so that a datacenter
//! that nobody can reach is not asked for through every other one by every request.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    breaker::{Admission, Breaker, Outcome},
    hedge::Hedge,
};

/// Most requests for one datacenter under way from this server. Blocking queries stay under way
/// for minutes, and some thousand of them are ordinary; each costs some 10 KiB here, so that a
/// datacenter that answers nothing holds 80 MiB at most.
pub const UNDER_WAY_MAX: usize = 8192;

/// Most requests for one datacenter under way from this server by detours. They are in the way of
/// others in the datacenter that passes them on: few enough to leave room there.
pub const DETOURS_MAX: usize = 1024;

/// Most requests under way that this server passes on to one datacenter for all others: one of
/// these may use up all of its own.
pub const RELAYS_MAX: usize = DETOURS_MAX;

/// All ways from this server into one datacenter.
#[derive(Debug, Clone)]
pub struct Gates {
    /// What goes straight to it.
    pub direct: Arc<Gate>,
    /// What goes to it through other ones.
    pub detours: Arc<Gate>,
    /// What is passed on to it for other ones.
    pub relays: Arc<Gate>,
    /// How long it takes to answer.
    pub hedges: Arc<Hedges>,
}

/// A hedge that all requests for a datacenter share.
#[derive(Debug, Default)]
pub struct Hedges(Mutex<Hedge>);

impl Hedges {
    /// Returns the hedge.
    pub fn get(&self) -> MutexGuard<'_, Hedge> {
        // It is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            direct: Gate::new(UNDER_WAY_MAX),
            detours: Gate::new(DETOURS_MAX),
            relays: Gate::new(RELAYS_MAX),
            hedges: Arc::default(),
        }
    }
}

impl Gates {
    /// Tells how many requests of this server for the datacenter are under way, by whichever way.
    pub fn under_way(&self) -> usize {
        self.direct.under_way() + self.detours.under_way()
    }

    /// Closes all breakers: something else than a request showed that the datacenter is well.
    pub fn reset(&self) {
        [&self.direct, &self.detours, &self.relays].into_iter().for_each(|gate| gate.reset());
    }
}

/// One way into a datacenter.
#[derive(Debug)]
pub struct Gate {
    start: Instant,
    breaker: Mutex<Breaker>,
    under_way: AtomicUsize,
    entered: AtomicU64,
    bound: usize,
}

/// Why a caller was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// The breaker is open.
    Broken {
        /// How long until the next probe.
        retry_after: Duration,
    },
    /// As many requests are under way as there may be.
    Full {
        /// How many.
        under_way: usize,
    },
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Turned::Broken { retry_after } => {
                let millis = retry_after.as_millis();
                write!(f, "the last requests all failed, the next try is in {millis} ms")
            }
            Turned::Full { under_way } => write!(f, "{under_way} requests are under way already"),
        }
    }
}

/// Held by a request while it is under way.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    admission: Admission,
    outcome: Outcome,
}

impl Gate {
    /// Opens the way, with a bound on the requests under way.
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            breaker: Mutex::default(),
            under_way: AtomicUsize::new(0),
            entered: AtomicU64::new(0),
            bound,
        })
    }

    /// Lets a request through or turns it away.
    pub fn enter(self: &Arc<Self>) -> Result<Pass, Turned> {
        let under_way = self.under_way.fetch_add(1, Ordering::AcqRel);
        if under_way >= self.bound {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
            return Err(Turned::Full { under_way });
        }
        let admission = self.breaker().admit(self.start.elapsed());
        match admission {
            Admission::Turned { retry_after } => {
                self.under_way.fetch_sub(1, Ordering::AcqRel);
                Err(Turned::Broken { retry_after })
            }
            Admission::Pass | Admission::Probe => {
                self.entered.fetch_add(1, Ordering::Relaxed);
                Ok(Pass { gate: self.clone(), admission, outcome: Outcome::Abandoned })
            }
        }
    }

    /// Closes the breaker: the datacenter was seen to be well.
    pub fn reset(&self) {
        self.breaker().reset();
    }

    /// Tells how many requests are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Acquire)
    }

    /// Tells how many requests were ever let through.
    pub fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Tells whether the breaker turns callers away.
    pub fn is_open(&self) -> bool {
        self.breaker().is_open()
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Ends the request with what became of it.
    pub fn finish(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.under_way.fetch_sub(1, Ordering::AcqRel);
        let now = self.gate.start.elapsed();
        self.gate.breaker().record(now, self.admission, self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::FAILURES_MAX;

    #[tokio::test(start_paused = true)]
    async fn turns_away_what_is_over_the_bound_until_one_ends() {
        let gate = Gate::new(1);
        let pass = gate.enter().unwrap();
        assert_eq!(gate.enter().unwrap_err(), Turned::Full { under_way: 1 });
        drop(pass);
        assert!(gate.enter().is_ok());
        assert_eq!(gate.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_break_it_and_a_reset_mends_it() {
        let gate = Gate::new(8);
        for _ in 0..FAILURES_MAX {
            gate.enter().unwrap().finish(Outcome::Failed);
        }
        assert!(matches!(gate.enter().unwrap_err(), Turned::Broken { .. }));
        assert_eq!(gate.under_way(), 0);
        gate.reset();
        assert!(gate.enter().is_ok());
    }
}
