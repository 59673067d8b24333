//! What the removal of a datacenter does to the members that a node knows.

use super::Roster;
use crate::{
    gossip::{config::Scope, removal::Removal},
    member::Member,
    name::Datacenter,
};

impl Roster {
    /// Returns what was said of removed datacenters.
    pub(crate) fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.removals.iter()
    }

    /// Tells whether the members of a datacenter are not let in: those of the own one always are.
    pub(crate) fn is_removed(&self, dc: &Datacenter) -> bool {
        self.scope == Scope::Wan
            && *dc != self.me().member.profile.dc
            && self.removals.is_removed(dc)
    }

    /// Takes what was said of a datacenter elsewhere; tells whether it was news.
    pub(crate) fn take_removal(&mut self, said: Removal) -> bool {
        let is_news = self.removals.take(said);
        if is_news {
            self.reconsider_refused();
        }
        is_news
    }

    /// Says something new of a datacenter; returns it as it is to be told.
    pub(crate) fn say_removal(&mut self, said: Removal) -> Removal {
        let said = self.removals.say(said);
        self.reconsider_refused();
        said
    }

    /// Forgets all members of datacenters that are removed; returns what was shown of them, and all of them.
    pub(crate) fn drop_removed(&mut self) -> Vec<Dropped> {
        let gone: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| self.is_removed(&entry.member.profile.dc))
            .map(|(key, _)| key.clone())
            .collect();
        let dropped = gone.iter().filter_map(|key| self.forget(key)).collect();
        self.owners.retain(|_, owner| self.entries.contains_key(owner));
        dropped
    }

    /// Forgets a member.
    pub(super) fn forget(&mut self, key: &str) -> Option<Dropped> {
        let entry = self.entries.remove(key)?;
        self.alive -= usize::from(entry.member.is_alive());
        Some(Dropped { was_shown: entry.is_shown(), member: entry.member })
    }
}

/// A member that was forgotten.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// Whether others were told of it.
    pub(crate) was_shown: bool,
    /// What was known of it.
    pub(crate) member: Member,
}
