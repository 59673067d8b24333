//! Keeps watch over the other datacenters: paths, words and the sights of the fellow servers
//! in; verdicts, the routing table, the paths that are wanted and what to tell the fellows out.
//!
//! ```text
//!   members (gossip) --+
//!   paths (link) ------+--> Watch::step(now) --> verdict changes, Table, wishes, sights, rows
//!   fellows' sights ---+
//! ```
//!
//! A server watches its share of the other datacenters' servers ([`crate::share`]), and all servers of those
//! that it is asking for something ([`crate::demand`]). What it does not watch itself it knows from its fellow servers.
//!
//! A function of values and of what was seen before; the driver calls it at every change and at
//! an interval, because silence is a change that nobody announces.

mod fellows;
mod shown;
mod tracked;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use certs::link::Pace;
use tokio::sync::Notify;
use topology::{Datacenter, Member, NodeName, Profile, Status};

use self::{fellows::Fellows, tracked::Tracked};
use crate::{
    demand::Demand,
    gate::{Gate, Gates},
    matrix::{
        Written,
        gather::{Gather, Source},
    },
    notice::Notice,
    share::{Key, share},
    sight::{Sight, teller::Teller},
    table::{Remote, Server, Table},
    timeline::Note,
    verdict::{self, Health, Path, Seen, Verdict, View, judge::Judge},
    word::Word,
};

/// How long the answer to a heartbeat may be awaited before the server is no longer the first to be asked:
/// a round trip of 300 ms, and as much again.
pub const FAINT_MIN: Duration = Duration::from_millis(600);

/// How long until chance does not explain it: requests under way give up on the server, so that one
/// sent just before its datacenter died still fails within 2 s. Four heartbeats were lost in a row then.
pub const QUIET_MIN: Duration = Duration::from_millis(1200);

/// Silence from which on nothing is known of a server: longer than it lasts on any path that is watched.
pub const STALE_MIN: Duration = Duration::from_secs(3);

/// How long a server that was never heard may take to be dialled before it counts as down.
pub const UNSEEN_MAX: Duration = Duration::from_secs(3);

/// How long after a path changed more may follow: the longest time that something must last before
/// it changes a verdict, and some.
const UNREST: Duration = Duration::from_secs(6);

/// The state of a path as the link has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Connected.
    Up,
    /// Being dialled for the first time.
    Dialing,
    /// Lost or not to be had.
    Down {
        /// Why.
        reason: String,
    },
}

/// What the link reports of the path to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The state of the path.
    pub link: Link,
    /// How long ago anything was heard on it.
    pub silent: Duration,
    /// For how long the answer to a heartbeat has been awaited; `None`: none is.
    pub awaited: Option<Duration>,
    /// Whether the server tried to connect lately.
    pub knocks: bool,
    /// Its round trip.
    pub rtt: Option<Duration>,
    /// How many heartbeats there were lately.
    pub beats: u32,
    /// How many of them were lost.
    pub beats_lost: u32,
    /// What the server said of itself last.
    pub word: Option<Word>,
}

/// What there is to see at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// The members of the WAN pool.
    pub(crate) members: &'a [Member],
    /// The paths, by the address of their server.
    pub(crate) reports: &'a BTreeMap<SocketAddr, Report>,
    /// The fellow servers that can be reached.
    pub(crate) fellows: &'a BTreeSet<NodeName>,
}

/// A path that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Whom it leads to.
    pub(crate) server: Key,
    /// How closely it is watched.
    pub(crate) pace: Pace,
}

/// A verdict that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The datacenter judged.
    pub dc: Datacenter,
    /// What was held before.
    pub before: Health,
    /// For how long.
    pub lasted: Duration,
    /// What is held now.
    pub verdict: Verdict,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) changes: Vec<Change>,
    /// What of all that belongs on the timeline.
    pub(crate) notes: Vec<Note>,
    pub(crate) table: Table,
    /// The paths that are wanted, by the address of their server; no others are.
    pub(crate) wishes: BTreeMap<SocketAddr, Wish>,
    /// What to tell which fellow server of what is seen.
    pub(crate) said: Vec<(NodeName, Bytes)>,
    /// The own row of the matrix.
    pub(crate) row: Arc<Written>,
    /// Servers to ask for their datacenters' rows.
    pub(crate) wanted: Vec<(Datacenter, SocketAddr)>,
    /// Whether something is about to change: the next look should come soon.
    pub(crate) restless: bool,
}

