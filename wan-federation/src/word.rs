//! What a server says of itself in every heartbeat: whether it knows a leader, whether it is
//! the leader, how far it got, how busy it is.
//!
//! On the wire it is a named map, so that servers of different versions understand each other:
//! unknown fields are ignored, missing ones have their default. A word that can't be read is
//! the same as no word: its server is reachable, and nothing more is known of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest word on the wire: what the link has room for in a heartbeat.
pub const WORD_LEN_MAX: usize = 512;

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Word {
    /// Whether it knows who leads its datacenter.
    #[serde(default)]
    pub leader_known: bool,
    /// Whether it leads its datacenter itself.
    #[serde(default)]
    pub is_leader: bool,
    /// The Raft term it is in.
    #[serde(default)]
    pub term: u64,
    /// The last index of the Raft log that it applied.
    #[serde(default)]
    pub applied: u64,
    /// How many requests it has under way.
    #[serde(default)]
    pub load: u32,
    /// Tells the row of the matrix that it has from others ([`crate::matrix`]); 0: none. The
    /// federation itself writes it.
    #[serde(default)]
    pub row: u32,
}

impl Word {
    /// Writes the word as it travels; never longer than [`WORD_LEN_MAX`].
    pub fn encode(&self) -> Bytes {
        // Six named numbers are below 100 bytes and can't fail to be written to memory; were
        // they to, an empty word says "nothing known", which is true.
        rmp_serde::to_vec_named(self).map(Bytes::from).unwrap_or_default()
    }

    /// Reads a word; `None` when there is none or it makes no sense.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > WORD_LEN_MAX {
            return None;
        }
        rmp_serde::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[test]
    fn golden_bytes_stay() {
        let word =
            Word { leader_known: true, is_leader: false, term: 7, applied: 300, load: 2, row: 9 };
        let mut expect = vec![0x86];
        for (name, value) in [
            ("leader_known", &[0xc3][..]),
            ("is_leader", &[0xc2]),
            ("term", &[7]),
            ("applied", &[0xcd, 0x01, 0x2c]),
            ("load", &[2]),
            ("row", &[9]),
        ] {
            expect.push(0xa0 | name.len() as u8);
            expect.extend_from_slice(name.as_bytes());
            expect.extend_from_slice(value);
        }
        assert_eq!(word.encode(), expect);
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_default() {
        #[derive(Serialize)]
        struct Newer {
            term: u64,
            mood: &'static str,
        }
        let bytes = rmp_serde::to_vec_named(&Newer { term: 9, mood: "fine" }).unwrap();
        assert_eq!(Word::decode(&bytes), Some(Word { term: 9, ..Word::default() }));
    }

    proptest! {
        #[test]
        fn any_word_comes_back_and_fits(
            leader_known: bool, is_leader: bool, term: u64, applied: u64, load: u32, row: u32
        ) {
            let word = Word { leader_known, is_leader, term, applied, load, row };
            let bytes = word.encode();
            prop_assert!(bytes.len() <= WORD_LEN_MAX);
            prop_assert_eq!(Word::decode(&bytes), Some(word));
        }

        #[test]
        fn garbage_is_no_word_and_never_panics(bytes: Vec<u8>) {
            let _ = Word::decode(&bytes);
        }
    }
}
