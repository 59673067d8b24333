//! What an engine does by itself: getting in, knocking, asking, pulling, reaping, leaving.

use std::{net::SocketAddr, time::Duration};

use rand::{
    RngExt,
    seq::{IndexedRandom, IteratorRandom},
};

use super::{
    Cause, Engine, Event, Output, Phase,
    identity::Identity,
    packet::{Draft, Note},
    record::{Record, Word},
    schedule, swim,
};
use crate::member::{Profile, Status};

/// How often duties are looked after: the announcement's retry, as memberlist's users expect it.
const DUTIES_INTERVAL: Duration = Duration::from_secs(1);

/// Most addresses that are tried at once to get in.
const SEEDS_MAX: usize = 64;

/// How often an address is tried that doesn't answer, when somebody else does.
const SEED_TRIES: u8 = 10;

/// How often silent members are looked through for those to forget.
const REAP_INTERVAL: Duration = Duration::from_secs(60);

/// Most members asked who they are in one round: a pool of 1,000 is known after a minute even
/// when nothing can be pulled.
const QUESTIONS_MAX: usize = 16;

/// How soon a pull is repeated that nothing came of.
const PULL_RETRY: Duration = Duration::from_secs(3);

/// Changes of status since the last pull from which on the next one comes soon. So many at a time
/// crowd each other out of the packets, and gossip leaves somebody out.
const STORM_CHANGES: u32 = 16;

/// How often a leaving node says so, one gossip interval apart: a round may be lost.
const FAREWELL_ROUNDS: u8 = 4;

/// To how many members in each round; they send it on.
const FAREWELL_FANOUT: usize = 8;

/// Failed members that are knocked at by one who is alone, each second.
const ALONE_KNOCK_FANOUT: usize = 3;

/// When to pull a full state next.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    next: Duration,
    /// Whether a full state ever arrived; until then pulls are repeated soon.
    arrived: bool,
    /// Members that came or went since the last pull.
    changes: u32,
}

impl Pulls {
    /// Notes that a full state arrived.
    pub(crate) fn arrived(&mut self) {
        self.arrived = true;
    }
}

impl Engine {
    pub(super) fn start(&mut self, out: &mut Vec<Output>) {
        self.next_reap = self.now + REAP_INTERVAL;
        // Nodes that start together don't stay in step.
        let phase = self.rng.random_range(Duration::ZERO..DUTIES_INTERVAL);
        schedule(phase, Cause::Duties, out);
    }

    pub(super) fn duties(&mut self, out: &mut Vec<Output>) {
        self.knock_at_seeds(out);
        self.knock_at_failed(out);
        self.review_rivals(out);
        self.ask_unknown(out);
        self.pull(out);
        self.reap(out);
        schedule(DUTIES_INTERVAL, Cause::Duties, out);
    }

    pub(super) fn join(&mut self, addrs: Vec<SocketAddr>, out: &mut Vec<Output>) {
        if self.seeds.len() + addrs.len() > SEEDS_MAX {
            // Those that didn't answer so far make way for the latest wish.
            self.seeds.clear();
        }
        let me = self.swim.me().addr;
        let seeds = addrs.into_iter().filter(|addr| *addr != me).take(SEEDS_MAX);
        self.seeds.extend(seeds.map(|addr| (addr, SEED_TRIES)));
        self.knock_at_seeds(out);
    }

    fn knock_at_seeds(&mut self, out: &mut Vec<Output>) {
        if !self.swim.is_alone() {
            self.seeds.retain(|_, tries| {
                *tries -= 1;
                *tries > 0
            });
        }
        for addr in self.seeds.keys().copied().collect::<Vec<_>>() {
            self.knock(addr, out);
        }
    }

    /// Asks an address to be let in.
    fn knock(&mut self, addr: SocketAddr, out: &mut Vec<Output>) {
        // An announcement is short: it can't fail to encode.
        let _sent = self.swim.announce(addr);
        self.drain(Note::Hello(addr), out);
    }

    fn knock_at_failed(&mut self, out: &mut Vec<Output>) {
        let alone = self.swim.is_alone();
        if !alone && self.now < self.next_knock {
            return;
        }
        self.next_knock = self.now + self.config.knock_interval;
        let amount = if alone { ALONE_KNOCK_FANOUT } else { self.config.knock_fanout };
        let failed = self.roster.others(Status::Failed).map(|member| member.profile.addr);
        for addr in failed.sample(&mut self.rng, amount) {
            self.knock(addr, out);
        }
    }

    /// Asks those who answer, but whose profiles are missing, who they are.
    fn ask_unknown(&mut self, out: &mut Vec<Output>) {
        let unknown = self.roster.unknown().iter().copied();
        for to in unknown.sample(&mut self.rng, QUESTIONS_MAX) {
            let question = Draft::new(self.pool, Note::Who, &[], self.config.packet_len_max);
            out.push(Output::Send { to, data: question.finish() });
        }
    }

    /// Pulls the full state of a random server when it is time.
    fn pull(&mut self, out: &mut Vec<Output>) {
        if self.now < self.pulls.next {
            return;
        }
        let scope = self.config.scope;
        let from = self
            .roster
            .others(Status::Alive)
            .map(|member| &member.profile)
            .filter(|profile| scope.answers_pulls(profile))
            .choose(&mut self.rng)
            .cloned();
        if let Some(from) = from {
            self.pull_from(from, out);
        }
    }