/// What belongs to another datacenter, not to its servers.
struct Site {
    judge: Judge,
    gates: Gates,
    demand: Arc<Demand>,
}

/// Watches over the other datacenters.
pub(crate) struct Watch {
    me: Key,
    wake: Arc<Notify>,
    servers: BTreeMap<Key, Tracked>,
    fellows: Fellows,
    sites: BTreeMap<Datacenter, Site>,
    gather: Gather,
    teller: Teller,
    notice: Notice,
}

impl Watch {
    /// Starts with nobody known; `wake` is notified when a datacenter begins to be asked.
    pub(crate) fn new(me: &Profile, wake: Arc<Notify>) -> Self {
        Self {
            me: (me.dc.clone(), me.name.clone()),
            wake,
            servers: BTreeMap::new(),
            fellows: Fellows::default(),
            sites: BTreeMap::new(),
            gather: Gather::new(me.dc.clone(), me.name.clone()),
            teller: Teller::default(),
            notice: Notice::default(),
        }
    }

    /// Takes in what a fellow server of the own datacenter sees.
    pub(crate) fn told(&mut self, now: Duration, fellow: NodeName, sight: Sight) {
        if fellow != self.me.1 {
            self.fellows.told(now, fellow, sight);
        }
    }

    /// Notes that a fellow server did not get what it was told.
    pub(crate) fn missed(&mut self, fellow: &NodeName) {
        self.teller.missed(fellow);
    }

    /// Takes in what a server of another datacenter says that this one holds of the others.
    pub(crate) fn told_row(&mut self, now: Duration, dc: Datacenter, by: NodeName, row: &[u8]) {
        self.gather.told(now, dc, by, row);
    }

    /// Takes in what there is to see, and judges.
    pub(crate) fn step(&mut self, now: Duration, scene: Scene<'_>) -> Step {
        self.follow_members(now, scene.members);
        self.fellows.keep(now, scene.fellows);
        self.choose(now, scene.fellows);
        for (key, tracked) in &mut self.servers {
            let told = self.fellows.best(key);
            tracked.follow(now, scene.reports.get(&tracked.addr), told);
        }
        let seen = self.seen(now);
        let changes = self.judge(now, &seen);
        let mut table = self.table();
        let wanted = self.gather.step(now, table.row(), &self.sources());
        table.matrix = self.gather.matrix().clone();
        Step {
            notes: self.notice.step(now, &seen, &changes, &table),
            changes,
            table,
            wishes: self.wishes(),
            said: self.teller.step(now, &seen, scene.fellows),
            row: self.gather.own().clone(),
            wanted,
            restless: self.is_restless(now),
        }
    }

    /// Returns the own datacenter.
    pub(crate) fn dc(&self) -> &Datacenter {
        &self.me.0
    }

    /// Returns the name of this server in the WAN pool.
    pub(crate) fn name_in_wan(&self) -> String {
        self.me.1.in_wan(&self.me.0)
    }

    /// Returns what there is to tell of the ways to the own leader through other datacenters.
    pub(crate) fn home(&mut self, now: Duration, gate: &Gate) -> Option<Note> {
        self.notice.home(now, &self.me.0, gate)
    }

    fn follow_members(&mut self, now: Duration, members: &[Member]) {
        let others = || members.iter().filter(|member| member.profile.dc != self.me.0);
        let key = |member: &Member| (member.profile.dc.clone(), member.profile.name.clone());
        let known: BTreeSet<Key> = others().map(key).collect();
        self.servers.retain(|key, _| known.contains(key));
        for member in members.iter().filter(|member| member.profile.dc != self.me.0) {
            let addr = member.profile.addr;
            let tracked =
                self.servers.entry(key(member)).or_insert_with(|| Tracked::new(now, addr));
            if tracked.addr != addr {
                *tracked = Tracked::new(now, addr);
            }
            tracked.left = matches!(member.status, Status::Left | Status::Leaving);
        }
        self.sites.retain(|dc, _| known.iter().any(|(known, _)| known == dc));
        for (dc, _) in &known {
            self.sites.entry(dc.clone()).or_insert_with(|| Site {
                judge: Judge::new(now),
                gates: Gates::default(),
                demand: Demand::new(self.wake.clone()),
            });
        }
    }

