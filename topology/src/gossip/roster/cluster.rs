//! Which cluster a datacenter's name belongs to, as the members that a node knows tell.
//!
//! All members of a datacenter that say a cluster say the same one; nothing else is kept. A record of another cluster
//! waits until these are gone: silent for [`NAME_KEPT_FOR`], or forgotten. A later start at the address of one
//! proves that it is over, so that a datacenter which is wiped and started again does not wait for itself.

use std::{net::SocketAddr, time::Duration};

use super::{Accepted, Dropped, Entry, Roster};
use crate::{
    gossip::{
        cluster::{NAME_KEPT_FOR, Rival},
        config::Scope,
        record::{Record, Stamp},
    },
    name::Datacenter,
};

/// Most refused servers that are remembered: those of some dozen datacenters. Who is over is refused all the same.
const RIVALS_MAX: usize = 256;

/// A refused server, and how new its record was.
#[derive(Debug)]
pub(super) struct Kept {
    rival: Rival,
    stamp: Stamp,
    silent_since: Option<Duration>,
}

/// What becomes of a record for the name of its datacenter.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// Nobody else has the name.
    Good,
    /// Those who had it are gone.
    Inherits,
    /// This cluster has it.
    Taken(String),
    /// It is no news: something later is known of the address, or nobody is there.
    Stale,
}

impl Roster {
    /// Forgets the members that a record proves to be gone, or that leave their datacenter's name to it.
    pub(crate) fn make_way(&mut self, record: &Record, now: Duration) -> Vec<Dropped> {
        if !self.is_about_another(record) || self.refusal(record).is_some() {
            return Vec::new();
        }
        let claim = self.claim(record, now);
        let name = self.scope.key(&record.profile);
        let makes_way = |key: &str, entry: &Entry| match claim {
            Claim::Stale => false,
            Claim::Inherits if conflict(entry, record) => true,
            // What it said before, of no cluster yet, counts no more.
            Claim::Taken(_) => is_over(entry, record),
            Claim::Good | Claim::Inherits => key != name && is_over(entry, record),
        };
        let same_dc = |entry: &Entry| entry.member.profile.dc == record.profile.dc;
        let entries = self.entries.iter().filter(|(key, _)| **key != self.me);
        let gone: Vec<String> = entries
            .filter(|(key, entry)| same_dc(entry) && makes_way(key, entry))
            .map(|(key, _)| key.clone())
            .collect();
        self.forget_all(&gone)
    }

    /// Weighs a record against the cluster that has its datacenter's name; nothing when that is its own.
    pub(super) fn weigh_cluster(&self, record: &Record, now: Duration) -> Option<Accepted> {
        if !self.is_about_another(record) {
            return None;
        }
        match self.claim(record, now) {
            Claim::Good | Claim::Inherits => None,
            Claim::Stale => Some(Accepted::Stale),
            Claim::Taken(holder) => {
                let profile = record.profile.clone();
                Some(Accepted::Rival(Rival { profile, holder, since: now }))
            }
        }
    }

    /// Tells whether a known member that does not answer keeps its name from a node of no or another cluster.
    pub(super) fn keeps_name(&self, known: &Entry, record: &Record, now: Duration) -> bool {
        let cluster = known.member.profile.cluster();
        cluster.is_some() && cluster != record.profile.cluster() && keeps(known, now)
    }

    /// Forgets the members of other clusters under this node's own name: it says which is its own now.
    pub(crate) fn hold_own_name(&mut self) -> Vec<Dropped> {
        let me = self.me().record();
        let entries = self.entries.iter().filter(|(key, _)| **key != self.me);
        let others: Vec<(String, SocketAddr)> = entries
            .filter(|(_, entry)| self.scope == Scope::Wan && conflict(entry, &me))
            .map(|(key, entry)| (key.clone(), entry.member.profile.addr))
            .collect();
        let (gone, addrs): (Vec<_>, Vec<_>) = others.into_iter().unzip();
        let dropped = self.forget_all(&gone);
        // They are asked who they are, and refused for what they say.
        let answer =
            addrs.into_iter().filter(|addr| self.peers.get(addr).is_some_and(|it| it.active));
        self.unknown.extend(answer);
        dropped
    }

