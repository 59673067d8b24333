//! What Raft asks of a disk: a log, and files that appear whole or not at all.
//!
//! [`Files`] is a directory. [`Memory`] is nothing but memory, for `-dev` and for the
//! simulation: it can take its time, fail, and forget at a crash what was not synced. All disk
//! work of Raft goes through these traits, so nothing on a path that the simulation runs touches a
//! thread or a real file.
//!
//! ```text
//! <data_dir>/raft/log/r-....wal              the log (raft-log)
//! <data_dir>/raft/snapshots/*.snap           snapshots, the newest two
//! <data_dir>/raft/snapshots/*.part           a snapshot being written or received
//! ```

mod damage;
mod files;
mod memory;
mod record;
mod wal;

use std::io;

use bytes::Bytes;
use lan_agent::caller::Promise;

use super::protocol::{Entry, LogId, Vote};

pub use damage::Damage;
pub use files::Files;
pub use memory::{Latency, Memory};
pub(super) use record::weight;

/// Called once when what was written before is durable, or can't be made so.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Why a disk can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("can't use {path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What is on the disk is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// A disk. Names of files are plain, without directories.
pub trait Disk: Send + Sync + 'static {
    /// Opens the log as it was left, cutting off what was being written when the power failed.
    fn open_log(&self) -> Result<Box<dyn Wal>, DiskError>;

    /// Writes a piece of a file at an offset; offset 0 starts the file over. Not durable yet.
    fn append(&self, name: &str, offset: u64, data: Bytes) -> Promise<io::Result<()>>;

    /// Makes a file durable and gives it its final name, replacing what had it.
    fn publish(&self, from: &str, to: &str) -> Promise<io::Result<()>>;

    /// Reads at most `len_max` bytes from an offset; empty at the end.
    fn read(&self, name: &str, offset: u64, len_max: usize) -> Promise<io::Result<Bytes>>;

    /// Lists the files with their lengths, sorted by name.
    fn list(&self) -> Promise<io::Result<Vec<(String, u64)>>>;

    /// Removes a file; one that is not there is fine.
    fn remove(&self, name: &str) -> Promise<io::Result<()>>;

    /// Says where a file is, for messages.
    fn place(&self, name: &str) -> String;
}

/// What an opened log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry known to be committed; may be behind.
    pub committed: Option<LogId>,
    /// The last entry that was purged.
    pub purged: Option<LogId>,
    /// The last entry, or the last purged one when there is none.
    pub last: Option<LogId>,
}

/// A log on a disk. Writes are ordered; what was written can be read at once and is durable when
/// the flush after it is done. After an error the log is only good for reading.
pub trait Wal: Send + 'static {
    /// Returns what the log holds.
    fn found(&self) -> Found;

    /// Reads the entries with indexes from `from` to below `to` that are there, stopping after
    /// about `bytes_max` bytes; one entry at least.
    fn read(&mut self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>>;

    /// Adds entries at the end.
    fn append(&mut self, entries: Vec<Entry>) -> io::Result<()>;

    /// Notes a vote.
    fn save_vote(&mut self, vote: &Vote) -> io::Result<()>;

    /// Notes which entry is committed; it does no harm if this is lost.
    fn save_committed(&mut self, committed: &LogId) -> io::Result<()>;

    /// Removes the entries after one.
    fn truncate_after(&mut self, last: Option<&LogId>) -> io::Result<()>;

    /// Removes the entries up to and including one, which may be beyond the last.
    fn purge(&mut self, upto: &LogId) -> io::Result<()>;

    /// Makes everything written so far durable and then calls `done`, from another task or
    /// thread and never before this returns.
    fn flush(&mut self, done: Done);

    /// Closes the log, which may be asked for from within `done`.
    fn close(self: Box<Self>);
}
