//! A copy of another datacenter's state, and how it is brought up to date: what to ask for next, and what to
//! make of the answer. Pure: asking and serving what is whole is done elsewhere.
//!
//! ```text
//! whole ──▶ asks for what changed ──▶ one batch ────────────────────▶ whole
//!                                └──▶ the first of many ──▶ in work ──┘ with the last
//! ```
//!
//! Only what is whole is shown: it equals what its source had at the versions that it claims. A batch
//! that doesn't fit is no harm: what is whole stays, and everything is asked for anew.

use std::time::Duration;

use lan_agent::ask::{Feed, feed::Page};

use super::batch::Batch;
use crate::state::{
    State, Touched,
    catalog::Catalog,
    clock::Clock,
    kv::{self, Table},
};

/// A copy.
#[derive(Debug)]
pub struct Copy {
    prefixes: Vec<String>,
    whole: Stage,
    work: Option<Work>,
    /// Whether what is whole can't be built upon: batches did not fit.
    distrusted: bool,
}

/// The state as it was at some versions.
#[derive(Debug, Clone, Default)]
struct Stage {
    born_ms: u64,
    catalog: Catalog,
    kv: Table,
    progress: kv::Progress,
}

/// A state that is being put together.
#[derive(Debug)]
struct Work {
    stage: Stage,
    /// What the pages build upon.
    base: Catalog,
    /// The next page; `None` when those of the catalog have all come.
    page: Option<Page>,
    /// The index up to which the keys have to be, as some are there without what came before.
    kv_aim: u64,
    /// When what comes out was true: at the first batch.
    as_of: Duration,
    wake: Wake,
}

/// Who has to hear of a new state.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Wake {
    /// Who waits for these.
    These(Touched),
    /// Everyone: nobody knows what changed.
    #[default]
    All,
    /// Everyone, and indexes of before mean nothing: it is another datacenter of the same name.
    Replaced,
}

/// What a batch did.
#[derive(Debug)]
pub enum Taken {
    /// Nothing had changed at that time.
    Unchanged {
        /// The time.
        as_of: Duration,
    },
    /// The next one is to be asked for at once.
    More,
    /// There is a new state.
    Whole {
        /// The state.
        state: Box<State>,
        /// When it was true.
        as_of: Duration,
        /// Who has to hear of it.
        wake: Wake,
    },
    /// Who answered knows less than the copy has.
    Behind,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is not the difference from what the copy has.
    #[error("it is not what was asked for")]
    Other,
    /// Its rows do not go together.
    #[error(transparent)]
    Orphan(#[from] crate::state::catalog::Orphan),
    /// The result is not the version that it was to be.
    #[error("it leads to version {found} of the catalog, not to {wanted}")]
    Version {
        /// What it leads to.
        found: u64,
        /// What it says.
        wanted: u64,
    },
}

impl Copy {
    /// Starts with nothing. Of the keys those below the prefixes are copied.
    pub fn new(prefixes: Vec<String>) -> Self {
        Self { prefixes, whole: Stage::default(), work: None, distrusted: false }
    }

    /// Returns what to ask for.
    pub fn next(&self) -> Feed {
        let prefixes = self.prefixes.clone();
        let (stage, since, page) = match &self.work {
            None if self.distrusted => return Feed { prefixes, ..Feed::default() },
            None => (&self.whole, self.whole.catalog.version(), None),
            Some(work) => (&work.stage, work.base.version(), work.page.clone()),
        };
        Feed {
            born_ms: stage.born_ms,
            catalog: since,
            page,
            prefixes,
            kv_index: stage.progress.index,
            kv_reaped: stage.progress.reaped,
        }
    }

    /// Tells whether the next answer may wait for news: everything of before was taken in.
    pub fn is_whole(&self) -> bool {
        self.work.is_none() && !self.distrusted && self.whole.born_ms != 0
    }

    /// Takes in what was answered to [`Copy::next`]; `as_of` is when that was true.
    ///
    /// Fails when it doesn't fit; then everything is asked for anew.
    pub fn take(&mut self, batch: Batch, as_of: Duration) -> Result<Taken, Unfit> {
        let taken = self.try_take(batch, as_of);
        if taken.is_err() {
            self.work = None;
            self.distrusted = true;
        }
        taken
    }

