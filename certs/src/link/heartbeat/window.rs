//! Which of the last pings arrived: the loss of a path as it was lately.
//!
//! Pings have numbers. A bit for each of the last [`LEN`] up to the newest that arrived says whether it did;
//! those after it may still be on their way and don't count.

/// How many pings are remembered: a minute of a watched path, 20 s of one in use.
pub(super) const LEN: u32 = u64::BITS;

/// The last pings of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Window {
    newest: u64,
    /// Bit `n`: whether the ping `newest - n` arrived.
    arrived: u64,
}

impl Window {
    /// Notes that a ping of this number (1 for the first) arrived.
    pub(super) fn hear(&mut self, number: u64) {
        if number > self.newest {
            let ahead = u32::try_from(number - self.newest).unwrap_or(LEN);
            self.arrived = self.arrived.checked_shl(ahead).unwrap_or(0);
            self.newest = number;
        }
        let back = u32::try_from(self.newest - number).unwrap_or(LEN);
        self.arrived |= 1_u64.checked_shl(back).unwrap_or(0);
    }

    /// Returns how many there were, and how many of them were lost.
    pub(super) fn counts(&self) -> (u32, u32) {
        let count = u32::try_from(self.newest).unwrap_or(LEN).min(LEN);
        (count, count - self.arrived.count_ones().min(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(numbers: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::default();
        numbers.into_iter().for_each(|number| window.hear(number));
        window
    }

    #[test]
    fn gaps_are_losses_and_what_comes_late_is_none() {
        assert_eq!(heard([]).counts(), (0, 0));
        assert_eq!(heard([1, 2, 4]).counts(), (4, 1));
        assert_eq!(heard([1, 2, 4, 3]).counts(), (4, 0));
        assert_eq!(heard([3]).counts(), (3, 2));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        assert_eq!(heard((2..=200).filter(|n| *n != 100)).counts(), (64, 0));
        assert_eq!(heard((2..=200).filter(|n| *n != 150)).counts(), (64, 1));
        assert_eq!(heard([1, 2, 500]).counts(), (64, 63));
        assert_eq!(heard([500, 1]).counts(), (64, 63));
    }

    #[test]
    fn a_number_twice_is_one() {
        assert_eq!(heard([1, 2, 2, 2, 3]).counts(), (3, 0));
    }
}
