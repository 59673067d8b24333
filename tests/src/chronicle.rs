//! What datacenters held their instances for, what lookups were told of them, and whether that fits.
//!
//! In each datacenter one writer makes one change of one instance after the other, so that a number says what it held
//! at any moment: that of the last change. An answer fits when for each datacenter that it is from there is one number,
//! not of a moment before the age that the answer gives itself, at which just those instances passed that it shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use topology::Datacenter;

/// By how much ages may be wrong where clocks drift by 2 % each: a mirror is as old as a second of its source's clock
/// says, and older by what its own server's clock says since.
const DRIFT: f64 = 0.04;

/// The number of an instance in its datacenter.
pub type Instance = u32;

/// A change of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub instance: Instance,
    /// Whether it passes from now on.
    pub passes: bool,
    /// When it was asked for.
    pub begun: Duration,
    /// When it was acknowledged.
    pub done: Option<Duration>,
}

/// An answer to a lookup of instances that pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who was asked.
    pub by: usize,
    /// When it was asked.
    pub begun: Duration,
    /// When it was answered.
    pub ended: Duration,
    /// How old the answer says it is at most.
    pub age: Duration,
    /// The datacenters that it says it is from.
    pub served: Vec<Datacenter>,
    /// The instances that it shows, each with the number of the change that it shows.
    pub shown: BTreeSet<(Datacenter, Instance, usize)>,
}

/// What was changed and told so far; clones share it.
#[derive(Clone, Default)]
pub struct Chronicle(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    changes: BTreeMap<Datacenter, Vec<Change>>,
    told: Vec<Told>,
}

impl Chronicle {
    /// Begins a change; returns its number, from 1 on.
    pub fn begin(&self, dc: &Datacenter, instance: Instance, passes: bool, now: Duration) -> usize {
        let mut log = self.log();
        let changes = log.changes.entry(dc.clone()).or_default();
        changes.push(Change { instance, passes, begun: now, done: None });
        changes.len()
    }

    /// Notes that a change was acknowledged.
    pub fn end(&self, dc: &Datacenter, number: usize, now: Duration) {
        if let Some(changes) = self.log().changes.get_mut(dc) {
            changes[number - 1].done = Some(now);
        }
    }

    /// Returns the last change of a datacenter and its number.
    pub fn last(&self, dc: &Datacenter) -> Option<(usize, Change)> {
        let log = self.log();
        let changes = log.changes.get(dc)?;
        Some((changes.len(), *changes.last()?))
    }

    /// Notes an answer.
    pub fn tell(&self, told: Told) {
        self.log().told.push(told);
    }

    /// Returns the answers that were asked for since a time, in the order in which they came.
    pub fn told_since(&self, begin: Duration) -> Vec<Told> {
        self.log().told.iter().filter(|told| told.begun >= begin).cloned().collect()
    }

    /// Returns the moments from which on a datacenter had instances that pass, or none: the time at which that was asked
    /// for, and which of it.
    pub fn turns(&self, dc: &Datacenter) -> Vec<(Duration, bool)> {
        let log = self.log();
        let changes = log.changes.get(dc).map_or(&[][..], Vec::as_slice);
        let mut turns = vec![(Duration::ZERO, false)];
        for (number, change) in (1..).zip(changes) {
            let some = !passing(dc, changes, number).is_empty();
            if turns.last().is_some_and(|(_, before)| *before != some) {
                turns.push((change.begun, some));
            }
        }
        turns
    }

    /// Counts the answers, and those that another datacenter than the asker's gave.
    ///
    /// # Panics
    /// When one does not fit to what was held.
    pub fn check(&self, home: impl Fn(usize) -> Datacenter) -> (usize, usize) {
        let log = self.log();
        for told in &log.told {
            for dc in &told.served {
                let changes = log.changes.get(dc).map_or(&[][..], Vec::as_slice);
                let held = || changes.iter().take_while(|change| change.begun <= told.ended);
                let held = || held().map(|change| format!("\n{change:?}")).collect::<String>();
                assert!(fits(dc, changes, told), "{told:?}\nis not what {dc} held:{}", held());
            }
            let foreign = told.shown.iter().find(|(dc, ..)| !told.served.contains(dc));
            assert_eq!(foreign, None, "{told:#?}");
        }
        let elsewhere = log.told.iter().filter(|told| !told.served.contains(&home(told.by)));
        (log.told.len(), elsewhere.count())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().expect("nobody panics in here")
    }
}

