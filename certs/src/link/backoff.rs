//! How long to wait before dialling a peer again.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::link::Profile;

/// The waits between attempts: doubled after each failure, with a random half.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(profile: Profile) -> Self {
        match profile {
            // A restarted server dials its peers itself: a long wait would only delay agents.
            Profile::Lan => {
                Self { first: Duration::from_millis(100), longest: Duration::from_secs(1) }
            }
            Profile::Wan => {
                Self { first: Duration::from_millis(250), longest: Duration::from_secs(3) }
            }
        }
    }

    /// Returns the wait after so many failures in a row (1 after the first).
    pub(super) fn after(&self, failures: u32, random: &mut impl Rng) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.longest).mul_f64(random.random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_jittered() {
        let mut random = SmallRng::seed_from_u64(7);
        let backoff = Backoff::new(Profile::Lan);
        for (failures, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (99, 1000)] {
            let wait = backoff.after(failures, &mut random);
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait < full, "{failures}: {wait:?}");
        }
    }
}
