//! The file of the cache.
//!
//! ```text
//! "causeway cache 1\n"  then for each entry: length (u32) | CRC-32 (u32) | named map
//! ```
//!
//! Numbers are little-endian. What can't be read of a file, from the first byte that is wrong to
//! its end, is lost, and said to be; a file of another version is left unread. Answers to those who
//! showed a token are not written.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;
use crate::ask::{Answer, Consistency, Meta, Outcome};

const HEADER: &[u8] = b"causeway cache 1\n";

/// Length and checksum before each entry.
const FRAME_LEN: usize = 8;

/// An entry, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(flatten)]
    pub(super) key: Key,
    #[serde(rename = "outcome")]
    pub(super) outcome: Outcome,
    #[serde(rename = "index")]
    pub(super) index: u64,
    #[serde(rename = "body")]
    pub(super) body: Bytes,
    /// When it was the truth for certain, in milliseconds since 1970.
    #[serde(rename = "confirmed")]
    pub(super) confirmed_ms: u64,
    /// When it was wanted last.
    #[serde(rename = "read")]
    pub(super) read_ms: u64,
}

impl Saved {
    /// Returns what the file keeps of an answer.
    pub(super) fn new(key: Key, answer: &Answer, confirmed_ms: u64, read_ms: u64) -> Self {
        let Answer { outcome, meta, body } = answer.clone();
        Self { key, outcome, index: meta.index, body, confirmed_ms, read_ms }
    }

    /// Returns the answer.
    pub(super) fn answer(&self) -> Answer {
        let meta = Meta {
            index: self.index,
            known_leader: Some(true),
            last_contact: Duration::ZERO,
            consistency: Consistency::Stale,
            path: Vec::new(),
            mirrored: false,
            served: Vec::new(),
            parts: Vec::new(),
        };
        Answer { outcome: self.outcome, meta, body: self.body.clone() }
    }
}

/// Why a file, or the end of one, was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    #[error("it is no cache, or one of another version")]
    Foreign,
    #[error("it ends within an entry: {0} bytes are lost")]
    Truncated(usize),
    #[error("it is damaged: {0} bytes are lost")]
    Damaged(usize),
}

/// Writes the file's content.
pub(super) fn encode(entries: impl Iterator<Item = Saved>) -> Vec<u8> {
    let mut file = HEADER.to_vec();
    for entry in entries {
        let Ok(record) = rmp_serde::to_vec_named(&entry) else { continue };
        let Ok(len) = u32::try_from(record.len()) else { continue };
        file.extend(len.to_le_bytes());
        file.extend(crc32fast::hash(&record).to_le_bytes());
        file.extend(record);
    }
    file
}

/// Reads a file's content: all entries up to the first that is wrong, and what is wrong.
pub(super) fn decode(file: &[u8]) -> (Vec<Saved>, Option<Unread>) {
    let Some(mut rest) = file.strip_prefix(HEADER) else {
        return (Vec::new(), Some(Unread::Foreign));
    };
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let Some(record) = record(rest) else {
            return (entries, Some(Unread::Truncated(rest.len())));
        };
        match checked(record) {
            Some(entry) => entries.push(entry),
            None => return (entries, Some(Unread::Damaged(rest.len()))),
        }
        rest = &rest[FRAME_LEN + record.1.len()..];
    }
    (entries, None)
}

/// Splits the checksum and the bytes of the first entry off.
fn record(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (len, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    Some((u32::from_le_bytes(*checksum), rest.get(..len)?))
}

fn checked((checksum, record): (u32, &[u8])) -> Option<Saved> {
    if crc32fast::hash(record) != checksum {
        return None;
    }
    rmp_serde::from_slice(record).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::{Form, Lookup, Selection, Subject};

    fn saved(service: &str, body: &'static [u8]) -> Saved {
        let subject = Subject::Health { service: service.into(), passing: true };
        let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
        let dc = Some("dc2".parse().unwrap());
        Saved {
            key: Key { dc, token: String::new(), lookup },
            outcome: Outcome::Found,
            index: 7,
            body: Bytes::from_static(body),
            confirmed_ms: 1,
            read_ms: 2,
        }
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let entries = [saved("web", b"[1]"), saved("db", b""), saved("\u{fc}", b"\xff\x00")];
        let file = encode(entries.iter().cloned());
        assert_eq!(decode(&file), (entries.to_vec(), None));
        assert_eq!(entries[0].answer().body, "[1]");
    }

    #[test]
    fn a_file_that_ends_early_gives_what_is_whole() {
        let entries = [saved("web", b"[1]"), saved("db", b"[2]")];
        let one = encode(entries[..1].iter().cloned()).len();
        let file = encode(entries.iter().cloned());
        for len in HEADER.len()..file.len() {
            let (read, unread) = decode(&file[..len]);
            let whole = usize::from(len >= one);
            assert_eq!(read, entries[..whole], "{len}");
            let ends_well = len == HEADER.len() || len == one;
            assert_eq!(unread.is_none(), ends_well, "{len}");
        }
    }

    #[test]
    fn a_file_of_another_version_is_left_unread() {
        for file in [&b""[..], b"causeway cache 2\n", b"causeway cache 1", b"\xff\xff\xff\xff"] {
            assert_eq!(decode(file), (Vec::new(), Some(Unread::Foreign)));
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        #[derive(Serialize)]
        struct Later {
            #[serde(flatten)]
            saved: Saved,
            later: u64,
        }
        let record =
            rmp_serde::to_vec_named(&Later { saved: saved("web", b"x"), later: 1 }).unwrap();
        let mut file = HEADER.to_vec();
        file.extend((record.len() as u32).to_le_bytes());
        file.extend(crc32fast::hash(&record).to_le_bytes());
        file.extend(record);
        assert_eq!(decode(&file), (vec![saved("web", b"x")], None));
    }

    proptest! {
        #[test]
        fn a_byte_that_is_wrong_is_noticed(at in 0usize..1000, flip in 1u8..) {
            let entries = [saved("web", b"[1]"), saved("db", b"[2]")];
            let mut file = encode(entries.iter().cloned());
            let at = at % file.len();
            file[at] ^= flip;
            let (read, unread) = decode(&file);
            prop_assert!(unread.is_some());
            prop_assert!(read.iter().zip(&entries).all(|(read, entry)| read == entry));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let file = [HEADER, &bytes].concat();
            decode(&file);
        }
    }
}
