//! Which servers of the own datacenter there are, and which one to ask next.
//!
//! Every agent has its own order of the servers (rendezvous hashing of its seed and their
//! names): agents spread evenly over the servers, each needs one connection, and when a server
//! comes or goes only the agents that prefer it move. A server that failed an ask is left out at
//! once, and is back when its path is up again. Those that gossip holds for failed come last, and
//! only while their path is up.
//!
//! Functions of values: whoever asks brings the members, the paths and the present.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use topology::{Member, NodeName, Role, Status};

/// How long a server that failed an ask is left out although its path never went down: whatever
/// it was that failed, heartbeats prove that it is there.
const LEFT_OUT: Duration = Duration::from_secs(3);

/// How long the path to the preferred server must have been up before the others are let go.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// A server that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: NodeName,
    /// Where it takes asks.
    pub link: SocketAddr,
    /// Where it takes the packets of the LAN pool.
    pub addr: SocketAddr,
}

/// What is known of the path to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// There is a connection.
    Up {
        /// Since when.
        since: Instant,
    },
    /// There was one, or an attempt at one.
    Down {
        /// Why there is none.
        reason: Arc<str>,
    },
}

/// What changed for whoever keeps the connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Servers to stay connected to: the preferred one, and those that failed and may come back;
    /// all of them while there is no path to any.
    pub connect: Vec<Server>,
    /// Servers that are no more.
    pub disconnect: Vec<Server>,
    /// Servers that are not needed beside the preferred one, once nothing is under way with them.
    pub retire: Vec<Server>,
    /// Servers whose path went down: gossip may suspect them.
    pub lost: Vec<Server>,
}

/// The servers, in this agent's order.
#[derive(Debug)]
pub struct Servers {
    seed: u64,
    ranked: Vec<Ranked>,
    ways: BTreeMap<SocketAddr, Way>,
    /// When asks that failed were sent, and why they failed, by link address.
    failed: BTreeMap<SocketAddr, (Instant, String)>,
    /// Whose paths go down because they are not needed.
    retired: BTreeSet<SocketAddr>,
}

#[derive(Debug)]
struct Ranked {
    server: Server,
    alive: bool,
}

