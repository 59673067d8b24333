//! Who is in a pool, found out by talking: the engine of the LAN pool and of the WAN pool.
//!
//! Liveness is SWIM (Das, Gupta, Motivala 2002, with suspicion and incarnations) by foca.
//! Beside it travel [`Profile`]s: what each member says of itself, stamped so that
//! the newest wins. A driver feeds an [`Engine`] with packets, timers and wishes, and carries out
//! the [`Output`]s: it sends, calls back, tells others what happened, and pulls full states.
//!
//! ```text
//! joiner                                      member
//!   | Hello(address) + own profile  ------->    |   each second until somebody answers
//!   | <-------  Welcome + feed + profiles of servers
//!   | Pull (over the server link)   ------->    |   the whole roster at once, and every 30 s
//! ```
//!
//! How it fails: a lost packet is repaired by the next one, a lost profile by a question ("who
//! are you?") or a pull. Whoever is wrongly held for failed comes back under a later start. A
//! partition heals because failed members are knocked at. Nonsense is counted and ignored.
//! The engine reads no clock and no randomness of its own: equal inputs and seeds give
//! equal outputs.

mod cluster;
mod config;
mod duties;
mod exile;
mod hearing;
mod identity;
mod packet;
mod record;
mod removal;
mod roster;
mod spread;
mod state;
mod swim;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use foca::OwnedNotification as Notice;
use rand::{SeedableRng, rngs::SmallRng};

pub use self::{
    cluster::Rival,
    config::{Config, Scope},
    removal::{REMOVALS_MAX, Removal},
};
use self::{
    duties::Pulls,
    identity::Identity,
    packet::{Draft, Note, Pool},
    record::{Record, Stamp, Word},
    roster::Roster,
    spread::Spread,
    swim::{Alarm, Effect, Swim},
};
use crate::member::{Member, Profile, Status};

/// What happens to an engine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The driver is ready to send. Comes first, once.
    Start,
    /// A packet came in.
    Packet {
        /// Where it came from.
        from: SocketAddr,
        /// What it holds.
        data: Bytes,
    },
    /// A scheduled time has come.
    Timer(Timer),
    /// These addresses are to be asked to be let in: each second, until they answer; or a few
    /// times, when somebody else does.
    Join(Vec<SocketAddr>),
    /// The full state of another member arrived, see [`Engine::export`].
    Sync(Bytes),
    /// This node leaves for good. Packets go out for a second; then the driver may stop.
    Leave,
    /// A failed member is not expected back.
    ForceLeave {
        /// Its name in the pool: the node's name (LAN), `node.dc` (WAN).
        name: String,
        /// Whether it is to be forgotten at once.
        prune: bool,
    },
    /// A datacenter is removed from the federation, or may come back (WAN).
    Removal(Removal),
    /// This was said of datacenters before this node was started (WAN).
    Removals(Vec<Removal>),
    /// This node says something new of itself. Name, id, datacenter and address stay the same.
    Update(Profile),
    /// The path to the member at this address closed: it is suspected at once.
    PathDown(SocketAddr),
}

/// What an engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a packet.
    Send {
        /// To whom.
        to: SocketAddr,
        /// What.
        data: Bytes,
    },
    /// Hand [`Input::Timer`] back after a while; at equal times in the order of their scheduling.
    Schedule {
        /// After how long.
        after: Duration,
        /// What to hand back.
        timer: Timer,
    },
    /// Tell whoever is interested.
    Event(Event),
    /// Fetch the full state of this member over its link and hand it back as [`Input::Sync`].
    Pull {
        /// The member: a server (LAN: with a link address).
        from: Profile,
    },
}

