//! Who refused to pass what on, for a while.
//!
//! What a datacenter says of its paths takes seconds to get round, and every request that found out
//! by itself would cost a round trip: one that was told that a server can't help tells all others.

use std::{collections::BTreeMap, time::Duration};

use topology::{Datacenter, NodeName};

use crate::routes::Need;

/// How long a refusal counts: longer than it takes until the loss of a datacenter is known to all, so
/// that few requests find out again; also how late a path that opened anew may be noticed.
pub(crate) const REFUSED_FOR: Duration = Duration::from_secs(5);

/// Most refusals that are kept: all servers of some dozen datacenters about as many others. With
/// more, the oldest are forgotten, which costs a round trip.
const REFUSALS_MAX: usize = 4096;

/// What a server was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    /// Where to pass a request on.
    pub(crate) wanted: Datacenter,
    /// To a server that meets this.
    pub(crate) need: Need,
    /// The server's datacenter.
    pub(crate) through: Datacenter,
    /// The server's name.
    pub(crate) server: NodeName,
}

/// The refusals of the last moments.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<Asked, Duration>);

impl Refusals {
    /// Notes that a server refused.
    pub(crate) fn note(&mut self, now: Duration, asked: Asked) {
        self.0.retain(|_, at| now < *at + REFUSED_FOR);
        if self.0.len() >= REFUSALS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at)
        {
            let oldest = oldest.0.clone();
            self.0.remove(&oldest);
        }
        self.0.insert(asked, now);
    }

    /// Tells whether a server refused a moment ago.
    pub(crate) fn holds(&self, now: Duration, asked: &Asked) -> bool {
        self.0.get(asked).is_some_and(|at| now < *at + REFUSED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(number: usize, need: Need) -> Asked {
        Asked {
            wanted: "dc2".parse().unwrap(),
            need,
            through: "dc3".parse().unwrap(),
            server: format!("c{number}").parse().unwrap(),
        }
    }

    #[test]
    fn a_refusal_counts_for_a_while_and_for_what_was_asked() {
        let mut refusals = Refusals::default();
        let second = Duration::from_secs(1);
        refusals.note(second, asked(1, Need::Leader));
        assert!(refusals.holds(REFUSED_FOR, &asked(1, Need::Leader)));
        assert!(!refusals.holds(REFUSED_FOR, &asked(1, Need::Path)));
        assert!(!refusals.holds(REFUSED_FOR, &asked(2, Need::Leader)));
        assert!(!refusals.holds(second + REFUSED_FOR, &asked(1, Need::Leader)));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut refusals = Refusals::default();
        for number in 0..=REFUSALS_MAX {
            refusals.note(Duration::from_micros(number as u64), asked(number, Need::Path));
        }
        assert_eq!(refusals.0.len(), REFUSALS_MAX);
        let now = Duration::from_secs(1);
        assert!(!refusals.holds(now, &asked(0, Need::Path)));
        assert!(refusals.holds(now, &asked(1, Need::Path)));
    }
}