    fn try_take(&mut self, batch: Batch, as_of: Duration) -> Result<Taken, Unfit> {
        let asked = self.next();
        if batch.behind {
            return Ok(Taken::Behind);
        }
        let kv_unchanged = batch.kv.is_empty() && batch.kv.since() == asked.kv_index;
        let catalog_unchanged = batch.catalog.is_empty() && batch.since == batch.version;
        if self.is_whole()
            && batch.born_ms == asked.born_ms
            && batch.since == asked.catalog
            && catalog_unchanged
            && kv_unchanged
        {
            self.whole.progress = batch.kv.upto();
            return Ok(Taken::Unchanged { as_of });
        }
        let mut work = self.begin(&asked, &batch, as_of)?;
        let kv_since = batch.kv.since();
        if kv_since != 0 && kv_since != work.stage.progress.index {
            return Err(Unfit::Other);
        }
        if kv_since == 0 {
            work.kv_aim = 0;
            if work.stage.progress.index != 0 {
                work.wake.widen(Wake::All);
            }
        }
        let mut unused = Touched::default();
        let touched = match &mut work.wake {
            Wake::These(touched) => touched,
            Wake::All | Wake::Replaced => &mut unused,
        };
        let last = batch.catalog.last().cloned();
        work.stage.catalog.patch(batch.catalog, touched)?;
        work.stage.progress = batch.kv.upto();
        let kv_aim = batch.kv.aim();
        work.kv_aim = work.kv_aim.max(kv_aim.unwrap_or_default());
        work.stage.kv.patch(batch.kv, touched);
        work.page = last.map(|after| Page { version: batch.version, after });
        if work.page.is_none() {
            let found = work.stage.catalog.version();
            if found != batch.version {
                return Err(Unfit::Version { found, wanted: batch.version });
            }
            work.base = work.stage.catalog.clone();
        }
        let more = work.page.is_some() || kv_aim.is_some();
        if more || work.stage.progress.index < work.kv_aim {
            self.work = Some(work);
            return Ok(if more { Taken::More } else { Taken::Behind });
        }
        self.distrusted = false;
        self.whole = work.stage;
        Ok(Taken::Whole { state: Box::new(self.whole.state()), as_of: work.as_of, wake: work.wake })
    }

    /// Returns what a batch builds upon.
    fn begin(&mut self, asked: &Feed, batch: &Batch, as_of: Duration) -> Result<Work, Unfit> {
        let begun = self.work.take();
        if batch.born_ms != asked.born_ms {
            let fresh = batch.since == 0 && batch.after.is_none() && batch.kv.since() == 0;
            let wake = match self.whole.born_ms == 0 || self.whole.born_ms == batch.born_ms {
                true => Wake::All,
                false => Wake::Replaced,
            };
            let stage = Stage { born_ms: batch.born_ms, ..Stage::default() };
            let base = Catalog::default();
            let work = Work { stage, base, page: None, kv_aim: 0, as_of, wake };
            return if fresh { Ok(work) } else { Err(Unfit::Other) };
        }
        let page = begun.as_ref().and_then(|work| work.page.as_ref());
        if let Some(after) = &batch.after {
            let is_next =
                page.is_some_and(|page| page.version == batch.version && page.after == *after);
            return begun.filter(|_| is_next && batch.since == asked.catalog).ok_or(Unfit::Other);
        }
        let nothing_begun = page.is_none();
        let mut work = begun.unwrap_or_else(|| Work {
            stage: self.whole.clone(),
            base: self.whole.catalog.clone(),
            page: None,
            kv_aim: 0,
            as_of,
            wake: Wake::These(Touched::default()),
        });
        // What its pages were to lead to is not there any more, or this is the first one.
        if batch.since == 0 {
            work.base = Catalog::default();
            work.wake.widen(Wake::All);
        } else if batch.since != asked.catalog {
            return Err(Unfit::Other);
        }
        if !nothing_begun || batch.since == 0 {
            work.stage.catalog = work.base.clone();
            work.as_of = as_of;
        }
        Ok(work)
    }
}

impl Stage {
    /// Returns it as questions are answered from it.
    fn state(&self) -> State {
        let applied = self.catalog.version().max(self.kv.index());
        let (catalog, kv, clock) =
            (self.catalog.clone(), self.kv.clone(), Clock::born_at(self.born_ms));
        State::from_parts(applied, clock, kv, catalog, Default::default(), Default::default())
    }
}

impl Wake {
    /// Wakes these as well.
    fn widen(&mut self, wider: Wake) {
        if *self != Wake::Replaced {
            *self = wider;
        }
    }
}
