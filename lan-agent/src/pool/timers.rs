//! Times to be called back at, in order; those of one moment in the order of their scheduling.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use tokio::time::Instant;

/// Things to be handed back at their times.
pub(super) struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    scheduled: u64,
}

struct Entry<T> {
    at: Instant,
    order: u64,
    what: T,
}

impl<T> Timers<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), scheduled: 0 }
    }

    pub(super) fn schedule(&mut self, at: Instant, what: T) {
        self.scheduled += 1;
        self.heap.push(Reverse(Entry { at, order: self.scheduled, what }));
    }

    /// Returns when the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next one that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn due_ones_come_by_time_then_by_order() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::new();
        for (millis, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')] {
            timers.schedule(at(millis), what);
        }
        let mut due = Vec::new();
        while let Some(what) = timers.pop(at(5)) {
            due.push(what);
        }
        assert_eq!(due, ['a', 'b', 'c', 'd']);
        assert_eq!(timers.next(), Some(at(9)));
    }
}