impl Servers {
    /// Starts without any; `seed` gives this agent its own order.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ranked: Vec::new(),
            ways: BTreeMap::new(),
            failed: BTreeMap::new(),
            retired: BTreeSet::new(),
        }
    }

    /// Takes in the members of the pool.
    pub fn see_members(&mut self, members: &[Member], now: Instant) -> Changes {
        let mut ranked: Vec<Ranked> = members.iter().filter_map(candidate).collect();
        // Alive ones first; a name's score orders those alike.
        ranked.sort_by_key(|ranked| {
            let score = score(self.seed, ranked.server.name.as_str());
            (!ranked.alive, score, ranked.server.name.clone())
        });
        let links: BTreeSet<SocketAddr> = ranked.iter().map(|it| it.server.link).collect();
        let before = std::mem::replace(&mut self.ranked, ranked);
        let gone = before.into_iter().map(|it| it.server);
        let disconnect = gone.filter(|server| !links.contains(&server.link)).collect();
        self.failed.retain(|link, _| links.contains(link));
        Changes { connect: self.kept(now), disconnect, ..Changes::default() }
    }

    /// Takes in what is known of the paths, by link address.
    pub fn see_ways(&mut self, ways: BTreeMap<SocketAddr, Way>, now: Instant) -> Changes {
        let before = std::mem::replace(&mut self.ways, ways);
        let ways = &self.ways;
        // A path that came up after the failure.
        self.failed.retain(|link, (asked, _)| {
            !matches!(ways.get(link), Some(Way::Up { since }) if *since >= *asked)
        });
        let was_up = |link| matches!(before.get(&link), Some(Way::Up { .. }));
        let lost = self
            .ranked
            .iter()
            .map(|it| &it.server)
            .filter(|server| was_up(server.link) && !self.is_up(server.link))
            .filter(|server| !self.retired.contains(&server.link))
            .cloned()
            .collect();
        self.retired.retain(|link| matches!(self.ways.get(link), Some(Way::Up { .. })));
        Changes { connect: self.kept(now), lost, ..Changes::default() }
    }

    /// Lets those go that are not needed, when the preferred one has been there for a while.
    pub fn settle(&mut self, now: Instant) -> Changes {
        let kept = self.kept(now);
        let settled = |server: &Server| match self.ways.get(&server.link) {
            Some(Way::Up { since }) => now >= *since + SETTLED_AFTER,
            Some(Way::Down { .. }) | None => false,
        };
        if !kept.first().is_some_and(settled) {
            return Changes::default();
        }
        let needless = |server: &Server| {
            self.is_up(server.link)
                && !kept.contains(server)
                && !self.retired.contains(&server.link)
        };
        let retire: Vec<Server> = self.all().into_iter().filter(needless).collect();
        self.retired.extend(retire.iter().map(|server| server.link));
        Changes { retire, ..Changes::default() }
    }

    /// Notes that a server failed an ask that was sent at `asked`, so that it is left out until
    /// its path is up anew.
    pub fn see_failure(
        &mut self,
        link: SocketAddr,
        asked: Instant,
        now: Instant,
        why: String,
    ) -> Changes {
        let renewed = matches!(self.ways.get(&link), Some(Way::Up { since }) if *since >= asked);
        if !renewed && self.ranked.iter().any(|it| it.server.link == link) {
            self.failed.insert(link, (asked, why));
        }
        Changes { connect: self.kept(now), ..Changes::default() }
    }

    /// Returns the server to ask next, those that were `tried` left out.
    pub fn next(&self, tried: &[SocketAddr], now: Instant) -> Option<Server> {
        let usable = |it: &&Ranked| {
            let link = it.server.link;
            !tried.contains(&link) && !self.is_left_out(link, now) && (it.alive || self.is_up(link))
        };
        self.ranked.iter().find(usable).map(|it| it.server.clone())
    }

    /// Says in a sentence why no server can be asked.
    pub fn why_none(&self) -> String {
        if self.ranked.is_empty() {
            return "this agent has not met any server of its datacenter".to_owned();
        }
        let reasons = self.ranked.iter().map(|it| {
            let link = it.server.link;
            let reason = match (self.failed.get(&link), self.ways.get(&link)) {
                (Some((_, why)), _) => why.as_str(),
                (None, Some(Way::Down { reason })) => reason,
                (None, _) => "the LAN pool holds it for failed",
            };
            format!("{} ({link}): {reason}", it.server.name)
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    fn is_up(&self, link: SocketAddr) -> bool {
        matches!(self.ways.get(&link), Some(Way::Up { .. }))
    }

    fn is_left_out(&self, link: SocketAddr, now: Instant) -> bool {
        let failed = self.failed.get(&link);
        failed.is_some_and(|(asked, _)| !self.is_up(link) || now < *asked + LEFT_OUT)
    }

    /// Returns all of them, in this agent's order.
    pub fn all(&self) -> Vec<Server> {
        self.ranked.iter().map(|it| it.server.clone()).collect()
    }

    /// Returns those to stay connected to, the preferred one first.
    fn kept(&self, now: Instant) -> Vec<Server> {
        if !self.ranked.iter().any(|it| self.is_up(it.server.link)) {
            // Whichever comes back first.
            return self.all();
        }
        let preferred = self.next(&[], now);
        let failed = self.ranked.iter().filter(|it| self.failed.contains_key(&it.server.link));
        preferred.into_iter().chain(failed.map(|it| it.server.clone())).collect()
    }
}

fn candidate(member: &Member) -> Option<Ranked> {
    let profile = &member.profile;
    let link = profile.link.filter(|_| profile.role == Role::Server)?;
    let alive = match member.status {
        Status::Alive => true,
        Status::Leaving | Status::Failed => false,
        Status::Left => return None,
    };
    let server = Server { name: profile.name.clone(), link, addr: profile.addr };
    Some(Ranked { server, alive })
}

/// A number that looks random for each pair of agent and server (FNV-1a, finished by
/// SplitMix64's mixer, whose low bits depend on all others).
fn score(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use topology::{NodeId, Profile};
    use uuid::Uuid;

    use super::*;

    fn link(number: usize) -> SocketAddr {
        format!("10.0.0.{number}:8300").parse().unwrap()
    }

    fn member(number: usize, status: Status) -> Member {
        let profile = Profile {
            name: format!("s{number}").parse().unwrap(),
            id: NodeId(Uuid::from_u128(number as u128)),
            dc: "dc1".parse().unwrap(),
            role: Role::Server,
            addr: format!("10.0.0.{number}:8301").parse().unwrap(),
            link: Some(link(number)),
            wan: None,
            version: "0.1.0".to_owned(),
            tags: BTreeMap::new(),
        };
        Member { profile, status }
    }

    fn servers(seed: u64, numbers: &[usize]) -> Servers {
        let mut servers = Servers::new(seed);
        let members: Vec<Member> = numbers.iter().map(|n| member(*n, Status::Alive)).collect();
        servers.see_members(&members, Instant::now());
        servers
    }

    fn order(servers: &Servers) -> Vec<SocketAddr> {
        let mut tried = Vec::new();
        while let Some(server) = servers.next(&tried, Instant::now()) {
            tried.push(server.link);
        }
        tried
    }

    #[test]
    fn agents_spread_evenly_over_servers() {
        let mut counts = BTreeMap::new();
        for seed in 0..3000 {
            let first = servers(seed, &[1, 2, 3]).next(&[], Instant::now()).unwrap();
            *counts.entry(first.link).or_insert(0) += 1;
        }
        for (link, count) in counts {
            assert!((850..1150).contains(&count), "{link}: {count}");
        }
    }

    #[test]
    fn a_failed_server_is_left_out_until_its_path_comes_up_again() {
        let mut servers = servers(7, &[1, 2, 3]);
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let up = |link, secs| BTreeMap::from([(link, Way::Up { since: at(secs) })]);
        let first = servers.next(&[], at(1)).unwrap();
        servers.see_ways(up(first.link, 1), at(1));
        let changes = servers.see_failure(first.link, at(2), at(2), "connection lost".to_owned());
        assert!(changes.connect.contains(&first), "so that it is known when it is back");
        assert_ne!(servers.next(&[], at(2)).as_ref(), Some(&first));
        // The old connection is no proof that it is back.
        servers.see_ways(up(first.link, 1), at(2));
        assert_ne!(servers.next(&[], at(2)).as_ref(), Some(&first));
        servers.see_ways(up(first.link, 3), at(3));
        assert_eq!(servers.next(&[], at(3)), Some(first));
    }

    #[test]
    fn a_failure_on_a_connection_that_was_replaced_meanwhile_leaves_nobody_out() {
        let mut servers = servers(7, &[1]);
        let start = Instant::now();
        let since = start + Duration::from_secs(2);
        servers.see_ways(BTreeMap::from([(link(1), Way::Up { since })]), since);
        servers.see_failure(link(1), start, since, "connection lost".to_owned());
        assert!(servers.next(&[], since).is_some());
    }

    #[test]
    fn a_failure_on_a_path_that_stays_up_leaves_out_for_a_while() {
        let mut servers = servers(7, &[1]);
        let start = Instant::now();
        servers.see_ways(BTreeMap::from([(link(1), Way::Up { since: start })]), start);
        let asked = start + Duration::from_secs(1);
        servers.see_failure(link(1), asked, asked, "stream reset".to_owned());
        assert_eq!(servers.next(&[], asked + Duration::from_secs(2)), None);
        assert!(servers.next(&[], asked + LEFT_OUT).is_some());
    }

    #[test]
    fn a_server_that_gossip_holds_for_failed_is_asked_last_and_only_while_its_path_is_up() {
        let mut servers = Servers::new(7);
        let members = [member(1, Status::Failed), member(2, Status::Alive)];
        servers.see_members(&members, Instant::now());
        assert_eq!(order(&servers), [link(2)]);
        let since = Instant::now();
        servers.see_ways(BTreeMap::from([(link(1), Way::Up { since })]), since);
        assert_eq!(order(&servers), [link(2), link(1)]);
    }

    #[test]
    fn servers_that_left_are_disconnected_and_forgotten() {
        let mut servers = servers(7, &[1, 2]);
        let now = Instant::now();
        servers.see_failure(link(1), now, now, "no answer".to_owned());
        let members = [member(1, Status::Left), member(2, Status::Alive)];
        let changes = servers.see_members(&members, now);
        assert_eq!(changes.disconnect.len(), 1);
        assert_eq!(changes.disconnect[0].link, link(1));
        assert_eq!(changes.connect.len(), 1);
        assert_eq!(order(&servers), [link(2)]);
    }

    #[test]
    fn clients_are_no_servers() {
        let mut client = member(1, Status::Alive);
        client.profile.role = Role::Client;
        let mut servers = Servers::new(7);
        servers.see_members(&[client], Instant::now());
        assert_eq!(servers.next(&[], Instant::now()), None);
        assert!(servers.why_none().contains("not met any server"));
    }

    #[test]
    fn why_none_can_be_asked_is_said_for_each() {
        let mut servers = servers(7, &[1, 2]);
        let now = Instant::now();
        servers.see_failure(link(1), now, now, "no answer".to_owned());
        servers.see_failure(link(2), now, now, "connection lost".to_owned());
        assert_eq!(servers.next(&[], Instant::now()), None);
        let why = servers.why_none();
        assert!(why.contains("s1 (10.0.0.1:8300): no answer"), "{why}");
        assert!(why.contains("s2 (10.0.0.2:8300): connection lost"), "{why}");
    }

    #[test]
    fn what_was_connected_to_in_need_is_let_go_when_all_is_well() {
        let mut servers = servers(7, &[1, 2, 3]);
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let up = |numbers: &[usize]| {
            numbers.iter().map(|number| (link(*number), Way::Up { since: start })).collect()
        };
        servers.see_ways(up(&[1, 2, 3]), start);
        let preferred = servers.next(&[], start).unwrap();
        assert_eq!(servers.settle(at(9)), Changes::default(), "it may be gone again");
        let needless = servers.settle(at(10)).retire;
        assert_eq!(needless.len(), 2);
        assert!(!needless.contains(&preferred));
        assert_eq!(servers.settle(at(11)), Changes::default(), "once");
        let left = BTreeMap::from([(preferred.link, Way::Up { since: start })]);
        assert_eq!(servers.see_ways(left, at(12)).lost, [], "nobody is suspected for it");
        servers.see_ways(up(&[1, 2, 3]), at(13));
        assert_eq!(servers.settle(at(14)).retire.len(), 2, "they came back and go again");
    }

    #[test]
    fn a_path_that_goes_down_is_told_once() {
        let mut servers = servers(7, &[1]);
        let since = Instant::now();
        servers.see_ways(BTreeMap::from([(link(1), Way::Up { since })]), since);
        let down = BTreeMap::from([(link(1), Way::Down { reason: "no heartbeat".into() })]);
        assert_eq!(servers.see_ways(down.clone(), since).lost.len(), 1);
        assert_eq!(servers.see_ways(down, since).lost.len(), 0);
    }

    proptest! {
        #[test]
        fn when_a_server_goes_only_its_own_agents_move(seed: u64, gone in 1usize..=5) {
            let all = [1, 2, 3, 4, 5];
            let rest: Vec<usize> = all.into_iter().filter(|number| *number != gone).collect();
            let mut before = order(&servers(seed, &all));
            before.retain(|at| *at != link(gone));
            prop_assert_eq!(before, order(&servers(seed, &rest)));
        }
    }
}
