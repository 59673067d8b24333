//! Removing datacenters: what a node says, hears and tells on of it, and what becomes of their members.
//!
//! News goes with full states: whoever learns of a removal exchanges its state with a few others at once, who do the
//! same, so that all know within seconds; whoever missed it learns of it by the next pull.

use rand::seq::IteratorRandom;

use super::{Engine, Event, Output, config::Scope, packet::Note, removal::Removal, swim};
use crate::{member::Status, name::Datacenter};

/// With how many others each one exchanges news. Of those who tell nobody in turn, one in e^12 hears nothing
/// (Pittel 1987): in a federation of any size all know after a few round trips, and nobody has to wait for a pull.
const NEWS_FANOUT: usize = 12;

impl Engine {
    /// Returns what was said of datacenters that were removed, by datacenter.
    pub fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.roster.removals()
    }

    /// Tells whether the members of a datacenter are kept out.
    pub fn is_removed(&self, dc: &Datacenter) -> bool {
        self.roster.is_removed(dc)
    }

    /// Takes what was said of datacenters; tells on what is news.
    pub(super) fn hear_removals(&mut self, said: Vec<Removal>, out: &mut Vec<Output>) {
        if self.config.scope != Scope::Wan {
            return;
        }
        let mut news = Vec::new();
        for removal in said {
            if self.roster.take_removal(removal.clone()) {
                news.push(removal);
            }
        }
        self.removed(news, out);
    }

    /// Says something new of a datacenter.
    pub(super) fn say_removal(&mut self, said: Removal, out: &mut Vec<Output>) {
        if self.config.scope == Scope::Wan {
            let said = self.roster.say_removal(said);
            self.removed(vec![said], out);
        }
    }

    fn removed(&mut self, news: Vec<Removal>, out: &mut Vec<Output>) {
        if news.is_empty() {
            return;
        }
        out.extend(news.into_iter().map(|removal| Output::Event(Event::Removal(removal))));
        self.drop_removed(out);
        let others = self.roster.others(Status::Alive).map(|member| &member.profile);
        let told = others.sample(&mut self.rng, NEWS_FANOUT);
        out.extend(told.into_iter().map(|from| Output::Pull { from: from.clone() }));
    }

    /// Forgets the members of removed datacenters, and lets SWIM hold them for down.
    fn drop_removed(&mut self, out: &mut Vec<Output>) {
        let dropped = self.roster.drop_removed();
        let mut down = Vec::new();
        for gone in &dropped {
            let addr = gone.member.profile.addr;
            let standing = self.swim.standing(addr);
            if let Some(known) = standing.filter(|known| known.state() != foca::State::Down) {
                let (boot, incarnation) = (known.id().boot, known.incarnation());
                down.push(swim::standing(addr, boot, incarnation, foca::State::Down));
            }
        }
        self.forgotten(dropped, out);
        // An identity always encodes, so nothing can fail. The others come to it by themselves.
        let _applied = self.swim.learn(down, false);
        self.drain(Note::Plain, out);
    }
}
