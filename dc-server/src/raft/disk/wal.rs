//! The log on a real disk, by raft-log.
//!
//! raft-log keeps the entries of its newest file in memory, and an index of all entries; the
//! file size below bounds the former, snapshots the latter. Reading older entries goes to the
//! disk, which is for followers that are far behind.

use std::{io, path::Path, sync::Arc, time::Duration};

use raft_log::{Config, RaftLog, api::raft_log_writer::RaftLogWriter, chunked_wal};

use super::{
    DiskError, Done, Found, Wal, damage,
    record::{Ballot, Flushed, Payload, Position, Records, weight},
};
use crate::raft::protocol::{Entry, LogId, Vote};

/// Size of a log file. The entries of the newest are held in memory, and damage control reads a
/// file at a time: small enough for a small server, large enough that new files are rare.
const FILE_LEN_MAX: usize = 4 * 1024 * 1024;

/// Buffer to read a file with when the log is opened.
const READ_BUFFER_LEN: usize = 256 * 1024;

/// What raft-log keeps of older files.
const CACHE_ENTRIES_MAX: usize = 4096;
/// The same in bytes.
const CACHE_LEN_MAX: usize = 2 * 1024 * 1024;

/// The log in a directory.
#[derive(Debug)]
pub(super) struct FileLog {
    log: RaftLog<Records>,
}

impl FileLog {
    /// Opens the log in a directory that is there.
    pub(super) fn open(dir: &Path) -> Result<Self, DiskError> {
        damage::check(dir)?;
        let config = Config {
            wal: chunked_wal::Config {
                dir: dir.display().to_string(),
                read_buffer_size: Some(READ_BUFFER_LEN),
                chunk_max_size: Some(FILE_LEN_MAX),
                // Batches are gathered by the caller, who has at most one flush under way.
                flush_batch_wait: Some(Duration::ZERO),
                ..Default::default()
            },
            log_cache_max_items: Some(CACHE_ENTRIES_MAX),
            log_cache_capacity: Some(CACHE_LEN_MAX),
        };
        let opened = RaftLog::open(Arc::new(config));
        let log =
            opened.map_err(|source| DiskError::Io { path: dir.display().to_string(), source })?;
        Ok(Self { log })
    }
}

impl Wal for FileLog {
    fn found(&self) -> Found {
        let state = self.log.log_state();
        Found {
            vote: state.vote().map(|vote| vote.0),
            committed: state.committed().map(|position| position.0),
            purged: state.purged().map(|position| position.0),
            last: state.last().map(|position| position.0),
        }
    }

    fn read(&mut self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for read in self.log.read(from, to) {
            let (_, Payload(entry)) = read?;
            bytes += weight(&entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn append(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let entries = entries.into_iter().map(Payload).map(|entry| (entry.position(), entry));
        self.log.append(entries).map(drop)
    }

    fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(Ballot(*vote)).map(drop)
    }

    fn save_committed(&mut self, committed: &LogId) -> io::Result<()> {
        let state = self.log.log_state();
        let committed = Position(*committed);
        // A follower may hear of commits beyond its last entry; raft-log takes them for a mistake.
        if state.last() < Some(&committed) || state.committed() >= Some(&committed) {
            return Ok(());
        }
        self.log.commit(committed)?;
        self.log.flush(false, None)
    }

    fn truncate_after(&mut self, last: Option<&LogId>) -> io::Result<()> {
        self.log.truncate(last.map_or(0, |last| last.index + 1)).map(drop)
    }

    fn purge(&mut self, upto: &LogId) -> io::Result<()> {
        self.log.purge(Position(*upto)).map(drop)
    }

    fn flush(&mut self, done: Done) {
        // When the writer is gone, the error reaches `done` as the callback is dropped.
        if let Err(error) = self.log.flush(true, Some(Flushed::new(done))) {
            tracing::error!(%error, "Raft log can't be flushed");
        }
    }

    fn close(self: Box<Self>) {
        // Dropping the log waits for its writer, which may be the thread that is calling.
        drop(std::thread::Builder::new().spawn(move || drop(self)));
    }
}
