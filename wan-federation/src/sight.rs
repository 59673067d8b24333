//! What one server sees of the servers of other datacenters, told to its fellow servers.
//!
//! Sent over the WAN link between two servers of one datacenter when something changed and at
//! an interval, so that one whose teller fell silent is not believed for long. A named map on
//! the wire; ages travel instead of times, because clocks differ.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use topology::{Datacenter, NodeName};

use crate::verdict::{Path, Seen};

/// Most servers that are told of: beyond, a federation needs another shape anyway.
pub const SERVERS_MAX: usize = 1024;

/// Longest reason that is passed on, in bytes.
const REASON_LEN_MAX: usize = 160;

/// What one server sees of the others, by datacenter and node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight(pub BTreeMap<(Datacenter, NodeName), Seen>);

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    servers: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    dc: Datacenter,
    node: NodeName,
    /// `None` when it is too early to say.
    #[serde(default)]
    up: Option<bool>,
    #[serde(default)]
    age_ms: u64,
    #[serde(default)]
    leader_known: Option<bool>,
    #[serde(default)]
    reason: String,
}

impl Sight {
    /// Writes the sight as it travels.
    pub fn encode(&self) -> Bytes {
        let servers = self
            .0
            .iter()
            .take(SERVERS_MAX)
            .map(|((dc, node), seen)| Line {
                dc: dc.clone(),
                node: node.clone(),
                up: match seen.path {
                    Path::Up => Some(true),
                    Path::Down => Some(false),
                    Path::Unknown => None,
                },
                age_ms: u64::try_from(seen.age.as_millis()).unwrap_or(u64::MAX),
                leader_known: seen.leader_known,
                reason: seen.reason.chars().take(REASON_LEN_MAX / 4).collect(),
            })
            .collect();
        // Can't fail to be written to memory; an empty sight says nothing about anyone.
        rmp_serde::to_vec_named(&Wire { servers }).map(Bytes::from).unwrap_or_default()
    }

    /// Reads a sight; `None` when it makes no sense.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = rmp_serde::from_slice(bytes).ok()?;
        if wire.servers.len() > SERVERS_MAX {
            return None;
        }
        let seen = |line: Line| {
            let path = match line.up {
                Some(true) => Path::Up,
                Some(false) => Path::Down,
                None => Path::Unknown,
            };
            let reason = line.reason.chars().take(REASON_LEN_MAX / 4).collect();
            let age = Duration::from_millis(line.age_ms);
            ((line.dc, line.node), Seen { path, age, leader_known: line.leader_known, reason })
        };
        Some(Self(wire.servers.into_iter().map(seen).collect()))
    }

    /// Tells whether two sights differ in anything but ages.
    pub fn differs(&self, other: &Self) -> bool {
        let same = |(a, b): (&Seen, &Seen)| a.path == b.path && a.leader_known == b.leader_known;
        self.0.len() != other.0.len()
            || !self.0.keys().eq(other.0.keys())
            || !self.0.values().zip(other.0.values()).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(path: Path, age: u64) -> Sight {
        let seen = Seen {
            path,
            age: Duration::from_millis(age),
            leader_known: Some(true),
            reason: "none".into(),
        };
        let key = (Datacenter::new("dc2").unwrap(), NodeName::new("b1").unwrap());
        Sight([(key, seen)].into())
    }

    #[test]
    fn a_sight_comes_back() {
        for path in [Path::Up, Path::Down, Path::Unknown] {
            let sight = sight(path, 1500);
            assert_eq!(Sight::decode(&sight.encode()), Some(sight));
        }
    }

    #[test]
    fn ages_alone_are_no_difference() {
        assert!(!sight(Path::Up, 1).differs(&sight(Path::Up, 2)));
        assert!(sight(Path::Up, 1).differs(&sight(Path::Down, 1)));
        assert!(sight(Path::Up, 1).differs(&Sight::default()));
    }

    #[test]
    fn garbage_is_no_sight() {
        assert_eq!(Sight::decode(b"garbage"), None);
    }
}
