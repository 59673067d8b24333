//! The state as the readers of this server see it: the last published one, and a way to wait.
//!
//! One task applies the log and publishes; any number of readers load without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{State, Touched, watch::Watches};

/// The published state with its watchers; clones share it.
#[derive(Debug, Clone, Default)]
pub struct View {
    current: Arc<ArcSwap<State>>,
    watches: Watches,
}

impl View {
    /// Returns the state as published last.
    pub fn load(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// Returns the registry of those who wait for a change.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Publishes the state after a batch of commands and wakes those whom the changes concern.
    pub fn publish(&self, state: State, touched: &Touched) {
        self.current.store(Arc::new(state));
        self.watches.wake(touched);
    }

    /// Publishes a state that did not come from the one before, and wakes everyone.
    pub fn replace(&self, state: State) {
        self.current.store(Arc::new(state));
        self.watches.wake_all();
    }
}
