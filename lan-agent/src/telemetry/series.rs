//! The numbers behind a series: one atomic, or a spread over buckets.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{CounterFn, GaugeFn, HistogramFn};

/// Upper bounds of a spread's buckets, in seconds: from 50 microseconds to the longest blocking query.
pub(super) const BOUNDS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0, 60.0, 600.0,
];

/// A counter's whole number or the bits of a gauge's.
#[derive(Default)]
pub(super) struct Number(AtomicU64);

impl Number {
    pub(super) fn whole(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn real(&self) -> f64 {
        f64::from_bits(self.whole())
    }

    fn change(&self, change: impl Fn(f64) -> f64) {
        change_bits(&self.0, change);
    }
}

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Number {
    fn increment(&self, value: f64) {
        self.change(|old| old + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|old| old - value);
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// How values spread over [`BOUNDS`], with their sum and extremes.
pub(super) struct Spread {
    /// One for each bound, and one for what is above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
    squares: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            buckets: Default::default(),
            sum: AtomicU64::new(0f64.to_bits()),
            squares: AtomicU64::new(0f64.to_bits()),
            min: AtomicU64::new(f64::INFINITY.to_bits()),
            max: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
        }
    }
}

/// A spread at one moment.
pub(super) struct Reading {
    /// Values at most as large as each bound, and all values at the end.
    pub(super) cumulative: [u64; BOUNDS.len() + 1],
    pub(super) sum: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
    pub(super) stddev: f64,
}

impl Reading {
    pub(super) fn count(&self) -> u64 {
        self.cumulative[BOUNDS.len()]
    }
}

impl Spread {
    pub(super) fn read(&self) -> Reading {
        let real = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
        let mut cumulative = [0; BOUNDS.len() + 1];
        let mut count = 0;
        for (sum, bucket) in cumulative.iter_mut().zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            *sum = count;
        }
        let (sum, squares) = (real(&self.sum), real(&self.squares));
        if count == 0 {
            return Reading { cumulative, sum, min: 0.0, max: 0.0, mean: 0.0, stddev: 0.0 };
        }
        let mean = sum / count as f64;
        let stddev = (squares / count as f64 - mean * mean).max(0.0).sqrt();
        Reading { cumulative, sum, min: real(&self.min), max: real(&self.max), mean, stddev }
    }
}

impl HistogramFn for Spread {
    fn record(&self, value: f64) {
        let at = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        change_bits(&self.sum, |old| old + value);
        change_bits(&self.squares, |old| old + value * value);
        if value < f64::from_bits(self.min.load(Ordering::Relaxed)) {
            change_bits(&self.min, |old| old.min(value));
        }
        if value > f64::from_bits(self.max.load(Ordering::Relaxed)) {
            change_bits(&self.max, |old| old.max(value));
        }
    }
}

fn change_bits(bits: &AtomicU64, change: impl Fn(f64) -> f64) {
    let update = |old| Some(change(f64::from_bits(old)).to_bits());
    // The closure always returns something, so this can't fail.
    let _old = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
}
