//! How old a follower's state is at most.
//!
//! ```text
//! leader     commits 7, commits 8     says "8 is committed"
//! follower   ---------------------------heard: 8 ------ applies 7 -- applies 8 ---> as fresh as when heard
//! ```
//!
//! A message of a leader says up to where the log was committed when it was sent. The state is as fresh as
//! that message only when it has been applied so far: a server that was cut off hears its leader again seconds
//! before it has caught up. And only if the leader was sure that nobody else leads.
//!
//! A message may have been on its way for seconds: it was sent again, or waited in the kernel for a process that
//! was stopped. So leaders say when they sent it, by a time of their own; what it took longer than the
//! quickest of late is taken from its freshness.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Most messages that are remembered until the state has caught up with them. Beyond, what a later one
/// says takes the place of the last: the state then seems older than it is.
const WAITING_MAX: usize = 64;

/// For how long the quickest message of a leader counts: clocks drift apart.
const QUICKEST_FOR: Duration = Duration::from_secs(10);

/// How long a leader has to have been heard until the time that it says counts: the first messages may all have
/// waited, as long as this server runs.
const GET_TO_KNOW: Duration = Duration::from_millis(250);

/// What was heard of leaders; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Contact(Arc<Mutex<Words>>);

/// Words of leaders, in the order of what they had committed.
#[derive(Debug)]
struct Words {
    /// When this server started: nobody sent it anything before.
    start: Instant,
    /// As fresh as this the state is, if that is known: what a disk held may be from any time.
    caught_up: Option<Instant>,
    waiting: VecDeque<(Instant, u64)>,
    ways: Option<Ways>,
}

/// How long messages of a leader were on their way, beyond a number that nobody knows.
#[derive(Debug)]
struct Ways {
    /// Its term and its number.
    leader: (u64, u64),
    first: Instant,
    /// The quickest way of the time before, and of now, in microseconds.
    quickest: [i128; 2],
    /// Since when it is now.
    since: Instant,
}

impl Contact {
    /// Notes that a leader was heard at a time, and up to where it had committed the log.
    pub(super) fn hear(&self, at: Instant, committed: u64) {
        self.with(|words| words.hear(at, committed));
    }

    /// Returns when a message of a leader was sent at the earliest, by the time that it says.
    pub(super) fn sent(&self, leader: (u64, u64), sent_us: u64, received: Instant) -> Instant {
        self.with(|words| words.sent(leader, sent_us, received))
    }

    /// Returns how old a state is at most that is applied up to an index; `None` if it never caught up
    /// with a leader since the start.
    pub(super) fn ago(&self, applied: u64) -> Option<Duration> {
        self.with(|words| words.as_of(applied)).map(|at| at.elapsed())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Words) -> T) -> T {
        // The words are whole between any two statements.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Words {
    fn default() -> Self {
        Self { start: Instant::now(), caught_up: None, waiting: VecDeque::new(), ways: None }
    }
}

impl Words {
    fn hear(&mut self, at: Instant, committed: u64) {
        let full = self.waiting.len() >= WAITING_MAX;
        // Messages may come in another order than they were sent.
        match self.waiting.back_mut() {
            Some(last) if committed <= last.1 => {
                if committed == last.1 {
                    last.0 = last.0.max(at);
                }
            }
            Some(last) if full => *last = (at, committed),
            Some(_) | None => self.waiting.push_back((at, committed)),
        }
    }

