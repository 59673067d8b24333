//! What one server sees of the servers of other datacenters, told to its fellow servers.
//!
//! ```text
//!   a1 watches b1, b2 --+                      +--> a2 knows of b1, b2, b3
//!   a2 watches b2, b3 --+--> the LAN's links --+--> a1, a3 the same
//!   a3 watches b1, b3 --+                      +
//! ```
//!
//! Told over the servers' links of the own datacenter, which are there anyhow and work when the WAN doesn't:
//! what matters at once when it changes, everything from time to time ([`teller`]). Whether a fellow
//! still sees anything is known from its link. A named map on the wire; ages travel instead of times, because
//! clocks differ.

pub(crate) mod teller;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use certs::link::Kind;
use serde::{Deserialize, Serialize};
use topology::{Datacenter, NodeName};

use crate::{
    share::Key,
    verdict::{Path, Seen},
    word::Word,
};

/// What a server sees, told to a fellow server over the link of their datacenter; answered with
/// nothing.
pub const SIGHT: Kind = Kind(32);

/// Most servers that are told of: beyond, a federation needs another shape anyway.
pub const SERVERS_MAX: usize = 2048;

/// Longest reason that is passed on, in characters.
const REASON_LEN_MAX: usize = 40;

/// What one server sees of the others, by datacenter and node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Whether these are all that are seen; else those that changed.
    pub whole: bool,
    /// What is seen of each.
    pub servers: BTreeMap<Key, Seen>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    whole: bool,
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
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(default, skip_serializing_if = "is_false")]
    knocks: bool,
    #[serde(default)]
    rtt_us: Option<u64>,
    #[serde(default)]
    beats: u32,
    #[serde(default)]
    beats_lost: u32,
    #[serde(default)]
    word: Option<Word>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Sight {
    /// Writes the sight as it travels.
    pub fn encode(&self) -> Bytes {
        let line = |((dc, node), seen): (&Key, &Seen)| Line {
            dc: dc.clone(),
            node: node.clone(),
            up: match seen.path {
                Path::Up => Some(true),
                Path::Down => Some(false),
                Path::Unknown => None,
            },
            age_ms: u64::try_from(seen.age.as_millis()).unwrap_or(u64::MAX),
            reason: seen.reason.chars().take(REASON_LEN_MAX).collect(),
            knocks: seen.knocks,
            rtt_us: seen.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            beats: seen.beats,
            beats_lost: seen.beats_lost,
            word: seen.word,
        };
        let servers = self.servers.iter().take(SERVERS_MAX).map(line).collect();
        // Can't fail to be written to memory; an empty sight says nothing about anyone.
        let wire = Wire { whole: self.whole, servers };
        rmp_serde::to_vec_named(&wire).map(Bytes::from).unwrap_or_default()
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
            let seen = Seen {
                path,
                age: Duration::from_millis(line.age_ms),
                reason: line.reason.chars().take(REASON_LEN_MAX).collect(),
                knocks: line.knocks,
                rtt: line.rtt_us.map(Duration::from_micros),
                beats: line.beats,
                beats_lost: line.beats_lost.min(line.beats),
                word: line.word,
            };
            ((line.dc, line.node), seen)
        };
        let servers = wire.servers.into_iter().map(seen).collect();
        Some(Self { whole: wire.whole, servers })
    }
}

/// Tells whether what is seen of a server changed in something that others act on.
fn matters(before: &Seen, now: &Seen) -> bool {
    let led = |seen: &Seen| seen.word.map(|word| (word.leader_known, word.is_leader));
    before.path != now.path || before.knocks != now.knocks || led(before) != led(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen() -> impl Strategy<Value = Seen> {
        let path = prop_oneof![Just(Path::Up), Just(Path::Down), Just(Path::Unknown)];
        let word = (any::<bool>(), any::<u64>()).prop_map(|(leader_known, term)| Word {
            leader_known,
            term,
            ..Word::default()
        });
        let numbers = (any::<u32>(), any::<Option<u32>>(), 0..64_u32, 0..64_u32);
        (path, numbers, "[a-z ]{0,40}", any::<bool>(), proptest::option::of(word)).prop_map(
            |(path, (age, rtt, beats, lost), reason, knocks, word)| Seen {
                path,
                age: Duration::from_millis(age.into()),
                reason,
                knocks,
                rtt: rtt.map(|rtt| Duration::from_micros(rtt.into())),
                beats,
                beats_lost: lost.min(beats),
                word,
            },
        )
    }

    proptest! {
        #[test]
        fn any_sight_comes_back(
            servers in proptest::collection::btree_map(("[a-z]{1,3}", "[a-z]{1,3}"), seen(), 0..6),
            whole: bool,
        ) {
            let key = |(dc, node): (String, String)| (dc.parse().unwrap(), node.parse().unwrap());
            let servers = servers.into_iter().map(|(names, seen)| (key(names), seen)).collect();
            let sight = Sight { whole, servers };
            prop_assert_eq!(Sight::decode(&sight.encode()), Some(sight));
        }

        #[test]
        fn garbage_is_no_sight_and_never_panics(bytes: Vec<u8>) {
            let _ = Sight::decode(&bytes);
        }
    }

    #[test]
    fn what_is_unknown_or_missing_is_passed_over() {
        let newer = b"\x81\xa7servers\x91\x83\xa2dc\xa1x\xa4node\xa1y\xa4mood\xa4fine";
        let sight = Sight::decode(newer).unwrap();
        assert!(!sight.whole);
        let expect = [(("x".parse().unwrap(), "y".parse().unwrap()), Seen::NOTHING)];
        assert_eq!(sight.servers, expect.into());
    }

    #[test]
    fn ages_and_numbers_alone_do_not_matter() {
        let led = Word { leader_known: true, ..Word::default() };
        let one = Seen { path: Path::Up, word: Some(led), ..Seen::NOTHING };
        let older = Seen { age: Duration::from_secs(9), beats: 3, ..one.clone() };
        assert!(!matters(&one, &older));
        assert!(matters(&one, &Seen { path: Path::Down, ..one.clone() }));
        assert!(matters(&one, &Seen { knocks: true, ..one.clone() }));
        assert!(matters(&one, &Seen { word: Some(Word::default()), ..one.clone() }));
        let applied = Word { applied: 9, ..led };
        assert!(!matters(&one, &Seen { word: Some(applied), ..one.clone() }));
    }
}
