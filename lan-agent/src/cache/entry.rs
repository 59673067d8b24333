//! One answer that is held, and what goes on around it.
//!
//! Readers load pointers and numbers. The lock is for those who go to the servers anyway.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Key, prune::Gone, rules::Refresh};
use crate::ask::{Answer, AskError};

/// An answer that came from a server with a lower index than the one held is passed over for
/// this long: another server may be behind. After that it is the servers who were wiped.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// What an entry takes beside its body, about: its key, its place in the table, its refresh.
pub(super) const ENTRY_LEN: usize = 1024;

/// Length of an empty list or map.
const HOLLOW_LEN: usize = 2;

/// What came of asking the servers.
pub type Fetched = Result<Answer, AskError>;

/// Tells all who wait what came of one question to the servers.
type Flight = watch::Receiver<Option<Fetched>>;

/// An answer that is held. All times are in milliseconds since 1970.
pub struct Entry {
    /// What was asked.
    pub key: Key,
    held: ArcSwapOption<Answer>,
    /// When somebody said last that the answer is the truth.
    confirmed_ms: AtomicU64,
    /// When somebody wanted it last.
    read_ms: AtomicU64,
    refresh: AtomicU8,
    /// Whether there is somebody who keeps it up to date.
    refreshed: AtomicBool,
    /// Grows with every other answer.
    changes: watch::Sender<u64>,
    flight: Mutex<Option<Flight>>,
    pruned: ArcSwapOption<Pruned>,
    /// Ends its refresh.
    pub(super) evicted: CancellationToken,
    /// Whether the file holds something else.
    pub(super) unsaved: AtomicBool,
}

/// An answer without what is gone.
struct Pruned {
    of: Arc<Answer>,
    gone: Arc<Gone>,
    answer: Answer,
}

const NONE: u8 = 0;
const ALIVE: u8 = 1;
const BROKEN: u8 = 2;

impl Entry {
    pub(super) fn new(key: Key, now_ms: u64) -> Self {
        Self {
            key,
            held: ArcSwapOption::empty(),
            confirmed_ms: AtomicU64::new(0),
            read_ms: AtomicU64::new(now_ms),
            refresh: AtomicU8::new(NONE),
            refreshed: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            flight: Mutex::new(None),
            pruned: ArcSwapOption::empty(),
            evicted: CancellationToken::new(),
            unsaved: AtomicBool::new(true),
        }
    }

    /// Returns the answer, if there was one so far.
    pub fn held(&self) -> Option<Arc<Answer>> {
        self.held.load_full()
    }

    /// Returns how the answer is kept up to date.
    pub fn refresh(&self) -> Refresh {
        match self.refresh.load(Relaxed) {
            ALIVE => Refresh::Alive,
            BROKEN => Refresh::Broken,
            _ => Refresh::None,
        }
    }

    /// Returns when the answer was the truth for certain.
    pub fn confirmed_ms(&self, now_ms: u64) -> u64 {
        if self.refresh() == Refresh::Alive { now_ms } else { self.told_ms() }
    }

    /// Returns when somebody said last that the answer is the truth.
    pub(super) fn told_ms(&self) -> u64 {
        self.confirmed_ms.load(Relaxed)
    }

    /// Returns when somebody wanted it last.
    pub fn read_ms(&self) -> u64 {
        self.read_ms.load(Relaxed)
    }

    /// Notes that somebody wants it.
    pub fn touch(&self, now_ms: u64) {
        self.read_ms.store(now_ms, Relaxed);
    }

    /// Is told of every other answer.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells whether it holds nothing that somebody would miss.
    pub(super) fn is_hollow(&self) -> bool {
        self.held.load().as_ref().is_none_or(|answer| answer.body.len() <= HOLLOW_LEN)
    }

    /// Returns how many bytes it takes, about.
    pub(super) fn weight(&self) -> usize {
        ENTRY_LEN + self.held.load().as_ref().map_or(0, |answer| answer.body.len())
    }

    /// Notes that there is somebody who keeps it up to date; `false` when there was already.
    pub(crate) fn begin_refresh(&self) -> bool {
        !self.refreshed.swap(true, Relaxed)
    }

    /// Says that the answer is, and is kept, up to date.
    pub(crate) fn resume(&self) {
        self.refresh.store(ALIVE, Relaxed);
    }