    fn sent(&mut self, leader: (u64, u64), sent_us: u64, received: Instant) -> Instant {
        if sent_us == 0 {
            // A leader of an older version does not say.
            return received;
        }
        let known = self.ways.take().filter(|ways| ways.leader == leader);
        let fresh = Ways { leader, first: received, quickest: [i128::MAX; 2], since: received };
        let ways = self.ways.insert(known.unwrap_or(fresh));
        let received_us = received.saturating_duration_since(ways.first).as_micros().cast_signed();
        let way = received_us - i128::from(sent_us);
        if received.saturating_duration_since(ways.since) >= QUICKEST_FOR {
            ways.quickest = [ways.quickest[1], way];
            ways.since = received;
        }
        ways.quickest[1] = ways.quickest[1].min(way);
        let longer = way - ways.quickest[0].min(ways.quickest[1]);
        let longer = Duration::from_micros(u64::try_from(longer).unwrap_or(u64::MAX));
        let known_well = received.saturating_duration_since(ways.first) >= GET_TO_KNOW;
        let sent = received.checked_sub(longer).filter(|_| known_well);
        sent.map_or(self.start, |sent| sent.max(self.start))
    }

    fn as_of(&mut self, applied: u64) -> Option<Instant> {
        while let Some((at, committed)) = self.waiting.front().copied()
            && committed <= applied
        {
            self.caught_up = self.caught_up.max(Some(at));
            // The last one stays, so that what is said again needs no place.
            if self.waiting.len() == 1 {
                break;
            }
            self.waiting.pop_front();
        }
        self.caught_up
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_state_is_as_fresh_as_the_last_word_that_it_has_caught_up_with() {
        let (start, mut words) = (Instant::now(), Words::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(words.as_of(7), None);
        words.hear(at(100), 8);
        words.hear(at(200), 9);
        assert_eq!(words.as_of(7), None);
        assert_eq!(words.as_of(8), Some(at(100)));
        words.hear(at(300), 9);
        assert_eq!(words.as_of(8), Some(at(100)));
        assert_eq!(words.as_of(9), Some(at(300)));
        words.hear(at(400), 9);
        assert_eq!(words.as_of(9), Some(at(400)));
    }

    #[test]
    fn what_was_longer_on_its_way_than_others_is_older_by_that() {
        let mut words = Words::default();
        let start = words.start;
        let at = |ms| start + Duration::from_millis(ms);
        // The leader's own time began long ago; a message takes 5 ms.
        let sent = |ms: u64| 7_000_000 + ms * 1000;
        let mut hear =
            |leader, sent_ms, received_ms| words.sent((leader, 1), sent(sent_ms), at(received_ms));
        assert_eq!(hear(1, 0, 2000), start, "it may have waited");
        assert_eq!(hear(1, 2000, 2005), start);
        assert_eq!(hear(1, 2300, 2305), at(2305));
        assert_eq!(hear(1, 2400, 4900), at(2405), "it waited for 2.5 s");
        for second in 5..60 {
            let (sent, received) = (second * 1000, second * 1000 + 5);
            assert_eq!(hear(1, sent, received), at(received));
        }
        assert_eq!(hear(1, 60_000, 90_000), at(60_005), "however long it waited");
        assert_eq!(hear(2, 91_000, 91_005), start, "another leader has another time");
        assert_eq!(hear(2, 92_000, 92_005), at(92_005));
        assert_eq!(words.sent((3, 1), 0, at(93_000)), at(93_000), "it does not say");
    }

    proptest! {
        #[test]
        fn no_state_is_fresher_than_a_word_that_it_has_caught_up_with(
            steps in prop::collection::vec((0..50_u64, 0..20_u64), 1..300),
        ) {
            let (start, mut words) = (Instant::now(), Words::default());
            let (mut now, mut committed, mut applied) = (start, 0, 0);
            let mut heard = Vec::new();
            for (ms, more) in steps {
                now += Duration::from_millis(ms);
                committed += more;
                words.hear(now, committed);
                heard.push((now, committed));
                applied = (applied + 9).min(committed);
                let truth = heard.iter().rev().find(|(_, committed)| *committed <= applied);
                let as_of = words.as_of(applied);
                prop_assert!(as_of <= truth.map(|(at, _)| *at));
                prop_assert!(words.waiting.len() <= WAITING_MAX);
                if applied == committed {
                    prop_assert_eq!(as_of, Some(now));
                }
            }
        }
    }
}
