//! Log entries, votes and positions as raft-log's records hold them.
//!
//! An entry's payload is its length and its named map; positions and votes are plain numbers.
//! Each record ends in raft-log's checksum.

use std::io::{self, Read, Write};

use openraft::{LogId as AnyLogId, Vote as AnyVote, entry::RaftEntry, vote::RaftLeaderId};
use raft_log::codeq::{Decode, Encode};

use crate::raft::{
    disk::Done,
    protocol::{Entry, LeaderId, LogId, Vote},
};

/// Largest payload of an entry: a transaction of 128 values of 512 KiB, and some.
pub(super) const PAYLOAD_LEN_MAX: u32 = 80 * 1024 * 1024;

/// The types that raft-log is used with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records;

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(pub(super) LogId);

/// A vote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
pub(super) struct Ballot(pub(super) Vote);

/// An entry.
#[derive(Debug, Clone)]
pub(super) struct Payload(pub(super) Entry);

/// Called when a flush is done. raft-log's worker drops those that wait when it dies of an error:
/// that is a failure too.
pub(super) struct Flushed(Option<Done>);

impl Flushed {
    /// Wraps what is to be called.
    pub(super) fn new(done: Done) -> Self {
        Self(Some(done))
    }
}

impl raft_log::Callback for Flushed {
    fn send(mut self, result: Result<(), io::Error>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        // Dropped within a call on the log, so `done` must not run here. The writer dies once;
        // without a thread to tell of it, what waits is not acknowledged, which is right too.
        if let Some(done) = self.0.take() {
            let error = io::Error::other("the log's writer stopped after an error");
            drop(std::thread::Builder::new().spawn(move || done(Err(error))));
        }
    }
}

impl raft_log::Types for Records {
    type LogId = Position;
    type LogPayload = Payload;
    type Vote = Ballot;
    type Callback = Flushed;
    type UserData = u64;

    fn log_index(position: &Position) -> u64 {
        position.0.index
    }

    fn payload_size(payload: &Payload) -> u64 {
        weight(&payload.0) as u64
    }
}

/// Returns about how many bytes an entry takes in memory.
pub(in crate::raft) fn weight(entry: &Entry) -> usize {
    const FRAME_LEN: usize = 160;
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => FRAME_LEN + command.body.len(),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => FRAME_LEN,
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn numbers<const N: usize>(mut r: impl Read) -> io::Result<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        r.read_exact(&mut bytes)?;
        *number = u64::from_be_bytes(bytes);
    }
    Ok(numbers)
}

impl Encode for Position {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        let leader = self.0.committed_leader_id();
        w.write_all(&leader.term.to_be_bytes())?;
        w.write_all(&leader.node_id.to_be_bytes())?;
        w.write_all(&self.0.index.to_be_bytes())?;
        Ok(24)
    }
}

impl Decode for Position {
    fn decode<R: Read>(r: R) -> Result<Self, io::Error> {
        let [term, node, index] = numbers(r)?;
        Ok(Self(AnyLogId::new(LeaderId::new(term, node), index)))
    }
}

impl Encode for Ballot {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        let leader = self.0.leader_id();
        w.write_all(&leader.term.to_be_bytes())?;
        w.write_all(&leader.node_id.to_be_bytes())?;
        w.write_all(&[u8::from(self.0.is_committed())])?;
        Ok(17)
    }
}

impl Decode for Ballot {
    fn decode<R: Read>(mut r: R) -> Result<Self, io::Error> {
        let [term, node] = numbers(&mut r)?;
        let mut committed = [0];
        r.read_exact(&mut committed)?;
        Ok(Self(match committed[0] {
            0 => AnyVote::new(term, node),
            1 => AnyVote::new_committed(term, node),
            other => return Err(invalid(format!("a vote can't be {other}"))),
        }))
    }
}

impl Encode for Payload {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        let body = rmp_serde::to_vec_named(&self.0).map_err(invalid)?;
        let len = u32::try_from(body.len()).ok().filter(|len| *len <= PAYLOAD_LEN_MAX);
        let len = len.ok_or_else(|| invalid("a log entry is larger than its bound"))?;
        w.write_all(&len.to_be_bytes())?;
        w.write_all(&body)?;
        Ok(4 + body.len())
    }
}

impl Decode for Payload {
    fn decode<R: Read>(mut r: R) -> Result<Self, io::Error> {
        let mut len = [0; 4];
        r.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > PAYLOAD_LEN_MAX {
            return Err(invalid(format!("a log entry can't have {len} bytes")));
        }
        let mut body = Vec::new();
        r.take(u64::from(len)).read_to_end(&mut body)?;
        if body.len() < len as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        rmp_serde::from_slice(&body).map(Self).map_err(invalid)
    }
}

impl Payload {
    /// Returns the position of the entry.
    pub(super) fn position(&self) -> Position {
        Position(self.0.log_id())
    }
}
