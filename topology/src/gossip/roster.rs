//! The members of a pool: what they wrote of themselves joined with what SWIM holds them for.
//!
//! Two sources meet here. [`Record`]s say which name is at which address; [`Peer`]s say which
//! address answers. A member's status follows from both:
//!
//! ```text
//!               stays        forced, pruned   left
//! answers       alive        leaving *        leaving *
//! silent        failed       left             left
//! * alive, when it answers from a later start than the one that the word is about
//! ```
//!
//! A name belongs to the node that had it first, until that node is silent or another one was
//! started at its address. An address belongs to the latest start that claimed it.

mod cluster;
mod removed;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

pub(crate) use self::removed::Dropped;
use crate::member::{Member, Role, Status};

use super::{
    Event, Refusal, Rival,
    config::Scope,
    identity::Identity,
    record::{Record, RecordHead, Stamp, Word},
    removal::Removals,
};

/// Most members that a roster holds: four times the largest pool that is planned for, so that a
/// peer gone mad can't eat the memory.
pub(crate) const MEMBERS_MAX: usize = 20_000;

/// Most addresses whose refusal is remembered, so that each is reported once.
const REFUSED_MAX: usize = 256;

/// What SWIM holds an address for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The latest start heard of.
    pub(crate) boot: u64,
    /// Whether it answers, or is not yet known not to.
    pub(crate) active: bool,
}

/// A member and what its status is derived from.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// As it is shown.
    pub(crate) member: Member,
    /// How new the profile is.
    pub(crate) stamp: Stamp,
    /// When to forget it, while it is silent.
    pub(crate) reap_at: Option<Duration>,
    /// Since when this node has held it for silent.
    silent_since: Option<Duration>,
    /// What others were told of it last.
    told: Told,
}

/// What others were told of a member last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing, or that it is forgotten.
    Nothing,
    /// Its status, and a profile that is no longer the latest.
    Outdated(Status),
    /// Its status and its latest profile.
    All(Status),
}

impl Entry {
    fn new(member: Member, stamp: Stamp, told: Told) -> Self {
        Self { member, stamp, reap_at: None, silent_since: None, told }
    }

    /// Tells whether others know of it; it is kept only to remember that it was pruned otherwise.
    fn is_shown(&self) -> bool {
        self.told != Told::Nothing
    }

    /// Takes a newer record.
    fn write(&mut self, record: &Record) {
        if let Told::All(status) = self.told
            && self.member.profile != record.profile
        {
            self.told = Told::Outdated(status);
        }
        self.member.profile.clone_from(&record.profile);
        self.stamp = record.stamp;
    }

    /// Returns the event that tells others what they don't know of it yet.
    fn tell(&mut self) -> Option<Event> {
        let status = self.member.status;
        if status == Status::Left && self.stamp.word == Word::Pruned {
            let told = std::mem::replace(&mut self.told, Told::Nothing);
            return (told != Told::Nothing).then(|| Event::Reaped(self.member.clone()));
        }
        let make: fn(Member) -> Event = match (self.told, status) {
            (Told::All(told), status) if told == status => return None,
            (Told::Outdated(told), status) if told == status => Event::Updated,
            (Told::All(Status::Leaving) | Told::Outdated(Status::Leaving), Status::Alive) => {
                Event::Updated
            }
            (_, Status::Alive) => Event::Joined,
            (_, Status::Leaving) => Event::Updated,
            (_, Status::Left) => Event::Left,
            (_, Status::Failed) => Event::Failed,
        };
        self.told = Told::All(status);
        Some(make(self.member.clone()))
    }

    /// Returns what spreads about it.
    pub(crate) fn record(&self) -> Record {
        Record { stamp: self.stamp, profile: self.member.profile.clone() }
    }
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is no news.
    Stale,
    /// It is about this node, and newer than what this node wrote: to be refuted.
    Mine,
    /// Its member is not let in.
    Refused(Refusal),
    /// Nor is this one, because another cluster has its datacenter's name.
    Rival(Rival),
    /// It was taken. Both names are to be judged.
    News {
        /// Whose record it is.
        key: String,
        /// Who had the address before.
        displaced: Option<String>,
    },
}

