//! The time that all servers agree on, for what is to be forgotten after a while.
//!
//! A state reads no clock: leaders stamp their commands, and what passes between stamps is added up
//! here, the same on every server. A leader goes on from the stamps of the one before, so that the time runs
//! slower than real time if anything, and never back. Should stamps leap nevertheless (a machine whose clock
//! stood still while it slept), each moves the time by [`STEP_MAX_MS`] at most. Nobody may ask it for the
//! time of day.

use serde::{Deserialize, Serialize};

/// Most milliseconds that one stamp moves the time: what a leap can take away from the time that
/// something is kept for.
pub const STEP_MAX_MS: u64 = 10_000;

/// How far a stamp lies behind the last one when it is another clock's. Commands of one leader
/// reach the log a little out of order, which must not count twice.
const BEHIND_MIN_MS: u64 = 10_000;

/// A sum of the times between stamps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    now_ms: u64,
    stamp_ms: u64,
    #[serde(default)]
    born_ms: u64,
}

impl Clock {
    /// The clock of a datacenter of which nothing else is known.
    pub fn born_at(born_ms: u64) -> Self {
        Self { born_ms, ..Self::default() }
    }

    /// Returns the time, in milliseconds since the datacenter began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Returns the last stamp, 0 before the first: where the next leader's stamps go on.
    pub fn stamp_ms(&self) -> u64 {
        self.stamp_ms
    }

    /// Returns the first stamp there was, in milliseconds since 1970: it tells one datacenter from
    /// another that has its name later. 0 before the first.
    pub fn born_ms(&self) -> u64 {
        self.born_ms
    }

    /// Moves the time to a command's stamp: its leader's clock in milliseconds since 1970.
    pub fn advance(&mut self, stamp_ms: u64) {
        if self.born_ms == 0 {
            self.born_ms = stamp_ms;
        }
        if stamp_ms > self.stamp_ms {
            self.now_ms += (stamp_ms - self.stamp_ms).min(STEP_MAX_MS);
            self.stamp_ms = stamp_ms;
        } else if self.stamp_ms - stamp_ms >= BEHIND_MIN_MS {
            self.stamp_ms = stamp_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(stamps: &[u64]) -> Clock {
        let mut clock = Clock::default();
        stamps.iter().for_each(|stamp| clock.advance(*stamp));
        clock
    }

    fn passed(stamps: &[u64]) -> u64 {
        after(stamps).now_ms() - after(&stamps[..1]).now_ms()
    }

    #[test]
    fn it_runs_with_the_leader() {
        assert_eq!(passed(&[1_000_000, 1_000_400, 1_003_000]), 3_000);
    }

    #[test]
    fn commands_out_of_order_do_not_make_it_run_faster() {
        let stamps: Vec<u64> = (0..1_000).map(|n| 1_000_000 + n * 10 - (n % 2) * 15).collect();
        assert_eq!(passed(&stamps), 9_990 - 10);
    }

    #[test]
    fn a_leader_with_another_clock_moves_it_by_one_step() {
        let hour = 3_600_000;
        assert_eq!(passed(&[hour, 1_000 * hour, 1_000 * hour + 5]), STEP_MAX_MS + 5);
        assert_eq!(passed(&[1_000 * hour, hour, hour + 5]), 5);
    }

    proptest! {
        #[test]
        fn it_never_goes_back_nor_far(stamps in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut clock = Clock::default();
            for stamp in stamps {
                let before = clock.now_ms();
                clock.advance(stamp);
                prop_assert!((before..=before + STEP_MAX_MS).contains(&clock.now_ms()));
            }
        }
    }
}
