//! Datacenters that were removed from the federation: who may not come back by itself.
//!
//! A removal is a word on a datacenter; the latest one counts, be it that it is removed or that it
//! may come back. Each member keeps all of them, tells them with its full state, and takes over what is later, so
//! that all members come to hold the same, in whatever order they hear of it. There is no other end to
//! a removal than its being lifted: a datacenter that was cut off may come back after any time.
//!
//! At most [`REMOVALS_MAX`] are kept; beyond, the oldest are forgotten, those that were lifted first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{member::LABEL_LEN_MAX, name::Datacenter};

/// Most removals that a member keeps, lifted ones included: a federation has dozens of datacenters, which
/// seldom change their names.
pub const REMOVALS_MAX: usize = 256;

/// The word on a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Removal {
    /// The datacenter.
    pub dc: Datacenter,
    /// When that was said, in milliseconds since 1970; later than any that its author had heard of.
    pub at_ms: u64,
    /// Whether it may come back.
    #[serde(default)]
    pub is_lifted: bool,
    /// The server where that was said: `node.dc`.
    #[serde(default)]
    pub by: String,
}

/// All that was said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removals(BTreeMap<Datacenter, Removal>);

impl Removal {
    /// Tells whether its text keeps its bound.
    fn is_bounded(&self) -> bool {
        self.by.len() <= LABEL_LEN_MAX
    }
}

impl Removals {
    /// Takes a word that was said elsewhere; tells whether it was news.
    pub(crate) fn take(&mut self, said: Removal) -> bool {
        let rank = |it: &Removal| (it.at_ms, it.is_lifted, it.by.clone());
        let is_news = self.0.get(&said.dc).is_none_or(|held| rank(held) < rank(&said));
        if !is_news || !said.is_bounded() {
            return false;
        }
        let dc = said.dc.clone();
        self.0.insert(dc.clone(), said);
        self.forget_over_bound();
        self.0.contains_key(&dc)
    }

    /// Says something new of a datacenter; returns it as it is to be told.
    pub(crate) fn say(&mut self, said: Removal) -> Removal {
        let after = self.0.get(&said.dc).map_or(0, |held| held.at_ms.saturating_add(1));
        let said = Removal { at_ms: said.at_ms.max(after), ..said };
        self.0.insert(said.dc.clone(), said.clone());
        self.forget_over_bound();
        said
    }

    /// Tells whether a datacenter is removed.
    pub(crate) fn is_removed(&self, dc: &Datacenter) -> bool {
        self.0.get(dc).is_some_and(|held| !held.is_lifted)
    }

    /// Returns all that was said, by datacenter.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Removal> {
        self.0.values()
    }

    fn forget_over_bound(&mut self) {
        while self.0.len() > REMOVALS_MAX {
            let oldest = self.0.values().min_by_key(|it| (!it.is_lifted, it.at_ms));
            let Some(dc) = oldest.map(|it| it.dc.clone()) else { return };
            self.0.remove(&dc);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(dc: u16, at_ms: u64, is_lifted: bool) -> Removal {
        let dc = Datacenter::new(format!("dc{dc}")).unwrap();
        Removal { dc, at_ms, is_lifted, by: "a1.dc1".to_owned() }
    }

    fn all(removals: &Removals) -> Vec<Removal> {
        removals.iter().cloned().collect()
    }

    #[test]
    fn the_latest_word_counts() {
        let mut removals = Removals::default();
        let dc2 = "dc2".parse().unwrap();
        assert!(removals.take(said(2, 5, false)) && removals.is_removed(&dc2));
        assert!(!removals.take(said(2, 5, false)), "it is no news");
        assert!(removals.take(said(2, 6, true)) && !removals.is_removed(&dc2));
        assert!(!removals.take(said(2, 4, false)) && !removals.is_removed(&dc2));
    }

    #[test]
    fn what_is_said_is_later_than_all_that_was_heard_even_when_the_clock_is_behind() {
        let mut removals = Removals::default();
        removals.take(said(2, 500, false));
        let lifted = removals.say(said(2, 3, true));
        assert_eq!((lifted.at_ms, removals.is_removed(&"dc2".parse().unwrap())), (501, false));
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many_those_lifted_first() {
        let mut removals = Removals::default();
        let most = REMOVALS_MAX as u16;
        removals.take(said(0, 9999, true));
        (1..=most).for_each(|dc| assert!(removals.take(said(dc, dc.into(), false))));
        assert_eq!(all(&removals).len(), REMOVALS_MAX);
        assert!(!all(&removals).iter().any(|it| it.is_lifted));
        removals.take(said(most + 1, 5000, false));
        assert!(!removals.is_removed(&"dc1".parse().unwrap()));
        assert!(removals.is_removed(&"dc2".parse().unwrap()));
    }

    #[test]
    fn a_text_that_is_too_long_is_not_taken() {
        let long = Removal { by: "x".repeat(LABEL_LEN_MAX + 1), ..said(2, 1, false) };
        assert!(!Removals::default().take(long));
    }

    proptest! {
        #[test]
        fn whatever_the_order_all_hold_the_same_in_the_end(
            words in proptest::collection::vec((0..4_u16, 0..6_u64, any::<bool>()), 0..20),
            shuffle in any::<proptest::sample::Index>(),
        ) {
            let words: Vec<_> = words.into_iter().map(|(dc, at, lifted)| said(dc, at, lifted)).collect();
            let mut turned = words.clone();
            turned.rotate_left(shuffle.index(words.len().max(1)).min(words.len()));
            turned.reverse();
            let hold = |words: Vec<Removal>| {
                let mut removals = Removals::default();
                words.into_iter().for_each(|word| { removals.take(word); });
                all(&removals)
            };
            prop_assert_eq!(hold(words), hold(turned));
        }
    }
}
