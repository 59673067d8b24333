//! The requests that were applied lately, with what came of them.
//!
//! A write whose answer was lost is sent again under the same id, by the agent, by another
//! server or through another datacenter; it finds its first result here. The table is part of
//! the replicated state, so what it forgets depends on nothing but the log: a request is kept for
//! [`KEPT_MS`] of the time that the servers agree on ([`Clock`](super::clock::Clock)), unless
//! there are more than [`REQUESTS_MAX`]. When the results take too much memory the oldest are
//! forgotten, but not that they were applied.

use imbl::{OrdMap, Vector};
use lan_agent::ask::RequestId;
use serde::{Deserialize, Serialize};

use super::Applied;

/// How long a request is remembered, in milliseconds. A write is retried until its deadline, 10 s
/// and what waiting for a leader adds; this is several times as much, also when a leap of a
/// leader's clock takes a step away ([`STEP_MAX_MS`](super::clock::STEP_MAX_MS)).
pub const KEPT_MS: u64 = 60_000;

/// Most requests remembered: all of [`KEPT_MS`] at 17,000 writes a second, which takes about
/// 130 MiB. What is retried beyond that rate, for longer than the rest of the time, might apply
/// twice; a table without a bound would end the server.
pub const REQUESTS_MAX: usize = 1 << 20;

/// Most bytes of transaction results remembered: results hold the values that were read, which
/// must not keep more memory alive than the writes themselves cost.
pub const RESULT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most requests forgotten when one is added: more than one, so that the table gets smaller, and
/// few, so that no write waits for thousands to be forgotten.
const FORGOTTEN_MAX: usize = 4;

/// How far the ages that are noted lie apart, in milliseconds.
const AGE_STEP_MS: u64 = 1_000;

/// Recent requests and their results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recent {
    known: OrdMap<RequestId, Remembered>,
    /// In the order in which they were applied, with the log indexes.
    order: Vector<(u64, RequestId)>,
    /// Those whose results take memory, in the same order.
    heavy: Vector<RequestId>,
    /// What the results take.
    bytes: usize,
    ages: Vector<Age>,
}

/// What is remembered of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Remembered {
    /// The log index at which it was applied.
    pub index: u64,
    /// What came of it.
    pub applied: Applied,
}

/// What was applied up to a log index is at least as old as this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    at_ms: u64,
    index: u64,
}

impl Age {
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) >= KEPT_MS
    }
}

impl Recent {
    /// Puts the table together from its parts, as a snapshot holds them.
    pub fn from_parts(mut requests: Vec<(RequestId, Remembered)>, ages: Vec<Age>) -> Self {
        requests.sort_by_key(|(_, remembered)| remembered.index);
        let mut recent = Self { ages: ages.into_iter().collect(), ..Self::default() };
        for (id, remembered) in requests {
            recent.add(id, remembered);
        }
        recent
    }

    /// Returns what came of a request, if it is remembered.
    pub fn get(&self, id: RequestId) -> Option<&Applied> {
        self.known.get(&id).map(|remembered| &remembered.applied)
    }

    /// Returns the number of requests remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Tells whether no request is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Returns the requests whose ids follow on one, or all, in the order of their ids.
    pub fn after(&self, id: Option<RequestId>) -> impl Iterator<Item = (RequestId, &Remembered)> {
        use std::ops::Bound;
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.known.range((from, Bound::Unbounded)).map(|(id, remembered)| (*id, remembered))
    }

    /// Returns the ages, the oldest first.
    pub fn ages(&self) -> impl Iterator<Item = Age> {
        self.ages.iter().copied()
    }

    /// Remembers a request that was applied at a log index, and forgets what is too old or too
    /// much.
    pub fn remember(&mut self, now_ms: u64, index: u64, id: RequestId, applied: Applied) {
        self.add(id, Remembered { index, applied });
        if self.ages.back().is_none_or(|last| now_ms >= last.at_ms + AGE_STEP_MS) {
            self.ages.push_back(Age { at_ms: now_ms, index });
        }
        self.forget_requests(now_ms);
        self.forget_results();
    }

    fn add(&mut self, id: RequestId, remembered: Remembered) {
        let (index, bytes) = (remembered.index, weight(&remembered.applied));
        if self.known.insert(id, remembered).is_some() {
            return;
        }
        self.order.push_back((index, id));
        if bytes > 0 {
            self.heavy.push_back(id);
            self.bytes += bytes;
        }
    }