/// Tells whether an answer shows what a datacenter held at one moment, not too long ago.
fn fits(dc: &Datacenter, changes: &[Change], told: &Told) -> bool {
    let shown: BTreeSet<_> = told.shown.iter().filter(|(of, ..)| of == dc).cloned().collect();
    let age = match told.age {
        Duration::ZERO => Duration::ZERO,
        age => (age + Duration::from_secs(1)).mul_f64(1.0 + DRIFT) - Duration::from_secs(1),
    };
    let as_of = told.begun.saturating_sub(age);
    let done = |change: &Change| change.done.is_some_and(|done| done < as_of);
    let oldest = changes.iter().rposition(done).map_or(0, |last| last + 1);
    let newest = changes.iter().take_while(|change| change.begun <= told.ended).count();
    (oldest..=newest).any(|number| passing(dc, changes, number) == shown)
}

/// Returns the instances that passed after so many changes, with the numbers of their last changes.
fn passing(
    dc: &Datacenter,
    changes: &[Change],
    number: usize,
) -> BTreeSet<(Datacenter, Instance, usize)> {
    let mut last = BTreeMap::new();
    for (number, change) in (1..=number).zip(changes) {
        last.insert(change.instance, (number, change.passes));
    }
    let passes = last.into_iter().filter(|(_, (_, passes))| *passes);
    passes.map(|(instance, (number, _))| (dc.clone(), instance, number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dc(name: &str) -> Datacenter {
        Datacenter::new(name).unwrap()
    }

    /// Instance 0 passes from second 1 on, instance 1 from second 2 on, instance 0 no more from second 3 on.
    fn changes() -> Vec<Change> {
        let at = |second, instance, passes| Change {
            instance,
            passes,
            begun: Duration::from_secs(second),
            done: Some(Duration::from_secs(second)),
        };
        vec![at(1, 0, true), at(2, 1, true), at(3, 0, false)]
    }

    /// Half a second after a second.
    fn told(second: u64, age: u64, shown: &[(Instance, usize)]) -> Told {
        let at = Duration::from_millis(second * 1000 + 500);
        Told {
            by: 0,
            begun: at,
            ended: at,
            age: Duration::from_secs(age),
            served: vec![dc("dc2")],
            shown: shown.iter().map(|(instance, number)| (dc("dc2"), *instance, *number)).collect(),
        }
    }

    #[test]
    fn an_answer_fits_when_it_was_the_truth_at_the_time_that_it_says() {
        let (dc, changes) = (dc("dc2"), changes());
        let fits = |told: Told| fits(&dc, &changes, &told);
        assert!(fits(told(4, 0, &[(1, 2)])));
        assert!(!fits(told(4, 0, &[(0, 1), (1, 2)])), "one that does not pass any more");
        assert!(fits(told(4, 2, &[(0, 1), (1, 2)])), "but it did two seconds ago");
        assert!(!fits(told(4, 2, &[(0, 1)])));
        assert!(!fits(told(4, 4, &[(0, 3), (1, 2)])), "it never was so");
        assert!(!fits(told(4, 0, &[])));
        assert!(fits(told(4, 4, &[])));
    }

    #[test]
    fn it_is_known_when_there_was_one() {
        let chronicle = Chronicle::default();
        let secs = Duration::from_secs;
        for change in changes() {
            chronicle.begin(&dc("dc2"), change.instance, change.passes, change.begun);
        }
        chronicle.begin(&dc("dc2"), 1, false, secs(5));
        let turns = [(secs(0), false), (secs(1), true), (secs(5), false)];
        assert_eq!(chronicle.turns(&dc("dc2")), turns);
    }
}
