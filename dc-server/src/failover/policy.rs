//! What an operator wants done when a service has too few healthy instances.

use std::{fmt, time::Duration};

use lan_agent::duration;
use serde::{Serialize, Serializer};
use topology::Datacenter;

pub use crate::config_entry::MinHealthy;

/// How long a service must have been well again before lookups go back to it, unless an operator wants it
/// otherwise: longer than a restart, or a check that comes and goes.
pub const HOLD_DOWN: Duration = Duration::from_secs(30);

/// When lookups of a service go elsewhere, where to, and when they come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// With how many healthy instances of its own a service needs nobody else.
    pub min_healthy: MinHealthy,
    /// Where to go.
    pub to: Preference,
    /// Whether other datacenters only add what is missing, rather than answering alone.
    pub spill: bool,
    /// For how long a better place must have been well before lookups move to it.
    #[serde(serialize_with = "go")]
    pub hold_down: Duration,
}

/// Which datacenters may answer for the own one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// So many, the nearest first.
    Nearest(usize),
    /// These, in this order.
    These(Vec<Datacenter>),
}

/// The instances of a service in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Those whose checks, and whose node's checks, all pass.
    pub healthy: usize,
    /// All of them.
    pub total: usize,
}

fn go<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration::format(*value))
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_healthy: MinHealthy::default(),
            to: Preference::Nearest(usize::MAX),
            spill: false,
            hold_down: HOLD_DOWN,
        }
    }
}

impl MinHealthy {
    /// Returns how many healthy instances are missing; 0 when there are enough. There is never enough of nothing.
    pub fn missing(self, count: Count) -> usize {
        let wanted = match self {
            MinHealthy::Instances(wanted) => wanted as usize,
            MinHealthy::Percent(percent) => {
                (count.total * usize::from(percent)).div_ceil(100).max(1)
            }
        };
        wanted.saturating_sub(count.healthy)
    }
}

impl fmt::Display for MinHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MinHealthy::Instances(wanted) => write!(f, "{wanted}"),
            MinHealthy::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for MinHealthy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_it_takes_to_be_enough() {
        let missing = |min: MinHealthy, healthy, total| min.missing(Count { healthy, total });
        let (two, half) = (MinHealthy::Instances(2), MinHealthy::Percent(50));
        assert_eq!((missing(two, 0, 9), missing(two, 2, 9)), (2, 0));
        assert_eq!((missing(half, 1, 3), missing(half, 2, 3), missing(half, 0, 0)), (1, 0, 1));
        assert_eq!((two.to_string(), half.to_string()), ("2".to_owned(), "50%".to_owned()));
    }
}
