//! Keeps watch over the other datacenters: paths, words and the sights of the fellow servers
//! in; verdicts, the routing table and the own sight out.
//!
//! ```text
//!   members (gossip) --+
//!   paths (link) ------+--> Watch::step(now) --> verdict changes, Table, Sight
//!   fellows' sights ---+
//! ```
//!
//! A function of values and of what was seen before; the driver calls it at every change and at
//! an interval, because silence is a change that nobody announces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use topology::{Datacenter, Member, NodeName, Profile, Status};

use crate::{
    gate::Gates,
    matrix::{
        Written,
        gather::{Gather, Source},
    },
    routes::Reach,
    sight::Sight,
    table::{Remote, Server, Table},
    verdict::{self, Health, Judge, Path, Seen, Verdict, View},
    word::Word,
};

/// Silence that two heartbeats lost in a row explain (they come every 500 ms from both sides).
pub const FAINT_MIN: Duration = Duration::from_millis(900);

/// Silence that chance does not explain: requests under way give up on the server, so that one
/// sent just before its datacenter died still fails within 2 s.
pub const QUIET_MIN: Duration = Duration::from_millis(1500);

/// How long a server that was never heard may take to be dialled before it counts as down.
pub const UNSEEN_MAX: Duration = Duration::from_secs(3);

/// How old a fellow server's sight may be to count: it is told each half second.
pub const SIGHT_AGE_MAX: Duration = Duration::from_secs(2);

/// A server: its datacenter, its name there.
type Key = (Datacenter, NodeName);

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
    /// Its round trip.
    pub rtt: Option<Duration>,
    /// What the server said of itself last.
    pub word: Option<Word>,
}

/// A verdict that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The datacenter judged.
    pub dc: Datacenter,
    /// What was held before.
    pub before: Health,
    /// What is held now.
    pub verdict: Verdict,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) changes: Vec<Change>,
    pub(crate) table: Table,
    pub(crate) sight: Sight,
    /// The own row of the matrix.
    pub(crate) row: Arc<Written>,
    /// Servers to ask for their datacenters' rows.
    pub(crate) wanted: Vec<(Datacenter, SocketAddr)>,
}

struct Tracked {
    addr: SocketAddr,
    left: bool,
    path: Path,
    since: Duration,
    ever_up: bool,
    reason: String,
    rtt: Option<Duration>,
    word: Option<Word>,
    reach: watch::Sender<Reach>,
}

struct Fellow {
    sight: Sight,
    at: Duration,
}

/// Watches over the other datacenters.
pub(crate) struct Watch {
    me: Profile,
    servers: BTreeMap<Key, Tracked>,
    fellows: BTreeMap<NodeName, Fellow>,
    judges: BTreeMap<Datacenter, (Judge, Gates)>,
    gather: Gather,
}

impl Watch {
    /// Starts with nobody known.
    pub(crate) fn new(me: Profile) -> Self {
        Self {
            gather: Gather::new(me.dc.clone(), me.name.clone()),
            me,
            servers: BTreeMap::new(),
            fellows: BTreeMap::new(),
            judges: BTreeMap::new(),
        }
    }

    /// Takes in what a fellow server of the own datacenter sees.
    pub(crate) fn told(&mut self, now: Duration, fellow: NodeName, sight: Sight) {
        if fellow != self.me.name {
            self.fellows.insert(fellow, Fellow { sight, at: now });
        }
    }

    /// Takes in what a server of another datacenter says that this one holds of the others.
    pub(crate) fn told_row(&mut self, now: Duration, dc: Datacenter, by: NodeName, row: &[u8]) {
        self.gather.told(now, dc, by, row);
    }

