//! The snapshots of this server: built, kept, found again.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::{Decoder, Encoder, FormatError, Image};
use crate::{
    raft::{
        disk::{Disk, Found},
        protocol::SnapshotMeta,
    },
    state::State,
};

/// Snapshots kept: should the newest be damaged, the one before and the log are enough.
const KEPT: usize = 2;

/// Bytes read or sent at once.
pub const PIECE_LEN: usize = 1024 * 1024;

const SUFFIX: &str = ".snap";
const BUILDING: &str = "building.part";

/// Why the snapshots of this server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error("can't read the snapshots at {place}: {source}")]
    Io {
        /// The file.
        place: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The state can't be restored.
    #[error(
        "{place} is {source}, and no older snapshot and log make up for it. Restore the file, or \
         remove the data directory and let this server join again as a new one"
    )]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The log starts after entry 0, and the snapshot with what is missing is gone.
    #[error(
        "the log at {place} was compacted up to entry {purged}, but there is no snapshot of that"
    )]
    Missing {
        /// Where snapshots are.
        place: String,
        /// The last entry that the log does not hold any more.
        purged: u64,
    },
}

/// The snapshots on a disk; clones share what is known of them.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
    newest: Arc<Mutex<Option<(SnapshotMeta, Image)>>>,
}

impl Store {
    /// Uses the snapshots on a disk.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, newest: Arc::default() }
    }

    /// Returns the disk.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Returns the newest snapshot.
    pub fn newest(&self) -> Option<(SnapshotMeta, Image)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds the newest snapshot that can be read and that the log goes on from.
    pub async fn restore(
        &self,
        found: &Found,
    ) -> Result<Option<(SnapshotMeta, Arc<State>)>, SnapshotError> {
        let names = self.names().await.map_err(|source| self.failed("", source))?;
        let mut damaged = None;
        for name in names {
            match self.load(&name).await {
                Ok((state, meta, len)) => {
                    let last = meta.last_log_id.map(|last| last.index);
                    if found.purged.is_some_and(|purged| Some(purged.index) > last) {
                        break;
                    }
                    let state = Arc::new(state);
                    self.set(meta.clone(), Image { name, len, state: None });
                    return Ok(Some((meta, state)));
                }
                Err(LoadError::Io(source)) => return Err(self.failed(&name, source)),
                Err(LoadError::Format(source)) => {
                    let place = self.disk.place(&name);
                    tracing::error!(%place, %source, "snapshot can't be read");
                    damaged.get_or_insert(SnapshotError::Damaged { place, source });
                }
            }
        }
        match (damaged, &found.purged) {
            (None, None) => Ok(None),
            // The whole log is there, but only from its first entry on is it the whole truth.
            (Some(_), None) if found.last.is_some() => Ok(None),
            (Some(damaged), _) => Err(damaged),
            (None, Some(purged)) => {
                Err(SnapshotError::Missing { place: self.disk.place(""), purged: purged.index })
            }
        }
    }

    /// Writes a snapshot of a state.
    pub async fn build(&self, state: State, meta: SnapshotMeta) -> io::Result<Image> {
        let mut encoder = Encoder::new(state, meta.clone());
        let mut len = 0;
        let mut gathered: Vec<Bytes> = Vec::new();
        while let Some(piece) = encoder.next_piece().map_err(io::Error::other)? {
            gathered.push(piece);
            if gathered.iter().map(Bytes::len).sum::<usize>() >= PIECE_LEN {
                len = self.write(len, std::mem::take(&mut gathered)).await?;
            }
        }
        len = self.write(len, gathered).await?;
        let image = Image { name: name_of(&meta), len, state: None };
        self.adopt(BUILDING, meta, image.clone()).await?;
        Ok(image)
    }

    async fn write(&self, offset: u64, pieces: Vec<Bytes>) -> io::Result<u64> {
        let data: Bytes = pieces.concat().into();
        let end = offset + data.len() as u64;
        self.disk.append(BUILDING, offset, data).await?;
        Ok(end)
    }

    /// Gives a complete file its name, holds it for the newest, and removes the oldest.
    pub async fn adopt(&self, from: &str, meta: SnapshotMeta, image: Image) -> io::Result<()> {
        self.disk.publish(from, &image.name).await?;
        self.set(meta, Image { state: None, ..image });
        for name in self.names().await?.into_iter().skip(KEPT) {
            self.disk.remove(&name).await?;
        }
        Ok(())
    }

    /// Reads a snapshot file as a whole.
    pub async fn read(&self, name: &str) -> io::Result<(State, SnapshotMeta, u64)> {
        self.load(name).await.map_err(|error| match error {
            LoadError::Io(error) => error,
            LoadError::Format(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }

    async fn load(&self, name: &str) -> Result<(State, SnapshotMeta, u64), LoadError> {
        let mut decoder = Decoder::default();
        let mut offset = 0;
        loop {
            let piece = self.disk.read(name, offset, PIECE_LEN).await.map_err(LoadError::Io)?;
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            decoder.feed(&piece).map_err(LoadError::Format)?;
        }
        let (state, meta) = decoder.finish().map_err(LoadError::Format)?;
        Ok((state, meta, offset))
    }

    /// Returns the names of the snapshots, the newest first.
    async fn names(&self) -> io::Result<Vec<String>> {
        let files = self.disk.list().await?;
        let names = files.into_iter().map(|(name, _)| name);
        let mut names: Vec<String> = names.filter(|name| name.ends_with(SUFFIX)).collect();
        names.reverse();
        Ok(names)
    }

    /// Holds a snapshot for the newest, unless a newer one is known: one that was received late.
    fn set(&self, meta: SnapshotMeta, image: Image) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|(known, _)| known.last_log_id <= meta.last_log_id) {
            *newest = Some((meta, image));
        }
    }

    fn failed(&self, name: &str, source: io::Error) -> SnapshotError {
        SnapshotError::Io { place: self.disk.place(name), source }
    }
}

enum LoadError {
    Io(io::Error),
    Format(FormatError),
}

/// Returns the name of a snapshot's file: names sort as the snapshots do.
pub(super) fn name_of(meta: &SnapshotMeta) -> String {
    let (index, term) =
        meta.last_log_id.map_or((0, 0), |last| (last.index, last.committed_leader_id().term));
    format!("{index:020}-{term:010}{SUFFIX}")
}
