//! The order in which instances are answered with: random, the heavier ones earlier.
//!
//! Each place goes to one of those that are left, with a chance in proportion to its weight, so
//! that clients which take the first answer spread as the weights say. What weighs nothing comes
//! last. Equal weights, which is usual, need one random number for each place that is looked at.

use std::collections::VecDeque;

use rand::{RngExt, rngs::SmallRng};

/// Numbers from 0 on, in random order.
pub(super) enum Order<'a> {
    /// All weigh the same: each place is drawn when it is looked at (Fisher and Yates).
    Even { left: Vec<u32>, random: &'a mut SmallRng },
    /// Drawn beforehand (Efraimidis and Spirakis, 2006: the largest keys `u^(1/w)`).
    Drawn(VecDeque<u32>),
}

impl<'a> Order<'a> {
    /// Orders as many as there are weights; `even` says that these are equal.
    pub(super) fn new(
        weights: impl ExactSizeIterator<Item = u16>,
        even: bool,
        random: &'a mut SmallRng,
    ) -> Self {
        if even {
            let count = u32::try_from(weights.len()).unwrap_or(u32::MAX);
            return Order::Even { left: (0..count).collect(), random };
        }
        // The logarithm of the key, which orders alike and is exact for large weights.
        let key = |weight: u16| {
            let chance: f64 = random.random();
            match weight {
                0 => f64::NEG_INFINITY,
                _ => chance.max(f64::MIN_POSITIVE).ln() / f64::from(weight),
            }
        };
        let mut keyed: Vec<(f64, u32)> = weights.map(key).zip(0..).collect();
        keyed.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        Order::Drawn(keyed.into_iter().map(|(_, number)| number).collect())
    }
}

impl Iterator for Order<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let number = match self {
            Order::Even { left, random } => match left.len() {
                0 => return None,
                len => left.swap_remove(random.random_range(..len)),
            },
            Order::Drawn(numbers) => numbers.pop_front()?,
        };
        usize::try_from(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const SEED: u64 = 7;
    const ROUNDS: usize = 30_000;

    /// How often each comes first.
    fn firsts(weights: &[u16], even: bool) -> Vec<usize> {
        let mut random = SmallRng::seed_from_u64(SEED);
        let mut firsts = vec![0; weights.len()];
        for _ in 0..ROUNDS {
            let order = Order::new(weights.iter().copied(), even, &mut random);
            let order: Vec<usize> = order.collect();
            let mut all = order.clone();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..weights.len()), "each comes once: {order:?}");
            firsts[order[0]] += 1;
        }
        firsts
    }

    fn assert_near(found: &[usize], shares: &[f64]) {
        for (found, share) in found.iter().zip(shares) {
            let expected = ROUNDS as f64 * share;
            assert!((*found as f64 - expected).abs() < ROUNDS as f64 * 0.015, "{found} {expected}");
        }
    }

    #[test]
    fn who_comes_first_is_decided_by_weight() {
        assert_near(&firsts(&[1, 3, 6, 0], false), &[0.1, 0.3, 0.6, 0.0]);
        assert_near(&firsts(&[1, 65535], false), &[0.0, 1.0]);
        assert_near(&firsts(&[0, 0], false)[..0], &[]);
    }

    #[test]
    fn equal_weights_make_equal_chances_however_they_are_drawn() {
        assert_near(&firsts(&[5; 4], true), &[0.25; 4]);
        assert_near(&firsts(&[5; 4], false), &[0.25; 4]);
    }

    #[test]
    fn nothing_is_ordered_to_nothing() {
        let mut random = SmallRng::seed_from_u64(SEED);
        assert_eq!(Order::new(std::iter::empty(), true, &mut random).next(), None);
        assert_eq!(Order::new(std::iter::empty(), false, &mut random).next(), None);
    }
}
