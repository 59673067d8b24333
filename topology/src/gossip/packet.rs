//! The packets of a pool: a head, a SWIM message and stamped profiles.
//!
//! ```text
//! version 1 | pool 4 | note 1..20 | length 2 | SWIM message | (length 2 | record)*
//! ```
//!
//! The pool is a hash of its name, so that packets of another pool (a stale address, two
//! datacenters joined by mistake) are recognised as foreign. Records carry their length: a
//! record that can't be read costs only itself. Integers are big-endian; note, SWIM message and
//! records are postcard. Whatever isn't a packet is a [`Nonsense`]; nothing here panics.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::name::Datacenter;

use super::config::Scope;

/// The version of this layout.
const VERSION: u8 = 1;

/// Longest head: version, pool, note with an IPv6 address and its port, length.
pub(crate) const HEAD_LEN_MAX: usize = 1 + 4 + 22 + 2;

/// Most records read from one packet: a full one holds about a dozen.
const RECORDS_MAX: usize = 64;

/// Why bytes are not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nonsense;

/// What the sender of a packet wants to be told or tells, besides the SWIM message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// Nothing.
    Plain,
    /// "I want in, and reached for you at this address: tell me who you and the servers are."
    Hello(SocketAddr),
    /// "You are in": the answer, with the address that was reached for.
    Welcome(SocketAddr),
    /// "Who are you?"
    Who,
}

/// The name of a pool as its packets carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool(u32);

impl Pool {
    /// Hashes the name of a pool (FNV-1a): a guard against mistakes, not against enemies.
    pub(crate) fn of(scope: Scope, dc: &Datacenter) -> Self {
        let name = match scope {
            Scope::Lan => format!("lan.{dc}"),
            Scope::Wan => "wan".to_owned(),
        };
        let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        Self(name.bytes().fold(0x811c_9dc5, fold))
    }
}

/// A packet as read.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    /// The pool that it is for.
    pub(crate) pool: Pool,
    /// What its sender wants.
    pub(crate) note: Note,
    /// The SWIM message; empty when there is none.
    pub(crate) swim: &'a [u8],
    /// Encoded records.
    pub(crate) records: Vec<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Nonsense> {
        let (&version, rest) = bytes.split_first().ok_or(Nonsense)?;
        let (pool, rest) = rest.split_first_chunk::<4>().ok_or(Nonsense)?;
        if version != VERSION {
            return Err(Nonsense);
        }
        let (note, rest) = postcard::take_from_bytes(rest).map_err(|_| Nonsense)?;
        let (swim, mut rest) = split_prefixed(rest)?;
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (record, after) = split_prefixed(rest)?;
            if records.len() == RECORDS_MAX {
                return Err(Nonsense);
            }
            records.push(record);
            rest = after;
        }
        Ok(Self { pool: Pool(u32::from_be_bytes(*pool)), note, swim, records })
    }
}

/// Splits off what follows a two-byte length.
fn split_prefixed(bytes: &[u8]) -> Result<(&[u8], &[u8]), Nonsense> {
    let (len, rest) = bytes.split_first_chunk::<2>().ok_or(Nonsense)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(Nonsense)
}

/// A packet being written.
#[derive(Debug)]
pub(crate) struct Draft {
    bytes: BytesMut,
    len_max: usize,
    has_swim: bool,
    records: usize,
}

impl Draft {
    /// Begins a packet of at most `len_max` bytes.
    pub(crate) fn new(pool: Pool, note: Note, swim: &[u8], len_max: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(len_max);
        bytes.put_u8(VERSION);
        bytes.put_u32(pool.0);
        // A note has no part that can fail to encode, and room is not bounded here.
        let note = postcard::to_stdvec(&note).unwrap_or_default();
        bytes.put_slice(&note);
        put_prefixed(&mut bytes, swim);
        Self { bytes, len_max, has_swim: !swim.is_empty(), records: 0 }
    }

    /// Adds a record if there is room: in bytes, unless it would be the first and only
    /// content, which may then exceed the bound, and in number.
    pub(crate) fn push(&mut self, record: &[u8]) -> bool {
        let fits = self.bytes.len() + 2 + record.len() <= self.len_max;
        let alone = self.records == 0 && !self.has_swim;
        if !(fits || alone) || self.records == RECORDS_MAX || record.len() > usize::from(u16::MAX) {
            return false;
        }
        put_prefixed(&mut self.bytes, record);
        self.records += 1;
        true
    }

    /// Tells whether no record was added.
    pub(crate) fn is_bare(&self) -> bool {
        self.records == 0
    }

    /// Ends the packet.
    pub(crate) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Writes bytes after their length. What is longer than a length can say is cut: callers bound it.
fn put_prefixed(out: &mut BytesMut, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(len);
    out.put_slice(&bytes[..usize::from(len)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::of(Scope::Lan, &Datacenter::new("dc1").unwrap())
    }

    #[test]
    fn a_packet_reads_as_it_was_written() {
        let note = Note::Hello(SocketAddr::from(([10, 0, 0, 1], 8301)));
        let mut draft = Draft::new(pool(), note, b"swim", 100);
        assert!(draft.push(b"first"));
        assert!(draft.push(b""));
        let bytes = draft.finish();
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!((packet.pool, packet.note, packet.swim), (pool(), note, b"swim".as_slice()));
        assert_eq!(packet.records, [b"first".as_slice(), b""]);
    }

    #[test]
    fn a_record_longer_than_a_packet_goes_alone() {
        let long = [7; 200];
        let mut draft = Draft::new(pool(), Note::Plain, b"swim", 100);
        assert!(!draft.push(&long));
        let mut draft = Draft::new(pool(), Note::Plain, b"", 100);
        assert!(draft.push(&long));
        assert!(!draft.push(b"more"));
    }

    #[test]
    fn no_head_is_longer_than_its_bound() {
        let addr = SocketAddr::from(([u16::MAX; 8], u16::MAX));
        let bytes = Draft::new(pool(), Note::Welcome(addr), b"", 100).finish();
        assert!(bytes.len() <= HEAD_LEN_MAX, "{}", bytes.len());
    }
}
