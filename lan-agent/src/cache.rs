//! What servers said of the catalog, for when it is asked for again and for when they don't answer.
//!
//! ```text
//! look_up ──▶ Cache ──▶ Entry ◀── refresh      one query for each that waits for its next change
//!               ▲          ◀── answers          whatever servers answered to anybody
//!               └── file                        loaded at the start, written in the background
//! ```
//!
//! An entry that was asked for with `?cached` is kept fresh until nobody has wanted it for three
//! days; every other answer is only remembered. The table is one value of a persistent map behind
//! an atomic pointer: a hit loads pointers and copies bytes. Its bytes are bounded; what was wanted
//! longest ago leaves first. [`rules`] and [`prune`] decide, as functions of values.

pub mod entry;
pub mod prune;
pub mod rules;

mod keeper;
mod refresh;
mod store;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicIsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use topology::Datacenter;

use self::{
    entry::Entry,
    prune::Gone,
    rules::{Refresh, Standing},
};
use crate::{ask::Answer, catalog::Lookup, metrics::CacheMetrics, standing::NOTICED_WITHIN};

pub use keeper::{File, run, save};
pub(crate) use refresh::run as refresh;

/// Most bytes of all entries together: 10,000 services of a dozen instances.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Part of the bytes that is made free at once when they run out, so that it is not for each.
const FREED_PART: usize = 8;

/// How long an entry stays that nobody wants, as in Consul.
pub const UNREAD_MAX: Duration = Duration::from_hours(72);

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The datacenter; `None` is the own one.
    #[serde(rename = "dc", default, skip_serializing_if = "Option::is_none")]
    pub dc: Option<Datacenter>,
    /// The token that it was asked with.
    #[serde(rename = "token", default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// What of the catalog.
    #[serde(rename = "lookup")]
    pub lookup: Lookup,
}

/// The cache. Clones are handles to the same.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

type Table = OrdMap<Key, Arc<Entry>>;

struct Shared {
    table: ArcSwap<Table>,
    writing: Mutex<()>,
    bytes: AtomicIsize,
    bytes_max: usize,
    gone: ArcSwap<Gone>,
    metrics: CacheMetrics,
}

/// What the cache holds, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Answers.
    pub entries: usize,
    /// Those of them that are kept fresh now.
    pub fresh: usize,
    /// Bytes, about.
    pub bytes: usize,
    /// How old the oldest is.
    pub age_max: Duration,
}