/// The members of a pool, as one of them knows them.
#[derive(Debug)]
pub(crate) struct Roster {
    scope: Scope,
    me: String,
    reap_after: Duration,
    entries: BTreeMap<String, Entry>,
    /// Which name an address belongs to.
    owners: BTreeMap<SocketAddr, String>,
    peers: BTreeMap<SocketAddr, Peer>,
    /// Addresses that answer, but whose profile isn't known.
    unknown: BTreeSet<SocketAddr>,
    refused: BTreeSet<SocketAddr>,
    rivals: BTreeMap<SocketAddr, cluster::Kept>,
    removals: Removals,
    alive: usize,
}

impl Roster {
    /// Begins a roster that holds nobody but this node.
    pub(crate) fn new(scope: Scope, reap_after: Duration, me: Record) -> Self {
        let key = scope.key(&me.profile);
        let owners = BTreeMap::from([(me.profile.addr, key.clone())]);
        let member = Member { profile: me.profile, status: Status::Alive };
        let entry = Entry::new(member, me.stamp, Told::All(Status::Alive));
        Self {
            scope,
            me: key.clone(),
            reap_after,
            entries: BTreeMap::from([(key, entry)]),
            owners,
            peers: BTreeMap::new(),
            unknown: BTreeSet::new(),
            refused: BTreeSet::new(),
            rivals: BTreeMap::new(),
            removals: Removals::default(),
            alive: 1,
        }
    }

    /// Returns this node's name in the pool.
    pub(crate) fn my_key(&self) -> &str {
        &self.me
    }

    /// Returns this node's entry.
    pub(crate) fn me(&self) -> &Entry {
        &self.entries[&self.me]
    }

    /// Writes this node's record.
    pub(crate) fn write_me(&mut self, record: Record, status: Status) {
        if let Some(entry) = self.entries.get_mut(&self.me) {
            entry.member = Member { profile: record.profile, status };
            entry.stamp = record.stamp;
        }
    }

