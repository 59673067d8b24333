//! How a node finds its coordinate: each round trip that it measures is a spring between it and the peer, which
//! pulls it nearer or pushes it away, the harder the surer the peer is and the less sure it is itself.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::{Coordinate, CoordinateError, DIMENSIONS, ERROR_MAX, HEIGHT_MIN, SECONDS_MAX, length};

/// How much a sample changes the error (c_e in the paper).
const ERROR_SHARE: f64 = 0.25;

/// How far of its way a node goes with a sample (c_c in the paper).
const FORCE_SHARE: f64 = 0.25;

/// How many samples the adjustment is made of.
const ADJUSTMENT_WINDOW: usize = 20;

/// At what distance gravity pulls with a force of a second; it grows with the square.
const GRAVITY_DISTANCE: f64 = 150.0;

/// Below this nothing is divided by.
const TINY: f64 = 1e-6;

/// A round trip to a peer, and what the peer said of itself.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Where the peer says that it is.
    pub peer: Coordinate,
    /// How long the way there and back took.
    pub rtt: Duration,
}

/// A node's own coordinate, and what it needs to move it.
#[derive(Debug, Clone)]
pub struct Vivaldi {
    own: Coordinate,
    /// By how much the last samples were longer than the map says, in a ring.
    residues: [f64; ADJUSTMENT_WINDOW],
    next_residue: usize,
}

impl Default for Vivaldi {
    fn default() -> Self {
        let (residues, next_residue) = ([0.0; ADJUSTMENT_WINDOW], 0);
        Self { own: Coordinate::ORIGIN, residues, next_residue }
    }
}

impl Vivaldi {
    /// Returns where the node is.
    pub fn own(&self) -> &Coordinate {
        &self.own
    }

    /// Moves the node by what it measured; nothing changes when that is not believed.
    pub fn learn(&mut self, sample: &Sample, rng: &mut impl Rng) -> Result<(), CoordinateError> {
        let Sample { peer, rtt } = sample;
        peer.check()?;
        let seconds = rtt.as_secs_f64();
        if seconds > SECONDS_MAX {
            return Err(CoordinateError::NoRoundTrip(*rtt));
        }
        self.pull(peer, seconds.max(TINY), rng);
        self.adjust(peer, seconds);
        self.fall(rng);
        // What others refuse is of no use to anybody.
        if self.own.check().is_err() {
            *self = Self::default();
        }
        Ok(())
    }

    fn pull(&mut self, peer: &Coordinate, seconds: f64, rng: &mut impl Rng) {
        let estimate = self.own.seconds_to(peer);
        let wrong = (estimate - seconds).abs() / seconds;
        let weight = self.own.error / (self.own.error + peer.error).max(TINY);
        let share = ERROR_SHARE * weight;
        self.own.error = (share * wrong + (1.0 - share) * self.own.error).min(ERROR_MAX);
        self.push(FORCE_SHARE * weight * (seconds - estimate), peer, rng);
    }

    /// Lets what the map can't show, over the last samples, be half of it the peers' matter.
    fn adjust(&mut self, peer: &Coordinate, seconds: f64) {
        self.residues[self.next_residue] = seconds - self.own.raw_seconds_to(peer);
        self.next_residue = (self.next_residue + 1) % ADJUSTMENT_WINDOW;
        let sum: f64 = self.residues.iter().sum();
        self.own.adjustment = sum / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    fn fall(&mut self, rng: &mut impl Rng) {
        let away = Coordinate::ORIGIN.seconds_to(&self.own) / GRAVITY_DISTANCE;
        self.push(-away * away, &Coordinate::ORIGIN, rng);
    }

    /// Pushes the node away from another one, or towards it with a negative force, in seconds.
    fn push(&mut self, force: f64, from: &Coordinate, rng: &mut impl Rng) {
        let (direction, distance) = direction(self.own.way_from(from), rng);
        for (part, along) in self.own.vec.iter_mut().zip(direction) {
            *part += along * force;
        }
        if distance > TINY {
            let heights = self.own.height + from.height;
            self.own.height = (self.own.height + heights * force / distance).max(HEIGHT_MIN);
        }
    }
}

/// Returns a way's direction and its length. Two at the same place are driven apart in any direction.
fn direction(way: [f64; DIMENSIONS], rng: &mut impl Rng) -> ([f64; DIMENSIONS], f64) {
    let distance = length(&way);
    if distance > TINY {
        return (way.map(|part| part / distance), distance);
    }
    let any: [f64; DIMENSIONS] = std::array::from_fn(|_| rng.random_range(-0.5..0.5));
    let drawn = length(&any);
    if drawn > TINY {
        return (any.map(|part| part / drawn), 0.0);
    }
    // All eight were next to nothing: one direction is as good as another.
    (std::array::from_fn(|i| if i == 0 { 1.0 } else { 0.0 }), 0.0)
}