    fn forget_requests(&mut self, now_ms: u64) {
        // The last age that is over stays, because it says up to where requests may go.
        while self.ages.get(1).is_some_and(|age| age.is_over(now_ms)) {
            self.ages.pop_front();
        }
        let over = self.ages.front().filter(|age| age.is_over(now_ms)).map_or(0, |age| age.index);
        for _ in 0..FORGOTTEN_MAX {
            let old = self.order.front().is_some_and(|(index, _)| *index <= over);
            if !old && self.order.len() <= REQUESTS_MAX {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, id)) = self.order.pop_front() else { return };
        let bytes = self.known.remove(&id).map_or(0, |remembered| weight(&remembered.applied));
        if bytes > 0 {
            self.bytes -= bytes;
            let heaviest = self.heavy.pop_front();
            assert_eq!(heaviest, Some(id), "both are in the order in which they were applied");
        }
    }

    fn forget_results(&mut self) {
        while self.bytes > RESULT_BYTES_MAX {
            let Some(id) = self.heavy.pop_front() else { return };
            if let Some(remembered) = self.known.get_mut(&id) {
                self.bytes -= weight(&remembered.applied);
                remembered.applied = Applied::Forgotten;
            }
        }
    }
}

fn weight(applied: &Applied) -> usize {
    match applied {
        Applied::Nothing | Applied::Done(_) | Applied::Forgotten => 0,
        Applied::Txn(outcome) => outcome.weight(),
        Applied::Refused(refusal) => refusal.sentence.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::state::txn;

    fn id(n: u64) -> RequestId {
        RequestId(Uuid::from_u128(u128::from(n)))
    }

    fn result(len: usize) -> Applied {
        let failures = vec![txn::Failure { op: 0, what: "x".repeat(len) }];
        Applied::Txn(Arc::new(txn::Outcome { failures, ..txn::Outcome::default() }))
    }

    fn reread(recent: &Recent) -> Recent {
        let rows = recent.after(None).map(|(id, remembered)| (id, remembered.clone())).collect();
        Recent::from_parts(rows, recent.ages().collect())
    }

    #[test]
    fn there_is_a_bound_whatever_the_time_says() {
        let mut recent = Recent::default();
        for n in 1..=REQUESTS_MAX as u64 + 10 {
            recent.remember(0, n, id(n), Applied::Done(true));
        }
        assert_eq!(recent.len(), REQUESTS_MAX);
        assert!(recent.get(id(10)).is_none() && recent.get(id(11)).is_some());
    }

    #[test]
    fn what_is_too_old_goes_with_the_next_ones() {
        let mut recent = Recent::default();
        for n in 1..=100 {
            recent.remember(n * 100, n, id(n), Applied::Done(true));
        }
        let later = 100 * 100 + KEPT_MS + AGE_STEP_MS;
        for n in 101..=134 {
            recent.remember(later, n, id(n), Applied::Done(true));
        }
        // The ages are noted once a second: what came after the last one is kept with the next.
        assert!((1..=91).all(|n| recent.get(id(n)).is_none()));
        assert!((92..=134).all(|n| recent.get(id(n)).is_some()));
    }

    #[test]
    fn of_heavy_results_only_the_results_are_forgotten() {
        let mut recent = Recent::default();
        let third = RESULT_BYTES_MAX / 3;
        for n in 1..=9 {
            recent.remember(0, n, id(n), result(third));
        }
        assert_eq!(recent.len(), 9);
        let forgotten = (1..=9).filter(|n| recent.get(id(*n)) == Some(&Applied::Forgotten));
        assert_eq!(forgotten.collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
        assert!(recent.bytes <= RESULT_BYTES_MAX);
        assert_eq!(reread(&recent), recent);
    }

    proptest! {
        /// Against a list of everything: nothing younger than the bound is missing, everything that
        /// is there is as it was, and a copy that was read back forgets the same from then on.
        #[test]
        fn nothing_is_forgotten_before_its_time(
            steps in prop::collection::vec((0..20_000_u64, any::<bool>()), 1..120),
            reread_at in any::<prop::sample::Index>(),
        ) {
            let (mut recent, mut copy) = (Recent::default(), None::<Recent>);
            let mut all = BTreeMap::new();
            let mut now = 0;
            for (n, (step, heavy)) in steps.iter().enumerate() {
                now += step;
                let index = n as u64 + 1;
                let applied = if *heavy { result(100) } else { Applied::Done(n % 2 == 0) };
                recent.remember(now, index, id(index * 7919 % 1009), applied.clone());
                if let Some(copy) = &mut copy {
                    copy.remember(now, index, id(index * 7919 % 1009), applied.clone());
                    prop_assert_eq!(&*copy, &recent);
                }
                all.insert(index * 7919 % 1009, (now, applied));
                for (number, (at, applied)) in &all {
                    match recent.get(id(*number)) {
                        Some(known) => prop_assert_eq!(known, applied),
                        None => prop_assert!(now - at >= KEPT_MS),
                    }
                }
                prop_assert!(recent.ages.len() as u64 <= KEPT_MS / AGE_STEP_MS + 2);
                if reread_at.index(steps.len()) == n {
                    copy = Some(reread(&recent));
                }
            }
        }
    }
}