    /// Returns an entry.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Returns all entries, also those that are not shown, by name.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// Returns the members that are shown, by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.entries.values().filter(|entry| entry.is_shown()).map(|entry| &entry.member)
    }

    /// Returns the members other than this node that have a status.
    pub(crate) fn others(&self, status: Status) -> impl Iterator<Item = &Member> {
        let me = &self.me;
        self.entries
            .iter()
            .filter(move |(key, entry)| *key != me && entry.member.status == status)
            .map(|(_, entry)| &entry.member)
    }

    /// Returns how many members are alive, this node included.
    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    /// Returns what SWIM holds an address for.
    pub(crate) fn peer(&self, addr: SocketAddr) -> Option<Peer> {
        self.peers.get(&addr).copied()
    }

    /// Returns the record of the member at an address, stamped as the latest start that was heard of
    /// there: SWIM may know of one whose own record never came.
    pub(crate) fn latest(&self, addr: SocketAddr) -> Option<Record> {
        let entry = self.entries.get(self.owners.get(&addr)?)?;
        let heard = self.peers.get(&addr).map_or(0, |peer| peer.boot);
        let record = entry.record();
        Some(Record { stamp: record.stamp.max(Stamp::first(heard)), ..record })
    }

    /// Returns the addresses that answer, but nobody said for whom.
    pub(crate) fn unknown(&self) -> &BTreeSet<SocketAddr> {
        &self.unknown
    }

    /// Tells whether a record is surely no news, from its beginning alone.
    pub(crate) fn knows(&self, head: &RecordHead<'_>) -> bool {
        let known = |entry: &Entry| entry.member.profile.id == head.id && entry.stamp >= head.stamp;
        match self.scope {
            Scope::Lan => self.entries.get(head.name).is_some_and(known),
            Scope::Wan => {
                self.entries.get(&format!("{}.{}", head.name, head.dc)).is_some_and(known)
            }
        }
    }

    /// Notes what SWIM holds an address for now, and returns the name that is to be judged.
    pub(crate) fn observe(&mut self, identity: Identity, active: bool) -> Option<String> {
        let Identity { addr, boot } = identity;
        self.peers.insert(addr, Peer { boot, active });
        let owner = self.owners.get(&addr).cloned();
        let is_kept_out = self.refused.contains(&addr) || self.rivals.contains_key(&addr);
        if active && owner.is_none() && !is_kept_out {
            self.unknown.insert(addr);
        } else {
            self.unknown.remove(&addr);
        }
        owner
    }

    /// Takes a record, unless it is old or its member is not let in. [`Roster::make_way`] comes first.
    pub(crate) fn accept(&mut self, record: &Record, now: Duration) -> Accepted {
        if let Some(refusal) = self.refusal(record) {
            return Accepted::Refused(refusal);
        }
        if let Some(accepted) = self.weigh_cluster(record, now) {
            return accepted;
        }
        let key = self.scope.key(&record.profile);
        let verdict = match self.entries.get(&key) {
            Some(known) if known.member.profile.id == record.profile.id => {
                self.compare(&key, known, record)
            }
            Some(known) => self.contest(known, record, now),
            None if self.entries.len() >= MEMBERS_MAX => Some(Accepted::Refused(Refusal::PoolFull)),
            None => None,
        };
        verdict.unwrap_or_else(|| {
            let displaced = self.put(&key, record);
            Accepted::News { key, displaced }
        })
    }

    /// Weighs a record against the known one of the same node; nothing when it is to be taken.
    fn compare(&self, key: &str, known: &Entry, record: &Record) -> Option<Accepted> {
        match key == self.me {
            _ if record.stamp <= known.stamp => Some(Accepted::Stale),
            // A copy of this node's data directory runs elsewhere: no use in outbidding it.
            true if self.is_rival(known, record) => Some(Accepted::Refused(Refusal::NameTaken)),
            true => Some(Accepted::Mine),
            false => None,
        }
    }

    /// Weighs a record against the known one of another node of that name.
    fn contest(&self, known: &Entry, record: &Record, now: Duration) -> Option<Accepted> {
        if record.profile.addr == known.member.profile.addr && record.stamp.boot > known.stamp.boot
        {
            // What answers there is not the holder any more, but started after it.
            return None;
        }
        let holder_answers = matches!(known.member.status, Status::Alive | Status::Leaving);
        match (holder_answers, self.is_rival(known, record)) {
            (true, true) => Some(Accepted::Refused(Refusal::NameTaken)),
            (true, false) => Some(Accepted::Stale),
            // It may be held for failed by mistake. Whoever wants its name is asked again.
            (false, true) if self.keeps_name(known, record, now) => Some(Accepted::Stale),
            (false, true) => None,
            (false, false) => {
                let later = record.claim(&known.record()).is_gt();
                (!later).then_some(Accepted::Stale)
            }
        }
    }

    /// Tells whether the member of a record answers, at another address than the known one.
    fn is_rival(&self, known: &Entry, record: &Record) -> bool {
        let addr = record.profile.addr;
        addr != known.member.profile.addr && self.peer(addr).is_some_and(|peer| peer.active)
    }

    /// Says why a member is not let in, as far as its record alone tells.
    fn refusal(&self, record: &Record) -> Option<Refusal> {
        match self.scope {
            Scope::Lan if record.profile.dc != self.me().member.profile.dc => {
                Some(Refusal::ForeignDatacenter)
            }
            Scope::Wan if record.profile.role != Role::Server => Some(Refusal::NotAServer),
            Scope::Wan if self.is_removed(&record.profile.dc) => Some(Refusal::DatacenterRemoved),
            Scope::Lan | Scope::Wan => None,
        }
    }

    /// Stores a record and returns whom it displaced from its address.
    fn put(&mut self, key: &str, record: &Record) -> Option<String> {
        let Record { stamp, ref profile } = *record;
        match self.entries.get_mut(key) {
            Some(entry) => {
                let former = entry.member.profile.addr;
                entry.write(record);
                if former != profile.addr
                    && self.owners.get(&former).is_some_and(|owner| owner == key)
                {
                    self.owners.remove(&former);
                }
            }
            None => {
                // Judged before anybody is told of it.
                let member = Member { profile: profile.clone(), status: Status::Left };
                self.entries.insert(key.to_owned(), Entry::new(member, stamp, Told::Nothing));
            }
        }
        let owner = self.owners.get(&profile.addr);
        let yields = |owner: &String| {
            *owner != self.me
                && self.entries.get(owner).is_none_or(|entry| entry.stamp.boot <= stamp.boot)
        };
        if owner.is_none_or(yields) {
            self.unknown.remove(&profile.addr);
            let former = self.owners.insert(profile.addr, key.to_owned());
            return former.filter(|former| former != key);
        }
        None
    }

    /// Remembers that an address was refused; true the first time.
    pub(crate) fn refuse(&mut self, addr: SocketAddr) -> bool {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.unknown.remove(&addr);
        self.refused.insert(addr)
    }

    /// Derives the status of a member.
    fn status(&self, key: &str, entry: &Entry) -> Status {
        let addr = entry.member.profile.addr;
        let answers = self
            .owners
            .get(&addr)
            .filter(|owner| *owner == key)
            .and_then(|_| self.peers.get(&addr))
            .filter(|peer| peer.active);
        match (answers, entry.stamp.word) {
            (Some(_), Word::Stays) => Status::Alive,
            (Some(peer), _) if peer.boot > entry.stamp.boot => Status::Alive,
            (Some(_), _) => Status::Leaving,
            (None, Word::Stays) => Status::Failed,
            (None, _) => Status::Left,
        }
    }

    /// Derives the status of a member anew and returns what there is to tell about it.
    pub(crate) fn judge(&mut self, key: &str, now: Duration) -> Option<Event> {
        if key == self.me {
            return None;
        }
        let status = self.status(key, self.entries.get(key)?);
        let entry = self.entries.get_mut(key)?;
        let was_alive = entry.member.is_alive();
        entry.member.status = status;
        let answers = matches!(status, Status::Alive | Status::Leaving);
        entry.reap_at = match (answers, entry.reap_at) {
            (true, _) => None,
            (false, None) => Some(now + self.reap_after),
            (false, known) => known,
        };
        entry.silent_since = (!answers).then(|| entry.silent_since.unwrap_or(now));
        let event = entry.tell();
        match (was_alive, status == Status::Alive) {
            (false, true) => self.alive += 1,
            (true, false) => {
                self.alive -= 1;
                self.reconsider_refused();
            }
            (true, true) | (false, false) => {}
        }
        event
    }

    /// Asks those who were refused again, because a name may have become free.
    fn reconsider_refused(&mut self) {
        for addr in std::mem::take(&mut self.refused) {
            if self.peers.get(&addr).is_some_and(|peer| peer.active)
                && !self.owners.contains_key(&addr)
            {
                self.unknown.insert(addr);
            }
        }
    }

    /// Makes a silent member be forgotten no later than `at`.
    pub(crate) fn reap_no_later(&mut self, key: &str, at: Duration) {
        if let Some(reap_at) = self.entries.get_mut(key).and_then(|entry| entry.reap_at.as_mut()) {
            *reap_at = at.min(*reap_at);
        }
    }

    /// Writes the word that a member was forced out; false for a name that isn't known.
    pub(crate) fn force_out(&mut self, key: &str, word: Word) -> bool {
        if key == self.me {
            return false;
        }
        let Some(entry) = self.entries.get_mut(key) else { return false };
        // The word is about its latest start, even when its own record of it hasn't come yet.
        let heard = self.peers.get(&entry.member.profile.addr).map_or(0, |peer| peer.boot);
        if heard > entry.stamp.boot {
            entry.stamp = Stamp::first(heard);
        }
        entry.stamp.word = entry.stamp.word.max(word);
        true
    }

    /// Forgets the members whose time has come, and returns what was shown of them.
    pub(crate) fn reap(&mut self, now: Duration) -> Vec<Member> {
        let is_due = |entry: &Entry| entry.reap_at.is_some_and(|at| at <= now);
        let due: Vec<Entry> =
            self.entries.extract_if(.., |_, entry| is_due(entry)).map(|(_, entry)| entry).collect();
        self.owners.retain(|_, owner| self.entries.contains_key(owner));
        due.into_iter().filter(Entry::is_shown).map(|entry| entry.member).collect()
    }

    /// Tells whether an address belongs to nobody, and forgets what SWIM held it for if so.
    pub(crate) fn disown(&mut self, addr: SocketAddr) -> bool {
        let nobodys = !self.owners.contains_key(&addr);
        if nobodys {
            self.peers.remove(&addr);
        }
        nobodys
    }
}