    /// Returns the servers that are refused for their cluster.
    pub(crate) fn rivals(&self) -> impl Iterator<Item = &Rival> {
        self.rivals.values().map(|kept| &kept.rival)
    }

    /// Remembers that a server is refused for its cluster; tells whether that is news.
    pub(crate) fn keep_out(&mut self, mut rival: Rival, stamp: Stamp) -> bool {
        let addr = rival.profile.addr;
        self.unknown.remove(&addr);
        self.refused.remove(&addr);
        let known = self.rivals.get(&addr).map(|kept| &kept.rival);
        let same = known
            .filter(|known| (known.cluster(), &known.holder) == (rival.cluster(), &rival.holder));
        let is_news = same.is_none();
        rival.since = same.map_or(rival.since, |known| known.since);
        if known.is_none() && self.rivals.len() >= RIVALS_MAX {
            return false;
        }
        self.rivals.insert(addr, Kept { rival, stamp, silent_since: None });
        is_news
    }

    /// Forgets that the server at an address was refused for its cluster.
    pub(crate) fn let_in(&mut self, addr: SocketAddr) -> Option<Rival> {
        self.rivals.remove(&addr).map(|kept| kept.rival)
    }

    /// Forgets the refused servers that are gone, and those whose name is free: these are asked who they are.
    pub(crate) fn review_rivals(&mut self, now: Duration) -> Vec<Rival> {
        for (addr, kept) in &mut self.rivals {
            let answers = self.peers.get(addr).is_some_and(|peer| peer.active);
            kept.silent_since = (!answers).then(|| kept.silent_since.unwrap_or(now));
        }
        let is_over = |kept: &Kept| {
            let silent =
                kept.silent_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
            silent >= NAME_KEPT_FOR || !self.is_taken(&kept.rival, now)
        };
        let over: Vec<(SocketAddr, bool)> = self
            .rivals
            .iter()
            .filter(|(_, kept)| is_over(kept))
            .map(|(addr, kept)| (*addr, kept.silent_since.is_none()))
            .collect();
        let answer =
            over.iter().filter(|(addr, answers)| *answers && !self.owners.contains_key(addr));
        self.unknown.extend(answer.map(|(addr, _)| *addr));
        over.iter().filter_map(|(addr, _)| self.let_in(*addr)).collect()
    }

    fn is_taken(&self, rival: &Rival, now: Duration) -> bool {
        let mut others = self.clusters(&rival.profile.dc);
        others.any(|(cluster, entry)| cluster != rival.cluster() && keeps(entry, now))
    }

    /// Returns the members of a datacenter that say a cluster.
    fn clusters(&self, dc: &Datacenter) -> impl Iterator<Item = (&str, &Entry)> {
        let entries = self.entries.values().filter(move |entry| entry.member.profile.dc == *dc);
        entries.filter_map(|entry| Some((entry.member.profile.cluster()?, entry)))
    }

    /// Tells whether a record is about somebody else, in a pool where clusters count.
    fn is_about_another(&self, record: &Record) -> bool {
        let me = &self.me().member.profile;
        let is_mine = self.scope.key(&record.profile) == self.me && record.profile.id == me.id;
        self.scope == Scope::Wan && !is_mine
    }

    fn claim(&self, record: &Record, now: Duration) -> Claim {
        if self.is_outdated(record) {
            return Claim::Stale;
        }
        let Some(cluster) = record.profile.cluster() else { return Claim::Good };
        let others = || {
            let others = self.clusters(&record.profile.dc).filter(|(other, _)| *other != cluster);
            others.filter(|(_, entry)| !self.is_over_for(entry, record))
        };
        let holder = others().find(|(_, entry)| keeps(entry, now)).map(|(holder, _)| holder);
        let answers = self.peers.get(&record.profile.addr).is_some_and(|peer| peer.active);
        match holder {
            _ if others().next().is_none() => Claim::Good,
            // Nobody has to be refused who is not there, and nobody inherits.
            _ if !answers => Claim::Stale,
            Some(holder) => Claim::Taken(holder.to_owned()),
            None => Claim::Inherits,
        }
    }

