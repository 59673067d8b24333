//! What the fellow servers see, as they told it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use topology::NodeName;

use crate::{
    share::Key,
    sight::{Sight, teller::AGE_MAX},
    verdict::{Path, Seen},
};

/// What each fellow server told, and when.
#[derive(Debug, Default)]
pub(super) struct Fellows {
    told: BTreeMap<NodeName, Fellow>,
}

#[derive(Debug, Default)]
struct Fellow {
    at: Duration,
    servers: BTreeMap<Key, (Seen, Duration)>,
}

impl Fellows {
    /// Takes in what one tells.
    pub(super) fn told(&mut self, now: Duration, name: NodeName, sight: Sight) {
        let fellow = self.told.entry(name).or_default();
        fellow.at = now;
        if sight.whole {
            fellow.servers.clear();
        }
        fellow.servers.extend(sight.servers.into_iter().map(|(key, seen)| (key, (seen, now))));
    }

    /// Forgets what those told that can't be reached any more, or say nothing.
    pub(super) fn keep(&mut self, now: Duration, present: &BTreeSet<NodeName>) {
        self.told.retain(|name, fellow| {
            present.contains(name) && now.saturating_sub(fellow.at) <= AGE_MAX
        });
    }

    /// Counts those who say what they see.
    pub(super) fn count(&self) -> usize {
        self.told.len()
    }

    /// Returns what each of them sees of a server now.
    pub(super) fn of(&self, now: Duration, key: &Key) -> impl Iterator<Item = (&NodeName, Seen)> {
        self.told.iter().filter_map(move |(name, fellow)| {
            let (seen, at) = fellow.servers.get(key)?;
            let age = seen.age + now.saturating_sub(*at);
            Some((name, Seen { age, ..seen.clone() }))
        })
    }

    /// Returns the best that is told of a server, the latest of that: one who has a path knows more
    /// than one who has none.
    pub(super) fn best(&self, key: &Key) -> Option<&Seen> {
        let of = self.told.values().filter_map(|fellow| fellow.servers.get(key));
        let rank = |path: Path| match path {
            Path::Up => 2,
            Path::Unknown => 1,
            Path::Down => 0,
        };
        of.max_by_key(|(seen, at)| (rank(seen.path), *at)).map(|(seen, _)| seen)
    }
}
