//! The state as the readers of this server see it: the last published one, and a way to wait.
//!
//! One task applies the log and publishes; any number of readers load without a lock.

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;

use super::{State, watch::Watches};

/// The published state with its watchers; clones share it.
#[derive(Debug, Clone, Default)]
pub struct View {
    current: Arc<ArcSwap<Published>>,
    watches: Watches,
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

    /// Publishes the state after a batch of commands. Those whom the changes concern are to be
    /// woken thereafter, by [`Watches::wake`].
    pub fn publish(&self, state: State) {
        let lineage = self.current.load().lineage;
        self.current.store(Arc::new(Published { state, lineage }));
    }

    /// Publishes a state that did not come from the one before, and wakes everyone.
    pub fn replace(&self, state: State) {
        let lineage = self.current.load().lineage + 1;
        self.current.store(Arc::new(Published { state, lineage }));
        self.watches.wake_all();
    }
}
