//! Places for runs: so many at once, the others wait in the order in which they were due.

use std::collections::VecDeque;

use crate::catalog::Text;

/// Places for runs of one kind.
#[derive(Debug)]
pub(super) struct Lane {
    waiting: VecDeque<Text>,
    running: usize,
    places: usize,
}

impl Lane {
    pub(super) fn new(places: usize) -> Self {
        Self { waiting: VecDeque::new(), running: 0, places }
    }

    /// Adds a check that is due and does not wait yet.
    pub(super) fn wait(&mut self, check: Text) {
        self.waiting.push_back(check);
    }

    /// Takes a check out that waits no longer.
    pub(super) fn forget(&mut self, check: &Text) {
        self.waiting.retain(|waiting| waiting != check);
    }

    /// Gives a place to the one that has waited longest, if there is one of each.
    pub(super) fn enter(&mut self) -> Option<Text> {
        if self.running >= self.places {
            return None;
        }
        let check = self.waiting.pop_front()?;
        self.running += 1;
        Some(check)
    }

    /// Takes a place back.
    pub(super) fn leave(&mut self) {
        assert!(self.running > 0, "only runs that entered leave");
        self.running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_in_turn_and_only_as_many_as_there_are() {
        let mut lane = Lane::new(2);
        for check in ["a", "b", "c", "d"] {
            lane.wait(check.into());
        }
        lane.forget(&"b".into());
        assert_eq!(lane.enter().as_deref(), Some("a"));
        assert_eq!(lane.enter().as_deref(), Some("c"));
        assert_eq!(lane.enter(), None);
        lane.leave();
        assert_eq!(lane.enter().as_deref(), Some("d"));
        lane.leave();
        assert_eq!(lane.enter(), None);
    }
}
