//! Who waits for which key, prefix or part of the catalog, so that a write wakes only those.
//!
//! Waiting for the same thing shares one bell. A watcher registers, then looks at the state, then
//! waits; the writer publishes the state, then rings: nothing is missed. The registry is
//! behind a lock that is held for lookups only, never across an await. Ten thousand watchers
//! cost memory; a write looks up what it touched, and the prefixes of its keys that somebody
//! waits for.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::{BoxFuture, FutureExt, select_all};
use lan_agent::catalog::Text;
use tokio::sync::Notify;

use super::{
    Touched,
    catalog::{self, Part},
    config_entries::Place,
    kv::Key,
};

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// One key.
    Key(Key),
    /// Every key below a prefix.
    Prefix(Key),
    /// A part of the catalog.
    Catalog(Part),
    /// One configuration entry.
    ConfigEntry(Place),
    /// The configuration entries of a kind.
    ConfigKind(Text),
    /// All configuration entries.
    ConfigEntries,
    /// Where a node is.
    Coordinate(catalog::Key),
    /// Where all nodes are.
    Coordinates,
    /// The prepared queries.
    Queries,
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
    topics: Vec<(Topic, Arc<Notify>)>,
}

#[derive(Debug, Default)]
struct Registry {
    exact: Bells<Topic>,
    prefixes: Bells<Key>,
}

#[derive(Debug)]
struct Bells<T> {
    rung: BTreeMap<T, Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    notify: Arc<Notify>,
    watchers: usize,
}

impl Watches {
    /// Registers a watcher for a change of any of these.
    pub fn watch(&self, topics: Vec<Topic>) -> Watch {
        let mut registry = self.lock();
        let topics = topics.into_iter().map(|topic| {
            let bell = match &topic {
                Topic::Prefix(prefix) => registry.prefixes.join(prefix.clone()),
                topic => registry.exact.join(topic.clone()),
            };
            (topic, bell)
        });
        Watch { topics: topics.collect(), watches: self.clone() }
    }

    /// Wakes those whom the changes concern. The changed state must be published already.
    pub fn wake(&self, touched: &Touched) {
        let mut woken = Vec::new();
        {
            let registry = self.lock();
            if registry.is_empty() {
                return;
            }
            for key in &touched.keys {
                registry.exact.collect(&Topic::Key(key.clone()), &mut woken);
                registry.prefixes.collect_prefixes(key, &mut woken);
            }
            for part in &touched.parts {
                registry.exact.collect(&Topic::Catalog(part.clone()), &mut woken);
            }
            for place in &touched.config_entries {
                registry.exact.collect(&Topic::ConfigKind(place.kind.clone()), &mut woken);
                registry.exact.collect(&Topic::ConfigEntry(place.clone()), &mut woken);
                registry.exact.collect(&Topic::ConfigEntries, &mut woken);
            }
            for node in &touched.coordinates {
                registry.exact.collect(&Topic::Coordinate(node.clone()), &mut woken);
            }
            if !touched.coordinates.is_empty() {
                registry.exact.collect(&Topic::Coordinates, &mut woken);
            }
            if touched.queries {
                registry.exact.collect(&Topic::Queries, &mut woken);
            }
        }
        for bell in woken {
            bell.notify_waiters();
        }
    }

    /// Wakes everyone: the state was replaced by a snapshot.
    pub fn wake_all(&self) {
        let woken: Vec<_> = self.lock().bells().map(|bell| bell.notify.clone()).collect();
        for bell in woken {
            bell.notify_waiters();
        }
    }

    /// Returns the number of watchers, each counted for everything that it waits for.
    pub fn len(&self) -> usize {
        self.lock().bells().map(|bell| bell.watchers).sum()
    }

    /// Tells whether nobody watches.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Tells whether this waits for these, in this order.
    pub fn is_for(&self, topics: &[Topic]) -> bool {
        self.topics.iter().map(|(topic, _)| topic).eq(topics)
    }

    /// Returns a future that ends at the next change. It counts from this call, not from when it
    /// is first polled: take it, look at the state, then await it. Waiting for nothing never ends.
    pub fn changed(&self) -> BoxFuture<'static, ()> {
        let mut bells = self.topics.iter().map(|(_, bell)| bell.clone().notified_owned().boxed());
        match (bells.len(), bells.next()) {
            (1, Some(only)) => only,
            (_, Some(first)) => select_all([first].into_iter().chain(bells)).map(|_| ()).boxed(),
            (_, None) => std::future::pending().boxed(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut registry = self.watches.lock();
        for (topic, _) in &self.topics {
            match topic {
                Topic::Prefix(prefix) => registry.prefixes.leave(prefix),
                topic => registry.exact.leave(topic),
            }
        }
    }
}

impl Registry {
    fn bells(&self) -> impl Iterator<Item = &Bell> {
        self.exact.rung.values().chain(self.prefixes.rung.values())
    }

    fn is_empty(&self) -> bool {
        self.exact.rung.is_empty() && self.prefixes.rung.is_empty()
    }
}

impl<T> Default for Bells<T> {
    fn default() -> Self {
        Self { rung: BTreeMap::new() }
    }
}

impl<T: Ord> Bells<T> {
    fn join(&mut self, topic: T) -> Arc<Notify> {
        let bell = self.rung.entry(topic).or_default();
        bell.watchers += 1;
        bell.notify.clone()
    }

    fn leave(&mut self, topic: &T) {
        if let Some(bell) = self.rung.get_mut(topic) {
            bell.watchers -= 1;
            if bell.watchers == 0 {
                self.rung.remove(topic);
            }
        }
    }

    fn collect(&self, topic: &T, woken: &mut Vec<Arc<Notify>>) {
        woken.extend(self.rung.get(topic).map(|bell| bell.notify.clone()));
    }
}

impl Bells<Key> {
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
