//! When tombstones have been kept for long enough: a pure clock for the leader.
//!
//! The state knows indexes, not times. The leader notes which index the table had when, and
//! after [`KEEP`] has the tombstones up to that index reaped. A new leader starts over, so that a
//! tombstone is kept for [`KEEP`] at least.

use std::{collections::VecDeque, time::Duration};

/// How long a deletion is remembered at least, as in Consul.
pub const KEEP: Duration = Duration::from_secs(15 * 60);

/// How often the index is noted, as in Consul.
pub const GRANULARITY: Duration = Duration::from_secs(30);

/// Notes of which index the table had when.
#[derive(Debug, Default)]
pub struct Reaper {
    notes: VecDeque<(Duration, u64)>,
    noted: u64,
}

impl Reaper {
    /// Takes the time and the index of the table; returns the index up to which tombstones are
    /// due. To be called about every [`GRANULARITY`]; holds `KEEP / GRANULARITY` notes then.
    pub fn tick(&mut self, now: Duration, index: u64) -> Option<u64> {
        let mut due = None;
        while let Some((noted, upto)) = self.notes.front().copied()
            && now.saturating_sub(noted) >= KEEP
        {
            due = Some(upto);
            self.notes.pop_front();
        }
        if index != self.noted {
            self.noted = index;
            self.notes.push_back((now, index));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_due_once_after_its_time() {
        let mut reaper = Reaper::default();
        assert_eq!(reaper.tick(Duration::ZERO, 7), None);
        assert_eq!(reaper.tick(GRANULARITY, 7), None);
        assert_eq!(reaper.tick(GRANULARITY * 2, 9), None);
        assert_eq!(reaper.tick(KEEP, 9), Some(7));
        assert_eq!(reaper.tick(KEEP + GRANULARITY, 9), None);
        assert_eq!(reaper.tick(KEEP + GRANULARITY * 2, 9), Some(9));
        assert_eq!(reaper.tick(KEEP * 3, 9), None);
    }
}