/// Something that others want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member is alive that wasn't before.
    Joined(Member),
    /// A member says something new of itself, or began to leave.
    Updated(Member),
    /// A member stopped answering.
    Failed(Member),
    /// A member said that it left, or a failed one was forced out.
    Left(Member),
    /// A failed or left member is forgotten.
    Reaped(Member),
    /// A datacenter was removed from the federation, or may come back.
    Removal(Removal),
    /// A server is refused because another cluster has the name of its datacenter. Told once.
    Rival(Rival),
    /// A server that was refused for its cluster is gone, or may come in.
    RivalGone(Rival),
    /// Somebody else is in the pool: the first contact.
    JoinedPool,
    /// An address of [`Input::Join`] answered.
    Answered(SocketAddr),
    /// A full state held records that this version can't read: they were left out.
    Unreadable {
        /// How many.
        records: usize,
        /// What was wrong with the first.
        why: String,
    },
    /// Somebody was not let in. Told once for each address.
    Refused {
        /// Who.
        profile: Profile,
        /// Why.
        reason: Refusal,
    },
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node has the name and is alive. About this node's own name: the other was first,
    /// or thinks so too.
    #[error("another node has this name and is alive")]
    NameTaken,
    /// It belongs to another datacenter's LAN pool.
    #[error("it belongs to another datacenter")]
    ForeignDatacenter,
    /// Only servers are in the WAN pool.
    #[error("only servers are in the WAN pool")]
    NotAServer,
    /// Its datacenter was removed from the federation.
    #[error("its datacenter was removed from the federation")]
    DatacenterRemoved,
    /// The pool holds as many members as it can.
    #[error("the pool is full")]
    PoolFull,
}

/// A time to be called back at; opaque to drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer(Cause);

/// Why to be called back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// SWIM asked for it.
    Swim(Alarm),
    /// Once a second: what isn't urgent.
    Duties,
    /// There are profiles to tell.
    Spread,
    /// Say once more that this node left.
    Farewell {
        /// How often it is still to be said.
        rounds: u8,
    },
    /// A member whose path closed had its time to refute.
    Verdict {
        /// Which member.
        suspect: Identity,
        /// In which incarnation it was suspected.
        incarnation: u16,
    },
}

/// Where this node is in its own life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In the pool, or on its way into it.
    Staying,
    /// Said that it left.
    Gone,
}

/// One node's view of its pool, and its part in it.
pub struct Engine {
    config: Config,
    pool: Pool,
    phase: Phase,
    now: Duration,
    swim: Swim,
    roster: Roster,
    spread: Spread,
    /// Whether a [`Cause::Spread`] is under way.
    spreading: bool,
    rng: SmallRng,
    /// Addresses to be let in by, with how often they are still tried once somebody else answered.
    seeds: BTreeMap<SocketAddr, u8>,
    pulls: Pulls,
    next_knock: Duration,
    next_reap: Duration,
    joined: bool,
    nonsense: u64,
}

impl Engine {
    /// Makes the engine of a node that says `me` of itself.
    ///
    /// `boot` is larger at every start of the node (milliseconds since 1970 will do); `seed`
    /// feeds all random choices.
    pub fn new(config: Config, me: Profile, boot: u64, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let identity = Identity { addr: me.addr, boot };
        let swim = Swim::new(&config, identity, SmallRng::from_rng(&mut rng));
        let pool = Pool::of(config.scope, &me.dc);
        let record = Record { stamp: Stamp::first(boot), profile: me };
        let roster = Roster::new(config.scope, config.reap_after, record);
        Self {
            pool,
            phase: Phase::Staying,
            now: Duration::ZERO,
            swim,
            roster,
            spread: Spread::default(),
            spreading: false,
            rng,
            seeds: BTreeMap::new(),
            pulls: Pulls::default(),
            next_knock: Duration::ZERO,
            next_reap: Duration::ZERO,
            joined: false,
            nonsense: 0,
            config,
        }
    }