    /// Takes in the members of the WAN pool and the paths to them, and judges.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        members: &[Member],
        reports: &BTreeMap<SocketAddr, Report>,
    ) -> Step {
        self.follow_members(now, members);
        for tracked in self.servers.values_mut() {
            tracked.follow(now, reports.get(&tracked.addr));
        }
        let fellows = self.observing_fellows(now);
        let sight = self.sight(now);
        let changes = self.judge(now, &sight, &fellows);
        let mut table = self.table();
        let wanted = self.gather.step(now, table.row(), &self.sources());
        table.matrix = self.gather.matrix().clone();
        Step { changes, table, sight, row: self.gather.own().clone(), wanted }
    }

    fn follow_members(&mut self, now: Duration, members: &[Member]) {
        let others = || {
            members.iter().filter(|member| {
                member.profile.name != self.me.name || member.profile.dc != self.me.dc
            })
        };
        let known: BTreeSet<Key> =
            others().map(|m| (m.profile.dc.clone(), m.profile.name.clone())).collect();
        let present: Vec<(Key, SocketAddr, bool)> = others()
            .map(|m| {
                let left = matches!(m.status, Status::Left | Status::Leaving);
                ((m.profile.dc.clone(), m.profile.name.clone()), m.profile.addr, left)
            })
            .collect();
        self.servers.retain(|key, _| known.contains(key));
        for (key, addr, left) in present {
            let tracked = self.servers.entry(key).or_insert_with(|| Tracked::new(now, addr));
            if tracked.addr != addr {
                *tracked = Tracked::new(now, addr);
            }
            tracked.left = left;
        }
    }

    /// Returns the fellow servers that are observers now.
    fn observing_fellows(&mut self, now: Duration) -> Vec<NodeName> {
        let servers = &self.servers;
        let dc = &self.me.dc;
        self.fellows.retain(|name, _| servers.contains_key(&(dc.clone(), name.clone())));
        self.fellows
            .iter()
            .filter(|(name, fellow)| {
                let up = servers
                    .get(&(dc.clone(), (*name).clone()))
                    .is_some_and(|tracked| tracked.path == Path::Up && !tracked.left);
                up && now.saturating_sub(fellow.at) <= SIGHT_AGE_MAX
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns what this server sees of those of other datacenters.
    fn sight(&self, now: Duration) -> Sight {
        let foreign = self.servers.iter().filter(|((dc, _), t)| *dc != self.me.dc && !t.left);
        Sight(foreign.map(|(key, tracked)| (key.clone(), tracked.seen(now))).collect())
    }

    fn judge(&mut self, now: Duration, own: &Sight, fellows: &[NodeName]) -> Vec<Change> {
        let mut views: BTreeMap<Datacenter, View> = BTreeMap::new();
        for ((dc, name), tracked) in self.servers.iter().filter(|((dc, _), _)| *dc != self.me.dc) {
            let key = (dc.clone(), name.clone());
            let view = views.entry(dc.clone()).or_default();
            view.observers = 1 + fellows.len();
            let mut server = verdict::Server { left: tracked.left, seen: BTreeMap::new() };
            if let Some(seen) = own.0.get(&key) {
                server.seen.insert(self.me.name.clone(), seen.clone());
            }
            for fellow in fellows {
                let Some(told) = self.fellows.get(fellow) else { continue };
                if let Some(seen) = told.sight.0.get(&key) {
                    let age = seen.age + now.saturating_sub(told.at);
                    server.seen.insert(fellow.clone(), Seen { age, ..seen.clone() });
                }
            }
            view.servers.insert(name.clone(), server);
        }
        self.judges.retain(|dc, _| views.contains_key(dc));
        let mut changes = Vec::new();
        for (dc, view) in &views {
            let (judge, gates) = self
                .judges
                .entry(dc.clone())
                .or_insert_with(|| (Judge::new(now), Gates::default()));
            let Some(before) = judge.judge(now, view) else { continue };
            if before.health == Health::Lost || judge.verdict().health == Health::Healthy {
                gates.reset();
            }
            changes.push(Change {
                dc: dc.clone(),
                before: before.health,
                verdict: judge.verdict().clone(),
            });
        }
        changes
    }

    /// Returns the servers whose datacenters' rows can be asked for.
    fn sources(&self) -> Vec<Source> {
        let heard = self.servers.iter().filter(|((dc, _), tracked)| {
            *dc != self.me.dc && tracked.path == Path::Up && !tracked.left
        });
        let source = |((dc, node), tracked): (&Key, &Tracked)| Source {
            dc: dc.clone(),
            node: node.clone(),
            addr: tracked.addr,
            rtt: tracked.rtt,
            mark: tracked.word.map_or(0, |word| word.row),
        };
        heard.map(source).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        for (dc, (judge, gates)) in &self.judges {
            let verdict = judge.verdict().clone();
            let remote = Remote { verdict, servers: Vec::new(), gates: gates.clone() };
            table.remotes.insert(dc.clone(), remote);
        }
        for ((dc, name), tracked) in self.servers.iter().filter(|(_, tracked)| !tracked.left) {
            let Some(remote) = table.remotes.get_mut(dc) else { continue };
            remote.servers.push(Server {
                dc: dc.clone(),
                name: name.clone(),
                addr: tracked.addr,
                rtt: tracked.rtt,
                word: tracked.word,
                reach: tracked.reach.subscribe(),
                reason: tracked.reason.clone(),
            });
        }
        table
    }
}

impl Tracked {
    fn new(now: Duration, addr: SocketAddr) -> Self {
        Self {
            addr,
            left: false,
            path: Path::Unknown,
            since: now,
            ever_up: false,
            reason: String::new(),
            rtt: None,
            word: None,
            reach: watch::Sender::new(Reach::Dialing),
        }
    }

    /// Takes in what the link reports; `None` when it has never heard of the server.
    fn follow(&mut self, now: Duration, report: Option<&Report>) {
        let (path, reach) = match report.map(|report| (&report.link, report.silent)) {
            Some((Link::Up, silent)) if silent >= QUIET_MIN => (Path::Up, Reach::Quiet),
            Some((Link::Up, silent)) if silent >= FAINT_MIN => (Path::Up, Reach::Faint),
            Some((Link::Up, _)) => (Path::Up, Reach::Live),
            Some((Link::Down { .. } | Link::Dialing, _)) | None => {
                let waited = self.path == Path::Unknown && now - self.since >= UNSEEN_MAX;
                if self.ever_up || self.path == Path::Down || waited {
                    (Path::Down, Reach::Down)
                } else {
                    (Path::Unknown, Reach::Dialing)
                }
            }
        };
        if path != self.path {
            self.path = path;
            self.since = now;
        }
        self.ever_up |= path == Path::Up;
        match report {
            Some(Report { link: Link::Up, rtt, word, .. }) => {
                self.rtt = rtt.or(self.rtt);
                self.word = *word;
                self.reason.clear();
            }
            Some(Report { link: Link::Down { reason }, .. }) => {
                self.word = None;
                self.reason.clone_from(reason);
            }
            Some(Report { link: Link::Dialing, .. }) | None => self.word = None,
        }
        self.reach.send_if_modified(|held| std::mem::replace(held, reach) != reach);
    }

    fn seen(&self, now: Duration) -> Seen {
        Seen {
            path: self.path,
            age: now.saturating_sub(self.since),
            leader_known: self.word.map(|word| word.leader_known),
            reason: if self.path == Path::Down { self.reason.clone() } else { String::new() },
        }
    }
}

#[cfg(test)]
mod tests;
