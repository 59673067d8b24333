//! A circuit breaker for one datacenter: after several failures in a row, callers are turned
//! away at once instead of each waiting for its own failure; then one is let through to probe.
//!
//! ```text
//!            FAILURES_MAX in a row              pause over: one probe
//!   Closed -----------------------> Open(pause) ----------------------> HalfOpen
//!     ^                               ^  pause doubled, PAUSE_MAX at most   |
//!     |                               +------------------ probe failed -----+
//!     +------------------------------------------------ probe succeeded ----+
//! ```
//!
//! A function of values: `now` is an argument. A probe whose outcome never comes (its caller
//! went away) is forgotten after [`PROBE_MAX`], so that the breaker can't stay shut for good.

use std::time::Duration;

/// Failures in a row that open the breaker: few, because each costs a caller up to 2 s, but more
/// than the attempts of one request, so that a single unlucky request doesn't.
pub const FAILURES_MAX: u32 = 5;

/// The first pause: about as long as a leader's election takes.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);

/// The longest pause: how late a recovery may be noticed when nothing else tells of it.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a probe may take before another one is let through.
pub const PROBE_MAX: Duration = Duration::from_secs(5);

/// Turns callers away while a datacenter fails them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    pause: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration },
    HalfOpen { since: Duration },
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go ahead.
    Pass,
    /// Go ahead: the outcome decides whether the breaker closes.
    Probe,
    /// Turn back; there is no use in asking again before this long.
    Turned {
        /// How long until the next probe.
        retry_after: Duration,
    },
}

/// What became of a call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The datacenter answered, whatever it said.
    Answered,
    /// It did not.
    Failed,
    /// The caller went away before either: says nothing.
    Abandoned,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, pause: PAUSE_MIN }
    }
}

impl Breaker {
    /// Tells whether callers are being turned away.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Decides on a caller.
    pub fn admit(&mut self, now: Duration) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Pass,
            State::Open { until } if now < until => Admission::Turned { retry_after: until - now },
            State::HalfOpen { since } if now < since + PROBE_MAX => {
                Admission::Turned { retry_after: since + PROBE_MAX - now }
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { since: now };
                Admission::Probe
            }
        }
    }

    /// Takes in what became of a call that was let through as `admission`.
    pub fn record(&mut self, now: Duration, admission: Admission, outcome: Outcome) {
        match (outcome, &mut self.state) {
            (Outcome::Answered, _) => self.reset(),
            (Outcome::Failed, State::Closed { failures }) => {
                *failures += 1;
                if *failures >= FAILURES_MAX {
                    self.open(now);
                }
            }
            (Outcome::Failed, State::HalfOpen { .. }) if admission == Admission::Probe => {
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                self.open(now);
            }
            (Outcome::Abandoned, State::HalfOpen { .. }) if admission == Admission::Probe => {
                self.state = State::Open { until: now };
            }
            // Calls from before the breaker opened say nothing new.
            (Outcome::Failed | Outcome::Abandoned, _) => {}
        }
    }

    /// Closes the breaker: something else showed that the datacenter is well.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn open(&mut self, now: Duration) {
        self.state = State::Open { until: now + self.pause };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            let admission = breaker.admit(ZERO);
            breaker.record(ZERO, admission, Outcome::Failed);
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(ZERO), Admission::Turned { retry_after: PAUSE_MIN });
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_again() {
        let mut breaker = Breaker::default();
        for _ in 0..3 * FAILURES_MAX {
            breaker.record(ZERO, Admission::Pass, Outcome::Failed);
            breaker.record(ZERO, Admission::Pass, Outcome::Answered);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn one_probe_at_a_time_after_the_pause() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(PAUSE_MIN), Admission::Probe);
        assert!(matches!(breaker.admit(PAUSE_MIN), Admission::Turned { .. }));
    }

    #[test]
    fn a_probe_that_succeeds_closes() {
        let mut breaker = opened();
        let admission = breaker.admit(PAUSE_MIN);
        breaker.record(PAUSE_MIN, admission, Outcome::Answered);
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn a_probe_that_fails_doubles_the_pause_up_to_its_bound() {
        let mut breaker = opened();
        let mut now = PAUSE_MIN;
        for _ in 0..10 {
            assert_eq!(breaker.admit(now), Admission::Probe);
            breaker.record(now, Admission::Probe, Outcome::Failed);
            let Admission::Turned { retry_after } = breaker.admit(now) else {
                panic!("open after a failed probe");
            };
            assert!(retry_after <= PAUSE_MAX);
            now += retry_after;
        }
        assert_eq!(breaker.pause, PAUSE_MAX);
    }

    #[test]
    fn an_abandoned_probe_lets_the_next_one_through() {
        let mut breaker = opened();
        let admission = breaker.admit(PAUSE_MIN);
        breaker.record(PAUSE_MIN, admission, Outcome::Abandoned);
        assert_eq!(breaker.admit(PAUSE_MIN), Admission::Probe);
    }

    #[test]
    fn late_failures_of_earlier_calls_do_not_end_a_probe() {
        let mut breaker = opened();
        breaker.admit(PAUSE_MIN);
        breaker.record(PAUSE_MIN, Admission::Pass, Outcome::Failed);
        breaker.record(PAUSE_MIN, Admission::Probe, Outcome::Answered);
        assert!(!breaker.is_open());
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![Just(Outcome::Answered), Just(Outcome::Failed), Just(Outcome::Abandoned)]
    }

    proptest! {
        #[test]
        fn someone_is_always_let_through_within_the_longest_pause(
            steps in proptest::collection::vec((0u64..8000, outcome(), any::<bool>()), 0..60)
        ) {
            let mut breaker = Breaker::default();
            let mut now = ZERO;
            for (millis, outcome, lost) in steps {
                now += Duration::from_millis(millis);
                let admission = breaker.admit(now);
                match admission {
                    Admission::Turned { retry_after } => {
                        prop_assert!(retry_after <= PAUSE_MAX.max(PROBE_MAX));
                        let mut later = breaker.clone();
                        prop_assert_eq!(later.admit(now + retry_after), Admission::Probe);
                    }
                    // An outcome may never come.
                    Admission::Pass | Admission::Probe if lost => {}
                    Admission::Pass | Admission::Probe => breaker.record(now, admission, outcome),
                }
            }
        }
    }
}
