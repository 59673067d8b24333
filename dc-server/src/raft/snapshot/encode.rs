//! Writes a state as a snapshot, a piece at a time.

use bytes::Bytes;
use serde::Serialize;

use super::{
    END, FRAME_HEAD_LEN, FRAME_LEN_AIM, HEADER, Header, KEYS, KeyRow, MAGIC, REQUESTS, RequestRow,
    Sum, TOMBSTONES, TombstoneRow, checksum,
};
use crate::{
    raft::protocol::SnapshotMeta,
    state::{State, kv::Key},
};

/// Turns a state into the pieces of a snapshot file.
#[derive(Debug)]
pub struct Encoder {
    state: State,
    meta: SnapshotMeta,
    next: Next,
    sum: Sum,
}

#[derive(Debug)]
enum Next {
    Header,
    Keys(Option<Key>),
    Tombstones(Option<Key>),
    Requests(usize),
    End,
    Nothing,
}

impl Encoder {
    /// Starts a snapshot of a state.
    pub fn new(state: State, meta: SnapshotMeta) -> Self {
        Self { state, meta, next: Next::Header, sum: Sum::default() }
    }

    /// Returns the next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, rmp_serde::encode::Error> {
        loop {
            let piece = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Header => Some(self.header()?),
                Next::Keys(after) => self.keys(after)?,
                Next::Tombstones(after) => self.tombstones(after)?,
                Next::Requests(from) => self.requests(from)?,
                Next::End => {
                    let sum = self.sum.clone();
                    return self.frame(END, &sum).map(Some);
                }
                Next::Nothing => return Ok(None),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    fn header(&mut self) -> Result<Bytes, rmp_serde::encode::Error> {
        let header = Header {
            meta: self.meta.clone(),
            applied: self.state.applied(),
            kv_index: self.state.kv().index(),
        };
        self.next = Next::Keys(None);
        let frame = self.frame(HEADER, &header)?;
        Ok([MAGIC.as_slice(), &frame].concat().into())
    }

    fn keys(&mut self, after: Option<Key>) -> Result<Option<Bytes>, rmp_serde::encode::Error> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        let from = after.clone().unwrap_or_else(|| "".into());
        for (key, entry) in self.state.kv().since(&from) {
            if after.as_ref() == Some(key) {
                continue;
            }
            bytes += 64 + key.len() + entry.value.len();
            rows.push(KeyRow {
                key: key.clone(),
                value: entry.value.clone(),
                flags: entry.flags,
                create_index: entry.create_index,
                modify_index: entry.modify_index,
            });
            if bytes >= FRAME_LEN_AIM {
                break;
            }
        }
        self.next = match rows.last() {
            Some(row) => Next::Keys(Some(row.key.clone())),
            None => Next::Tombstones(None),
        };
        self.rows(KEYS, &rows)
    }

    fn tombstones(
        &mut self,
        after: Option<Key>,
    ) -> Result<Option<Bytes>, rmp_serde::encode::Error> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        let from = after.clone().unwrap_or_else(|| "".into());
        for (key, index) in self.state.kv().tombstones_since(&from) {
            if after.as_ref() == Some(key) {
                continue;
            }
            bytes += 32 + key.len();
            rows.push(TombstoneRow { key: key.clone(), index });
            if bytes >= FRAME_LEN_AIM {
                break;
            }
        }
        self.next = match rows.last() {
            Some(row) => Next::Tombstones(Some(row.key.clone())),
            None => Next::Requests(0),
        };
        self.rows(TOMBSTONES, &rows)
    }

    fn requests(&mut self, from: usize) -> Result<Option<Bytes>, rmp_serde::encode::Error> {
        const ROWS_MAX: usize = 2048;
        let rows: Vec<RequestRow> = self
            .state
            .requests()
            .iter_from(from)
            .take(ROWS_MAX)
            .map(|(request, applied)| RequestRow { request, applied: applied.clone() })
            .collect();
        self.next = if rows.is_empty() { Next::End } else { Next::Requests(from + rows.len()) };
        self.rows(REQUESTS, &rows)
    }

    fn rows<T: Serialize>(
        &mut self,
        kind: u8,
        rows: &[T],
    ) -> Result<Option<Bytes>, rmp_serde::encode::Error> {
        if rows.is_empty() { Ok(None) } else { self.frame(kind, &rows).map(Some) }
    }

    fn frame<T: Serialize>(
        &mut self,
        kind: u8,
        content: &T,
    ) -> Result<Bytes, rmp_serde::encode::Error> {
        let payload = rmp_serde::to_vec_named(content)?;
        let crc = checksum(kind, &payload);
        let mut frame = Vec::with_capacity(FRAME_HEAD_LEN + payload.len());
        frame.push(kind);
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(&crc.to_be_bytes());
        frame.extend_from_slice(&payload);
        self.sum.add(frame.len(), crc);
        Ok(frame.into())
    }
}
