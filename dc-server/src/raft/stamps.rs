//! The stamps of a leader's commands: the time, as far as what is kept for a while needs it.
//!
//! The first leader of a datacenter begins with its clock. Who leads after another one goes on from the
//! last stamp that it has applied, by what has passed since on its own clock: so the time that the servers
//! agree on ([`Clock`](crate::state::clock::Clock)) neither leaps nor stands still when a leader takes over
//! whose clock of the day is years ahead or behind. The time without a leader is not counted: what is kept
//! for a while is kept so much longer, never shorter. Commands of a leader that has not yet applied what the
//! ones before it wrote have no stamp: its state says nothing of theirs.

use tokio::time::Instant;

/// Stamps commands.
#[derive(Debug)]
pub(super) struct Stamps {
    /// What the very first stamp of the datacenter says.
    first_ms: u64,
    reign: Option<Reign>,
}

/// The stamps of one term.
#[derive(Debug)]
struct Reign {
    term: u64,
    from_ms: u64,
    since: Instant,
}

impl Stamps {
    /// Begins, should nobody ever have stamped a command, with a time in milliseconds since 1970.
    pub(super) fn new(first_ms: u64) -> Self {
        Self { first_ms, reign: None }
    }

    /// Returns the stamp of a command in a term that this server has led `since`; `last_ms` is the last
    /// stamp that was applied here, 0 before the first.
    pub(super) fn next(&mut self, term: u64, since: Instant, last_ms: u64, now: Instant) -> u64 {
        if self.reign.as_ref().is_none_or(|reign| reign.term != term) {
            let from_ms = if last_ms == 0 { self.first_ms } else { last_ms };
            self.reign = Some(Reign { term, from_ms, since });
        }
        self.reign.as_ref().map_or(self.first_ms, |reign| {
            let passed = now.saturating_duration_since(reign.since).as_millis();
            reign.from_ms.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::state::clock::Clock;

    const HOUR_MS: u64 = 3_600_000;

    /// Lets a leader with a clock of its own stamp a command every 500 ms for ten seconds.
    fn reign(clock: &mut Clock, clock_ms: u64, term: u64, begin: Instant) {
        let mut stamps = Stamps::new(clock_ms);
        for step in 0..=20 {
            let now = begin + Duration::from_millis(500) * step;
            clock.advance(stamps.next(term, begin, clock.stamp_ms(), now));
        }
    }

    #[test]
    fn a_change_of_leaders_costs_no_time_whatever_their_clocks_say() {
        let mut clock = Clock::default();
        let now = Instant::now();
        reign(&mut clock, 1_000 * HOUR_MS, 1, now);
        let begin = clock.now_ms();
        reign(&mut clock, 2_000 * HOUR_MS, 2, now);
        assert_eq!(clock.now_ms() - begin, 10_000);
        reign(&mut clock, HOUR_MS, 3, now);
        assert_eq!(clock.now_ms() - begin, 20_000);
    }

    proptest! {
        /// Leaders come, go and come again, and each has a clock of its own.
        #[test]
        fn the_time_of_the_servers_is_what_leaders_count(
            steps in prop::collection::vec((any::<Option<bool>>(), 0..3_000_u64), 2..80),
            clocks in any::<[u32; 2]>(),
        ) {
            let mut leaders = clocks.map(|clock| Stamps::new(u64::from(clock) * 1_000 + 1));
            let (mut clock, mut now) = (Clock::default(), Instant::now());
            let (mut leader, mut term, mut since) = (0, 1, now);
            clock.advance(leaders[0].next(term, since, 0, now));
            let mut expected = clock.now_ms();
            for (elected, pause) in steps {
                if let Some(other) = elected {
                    (leader, term, since) = (usize::from(other), term + 1, now);
                }
                now += Duration::from_millis(pause);
                expected += pause;
                clock.advance(leaders[leader].next(term, since, clock.stamp_ms(), now));
                prop_assert_eq!(clock.now_ms(), expected);
            }
        }
    }
}
