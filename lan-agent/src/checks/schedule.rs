//! When checks are due: each at its own beat, all behind one timer.
//!
//! A check's beats are a [`Rhythm`]: the first one at random within an interval, so that several
//! thousand checks that start together spread, then one every interval. A check that takes longer
//! than its interval misses beats and is due at the next one after it ended, so the spread stays,
//! also after the machine was asleep. An [`Agenda`] holds what is due when; whoever drives it
//! sleeps until the first of all, so that a check which is not due costs nothing.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, RngExt};
use tokio::time::Instant;

use crate::definition::INTERVAL_MIN;

/// Longest time that anything here is put off: ten years, so that no sum of times overflows.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The beats of one check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    first: Instant,
    interval: Duration,
}

impl Rhythm {
    /// Chooses the first beat within an interval from `now`.
    pub(super) fn new(interval: Duration, now: Instant, random: &mut impl Rng) -> Self {
        let interval = interval.clamp(INTERVAL_MIN, DELAY_MAX);
        Self { first: now + interval.mul_f64(random.random::<f64>()), interval }
    }

    pub(super) fn first(&self) -> Instant {
        self.first
    }

    /// Returns the first beat after a moment.
    pub(super) fn after(&self, moment: Instant) -> Instant {
        let since_beat = match moment.checked_duration_since(self.first) {
            None => return self.first,
            Some(past) => past.as_nanos() % self.interval.as_nanos(),
        };
        let since_beat = u64::try_from(since_beat).map_or(Duration::ZERO, Duration::from_nanos);
        moment + (self.interval - since_beat)
    }
}

/// What is due when; things of one moment in the order in which they were added.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    entries: BTreeMap<Appointment, T>,
    added: u64,
}

/// A place in an agenda, to take back what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Appointment {
    at: Instant,
    order: u64,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), added: 0 }
    }

    /// Adds something; the caller may take it back by what this returns.
    pub(super) fn add(&mut self, at: Instant, what: T) -> Appointment {
        self.added += 1;
        let appointment = Appointment { at, order: self.added };
        self.entries.insert(appointment, what);
        appointment
    }

    /// Takes back what was added; what was due already is gone.
    pub(super) fn cancel(&mut self, appointment: Appointment) -> Option<T> {
        self.entries.remove(&appointment)
    }

    /// Returns when the first one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(appointment, _)| appointment.at)
    }

    /// Takes the first one if it is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop_first().map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn checks_that_start_together_spread_over_their_interval() {
        let mut random = SmallRng::seed_from_u64(7);
        let now = Instant::now();
        let mut due = [0; 10];
        for _ in 0..5_000 {
            let delay = Rhythm::new(TEN, now, &mut random).first() - now;
            due[usize::try_from(delay.as_secs()).unwrap()] += 1;
        }
        assert!(due.iter().all(|due| (400..600).contains(due)), "{due:?}");
    }

    #[test]
    fn equal_seeds_give_equal_beats() {
        let now = Instant::now();
        let firsts = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            [(); 9].map(|()| Rhythm::new(TEN, now, &mut random).first())
        };
        assert_eq!(firsts(1), firsts(1));
        assert_ne!(firsts(1), firsts(2));
    }

    #[test]
    fn missed_beats_are_not_made_up_for_and_the_beat_is_kept() {
        let first = Instant::now();
        let rhythm = Rhythm { first, interval: TEN };
        let after = |secs: f64| rhythm.after(first + Duration::from_secs_f64(secs)) - first;
        assert_eq!(after(0.0), TEN);
        assert_eq!(after(0.2), TEN);
        assert_eq!(after(10.0), 2 * TEN);
        assert_eq!(after(37.5), 4 * TEN);
        let before = rhythm.after(first.checked_sub(Duration::from_secs(1)).unwrap());
        assert_eq!(before, first);
    }

    #[test]
    fn no_check_runs_more_often_than_every_second() {
        let mut random = SmallRng::seed_from_u64(7);
        let rhythm = Rhythm::new(Duration::ZERO, Instant::now(), &mut random);
        assert_eq!(rhythm.after(rhythm.first()) - rhythm.first(), INTERVAL_MIN);
    }

    #[test]
    fn an_interval_beyond_all_bounds_is_no_trouble() {
        let mut random = SmallRng::seed_from_u64(7);
        let rhythm = Rhythm::new(Duration::MAX, Instant::now(), &mut random);
        assert!(rhythm.after(rhythm.first()) > rhythm.first());
    }

    #[test]
    fn due_ones_come_by_time_then_by_order_and_cancelled_ones_never() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut agenda = Agenda::new();
        let added = [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')]
            .map(|(secs, what)| agenda.add(at(secs), what));
        assert_eq!(agenda.cancel(added[2]), Some('d'));
        let mut due = Vec::new();
        while let Some(what) = agenda.pop(at(5)) {
            due.push(what);
        }
        assert_eq!(due, ['a', 'b', 'c']);
        assert_eq!(agenda.next(), Some(at(9)));
        assert_eq!(agenda.cancel(added[2]), None);
    }
}