    /// Takes in what happened at `now`, a time since any fixed moment that never goes back,
    /// and appends what is to be done to `out`.
    pub fn handle(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) {
        self.now = now;
        match (self.phase, input) {
            (_, Input::Timer(Timer(Cause::Farewell { rounds }))) => self.farewell(rounds, out),
            (Phase::Gone, _) => {}
            (_, Input::Start) => self.start(out),
            (_, Input::Packet { from, data }) => self.packet(from, &data, out),
            (_, Input::Timer(Timer(cause))) => self.timer(cause, out),
            (_, Input::Join(addrs)) => self.join(addrs, out),
            (_, Input::Sync(state)) => self.sync(&state, out),
            (_, Input::Leave) => self.leave(out),
            (_, Input::ForceLeave { name, prune }) => self.force_leave(&name, prune, out),
            (_, Input::Removal(said)) => self.say_removal(said, out),
            (_, Input::Removals(said)) => self.hear_removals(said, out),
            (_, Input::Update(profile)) => self.update(profile, out),
            (_, Input::PathDown(addr)) => self.path_down(addr, out),
        }
    }

    /// Returns all members that are known, this node and failed and left ones included, by their
    /// name in the pool.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.roster.members()
    }

    /// Returns how many members are alive, this node included.
    pub fn alive(&self) -> usize {
        self.roster.alive()
    }

    /// Returns how many packets and states were ignored because nobody in the pool wrote them.
    pub fn nonsense(&self) -> u64 {
        self.nonsense
    }

    /// Returns everything that this node knows of the pool, for another member's [`Input::Sync`].
    pub fn export(&self) -> Bytes {
        let entries = self.roster.entries().map(|(_, entry)| entry);
        let mut standings = self.swim.standings();
        let me = self.swim.me();
        standings.insert(me.addr, foca::Member::new(me, 0, foca::State::Alive));
        let removals = self.roster.removals();
        state::encode(entries, removals, &standings, (self.config.reap_after, self.now))
    }

    fn timer(&mut self, cause: Cause, out: &mut Vec<Output>) {
        match cause {
            Cause::Swim(alarm) => {
                // A probe cut short by a late timer begins anew.
                let _anew = self.swim.fire(alarm);
                self.drain(Note::Plain, out);
            }
            Cause::Duties => self.duties(out),
            Cause::Spread => self.spread(out),
            Cause::Verdict { suspect, incarnation } => self.verdict(suspect, incarnation, out),
            Cause::Farewell { rounds } => self.farewell(rounds, out),
        }
    }

    /// Derives a member's status anew and tells what changed.
    fn judge(&mut self, key: &str, out: &mut Vec<Output>) {
        let Some(event) = self.roster.judge(key, self.now) else { return };
        self.swim.retune(&self.config, self.roster.alive());
        let newcomer = match &event {
            Event::Joined(member) => Some(member.profile.clone()),
            _ => None,
        };
        out.push(Output::Event(event));
        self.changed();
        if let Some(profile) = newcomer {
            self.pull_if_due(&profile, out);
        }
    }

    /// Stamps this node's record anew and spreads it.
    fn rewrite(&mut self, stamp: Stamp, out: &mut Vec<Output>) {
        let profile = self.roster.me().member.profile.clone();
        self.roster.write_me(Record { stamp, profile }, Status::Alive);
        let key = self.roster.my_key().to_owned();
        self.tell(&key, out);
    }

    /// Queues a member's record to be told to others.
    fn tell(&mut self, key: &str, out: &mut Vec<Output>) {
        self.spread.add(key, config::copies(self.roster.alive()));
        self.spread_soon(out);
    }

    /// Carries out what SWIM wants done.
    fn drain(&mut self, note: Note, out: &mut Vec<Output>) {
        while let Some(effect) = self.swim.effect() {
            match effect {
                Effect::Send(to, message) => self.send(to, note, &message, out),
                Effect::Alarm(after, alarm) => schedule(after, Cause::Swim(alarm), out),
                Effect::Notice(notice) => self.notice(notice, out),
            }
        }
    }

    fn notice(&mut self, notice: Notice<Identity>, out: &mut Vec<Output>) {
        match notice {
            Notice::MemberUp(identity) => self.observe(identity, true, out),
            Notice::MemberDown(identity) => self.observe(identity, false, out),
            Notice::Rename(_, identity) => {
                let active = self.roster.peer(identity.addr).is_some_and(|peer| peer.active);
                self.observe(identity, active, out);
            }
            Notice::Rejoin(identity) => self.rewrite(Stamp::first(identity.boot), out),
            Notice::Active if !self.joined => {
                self.joined = true;
                out.push(Output::Event(Event::JoinedPool));
            }
            Notice::Active | Notice::Idle | Notice::Defunct => {}
        }
    }

    fn observe(&mut self, identity: Identity, active: bool, out: &mut Vec<Output>) {
        if identity.addr == self.swim.me().addr {
            return;
        }
        if let Some(key) = self.roster.observe(identity, active) {
            self.judge(&key, out);
        }
    }

    /// Sends a SWIM message with as many queued records as fit.
    fn send(&mut self, to: SocketAddr, note: Note, swim: &[u8], out: &mut Vec<Output>) {
        if to == self.swim.me().addr {
            return;
        }
        let mut draft = Draft::new(self.pool, note, swim, self.config.packet_len_max);
        if let Note::Hello(_) = note {
            push(&mut draft, &self.roster.me().record());
        }
        self.fill(&mut draft);
        out.push(Output::Send { to, data: draft.finish() });
    }

    /// Adds queued records to a packet.
    fn fill(&mut self, draft: &mut Draft) {
        let roster = &self.roster;
        // A name that was forgotten meanwhile counts as told.
        self.spread.offer(|key| roster.get(key).is_none_or(|entry| push(draft, &entry.record())));
    }

    /// Sends records, in as many packets as they need.
    fn send_records(
        &self,
        to: SocketAddr,
        note: Note,
        records: impl IntoIterator<Item = Record>,
        out: &mut Vec<Output>,
    ) {
        if to == self.swim.me().addr {
            return;
        }
        let begin = || Draft::new(self.pool, note, &[], self.config.packet_len_max);
        let mut draft = begin();
        for record in records {
            if !push(&mut draft, &record) {
                let full = std::mem::replace(&mut draft, begin());
                out.push(Output::Send { to, data: full.finish() });
                push(&mut draft, &record);
            }
        }
        if !draft.is_bare() {
            out.push(Output::Send { to, data: draft.finish() });
        }
    }

    fn force_leave(&mut self, name: &str, prune: bool, out: &mut Vec<Output>) {
        let word = if prune { Word::Pruned } else { Word::Forced };
        if self.roster.force_out(name, word) {
            self.judge(name, out);
            self.tell(name, out);
        }
    }

    fn update(&mut self, profile: Profile, out: &mut Vec<Output>) {
        let mine = self.roster.me();
        let old = &mine.member.profile;
        let same = |new: &Profile| {
            (&new.name, new.id, &new.dc, new.addr) == (&old.name, old.id, &old.dc, old.addr)
        };
        if !same(&profile) || *old == profile {
            return;
        }
        let stamp = mine.stamp.next(Word::Stays);
        self.roster.write_me(Record { stamp, profile }, Status::Alive);
        out.push(Output::Event(Event::Updated(self.roster.me().member.clone())));
        let gone = self.roster.hold_own_name();
        self.forgotten(gone, out);
        let key = self.roster.my_key().to_owned();
        self.tell(&key, out);
    }
}

/// Adds a record to a packet; true for one that can't be encoded, as if it were told.
fn push(draft: &mut Draft, record: &Record) -> bool {
    record.encode().is_none_or(|bytes| draft.push(&bytes))
}

/// Asks to be called back.
fn schedule(after: Duration, cause: Cause, out: &mut Vec<Output>) {
    out.push(Output::Schedule { after, timer: Timer(cause) });
}
