//! Mirrors: what this server knows of the catalogs of other datacenters, and of chosen keys.
//!
//! ```text
//! servers of dc2 ──WAN──▶ leader of dc1 ──LAN──▶ its followers
//!                  Feed ─▶ batch ─▶ Copy ─▶ View ─▶ `?dc=dc2&stale`, DNS
//! ```
//!
//! A mirror equals what its datacenter held at some moment, and says how long ago that was. It is asked for
//! by pulling: "I have version 7 of you; what changed?" waits at the other end until there is something to
//! tell, a second at most, so that the answer is also the heartbeat by which the mirror's age is known. A slow
//! reader has no queue anywhere: it asks later, and is told more at once.

pub mod batch;
pub mod copy;
pub mod puller;
pub mod rule;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use lan_agent::ask::{Answer, Ask, AskError, Consistency, Feed, Meta, Outcome, Question};
use tokio::time::Instant;
use topology::Datacenter;

use self::{
    batch::Batch,
    copy::Wake,
    rule::{Bounds, Held},
};
use crate::{
    blocking::{self, Waits},
    query::Answers,
    state::{State, view::View},
};

/// What servers that keep mirrors have among their tags in the WAN pool.
pub const MIRRORS_TAG: &str = "mirrors";

/// How mirrors are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The prefixes of the keys that are mirrored, none below another one (`federation.mirror_kv`).
    pub prefixes: Vec<String>,
    /// How old what they answer may be.
    pub bounds: Bounds,
}

/// The mirrors of a server; clones share them.
#[derive(Debug, Clone)]
pub struct Mirrors {
    settings: Arc<Settings>,
    start: Instant,
    known: Arc<ArcSwap<BTreeMap<Datacenter, Arc<Mirror>>>>,
}

/// The mirror of a datacenter.
#[derive(Debug)]
pub struct Mirror {
    view: View,
    answers: Answers,
    settings: Arc<Settings>,
    start: Instant,
    /// When what is shown was true, in microseconds after the start, and one more; 0: nothing is shown yet.
    as_of_us: AtomicU64,
    /// Whether the datacenter had a leader then.
    led: AtomicBool,
}

impl Mirrors {
    /// Starts without any.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), start: Instant::now(), known: Arc::default() }
    }

    /// Returns how old what they answer may be.
    pub fn bounds(&self) -> Bounds {
        self.settings.bounds
    }

    /// Returns the mirror of a datacenter, if something is known of it.
    pub fn get(&self, dc: &Datacenter) -> Option<Arc<Mirror>> {
        self.known.load().get(dc).filter(|mirror| mirror.age().is_some()).cloned()
    }

    /// Returns how old the mirrors are that show something.
    pub fn ages(&self) -> BTreeMap<Datacenter, Duration> {
        let known = self.known.load();
        known.iter().filter_map(|(dc, mirror)| Some((dc.clone(), mirror.age()?))).collect()
    }

    /// Opens an empty mirror.
    fn open(&self, dc: &Datacenter) -> Arc<Mirror> {
        let mirror = Arc::new(Mirror {
            view: View::default(),
            answers: Answers::of_mirror(dc.clone()),
            settings: self.settings.clone(),
            start: self.start,
            as_of_us: AtomicU64::new(0),
            led: AtomicBool::new(false),
        });
        self.change(|known| drop(known.insert(dc.clone(), mirror.clone())));
        mirror
    }

    /// Forgets what is known of a datacenter.
    fn close(&self, dc: &Datacenter) {
        self.change(|known| drop(known.remove(dc)));
    }

    /// Changes the table. Only the puller does, one change after the other.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Datacenter, Arc<Mirror>>)) {
        let mut known = BTreeMap::clone(&self.known.load());
        change(&mut known);
        self.known.store(Arc::new(known));
    }
}

impl Mirror {
    /// Returns how long ago what is shown was true; `None` when nothing is shown yet.
    pub fn age(&self) -> Option<Duration> {
        let as_of = self.as_of_us.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start.elapsed().saturating_sub(Duration::from_micros(as_of)))
    }

    /// Returns what is shown.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Returns what answers questions about it.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Returns what there is to answer a question with.
    pub fn held(&self, question: &Question, lost: bool) -> Option<Held> {
        let covers = rule::covers(question, &self.settings.prefixes);
        Some(Held { age: self.age()?, covers, lost })
    }

    /// Answers a stale read, or a fellow server that mirrors the same datacenter.
    pub async fn answer(&self, ask: &Ask, waits: Waits, seed: u64) -> Result<Answer, AskError> {
        if let Question::Feed(feed) = &ask.question {
            return self.tell(feed, ask).await;
        }
        let blocking = ask.blocking.map(|blocking| waits.hold(blocking));
        let (view, age) = (&self.view, || self.age().unwrap_or(Duration::MAX));
        let answer =
            blocking::answer(view, &self.answers, &ask.question, blocking, seed, age).await?;
        Ok(Answer { meta: Meta { mirrored: true, ..self.stale(answer.meta) }, ..answer })
    }

    async fn tell(&self, feed: &Feed, ask: &Ask) -> Result<Answer, AskError> {
        if feed.prefixes != self.settings.prefixes {
            let text = "federation.mirror_kv is not the same on all servers of this datacenter";
            return Err(AskError::Failed(text.to_owned()));
        }
        let age = || self.age().unwrap_or(Duration::MAX);
        let told = feed_answer(&self.view, feed, ask, age).await;
        Ok(Answer { meta: self.stale(told.meta), ..told })
    }

    /// Says of an answer what a mirror has to.
    fn stale(&self, meta: Meta) -> Meta {
        let fresh = meta.last_contact <= self.settings.bounds.fresh;
        let led = self.led.load(Ordering::Relaxed) && fresh;
        Meta { known_leader: Some(led), consistency: Consistency::Stale, ..meta }
    }

    /// Shows another state.
    fn show(&self, state: State, wake: Wake) {
        match wake {
            Wake::These(touched) => {
                self.view.publish(state);
                self.view.watches().wake(&touched);
            }
            Wake::All => {
                self.view.publish(state);
                self.view.watches().wake_all();
            }
            Wake::Replaced => self.view.replace(state),
        }
    }

    /// Notes that what is shown was true at a time after the start.
    fn confirm(&self, as_of: Duration, led: bool) {
        let micros = u64::try_from(as_of.as_micros()).unwrap_or(u64::MAX - 1) + 1;
        self.as_of_us.fetch_max(micros, Ordering::Relaxed);
        self.led.store(led, Ordering::Relaxed);
    }
}

/// Tells a mirror what changed in a view, when something did, or when it wants to be told that nothing did. `age` is
/// how old the view is.
pub async fn feed_answer(
    view: &View,
    feed: &Feed,
    ask: &Ask,
    age: impl FnOnce() -> Duration,
) -> Answer {
    let wait = ask.blocking.map_or(Duration::ZERO, |blocking| blocking.wait);
    let (batch, last_contact) = Batch::when_news(view, feed, wait, age).await;
    let meta = Meta { last_contact, ..Meta::default() };
    Answer { outcome: Outcome::Found, meta, body: batch.encode() }
}

#[cfg(test)]
mod tests;