    /// Tells whether something later is known of the address of a record than what it says.
    fn is_outdated(&self, record: &Record) -> bool {
        let addr = record.profile.addr;
        let refused_later = self.rivals.get(&addr).is_some_and(|kept| kept.stamp > record.stamp);
        let owner = self.owners.get(&addr).and_then(|owner| self.entries.get(owner));
        let is_later = |owner: &Entry| {
            owner.member.profile.dc == record.profile.dc && owner.stamp > record.stamp
        };
        refused_later || owner.is_some_and(is_later)
    }

    fn is_over_for(&self, entry: &Entry, record: &Record) -> bool {
        is_over(entry, record) && entry.member.profile.addr != self.me().member.profile.addr
    }

    fn forget_all(&mut self, keys: &[String]) -> Vec<Dropped> {
        let dropped = keys.iter().filter_map(|key| self.forget(key)).collect();
        self.owners.retain(|_, owner| self.entries.contains_key(owner));
        dropped
    }
}

/// Tells whether a member keeps its datacenter's name for its cluster.
fn keeps(entry: &Entry, now: Duration) -> bool {
    entry.silent_since.is_none_or(|since| now.saturating_sub(since) < NAME_KEPT_FOR)
}

/// Tells whether both say a cluster, and not the same.
fn conflict(entry: &Entry, record: &Record) -> bool {
    let (known, said) = (&entry.member.profile, &record.profile);
    known.dc == said.dc
        && known.cluster().zip(said.cluster()).is_some_and(|(known, said)| known != said)
}