    /// Pulls from a member that just came up when it is time: a newcomer pulls at first contact.
    pub(super) fn pull_if_due(&mut self, from: &Profile, out: &mut Vec<Output>) {
        if self.now >= self.pulls.next && self.config.scope.answers_pulls(from) {
            self.pull_from(from.clone(), out);
        }
    }

    /// Notes that a member came or went: after a storm the next pull comes soon, however large the
    /// pool is.
    pub(super) fn changed(&mut self) {
        self.pulls.changes = self.pulls.changes.saturating_add(1);
        if self.pulls.changes == STORM_CHANGES {
            let interval = self.config.pull_interval;
            let soon = self.now + self.rng.random_range(interval / 2..=interval);
            self.pulls.next = self.pulls.next.min(soon);
        }
    }

    fn pull_from(&mut self, from: Profile, out: &mut Vec<Output>) {
        self.pulls.changes = 0;
        let interval = if self.pulls.arrived {
            self.config.pull_interval(self.roster.alive())
        } else {
            PULL_RETRY
        };
        // A quarter more or less keeps those who joined together from pulling together.
        let jitter = self.rng.random_range(Duration::ZERO..=interval / 2);
        self.pulls.next = self.now + interval * 3 / 4 + jitter;
        out.push(Output::Pull { from });
    }

    fn reap(&mut self, out: &mut Vec<Output>) {
        if self.now < self.next_reap {
            return;
        }
        self.next_reap = self.now + REAP_INTERVAL;
        let members = self.roster.reap(self.now);
        out.extend(members.into_iter().map(|member| Output::Event(Event::Reaped(member))));
        // Addresses that fell silent before anybody said whose they are go with them.
        for standing in self.swim.standings().into_values() {
            if standing.state() == foca::State::Down && self.roster.disown(standing.id().addr) {
                self.swim.forget(*standing.id());
            }
        }
    }

    /// Asks for a [`Cause::Spread`] unless one is under way.
    pub(super) fn spread_soon(&mut self, out: &mut Vec<Output>) {
        if !self.spreading {
            self.spreading = true;
            schedule(self.config.gossip_interval, Cause::Spread, out);
        }
    }

    /// Tells queued records to a few members.
    pub(super) fn spread(&mut self, out: &mut Vec<Output>) {
        self.spreading = false;
        let alive = self.roster.others(Status::Alive).map(|member| member.profile.addr);
        for to in alive.sample(&mut self.rng, self.config.gossip_fanout.get()) {
            if self.spread.is_empty() {
                break;
            }
            let mut draft = Draft::new(self.pool, Note::Plain, &[], self.config.packet_len_max);
            self.fill(&mut draft);
            out.push(Output::Send { to, data: draft.finish() });
        }
        if !self.spread.is_empty() && !self.swim.is_alone() {
            self.spread_soon(out);
        }
    }

    /// Suspects the member at an address.
    pub(super) fn path_down(&mut self, addr: SocketAddr, out: &mut Vec<Output>) {
        let Some(standing) =
            self.swim.standing(addr).filter(|known| known.state() != foca::State::Down)
        else {
            return;
        };
        let (suspect, incarnation) = (*standing.id(), standing.incarnation());
        let suspected = swim::standing(addr, suspect.boot, incarnation, foca::State::Suspect);
        // An identity always encodes, so nothing can fail.
        let _applied = self.swim.learn([suspected], true);
        self.drain(Note::Plain, out);
        schedule(self.config.path_suspect_for, Cause::Verdict { suspect, incarnation }, out);
    }

    /// Holds a suspect for failed that did not refute in time.
    pub(super) fn verdict(&mut self, suspect: Identity, incarnation: u16, out: &mut Vec<Output>) {
        let convicted = self.swim.standing(suspect.addr).is_some_and(|known| {
            *known.id() == suspect
                && known.incarnation() == incarnation
                && known.state() == foca::State::Suspect
        });
        if convicted {
            let down = swim::standing(suspect.addr, suspect.boot, incarnation, foca::State::Down);
            // An identity always encodes, so nothing can fail.
            let _applied = self.swim.learn([down], true);
            self.drain(Note::Plain, out);
        }
    }

    pub(super) fn leave(&mut self, out: &mut Vec<Output>) {
        let me = self.roster.me();
        let (stamp, profile) = (me.stamp.next(Word::Left), me.member.profile.clone());
        self.roster.write_me(Record { stamp, profile }, Status::Leaving);
        out.push(Output::Event(Event::Updated(self.roster.me().member.clone())));
        self.farewell(FAREWELL_ROUNDS, out);
        self.phase = Phase::Gone;
    }

    /// Says once more that this node left.
    pub(super) fn farewell(&mut self, rounds: u8, out: &mut Vec<Output>) {
        let others: Vec<SocketAddr> =
            self.roster.others(Status::Alive).map(|member| member.profile.addr).collect();
        for &to in others.sample(&mut self.rng, FAREWELL_FANOUT) {
            self.send_records(to, Note::Plain, [self.roster.me().record()], out);
        }
        if rounds > 1 {
            schedule(self.config.gossip_interval, Cause::Farewell { rounds: rounds - 1 }, out);
        }
    }
}