    /// Says that nobody can vouch for the answer since then.
    pub(super) fn break_off(&self, since_ms: u64) {
        if self.refresh.swap(BROKEN, Relaxed) == ALIVE {
            self.confirmed_ms.fetch_max(since_ms, Relaxed);
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Takes what the refresh was told, whatever is held. Returns by how many bytes the entry grew.
    pub(super) fn replace(&self, answer: &Answer, now_ms: u64) -> isize {
        let before = self.held.load_full();
        // An old answer of a server without a leader is not fresher than it says.
        let contact_ms = u64::try_from(answer.meta.last_contact.as_millis()).unwrap_or(u64::MAX);
        self.confirmed_ms.fetch_max(now_ms.saturating_sub(contact_ms), Relaxed);
        let len = |answer: &Option<Arc<Answer>>| answer.as_ref().map_or(0, |it| it.body.len());
        if before.as_deref().is_some_and(|before| same(before, answer)) {
            return 0;
        }
        self.held.store(Some(Arc::new(answer.clone())));
        self.unsaved.store(true, Relaxed);
        self.changes.send_modify(|count| *count += 1);
        answer.body.len() as isize - len(&before) as isize
    }

    /// Takes what some server answered to somebody. Returns by how many bytes the entry grew.
    pub(super) fn remember(&self, answer: &Answer, now_ms: u64) -> isize {
        let behind = self.held.load().as_ref().is_some_and(|it| it.meta.index > answer.meta.index);
        let age_ms = now_ms.saturating_sub(self.confirmed_ms(now_ms));
        if behind && u128::from(age_ms) < BEHIND_MAX.as_millis() {
            return 0;
        }
        self.replace(answer, now_ms)
    }

    /// Puts back what the file held.
    pub(super) fn restore(&self, answer: Answer, confirmed_ms: u64) {
        self.confirmed_ms.store(confirmed_ms, Relaxed);
        self.held.store(Some(Arc::new(answer)));
        self.unsaved.store(false, Relaxed);
    }

    /// Returns the answer without what is gone; made once for both.
    pub(crate) fn without(&self, held: &Arc<Answer>, gone: &Arc<Gone>) -> Answer {
        if gone.is_empty() {
            return Answer::clone(held);
        }
        if let Some(kept) = &*self.pruned.load()
            && Arc::ptr_eq(&kept.of, held)
            && Arc::ptr_eq(&kept.gone, gone)
        {
            return kept.answer.clone();
        }
        let answer = super::prune::without(held, &self.key.lookup, gone);
        let pruned = Pruned { of: held.clone(), gone: gone.clone(), answer: answer.clone() };
        self.pruned.store(Some(Arc::new(pruned)));
        answer
    }

    /// Waits for what comes of a question to the servers that is under way, or asks it. It goes
    /// on when those who wait for it go away.
    pub(crate) async fn fetch<F>(self: &Arc<Self>, ask: impl FnOnce() -> F) -> Fetched
    where
        F: Future<Output = Fetched> + Send + 'static,
    {
        let mut flight = self.join(ask);
        let stopped = || Err(AskError::CutOff("this agent is stopping".to_owned()));
        let fetched = match flight.wait_for(Option::is_some).await {
            Ok(fetched) => fetched.clone(),
            Err(_) => None,
        };
        fetched.unwrap_or_else(stopped)
    }

    fn join<F>(self: &Arc<Self>, ask: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Fetched> + Send + 'static,
    {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was ended with its task says nothing any more.
        if let Some(under_way) = flight.as_ref().filter(|it| it.has_changed().is_ok()) {
            return under_way.clone();
        }
        let (landed, waiting) = watch::channel(None);
        *flight = Some(waiting.clone());
        drop(flight);
        let (entry, asking) = (self.clone(), ask());
        tokio::spawn(async move {
            let fetched = asking.await;
            // Who comes from here on asks anew.
            entry.flight.lock().unwrap_or_else(PoisonError::into_inner).take();
            landed.send_replace(Some(fetched));
        });
        waiting
    }
}

/// Tells whether two answers say the same of the same state.
fn same(one: &Answer, other: &Answer) -> bool {
    one.meta.index == other.meta.index && one.outcome == other.outcome && one.body == other.body
}
