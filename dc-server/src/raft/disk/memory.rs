//! A disk that is memory: for `-dev`, and for tests and the simulation.
//!
//! It keeps two images, what was written and what is durable. A flush takes as long as
//! [`Latency`] says and then makes durable what was written when it began. [`Memory::crash`]
//! throws away the difference, or keeps a part of it, as a power failure does. It uses no thread
//! and draws its times from a seed. Keep the value, drop the server, call `crash`, and start the
//! server again with a clone of it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use imbl::OrdMap;
use lan_agent::caller::Promise;
use openraft::entry::RaftEntry;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{Disk, DiskError, Done, Found, Wal, record::weight};
use crate::raft::protocol::{Entry, LogId, Vote};

/// How long a flush takes.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// At least.
    pub min: Duration,
    /// At most.
    pub max: Duration,
    /// Decides the times.
    pub seed: u64,
}

/// A disk in memory; clones share it.
#[derive(Debug, Clone)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    written: Image,
    durable: Image,
    /// Flushes under way, by the number of each: later ones hold all that earlier ones do.
    under_way: BTreeMap<u64, Image>,
    flushes: u64,
    latency: Option<Latency>,
    rng: SmallRng,
    full: bool,
    crashes: u64,
}

#[derive(Debug, Clone, Default)]
struct Image {
    log: OrdMap<u64, Entry>,
    found: Found,
    files: BTreeMap<String, Bytes>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Memory {
    /// Makes an empty disk; without a latency, flushes are done at once.
    pub fn new(latency: Option<Latency>) -> Self {
        let inner = Inner {
            written: Image::default(),
            durable: Image::default(),
            under_way: BTreeMap::new(),
            flushes: 0,
            latency,
            rng: SmallRng::seed_from_u64(latency.map_or(0, |latency| latency.seed)),
            full: false,
            crashes: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Loses what is not durable, but for as many of the flushes under way as the seed says.
    pub fn crash(&self) {
        let mut inner = self.lock();
        let kept = inner.under_way.len();
        let kept = inner.rng.random_range(0..=kept);
        let last = kept.checked_sub(1).and_then(|last| inner.under_way.values().nth(last).cloned());
        if let Some(image) = last {
            inner.durable = image;
        }
        inner.under_way.clear();
        inner.written = inner.durable.clone();
        inner.crashes += 1;
    }

    /// Makes all writes fail from now on as on a full disk, or work again. A log that failed is
    /// to be opened again.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Image) -> T) -> io::Result<T> {
        let mut inner = self.lock();
        if inner.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(change(&mut inner.written))
    }

    /// Makes durable what is written now, after a while; the answer is dropped at a crash.
    fn sync(&self, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        let (crashes, number, wait) = {
            let mut inner = self.lock();
            inner.flushes += 1;
            let (number, image) = (inner.flushes, inner.written.clone());
            inner.under_way.insert(number, image);
            let wait =
                inner.latency.map(|Latency { min, max, .. }| inner.rng.random_range(min..=max));
            (inner.crashes, number, wait)
        };
        let memory = self.clone();
        tokio::spawn(async move {
            if let Some(wait) = wait {
                tokio::time::sleep(wait).await;
            }
            let result = {
                let mut inner = memory.lock();
                if inner.crashes != crashes {
                    return;
                }
                if inner.full {
                    inner.under_way.remove(&number);
                    Err(io::ErrorKind::StorageFull.into())
                } else {
                    // One that began later may have ended before: then this has nothing to add.
                    let later = inner.under_way.split_off(&(number + 1));
                    let mut done = std::mem::replace(&mut inner.under_way, later);
                    if let Some(image) = done.remove(&number) {
                        inner.durable = image;
                    }
                    Ok(())
                }
            };
            done(result);
        });
    }
}

fn ready<T: Send + 'static>(result: io::Result<T>) -> Promise<io::Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Disk for Memory {
    fn open_log(&self) -> Result<Box<dyn Wal>, DiskError> {
        Ok(Box::new(self.clone()))
    }

    fn append(&self, name: &str, offset: u64, data: Bytes) -> Promise<io::Result<()>> {
        ready(self.change(|image| {
            let file = image.files.remove(name).unwrap_or_default();
            let mut content = file.get(..offset as usize).unwrap_or(&file).to_vec();
            content.extend_from_slice(&data);
            image.files.insert(name.to_owned(), content.into());
        }))
    }

    fn publish(&self, from: &str, to: &str) -> Promise<io::Result<()>> {
        let renamed = self.change(|image| {
            let file = image.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            image.files.insert(to.to_owned(), file);
            io::Result::Ok(())
        });
        if let Err(error) = renamed.and_then(|renamed| renamed) {
            return ready(Err(error));
        }
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.sync(move |result| drop(tx.send(result)));
        Box::pin(async move { rx.await.map_err(io::Error::other)? })
    }

    fn read(&self, name: &str, offset: u64, len_max: usize) -> Promise<io::Result<Bytes>> {
        let inner = self.lock();
        let file = inner.written.files.get(name).ok_or(io::ErrorKind::NotFound);
        ready(file.map_err(io::Error::from).map(|file| {
            let start = file.len().min(offset as usize);
            file.slice(start..file.len().min(start + len_max))
        }))
    }

    fn list(&self) -> Promise<io::Result<Vec<(String, u64)>>> {
        let files = self.lock().written.files.clone();
        ready(Ok(files.into_iter().map(|(name, file)| (name, file.len() as u64)).collect()))
    }

    fn remove(&self, name: &str) -> Promise<io::Result<()>> {
        ready(self.change(|image| drop(image.files.remove(name))))
    }

    fn place(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}

impl Wal for Memory {
    fn found(&self) -> Found {
        self.lock().written.found.clone()
    }

    fn read(&mut self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let inner = self.lock();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for (_, entry) in inner.written.log.range(from..to) {
            bytes += weight(entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn append(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.change(|image| {
            for entry in entries {
                image.found.last = Some(entry.log_id());
                image.log.insert(entry.log_id().index, entry);
            }
        })
    }

    fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.change(|image| image.found.vote = Some(*vote))
    }

    fn save_committed(&mut self, committed: &LogId) -> io::Result<()> {
        self.change(|image| image.found.committed = Some(*committed))
    }

    fn truncate_after(&mut self, last: Option<&LogId>) -> io::Result<()> {
        self.change(|image| {
            let (kept, _) = image.log.split(&last.map_or(0, |last| last.index + 1));
            image.log = kept;
            image.found.last = last.copied();
        })
    }

    fn purge(&mut self, upto: &LogId) -> io::Result<()> {
        self.change(|image| {
            let (_, kept) = image.log.split(&(upto.index + 1));
            let first = image.log.get(&(upto.index + 1)).cloned();
            image.log = kept;
            if let Some(first) = first {
                image.log.insert(upto.index + 1, first);
            }
            image.found.purged = Some(*upto);
            image.found.last = image.found.last.max(Some(*upto));
        })
    }

    fn flush(&mut self, done: Done) {
        self.sync(done);
    }

    fn close(self: Box<Self>) {}
}
