//! The log as openraft uses it: one flush at a time makes durable all that was written
//! meanwhile.
//!
//! ```text
//! append ... append ... vote      while a flush is under way: written, waiting
//!      \______|__________/
//!          one flush  -> done -> all of them are told, the next flush starts
//! ```
//!
//! An entry counts only when its flush is done, a vote is answered only then. After the first
//! error nothing is acknowledged any more: openraft stops, and the sentence that says why is kept in
//! [`Health`] for those who ask to write. What is in memory can still be read.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures::{Stream, stream};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{
    disk::{Disk, DiskError, Done, Found, Wal},
    protocol::{Entry, LogId, TypeConfig, Vote},
};

/// Most bytes of entries read from the log at once, to send or to apply them.
pub(super) const READ_LEN_MAX: usize = 4 * 1024 * 1024;

/// Why this server can't write its log any more, once that is so.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    pub(super) broken: Arc<OnceLock<String>>,
}

impl Health {
    /// Returns the sentence that says what is broken.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Notes what is broken; the first sentence stays.
    pub(super) fn fail(&self, what: &str, error: &io::Error) {
        let sentence = format!(
            "{what}: {error}. This server acknowledges no write until it is restarted with a disk that works"
        );
        if self.broken.set(sentence).is_ok() {
            tracing::error!(%error, what, "Raft storage failed");
        }
    }
}

/// The log; clones share it.
#[derive(Clone)]
pub(super) struct Log {
    /// The number of the server that the log belongs to.
    id: u64,
    inner: Arc<Mutex<Inner>>,
    health: Health,
}

struct Inner {
    wal: Box<dyn Wal>,
    waiting: Vec<Done>,
    flushing: bool,
}

impl Log {
    /// Opens the log that server `id` has on a disk.
    pub(super) fn open(id: u64, disk: &dyn Disk, health: Health) -> Result<Self, DiskError> {
        let inner = Inner { wal: disk.open_log()?, waiting: Vec::new(), flushing: false };
        Ok(Self { id, inner: Arc::new(Mutex::new(inner)), health })
    }

    /// Returns what the log holds.
    pub(super) fn found(&self) -> Found {
        self.lock().wal.found()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, write: impl FnOnce(&mut dyn Wal) -> io::Result<T>) -> io::Result<T> {
        let written = write(&mut *self.lock().wal);
        if let Err(error) = &written {
            self.health.fail("the Raft log can't be written", error);
        }
        written
    }

    /// Calls `done` when all that is written now is durable.
    fn flush(&self, done: Done) {
        let mut inner = self.lock();
        inner.waiting.push(done);
        if !inner.flushing {
            self.start_flush(&mut inner);
        }
    }

    fn start_flush(&self, inner: &mut Inner) {
        inner.flushing = true;
        let told = std::mem::take(&mut inner.waiting);
        let (id, log, health) = (self.id, Arc::downgrade(&self.inner), self.health.clone());
        inner.wal.flush(Box::new(move |result| {
            if let Err(error) = &result {
                health.fail("the Raft log can't be made durable", error);
            }
            for done in told {
                done(match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                });
            }
            if let Some(inner) = log.upgrade() {
                Log { id, inner, health }.flushed();
            }
        }));
    }

    /// Starts the next flush if something waits for it.
    fn flushed(self) {
        {
            let mut inner = self.lock();
            if inner.waiting.is_empty() {
                inner.flushing = false;
            } else {
                self.start_flush(&mut inner);
            }
        }
        // The server may have stopped meanwhile: then this was the last to hold the log.
        if let Some(inner) = Arc::into_inner(self.inner) {
            inner.into_inner().unwrap_or_else(PoisonError::into_inner).wal.close();
        }
    }

    async fn flush_now(&self) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.flush(Box::new(move |result| drop(tx.send(result))));
        rx.await.map_err(io::Error::other)?
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        self.lock().wal.read(from, to, bytes_max)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_LEN_MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let pieces = stream::unfold((self.clone(), from), move |(log, from)| async move {
            if from >= to {
                return None;
            }
            let piece = log.read(from, to, READ_LEN_MAX);
            let (items, next) = match piece {
                Ok(entries) if entries.is_empty() => return None,
                Ok(entries) => {
                    let next = from + entries.len() as u64;
                    (entries.into_iter().map(Ok).collect::<Vec<_>>(), next)
                }
                Err(error) => (vec![Err(error)], to),
            };
            Some((stream::iter(items), (log, next)))
        });
        Box::pin(futures::StreamExt::flatten(pieces))
    }

    /// Returns the last vote, but never as the leader that this server was: openraft would let it go
    /// on leading, with the commit index that it happened to have saved, and answer reads without
    /// what it acknowledged last. It has to be elected again, which settles that.
    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let mine = |vote: &Vote| vote.leader_id.node_id == self.id;
        let vote = self.found().vote;
        Ok(vote.map(|vote| Vote { committed: vote.committed && !mine(&vote), ..vote }))
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let found = self.found();
        Ok(LogState { last_purged_log_id: found.purged, last_log_id: found.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write(|wal| wal.save_vote(vote))?;
        self.flush_now().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        committed.map_or(Ok(()), |committed| self.write(|wal| wal.save_committed(&committed)))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.found().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().collect();
        self.write(|wal| wal.append(entries))?;
        self.flush(Box::new(|result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.write(|wal| wal.truncate_after(last.as_ref()))
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.write(|wal| wal.purge(&upto))?;
        self.flush(Box::new(|_| ()));
        Ok(())
    }
}