/// Tells whether a record is of who followed a member at its address, or of itself, later.
fn is_over(entry: &Entry, record: &Record) -> bool {
    entry.member.profile.addr == record.profile.addr && entry.stamp < record.stamp
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{
        gossip::identity::Identity,
        member::{CLUSTER_TAG, Profile, Role, Status},
        name::NodeId,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Something that happens to one of four servers of dc2, or time.
    #[derive(Debug, Clone)]
    enum Step {
        /// It says what it is of, after it was started again or not.
        Says {
            server: u16,
            cluster: Option<u8>,
            anew: bool,
        },
        /// It answers, or not.
        Answers {
            server: u16,
            active: bool,
        },
        /// An older record of it comes by.
        Repeats {
            server: u16,
        },
        Passes {
            secs: u32,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4_u16, prop::option::weighted(0.8, 0..2_u8), any::<bool>())
                .prop_map(|(server, cluster, anew)| Step::Says { server, cluster, anew }),
            3 => (0..4_u16, any::<bool>()).prop_map(|(server, active)| Step::Answers { server, active }),
            1 => (0..4_u16).prop_map(|server| Step::Repeats { server }),
            3 => (0..7_u32).prop_map(|secs| Step::Passes { secs }),
        ];
        prop::collection::vec(step, 1..60)
    }

    fn profile(dc: &str, number: u16, cluster: Option<String>) -> Profile {
        Profile {
            name: format!("s{number}").parse().unwrap(),
            id: NodeId(Uuid::from_u128(number.into())),
            dc: dc.parse().unwrap(),
            role: Role::Server,
            addr: SocketAddr::from(([10, 0, 0, number as u8], 8302)),
            link: None,
            wan: None,
            version: String::new(),
            tags: cluster.into_iter().map(|it| (CLUSTER_TAG.to_owned(), it)).collect(),
        }
    }

    struct World {
        roster: Roster,
        now: Duration,
        said: BTreeMap<u16, Vec<Record>>,
        /// When a member that says a cluster lived last.
        lived: BTreeMap<SocketAddr, Duration>,
    }

    impl World {
        fn new() -> Self {
            let me = Record { stamp: Stamp::first(1), profile: profile("dc1", 200, None) };
            let roster = Roster::new(Scope::Wan, SECOND * 100_000, me);
            Self { roster, now: SECOND, said: BTreeMap::new(), lived: BTreeMap::new() }
        }

        fn step(&mut self, step: &Step) {
            match *step {
                Step::Passes { secs } => self.now += SECOND * secs,
                Step::Answers { server, active } => {
                    let stamp =
                        self.said.get(&server).and_then(|all| all.last()).map(|it| it.stamp);
                    let boot = stamp.map_or(1, |stamp| stamp.boot);
                    let addr = profile("dc2", server, None).addr;
                    self.roster.observe(Identity { addr, boot }, active);
                }
                Step::Says { server, cluster, anew } => {
                    let all = self.said.entry(server).or_default();
                    let stamp = match all.last().map(|record| record.stamp) {
                        None => Stamp::first(1),
                        Some(last) if anew => Stamp::first(last.boot + 1),
                        Some(last) => last.next(last.word),
                    };
                    let cluster = cluster.map(|it| format!("cluster {it}"));
                    let record = Record { stamp, profile: profile("dc2", server, cluster) };
                    all.push(record.clone());
                    self.hear(&record);
                }
                Step::Repeats { server } => {
                    let first = self.said.get(&server).and_then(|all| all.first()).cloned();
                    first.iter().for_each(|record| self.hear(record));
                }
            }
            for server in 0..4 {
                self.roster.judge(&format!("s{server}.dc2"), self.now);
            }
            self.roster.review_rivals(self.now);
        }

        fn hear(&mut self, record: &Record) {
            self.roster.make_way(record, self.now);
            match self.roster.accept(record, self.now) {
                Accepted::News { .. } => {
                    self.roster.let_in(record.profile.addr);
                }
                Accepted::Rival(rival) => {
                    self.roster.keep_out(rival, record.stamp);
                }
                _ => {}
            }
        }

        fn clusters(&self) -> BTreeSet<String> {
            let dc = "dc2".parse().unwrap();
            self.roster.clusters(&dc).map(|(cluster, _)| cluster.to_owned()).collect()
        }

        /// Returns where the members are that keep the name.
        fn keepers(&mut self) -> Vec<SocketAddr> {
            let dc: Datacenter = "dc2".parse().unwrap();
            for (_, entry) in self.roster.clusters(&dc) {
                if matches!(entry.member.status, Status::Alive | Status::Leaving) {
                    self.lived.insert(entry.member.profile.addr, self.now);
                }
            }
            let addrs = self.roster.clusters(&dc).map(|(_, entry)| entry.member.profile.addr);
            let lived = |addr: &SocketAddr| {
                self.lived.get(addr).is_some_and(|at| self.now < *at + NAME_KEPT_FOR)
            };
            addrs.filter(lived).collect()
        }
    }

    proptest! {
        #[test]
        fn a_name_has_one_cluster_and_never_changes_hands_while_its_servers_live(steps in steps()) {
            let mut world = World::new();
            for step in steps {
                let (before, keepers) = (world.clusters(), world.keepers());
                world.step(&step);
                let after = world.clusters();
                prop_assert!(after.len() <= 1, "{step:?}: {after:?}");
                let own = match step {
                    // What it says of itself ends what it said before.
                    Step::Says { server, .. } => Some(profile("dc2", server, None).addr),
                    _ => None,
                };
                let keeps = keepers.iter().any(|addr| {
                    Some(*addr) != own && world.now < world.lived[addr] + NAME_KEPT_FOR
                });
                if keeps {
                    prop_assert_eq!(&before, &after, "{:?}", step);
                }
                for rival in world.roster.rivals() {
                    prop_assert!(!world.roster.owners.contains_key(&rival.profile.addr));
                    prop_assert!(!after.contains(rival.cluster()), "{step:?}");
                }
            }
        }
    }
}
