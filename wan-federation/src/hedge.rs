//! How long a datacenter takes to answer reads, and when one is late enough to ask a second server.
//!
//! ```text
//!   asked --------- later than 95 of 100 ----------> a second server is asked, too
//!     first server   ............................... (slow, or losing packets)
//!     second server                                  ......> the first answer counts
//! ```
//!
//! A second request for what is late costs a twentieth more, if few things are slow. When everything
//! is, as in a datacenter that has too much to do, it would double the load: so each read earns a
//! share of a second request, and no more than these are sent. A function of values.

use std::time::Duration;

/// How many answers the pace is taken from: enough for a 95th of 100 that does not jump, few enough to
/// follow a path that changes within seconds.
const ANSWERS: usize = 128;

/// How many there have to be before anything is called late.
const ANSWERS_MIN: usize = 16;

/// After how many answers the pace is worked out anew.
const WORK_OUT_EVERY: usize = 8;

/// Less than this is never late: machines stall for that long.
const LATE_MIN: Duration = Duration::from_millis(5);

/// How much later than most an answer has to be: timers count whole milliseconds.
const GRACE: Duration = Duration::from_millis(1);

/// How many reads earn a second request: load grows by a tenth at most.
const READS_PER_HEDGE: u32 = 10;

/// Most second requests that can be saved up.
const HEDGES_MAX: u32 = 20;

/// When a read of one datacenter is late, and whether another may be sent for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hedge {
    /// The last answers' times, the oldest overwritten first.
    took: Vec<Duration>,
    next: usize,
    late: Option<Duration>,
    /// In reads.
    saved: u32,
    sent: u64,
}

impl Hedge {
    /// Takes in that a read was answered, and how long that took.
    pub fn record(&mut self, took: Duration) {
        match self.took.get_mut(self.next) {
            Some(oldest) => *oldest = took,
            None => self.took.push(took),
        }
        self.next = (self.next + 1) % ANSWERS;
        self.saved = (self.saved + 1).min(HEDGES_MAX * READS_PER_HEDGE);
        if self.took.len() >= ANSWERS_MIN && self.next.is_multiple_of(WORK_OUT_EVERY) {
            self.late = Some(percentile(&self.took, 95).max(LATE_MIN) + GRACE);
        }
    }

    /// Returns after which time a read is late; `None` as long as too little is known.
    pub fn late_after(&self) -> Option<Duration> {
        self.late
    }

    /// Tells whether a second request may be sent now, and counts it.
    pub fn spend(&mut self) -> bool {
        let Some(left) = self.saved.checked_sub(READS_PER_HEDGE) else { return false };
        self.saved = left;
        self.sent += 1;
        true
    }

    /// Returns how many second requests were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

/// Returns the time within which so many of 100 were answered.
fn percentile(took: &[Duration], of_100: usize) -> Duration {
    let mut took = took.to_vec();
    let place = (took.len() * of_100).div_ceil(100).saturating_sub(1);
    *took.select_nth_unstable(place).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn after(times: impl IntoIterator<Item = u64>) -> Hedge {
        let mut hedge = Hedge::default();
        times.into_iter().for_each(|time| hedge.record(millis(time)));
        hedge
    }

    #[test]
    fn nothing_is_late_before_enough_is_known() {
        assert_eq!(after(vec![30; ANSWERS_MIN - 1]).late_after(), None);
        assert_eq!(after(vec![30; ANSWERS_MIN]).late_after(), Some(millis(31)));
    }

    #[test]
    fn late_is_later_than_ninety_five_of_a_hundred() {
        let mut times: Vec<u64> = (1..=ANSWERS as u64).collect();
        assert_eq!(after(times.clone()).late_after(), Some(millis(123)));
        times.reverse();
        assert_eq!(after(times).late_after(), Some(millis(123)));
    }

    #[test]
    fn a_quick_datacenter_is_given_a_moment() {
        assert_eq!(after(vec![0; ANSWERS]).late_after(), Some(LATE_MIN + GRACE));
    }

    #[test]
    fn the_pace_follows_a_path_that_changed() {
        let hedge = after([vec![30; ANSWERS], vec![90; ANSWERS]].concat());
        assert_eq!(hedge.late_after(), Some(millis(91)));
    }

    #[test]
    fn second_requests_are_earned_and_saved_up_to_a_bound() {
        let mut hedge = after(vec![30; 25]);
        assert_eq!((hedge.spend(), hedge.spend(), hedge.spend()), (true, true, false));
        assert_eq!(hedge.sent(), 2);
        let mut rich = after(vec![30; 10_000]);
        let spent = std::iter::repeat_with(|| rich.spend()).take_while(|it| *it).count();
        assert_eq!(spent as u32, HEDGES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_late_took_some_answer_that_long_and_few_longer(
            times in proptest::collection::vec(5u64..1000, ANSWERS_MIN..300),
        ) {
            let whole = times.len() / WORK_OUT_EVERY * WORK_OUT_EVERY;
            let times = &times[..whole];
            let last = &times[times.len().saturating_sub(ANSWERS)..];
            let late = after(times.iter().copied()).late_after().unwrap();
            prop_assert!(last.iter().any(|time| millis(*time) + GRACE == late));
            let longer = last.iter().filter(|time| millis(**time) + GRACE > late).count();
            prop_assert!(longer * 20 <= last.len(), "{} of {}", longer, last.len());
        }
    }
}