impl Cache {
    /// Starts empty.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            table: ArcSwap::default(),
            writing: Mutex::default(),
            bytes: AtomicIsize::new(0),
            bytes_max,
            gone: ArcSwap::default(),
            metrics: CacheMetrics::resolve(),
        }))
    }

    /// Returns the entry for what was asked.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.0.table.load().get(key).cloned()
    }

    /// Returns the entry for what was asked, made if there is none.
    pub fn enter(&self, key: &Key, now_ms: u64) -> Arc<Entry> {
        if let Some(entry) = self.get(key) {
            return entry;
        }
        let _writing = self.writing();
        if let Some(entry) = self.get(key) {
            return entry;
        }
        let entry = Arc::new(Entry::new(key.clone(), now_ms));
        self.0.table.store(Arc::new(self.0.table.load().update(key.clone(), entry.clone())));
        self.count(entry.weight() as isize);
        self.make_room(&entry);
        entry
    }

    /// Takes in what a server answered, for later.
    pub fn remember(&self, key: &Key, answer: &Answer, now_ms: u64) {
        let entry = self.enter(key, now_ms);
        entry.touch(now_ms);
        self.take(&entry, answer, now_ms);
    }

    /// Takes in what a server answered for an entry.
    pub(crate) fn take(&self, entry: &Arc<Entry>, answer: &Answer, now_ms: u64) {
        self.grow(entry, entry.remember(answer, now_ms));
    }

    /// Takes in what the refresh of an entry was told.
    pub(crate) fn replace(&self, entry: &Arc<Entry>, answer: &Answer, now_ms: u64) {
        self.grow(entry, entry.replace(answer, now_ms));
    }

    /// Returns what this agent knows to be gone.
    pub fn gone(&self) -> Arc<Gone> {
        self.0.gone.load_full()
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.0.metrics
    }

    /// Returns what is held.
    pub fn holdings(&self, now_ms: u64) -> Holdings {
        let mut holdings = Holdings { bytes: self.bytes(), ..Holdings::default() };
        for entry in self.0.table.load().values().filter(|entry| entry.held().is_some()) {
            holdings.entries += 1;
            holdings.fresh += usize::from(entry.refresh() == Refresh::Alive);
            holdings.age_max = holdings.age_max.max(standing(entry, now_ms, None).age);
        }
        holdings
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.0.bytes.load(Relaxed)).unwrap_or(0)
    }

    fn len(&self) -> usize {
        self.0.table.load().len()
    }

    fn grow(&self, entry: &Arc<Entry>, by: isize) {
        self.count(by);
        if by > 0 && self.bytes() > self.0.bytes_max {
            let _writing = self.writing();
            self.make_room(entry);
        }
    }

    /// Lets go of what was wanted longest ago, when there is too much. Whoever calls it writes.
    fn make_room(&self, but: &Arc<Entry>) {
        if self.bytes() <= self.0.bytes_max {
            return;
        }
        let enough = self.0.bytes_max - self.0.bytes_max / FREED_PART;
        let table = self.0.table.load_full();
        let mut by_age: Vec<_> = table.values().filter(|it| !Arc::ptr_eq(it, but)).collect();
        // Whoever asks for names that nobody has does not push out what others need.
        by_age.sort_by_key(|entry| (!entry.is_hollow(), entry.read_ms()));
        let mut left = Table::clone(&table);
        for entry in by_age {
            if self.bytes() <= enough {
                break;
            }
            self.drop_from(&mut left, entry);
        }
        self.0.table.store(Arc::new(left));
    }

    /// Lets go of what nobody has wanted for long.
    fn expire(&self, now_ms: u64) {
        let unread_max = UNREAD_MAX.as_millis() as u64;
        let _writing = self.writing();
        let table = self.0.table.load_full();
        let mut left = Table::clone(&table);
        let unread = |it: &&Arc<Entry>| now_ms.saturating_sub(it.read_ms()) > unread_max;
        table.values().filter(unread).for_each(|entry| self.drop_from(&mut left, entry));
        // An answer that came while its entry was dropped was counted all the same.
        let bytes = left.values().map(|entry| entry.weight() as isize).sum();
        self.0.bytes.store(bytes, Relaxed);
        self.0.table.store(Arc::new(left));
    }

    fn drop_from(&self, table: &mut Table, entry: &Arc<Entry>) {
        table.remove(&entry.key);
        entry.evicted.cancel();
        self.count(-(entry.weight() as isize));
        self.0.metrics.evicted.increment(1);
    }

    fn count(&self, bytes: isize) {
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        // The table is one value, replaced as a whole.
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what is known of an entry; `unled_ms` is since when it is known that no leader vouches for
/// what servers say, if none does.
pub(crate) fn standing(entry: &Entry, now_ms: u64, unled_ms: Option<u64>) -> Standing {
    let (refresh, told_ms) = (entry.refresh(), entry.told_ms());
    let (refresh, confirmed_ms) = match (refresh, unled_ms) {
        (Refresh::Alive, None) => (refresh, now_ms),
        // Its query still waits, at a server that hears of nothing.
        (Refresh::Alive, Some(unled_ms)) => {
            let led_ms = unled_ms.saturating_sub(NOTICED_WITHIN.as_millis() as u64);
            (Refresh::Broken, told_ms.clamp(led_ms, unled_ms))
        }
        (_, unled_ms) => (refresh, told_ms.min(unled_ms.unwrap_or(u64::MAX))),
    };
    Standing { refresh, age: Duration::from_millis(now_ms.saturating_sub(confirmed_ms)) }
}

#[cfg(test)]
mod tests;
