//! The full state of a pool, as it is pulled over a link: every record with its SWIM standing.
//!
//! Named MessagePack behind a version byte, because the two sides may be of different versions: a
//! line that this version can't read, such as that of a member with a role of a later one, costs
//! only itself.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    packet::Nonsense,
    record::Record,
    removal::{REMOVALS_MAX, Removal},
    roster::{Entry, MEMBERS_MAX},
    swim::{self, Standing},
};

/// The version of this layout.
const VERSION: u8 = 1;

/// What SWIM holds a member for, as a number that other versions may extend.
const ALIVE: u8 = 0;
const SUSPECT: u8 = 1;
const DOWN: u8 = 2;

/// One member in a full state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    /// What it said of itself.
    pub(crate) record: Record,
    /// What SWIM holds it for, if it was heard of there.
    #[serde(default)]
    pub(crate) life: Option<Life>,
    /// For how long it has been silent, in seconds; nothing for those who answer.
    #[serde(default)]
    pub(crate) silent_secs: Option<u64>,
}

/// What was said of a removed datacenter, among the members of a full state: versions that don't
/// know it pass over it.
#[derive(Debug, Serialize, Deserialize)]
struct RemovalLine {
    removal: Removal,
}

/// A SWIM standing on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    boot: u64,
    incarnation: u16,
    state: u8,
}

impl Life {
    fn of(standing: &Standing) -> Self {
        let state = match standing.state() {
            foca::State::Alive => ALIVE,
            foca::State::Suspect => SUSPECT,
            foca::State::Down => DOWN,
        };
        Self { boot: standing.id().boot, incarnation: standing.incarnation(), state }
    }

    /// Returns the standing of the member at `addr`; nothing for a state of a later version.
    pub(crate) fn standing(&self, addr: SocketAddr) -> Option<Standing> {
        let state = match self.state {
            ALIVE => foca::State::Alive,
            SUSPECT => foca::State::Suspect,
            DOWN => foca::State::Down,
            _ => return None,
        };
        Some(swim::standing(addr, self.boot, self.incarnation, state))
    }
}

/// A line of a full state as it is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Member(Line),
    Removal(RemovalLine),
}

/// Writes a full state.
pub(crate) fn encode<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    removals: impl Iterator<Item = &'a Removal>,
    standings: &BTreeMap<SocketAddr, Standing>,
    (reap_after, now): (Duration, Duration),
) -> Bytes {
    let lines = entries
        .map(|entry| Line {
            record: entry.record(),
            life: standings.get(&entry.member.profile.addr).map(Life::of),
            silent_secs: entry
                .reap_at
                .map(|at| reap_after.saturating_sub(at.saturating_sub(now)).as_secs()),
        })
        .map(Written::Member);
    let removals = removals.cloned().map(|removal| Written::Removal(RemovalLine { removal }));
    let lines: Vec<Written> = lines.chain(removals).collect();
    let mut bytes = vec![VERSION];
    // Writing to memory what is made of plain values can't fail.
    let _written = rmp_serde::encode::write_named(&mut bytes, &lines);
    bytes.into()
}

/// A full state as it was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// The lines that this version understands.
    pub(crate) lines: Vec<Line>,
    /// What was said of removed datacenters.
    pub(crate) removals: Vec<Removal>,
    /// How many were left out.
    pub(crate) unreadable: usize,
    /// What was wrong with the first of those.
    pub(crate) why: String,
}

impl Read {
    fn line(&mut self, bytes: &[u8]) {
        let why = match rmp_serde::from_slice::<Line>(bytes) {
            Ok(line) if line.record.is_bounded() => return self.lines.push(line),
            Ok(_) => "a text is too long".to_owned(),
            Err(error) => match rmp_serde::from_slice::<RemovalLine>(bytes) {
                Ok(line) => return self.removals.push(line.removal),
                Err(_) => error.to_string(),
            },
        };
        self.unreadable += 1;
        if self.why.is_empty() {
            self.why = why;
        }
    }
}

/// Reads a full state of at most [`MEMBERS_MAX`] lines. A line that can't be read, or whose fields
/// break their bounds, is left out.
pub(crate) fn decode(bytes: &[u8]) -> Result<Read, Nonsense> {
    let Some((&VERSION, rest)) = bytes.split_first() else { return Err(Nonsense) };
    let (count, mut rest) = split_array(rest).ok_or(Nonsense)?;
    if count > MEMBERS_MAX + REMOVALS_MAX {
        return Err(Nonsense);
    }
    let mut read = Read::default();
    for _ in 0..count {
        let (line, after) = split_value(rest)?;
        read.line(line);
        rest = after;
    }
    if rest.is_empty() { Ok(read) } else { Err(Nonsense) }
}

/// Splits off the head of an array: how many values follow.
fn split_array(bytes: &[u8]) -> Option<(usize, &[u8])> {
    const FIXED: std::ops::RangeInclusive<u8> = 0x90..=0x9f;
    const SHORT: u8 = 0xdc;
    const LONG: u8 = 0xdd;
    let (&marker, rest) = bytes.split_first()?;
    match marker {
        marker if FIXED.contains(&marker) => Some((usize::from(marker & 0x0f), rest)),
        SHORT => {
            let (count, rest) = rest.split_first_chunk()?;
            Some((usize::from(u16::from_be_bytes(*count)), rest))
        }
        LONG => {
            let (count, rest) = rest.split_first_chunk()?;
            Some((usize::try_from(u32::from_be_bytes(*count)).ok()?, rest))
        }
        _ => None,
    }
}

/// Splits off one value, whatever it is.
fn split_value(bytes: &[u8]) -> Result<(&[u8], &[u8]), Nonsense> {
    let mut rest = bytes;
    IgnoredAny::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(|_| Nonsense)?;
    Ok(bytes.split_at(bytes.len() - rest.len()))
}

/// Writes the full state of a pool whose members all answer, for tests.
#[cfg(test)]
pub(crate) fn of_alive(records: impl Iterator<Item = Record>) -> Bytes {
    let lines: Vec<Line> = records
        .map(|record| Line {
            life: Some(Life { boot: record.stamp.boot, incarnation: 0, state: ALIVE }),
            silent_secs: None,
            record,
        })
        .collect();
    [vec![VERSION], rmp_serde::to_vec_named(&lines).unwrap()].concat().into()
}
