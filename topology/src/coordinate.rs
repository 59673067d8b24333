//! Network coordinates: where a node is on a map on which distances are round trips.
//!
//! Vivaldi (Dabek, Cox, Kaashoek, Morris 2004) with heights, and what Ledlie, Gardner and Seltzer (2007) add for
//! real networks: a median of each peer's last samples, an adjustment for what no map can show, and a little gravity
//! towards the origin, so that the map as a whole does not drift away. Constants and shapes are those of Consul
//! (Serf), so that its clients can compute with them.
//!
//! ```text
//! estimate(a, b) = |a.vec - b.vec| + a.height + b.height + a.adjustment + b.adjustment
//! ```
//!
//! A [`Vivaldi`] holds a node's own [`Coordinate`] and moves it with every measured round trip; [`exchange`] measures
//! them in a pool, [`embed`] makes a map of what is measured already. How it fails: a sample that is no
//! round trip and a coordinate that nobody can have are refused and change nothing; should the own
//! one ever become no number all the same, it begins at the origin again.

pub mod embed;
pub mod exchange;
pub mod vivaldi;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use vivaldi::{Sample, Vivaldi};

/// Dimensions of the map beside the height.
pub const DIMENSIONS: usize = 8;

/// Longest round trip that is believed, and how far from the origin anything can be, in seconds.
pub const SECONDS_MAX: f64 = 10.0;

/// The error of a node that knows nothing; no error is larger.
pub const ERROR_MAX: f64 = 1.5;

/// Least height of a node, in seconds: nobody is nearer to others than its own network interface.
pub const HEIGHT_MIN: f64 = 10e-6;

/// Where a node is, in seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinate {
    /// The place on the map.
    #[serde(alias = "vec")]
    pub vec: [f64; DIMENSIONS],
    /// How far off its estimates are, as a part of them: 0 is sure, [`ERROR_MAX`] knows nothing.
    #[serde(default, alias = "error")]
    pub error: f64,
    /// What its estimates have to be corrected by, whatever the peer.
    #[serde(default, alias = "adjustment")]
    pub adjustment: f64,
    /// What all that goes to it or comes from it takes before it is on the map: its own link.
    #[serde(default, alias = "height")]
    pub height: f64,
}

/// Why a coordinate or a sample is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoordinateError {
    /// A field is not a number, or infinite.
    #[error("invalid coordinate: every field must be a finite number")]
    NotFinite,
    /// It is farther away than anything can be.
    #[error(
        "invalid coordinate: no field may be beyond {SECONDS_MAX} seconds, and neither error nor height below 0"
    )]
    TooFar,
    /// A round trip of this length is a mistake.
    #[error("a round trip of {0:?} is not believed")]
    NoRoundTrip(Duration),
}

impl Coordinate {
    /// Where everyone begins.
    pub const ORIGIN: Self =
        Self { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN };

    /// Refuses what no honest node can say of itself.
    pub fn check(&self) -> Result<(), CoordinateError> {
        if !self.fields().iter().all(|field| field.is_finite()) {
            return Err(CoordinateError::NotFinite);
        }
        let near = self.fields().iter().all(|field| field.abs() <= SECONDS_MAX);
        if near && self.error >= 0.0 && self.height >= 0.0 {
            return Ok(());
        }
        Err(CoordinateError::TooFar)
    }

    /// Estimates the round trip to another place; never negative.
    pub fn distance(&self, other: &Self) -> Duration {
        Duration::try_from_secs_f64(self.seconds_to(other)).unwrap_or(Duration::MAX)
    }

    /// Returns how far the estimates to others may have changed since this was `before`, in seconds.
    pub fn moved_from(&self, before: &Self) -> f64 {
        length(&self.way_from(before))
            + (self.height - before.height).abs()
            + (self.adjustment - before.adjustment).abs()
    }

    /// The estimate in seconds: adjusted, unless that makes it less than nothing.
    fn seconds_to(&self, other: &Self) -> f64 {
        let raw = self.raw_seconds_to(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { raw }
    }

    /// The distance on the map and the heights.
    fn raw_seconds_to(&self, other: &Self) -> f64 {
        length(&self.way_from(other)) + self.height + other.height
    }

    fn way_from(&self, other: &Self) -> [f64; DIMENSIONS] {
        std::array::from_fn(|i| self.vec[i] - other.vec[i])
    }

    fn fields(&self) -> [f64; DIMENSIONS + 3] {
        let rest = [self.error, self.adjustment, self.height];
        std::array::from_fn(|i| self.vec.get(i).copied().unwrap_or_else(|| rest[i - DIMENSIONS]))
    }
}

/// Two are equal when they are the same bit by bit, as servers that agree have them.
impl PartialEq for Coordinate {
    fn eq(&self, other: &Self) -> bool {
        self.fields().map(f64::to_bits) == other.fields().map(f64::to_bits)
    }
}

impl Eq for Coordinate {}

fn length(way: &[f64; DIMENSIONS]) -> f64 {
    way.iter().map(|part| part * part).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
