//! Profiles on their way: which are still to be told to others, the freshest first.

use std::collections::VecDeque;

/// Most profiles on their way at once. In a join storm the rest is left to questions and pulls,
/// which carry the same in bulk.
const QUEUE_MAX: usize = 128;

/// Names whose profiles are to be told, each so many times more.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    queue: VecDeque<(String, usize)>,
}

impl Spread {
    /// Queues a name, ahead of those that were told already.
    pub(crate) fn add(&mut self, key: &str, copies: usize) {
        self.queue.retain(|(queued, _)| queued != key);
        self.queue.push_front((key.to_owned(), copies));
        self.queue.truncate(QUEUE_MAX);
    }

    /// Tells whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Offers names, each at most once, until one is turned down; each taken counts as a copy.
    pub(crate) fn offer(&mut self, mut take: impl FnMut(&str) -> bool) {
        let mut told = Vec::new();
        while let Some((key, copies)) = self.queue.pop_front() {
            if !take(&key) {
                self.queue.push_front((key, copies));
                break;
            }
            told.push((key, copies));
        }
        self.queue.extend(
            told.into_iter()
                .filter(|(_, copies)| *copies > 1)
                .map(|(key, copies)| (key, copies - 1)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_as_often_as_asked() {
        let mut spread = Spread::default();
        spread.add("a", 2);
        let mut told = 0;
        for _ in 0..5 {
            spread.offer(|_| {
                told += 1;
                true
            });
        }
        assert_eq!(told, 2);
        assert!(spread.is_empty());
    }

    #[test]
    fn the_freshest_is_told_first() {
        let mut spread = Spread::default();
        spread.add("old", 3);
        spread.add("new", 3);
        let mut first = None;
        spread.offer(|key| first.get_or_insert_with(|| key.to_owned()) == key && key != "old");
        assert_eq!(first.as_deref(), Some("new"));
    }
}
