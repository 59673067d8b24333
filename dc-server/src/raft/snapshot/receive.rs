//! Takes a snapshot from the leader, piece by piece.
//!
//! ```text
//! leader                                 follower
//!   Piece { offset 0, no data }    ->      "go on at 3 MiB" (it had that much already)
//!   Piece { offset 3 MiB, data }   ->      "go on at 4 MiB"
//!   ...                                    all there: read, check, install
//!   Piece { last }                 ->      Done { vote }
//! ```
//!
//! A piece that does not start where the follower is, or whose checksum is wrong, is answered with
//! where to go on. One transfer is under way at a time; another snapshot starts over.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Image, Store, store::name_of};
use crate::raft::protocol::{SnapshotMeta, Vote};

const RECEIVING: &str = "receiving.part";

/// A piece of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Piece {
    /// The leader's vote.
    pub vote: Vote,
    /// What the snapshot says of itself.
    pub meta: SnapshotMeta,
    /// The length of the whole file.
    pub len: u64,
    /// Where the data starts.
    pub offset: u64,
    /// The data; empty to ask where to go on.
    pub data: Bytes,
    /// The crc32 of the data.
    pub crc: u32,
}

/// The answer to a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// Send from this offset on.
    GoOn(u64),
    /// The snapshot is installed, or the leader is none any more: the follower's vote.
    Done(Vote),
    /// Another piece is being taken; try again.
    Busy,
}

/// What a piece amounted to.
pub enum Progress {
    /// Not all there yet.
    GoOn(u64),
    /// All there and good: to be installed.
    Complete(SnapshotMeta, Image),
    /// Another piece is being taken.
    Busy,
}

/// The snapshot under way to this server.
pub struct Receiver {
    store: Store,
    slot: Mutex<Slot>,
}

enum Slot {
    Free,
    Taken,
    Part(Part),
}

struct Part {
    meta: SnapshotMeta,
    len: u64,
    offset: u64,
}

impl Receiver {
    /// Receives into a store.
    pub fn new(store: Store) -> Self {
        Self { store, slot: Mutex::new(Slot::Free) }
    }

    /// Takes a piece.
    pub async fn take(&self, piece: Piece) -> io::Result<Progress> {
        let part = match self.swap(Slot::Taken) {
            Slot::Taken => return Ok(Progress::Busy),
            Slot::Part(part) if part.meta == piece.meta && part.len == piece.len => part,
            Slot::Part(_) | Slot::Free => {
                Part { meta: piece.meta.clone(), len: piece.len, offset: 0 }
            }
        };
        let guard = Returned { receiver: self, slot: Some(Slot::Free) };
        self.advance(part, piece, guard).await
    }

    fn swap(&self, slot: Slot) -> Slot {
        let mut current = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, slot)
    }

    async fn advance(
        &self,
        mut part: Part,
        piece: Piece,
        mut guard: Returned<'_>,
    ) -> io::Result<Progress> {
        let good = crc32fast::hash(&piece.data) == piece.crc;
        if good && piece.offset == part.offset && !piece.data.is_empty() {
            let end = part.offset + piece.data.len() as u64;
            self.store.disk().append(RECEIVING, part.offset, piece.data).await?;
            part.offset = end;
        }
        if part.offset < part.len {
            let offset = part.offset;
            guard.slot = Some(Slot::Part(part));
            return Ok(Progress::GoOn(offset));
        }
        let (state, meta, len) = self.store.read(RECEIVING).await?;
        let image = Image { name: name_of(&meta), len, state: Some(state.into()) };
        self.store.adopt(RECEIVING, meta.clone(), image.clone()).await?;
        Ok(Progress::Complete(meta, image))
    }
}

/// Puts the slot back, also when the caller goes away in the middle.
struct Returned<'a> {
    receiver: &'a Receiver,
    slot: Option<Slot>,
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.receiver.swap(slot);
        }
    }
}