    /// Decides which servers are watched, and how closely.
    fn choose(&mut self, now: Duration, fellows: &BTreeSet<NodeName>) {
        let present = self.servers.iter().filter(|(_, tracked)| !tracked.left);
        let mine = share(&self.me, fellows, present.map(|(key, _)| key));
        for (key, tracked) in &mut self.servers {
            let asked = self.sites.get(&key.0).is_some_and(|site| site.demand.is_fresh());
            let pace = match (tracked.left, asked, mine.contains(key)) {
                (true, ..) | (false, false, false) => Pace::Rest,
                (false, false, true) => Pace::Watch,
                (false, true, _) => Pace::Brisk,
            };
            tracked.watch(now, pace);
        }
    }

    fn wishes(&self) -> BTreeMap<SocketAddr, Wish> {
        let watched = self.servers.iter().filter(|(_, tracked)| tracked.pace != Pace::Rest);
        let wish = |(key, tracked): (&Key, &Tracked)| {
            (tracked.addr, Wish { server: key.clone(), pace: tracked.pace })
        };
        watched.map(wish).collect()
    }

    /// Returns what this server itself sees.
    fn seen(&self, now: Duration) -> BTreeMap<Key, Seen> {
        let watched = self.servers.iter().filter(|(_, tracked)| tracked.pace != Pace::Rest);
        watched.map(|(key, tracked)| (key.clone(), tracked.seen(now))).collect()
    }

    fn judge(&mut self, now: Duration, own: &BTreeMap<Key, Seen>) -> Vec<Change> {
        let observers = 1 + self.fellows.count();
        let mut views: BTreeMap<&Datacenter, View> = BTreeMap::new();
        for (key, tracked) in &self.servers {
            let view = views.entry(&key.0).or_default();
            view.observers = observers;
            let told = self.fellows.of(now, key).map(|(name, seen)| (name.clone(), seen));
            let mine = own.get(key).map(|seen| (self.me.1.clone(), seen.clone()));
            let server = verdict::Server { left: tracked.left, seen: told.chain(mine).collect() };
            view.servers.insert(key.1.clone(), server);
        }
        let mut changes = Vec::new();
        for (dc, view) in &views {
            let Some(Site { judge, gates, .. }) = self.sites.get_mut(*dc) else { continue };
            let Some(before) = judge.judge(now, view) else { continue };
            if !before.health.takes_requests() || judge.verdict().health == Health::Healthy {
                gates.reset();
            }
            changes.push(Change {
                dc: (*dc).clone(),
                before: before.health,
                lasted: now.saturating_sub(before.since),
                verdict: judge.verdict().clone(),
            });
        }
        changes
    }

    /// Returns the servers whose datacenters' rows can be asked for.
    fn sources(&self) -> Vec<Source> {
        let heard = self
            .servers
            .iter()
            .filter(|(_, tracked)| tracked.pace != Pace::Rest && tracked.path == Path::Up);
        let source = |((dc, node), tracked): (&Key, &Tracked)| Source {
            dc: dc.clone(),
            node: node.clone(),
            addr: tracked.addr,
            rtt: tracked.rtt,
            mark: tracked.word.map_or(0, |word| word.row),
        };
        heard.map(source).collect()
    }

    fn is_restless(&self, now: Duration) -> bool {
        let watched = self.servers.values().filter(|tracked| tracked.pace != Pace::Rest);
        self.sites.values().any(|site| site.demand.is_fresh())
            || watched.into_iter().any(|it| it.is_awaited || now < it.since + UNREST)
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        for (dc, site) in &self.sites {
            let verdict = site.judge.verdict().clone();
            let remote = Remote { verdict, servers: Vec::new(), gates: site.gates.clone() };
            table.remotes.insert(dc.clone(), remote);
        }
        for ((dc, name), tracked) in self.servers.iter().filter(|(_, tracked)| !tracked.left) {
            let (Some(remote), Some(site)) = (table.remotes.get_mut(dc), self.sites.get(dc)) else {
                continue;
            };
            remote.servers.push(Server {
                dc: dc.clone(),
                name: name.clone(),
                addr: tracked.addr,
                rtt: tracked.rtt,
                word: tracked.word,
                reach: tracked.reach.subscribe(),
                reason: tracked.reason.clone(),
                demand: site.demand.clone(),
            });
        }
        table
    }
}

#[cfg(test)]
mod tests;
