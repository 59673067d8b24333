//! Who waits for which key or prefix, so that a write wakes only those.
//!
//! Waiting for the same thing shares one bell. A watcher registers, then looks at the state, then
//! waits; the writer publishes the state, then rings: nothing is missed. The registry is
//! behind a lock that is held for lookups only, never across an await. Ten thousand watchers
//! cost memory; a write looks up its key, and the prefixes of its key that somebody waits for.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::OwnedNotified};

use super::Touched;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// One key.
    Key(&'a str),
    /// Every key below a prefix.
    Prefix(&'a str),
}

/// The registry of watchers; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Watches {
    registry: Arc<Mutex<Registry>>,
}

/// A registration; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    watches: Watches,
    prefix: bool,
    topic: Box<str>,
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Registry {
    keys: Bells,
    prefixes: Bells,
    restores: u64,
}

#[derive(Debug, Default)]
struct Bells {
    rung: BTreeMap<Box<str>, Bell>,
}

#[derive(Debug)]
struct Bell {
    notify: Arc<Notify>,
    watchers: usize,
}

impl Watches {
    /// Registers a watcher.
    pub fn watch(&self, topic: Topic<'_>) -> Watch {
        let (prefix, text) = match topic {
            Topic::Key(key) => (false, key),
            Topic::Prefix(prefix) => (true, prefix),
        };
        let bell = self.lock().bells(prefix).join(text);
        Watch { watches: self.clone(), prefix, topic: text.into(), bell }
    }

    /// Wakes those whom the changes concern. The changed state must be published already.
    pub fn wake(&self, touched: &Touched) {
        if touched.keys.is_empty() {
            return;
        }
        let mut woken = Vec::new();
        {
            let registry = self.lock();
            for key in &touched.keys {
                registry.keys.collect_exact(key, &mut woken);
                registry.prefixes.collect_prefixes(key, &mut woken);
            }
        }
        for bell in woken {
            bell.notify_waiters();
        }
    }

    /// Wakes everyone: the state was replaced by a snapshot.
    pub fn wake_all(&self) {
        let woken: Vec<_> = {
            let mut registry = self.lock();
            registry.restores += 1;
            let Registry { keys, prefixes, .. } = &*registry;
            keys.rung
                .values()
                .chain(prefixes.rung.values())
                .map(|bell| bell.notify.clone())
                .collect()
        };
        for bell in woken {
            bell.notify_waiters();
        }
    }

    /// Returns how often the state was replaced by a snapshot: indexes of before mean nothing
    /// after it.
    pub fn restores(&self) -> u64 {
        self.lock().restores
    }

    /// Returns the number of watchers.
    pub fn len(&self) -> usize {
        let registry = self.lock();
        let bells = registry.keys.rung.values().chain(registry.prefixes.rung.values());
        bells.map(|bell| bell.watchers).sum()
    }

    /// Tells whether nobody watches.
    pub fn is_empty(&self) -> bool {
        let registry = self.lock();
        registry.keys.rung.is_empty() && registry.prefixes.rung.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Returns a future that ends at the next change. It counts from this call, not from when it
    /// is first polled: take it, look at the state, then await it.
    pub fn changed(&self) -> OwnedNotified {
        self.bell.clone().notified_owned()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watches.lock().bells(self.prefix).leave(&self.topic);
    }
}

impl Registry {
    fn bells(&mut self, prefix: bool) -> &mut Bells {
        if prefix { &mut self.prefixes } else { &mut self.keys }
    }
}

impl Bells {
    fn join(&mut self, topic: &str) -> Arc<Notify> {
        if !self.rung.contains_key(topic) {
            self.rung.insert(topic.into(), Bell { notify: Arc::default(), watchers: 0 });
        }
        match self.rung.get_mut(topic) {
            Some(bell) => {
                bell.watchers += 1;
                bell.notify.clone()
            }
            None => Arc::default(),
        }
    }

    fn leave(&mut self, topic: &str) {
        if let Some(bell) = self.rung.get_mut(topic) {
            bell.watchers -= 1;
            if bell.watchers == 0 {
                self.rung.remove(topic);
            }
        }
    }

    fn collect_exact(&self, key: &str, woken: &mut Vec<Arc<Notify>>) {
        woken.extend(self.rung.get(key).map(|bell| bell.notify.clone()));
    }

    /// Collects the bells of all prefixes of a key. Walks down from the key: the greatest topic
    /// not above it is either a prefix of it, or shares only so many bytes with it that no longer
    /// prefix can be there.
    fn collect_prefixes(&self, key: &str, woken: &mut Vec<Arc<Notify>>) {
        let mut upper = Bound::Included(key);
        while let Some((topic, bell)) =
            self.rung.range::<str, _>((Bound::Unbounded, upper)).next_back()
        {
            if key.starts_with(&**topic) {
                woken.push(bell.notify.clone());
                upper = Bound::Excluded(&key[..topic.len()]);
            } else {
                upper = Bound::Included(&key[..shared(key, topic)]);
            }
        }
    }
}

/// Returns how many bytes of whole characters two texts start with in common.
fn shared(a: &str, b: &str) -> usize {
    let same = a.char_indices().zip(b.chars()).find(|((_, a), b)| a != b);
    same.map_or(a.len().min(b.len()), |((at, _), _)| at)
}
