//! The state as the readers of this server see it: the last published one, and a way to wait.
//!
//! One task applies the log and publishes; any number of readers load without a lock.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

use super::{State, catalog::Catalog, watch::Watches};

/// Most versions of the catalog that are kept for those who have an older one: what changed between two of
/// them is all that each takes. They last for seconds at a hundred changes a second.
const VERSIONS_MAX: usize = 256;

/// The published state with its watchers; clones share it.
#[derive(Debug, Clone, Default)]
pub struct View {
    current: Arc<ArcSwap<Published>>,
    watches: Watches,
    versions: Arc<Mutex<VecDeque<Catalog>>>,
}

/// A state that readers see.
#[derive(Debug, Default)]
pub struct Published {
    state: State,
    lineage: u64,
}

impl Published {
    /// Returns how often the state was replaced by one that did not come from it: what an index
    /// said before means nothing after.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }
}

impl From<State> for Published {
    fn from(state: State) -> Self {
        Self { state, lineage: 0 }
    }
}

impl Deref for Published {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl View {
    /// Returns the state as published last.
    pub fn load(&self) -> Arc<Published> {
        self.current.load_full()
    }

    /// Returns the registry of those who wait for a change.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Returns the catalog as it was at a version, if that is not too long ago.
    pub fn version(&self, version: u64) -> Option<Catalog> {
        let versions = self.versions();
        let at = versions.binary_search_by_key(&version, Catalog::version).ok()?;
        versions.get(at).cloned()
    }

    fn versions(&self) -> MutexGuard<'_, VecDeque<Catalog>> {
        // It is whole between any two statements. Readers of the state never come here.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, catalog: &Catalog) {
        let mut versions = self.versions();
        if versions.back().is_some_and(|newest| newest.version() >= catalog.version()) {
            return;
        }
        if versions.len() == VERSIONS_MAX {
            versions.pop_front();
        }
        versions.push_back(catalog.clone());
    }

    /// Publishes the state after a batch of commands. Those whom the changes concern are to be
    /// woken thereafter, by [`Watches::wake`].
    pub fn publish(&self, state: State) {
        let lineage = self.current.load().lineage;
        self.keep(state.catalog());
        self.current.store(Arc::new(Published { state, lineage }));
    }

    /// Publishes a state that did not come from the one before, and wakes everyone.
    pub fn replace(&self, state: State) {
        let lineage = self.current.load().lineage + 1;
        self.versions().clear();
        self.keep(state.catalog());
        self.current.store(Arc::new(Published { state, lineage }));
        self.watches.wake_all();
    }
}
