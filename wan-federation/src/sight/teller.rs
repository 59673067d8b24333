//! What each fellow server is to be told, and when.
//!
//! A function of what is seen and of what was told before. A fellow that just came up, or that a message
//! did not reach, is told everything; the others hear of what changed in something that matters, and of
//! all numbers at an interval.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use topology::NodeName;

use super::{Sight, matters};
use crate::{share::Key, verdict::Seen};

/// How often everything is told: numbers that only people look at are about so old.
pub(crate) const WHOLE_INTERVAL: Duration = Duration::from_secs(10);

/// How old what a fellow said may be to count: it missed two turns then, though it is there.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(25);

/// Remembers what fellows were told.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    /// What those know that are up to date.
    told: BTreeMap<Key, Seen>,
    whole_at: Option<Duration>,
    /// Those who know that.
    knowing: BTreeSet<NodeName>,
}

impl Teller {
    /// Returns what to tell whom now; `fellows` are those that can be reached.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        seen: &BTreeMap<Key, Seen>,
        fellows: &BTreeSet<NodeName>,
    ) -> Vec<(NodeName, Bytes)> {
        self.knowing.retain(|name| fellows.contains(name));
        if self.whole_at.is_none_or(|at| now >= at + WHOLE_INTERVAL) {
            self.whole_at = Some(now);
            self.knowing.clear();
        }
        let gone = self.told.keys().any(|key| !seen.contains_key(key));
        if gone {
            // Rare: a share was given away, or a server left.
            self.knowing.clear();
        }
        let news: BTreeMap<Key, Seen> = seen
            .iter()
            .filter(|(key, now)| self.told.get(*key).is_none_or(|before| matters(before, now)))
            .map(|(key, seen)| (key.clone(), seen.clone()))
            .collect();
        let mut said = Vec::new();
        if !news.is_empty() && !self.knowing.is_empty() {
            let body = Sight { whole: false, servers: news.clone() }.encode();
            said.extend(self.knowing.iter().map(|name| (name.clone(), body.clone())));
        }
        if self.knowing.len() < fellows.len() {
            let body = Sight { whole: true, servers: seen.clone() }.encode();
            let others = fellows.difference(&self.knowing);
            said.extend(others.map(|name| (name.clone(), body.clone())));
            self.knowing.clone_from(fellows);
        }
        match gone {
            true => self.told.clone_from(seen),
            false => self.told.extend(news),
        }
        said
    }

    /// Notes that a fellow did not get what it was told.
    pub(crate) fn missed(&mut self, fellow: &NodeName) {
        self.knowing.remove(fellow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Path;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(paths: &[(&str, Path)]) -> BTreeMap<Key, Seen> {
        let one = |(name, path): &(&str, Path)| {
            let key = ("dc2".parse().unwrap(), name.parse().unwrap());
            (key, Seen { path: *path, ..Seen::NOTHING })
        };
        paths.iter().map(one).collect()
    }

    fn fellows(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Shows who was told what: `a2 whole b1 b2`.
    fn shown(said: Vec<(NodeName, Bytes)>) -> Vec<String> {
        let show = |(name, body): (NodeName, Bytes)| {
            let sight = Sight::decode(&body).unwrap();
            let kind = if sight.whole { "whole" } else { "news" };
            let nodes: Vec<&str> = sight.servers.keys().map(|(_, node)| node.as_str()).collect();
            format!("{name} {kind} {}", nodes.join(" "))
        };
        said.into_iter().map(show).collect()
    }

    #[test]
    fn all_is_told_once_then_what_changed_and_all_again_at_the_interval() {
        let mut teller = Teller::default();
        let all = fellows(&["a2", "a3"]);
        let well = seen(&[("b1", Path::Up), ("b2", Path::Up)]);
        let mut step = |now, seen: &BTreeMap<Key, Seen>| shown(teller.step(now, seen, &all));
        assert_eq!(step(SECOND, &well), ["a2 whole b1 b2", "a3 whole b1 b2"]);
        assert!(step(SECOND * 2, &well).is_empty());
        let worse = seen(&[("b1", Path::Up), ("b2", Path::Down)]);
        assert_eq!(step(SECOND * 3, &worse), ["a2 news b2", "a3 news b2"]);
        assert!(step(SECOND * 4, &worse).is_empty());
        assert_eq!(step(SECOND * 11, &worse), ["a2 whole b1 b2", "a3 whole b1 b2"]);
    }

    #[test]
    fn newcomers_and_those_who_missed_something_are_told_all() {
        let mut teller = Teller::default();
        let well = seen(&[("b1", Path::Up)]);
        teller.step(SECOND, &well, &fellows(&["a2"]));
        let said = teller.step(SECOND * 2, &well, &fellows(&["a2", "a3"]));
        assert_eq!(shown(said), ["a3 whole b1"]);
        teller.missed(&"a2".parse().unwrap());
        let said = teller.step(SECOND * 3, &well, &fellows(&["a2", "a3"]));
        assert_eq!(shown(said), ["a2 whole b1"]);
    }

    #[test]
    fn what_is_no_longer_watched_is_told_by_its_absence() {
        let mut teller = Teller::default();
        let all = fellows(&["a2"]);
        teller.step(SECOND, &seen(&[("b1", Path::Up), ("b2", Path::Up)]), &all);
        let said = teller.step(SECOND * 2, &seen(&[("b1", Path::Up)]), &all);
        assert_eq!(shown(said), ["a2 whole b1"]);
        assert!(teller.step(SECOND * 3, &seen(&[("b1", Path::Up)]), &all).is_empty());
    }
}
