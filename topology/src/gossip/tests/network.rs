//! A network of engines in one place: virtual time, seeded loss and delay, cuts, and pulls that
//! work like a link does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use uuid::Uuid;

use crate::{
    gossip::{Config, Engine, Event, Input, Output},
    member::{Member, Profile, Role, Status},
    name::{Datacenter, NodeId, NodeName},
};

/// A moment in a test.
pub(super) fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

/// The profile of a node: `s...` are servers, all others clients; `number` makes the address and id.
pub(super) fn profile(name: &str, dc: &str, number: u16) -> Profile {
    let [high, low] = number.to_be_bytes();
    let server = name.starts_with('s');
    Profile {
        name: NodeName::new(name).unwrap(),
        id: NodeId(Uuid::from_u128(u128::from(number) + 1)),
        dc: Datacenter::new(dc).unwrap(),
        role: if server { Role::Server } else { Role::Client },
        addr: SocketAddr::from(([10, 0, high, low], 8301)),
        link: server.then(|| SocketAddr::from(([10, 0, high, low], 8300))),
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    }
}

/// Something that will happen to the engine at an address, if its life is still the same.
#[derive(Debug)]
struct Pending {
    at: SocketAddr,
    life: u64,
    input: Input,
}

struct Node {
    engine: Engine,
    life: u64,
}

/// A network and everything that is on its way in it.
pub(super) struct Network {
    pub(super) config: Config,
    pub(super) now: Duration,
    /// The part of packets that is lost.
    pub(super) loss: f64,
    /// How long a packet takes at least.
    pub(super) delay: Duration,
    /// Pairs that don't reach each other, the smaller address first.
    pub(super) severed: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Whether pulls work; without them everything has to come by gossip.
    pub(super) pulls: bool,
    /// What happened, with the node that it happened to.
    pub(super) events: Vec<(Duration, SocketAddr, Event)>,
    /// Packets sent.
    pub(super) packets: u64,
    /// Bytes sent in packets.
    pub(super) bytes: u64,
    hash: DefaultHasher,
    rng: SmallRng,
    nodes: BTreeMap<SocketAddr, Node>,
    island: BTreeSet<SocketAddr>,
    pending: BTreeMap<(Duration, u64), Pending>,
    sequence: u64,
    lives: u64,
}

impl Network {
    pub(super) fn new(config: Config, seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            config,
            now: Duration::ZERO,
            loss: 0.0,
            delay: Duration::from_micros(200),
            severed: BTreeSet::new(),
            pulls: true,
            events: Vec::new(),
            packets: 0,
            bytes: 0,
            hash: DefaultHasher::new(),
            rng: SmallRng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            island: BTreeSet::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            lives: 0,
        }
    }

    /// A LAN pool of `servers` servers `s0..` and `clients` clients `c0..` that join by `s0`.
    pub(super) fn lan(seed: u64, servers: u16, clients: u16) -> Self {
        let mut net = Self::new(Config::lan(), seed);
        net.populate(servers, clients);
        net
    }

    pub(super) fn populate(&mut self, servers: u16, clients: u16) {
        let names =
            (0..servers).map(|n| format!("s{n}")).chain((0..clients).map(|n| format!("c{n}")));
        for (number, name) in (0..).zip(names) {
            let addr = self.boot(profile(&name, "dc1", number));
            self.input(addr, Input::Join(vec![profile("s0", "dc1", 0).addr]));
        }
    }

    /// Starts a node; its boot is the time in milliseconds.
    pub(super) fn boot(&mut self, profile: Profile) -> SocketAddr {
        let boot = 1_000_000 + u64::try_from(self.now.as_millis()).unwrap();
        self.boot_as(profile, boot)
    }

    /// Starts a node with a boot of its own.
    pub(super) fn boot_as(&mut self, profile: Profile, boot: u64) -> SocketAddr {
        let addr = profile.addr;
        self.lives += 1;
        let engine = Engine::new(self.config.clone(), profile, boot, self.rng.random());
        self.nodes.insert(addr, Node { engine, life: self.lives });
        self.input(addr, Input::Start);
        addr
    }

    /// Ends a node without a word.
    pub(super) fn kill(&mut self, addr: SocketAddr) {
        self.nodes.remove(&addr);
    }

    /// Cuts these off from all others.
    pub(super) fn cut(&mut self, island: impl IntoIterator<Item = SocketAddr>) {
        self.island = island.into_iter().collect();
    }

    /// Undoes the cut.
    pub(super) fn heal(&mut self) {
        self.island.clear();
    }

    /// Hands an input to a node at once.
    pub(super) fn input(&mut self, addr: SocketAddr, input: Input) {
        let Some(node) = self.nodes.get_mut(&addr) else { return };
        let life = node.life;
        let mut out = Vec::new();
        node.engine.handle(self.now, input, &mut out);
        format!("{:?} {addr} {out:?}", self.now).hash(&mut self.hash);
        for output in out {
            self.output(addr, life, output);
        }
    }

    fn output(&mut self, addr: SocketAddr, life: u64, output: Output) {
        match output {
            Output::Send { to, data } => {
                assert_ne!(to, addr, "nobody sends to itself");
                self.packets += 1;
                self.bytes += data.len() as u64;
                let lost = self.rng.random_bool(self.loss);
                let delay = self.delay + Duration::from_micros(self.rng.random_range(0..2_000));
                if !lost && self.reaches(addr, to) {
                    self.later(to, delay, Input::Packet { from: addr, data });
                }
            }
            Output::Schedule { after, timer } => {
                self.at(self.now + after, addr, life, Input::Timer(timer));
            }
            Output::Pull { from } if self.pulls && self.reaches(addr, from.addr) => {
                // Both sides hand their state over, as the drivers do.
                let states = self.nodes.get(&from.addr).zip(self.nodes.get(&addr));
                if let Some((theirs, ours)) =
                    states.map(|(a, b)| (a.engine.export(), b.engine.export()))
                {
                    self.later(addr, Duration::from_millis(5), Input::Sync(theirs));
                    self.later(from.addr, Duration::from_millis(5), Input::Sync(ours));
                }
            }
            Output::Pull { .. } => {}
            Output::Event(event) => self.events.push((self.now, addr, event)),
        }
    }

    fn reaches(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let severed = self.severed.contains(&(from.min(to), from.max(to)));
        !severed && self.island.contains(&from) == self.island.contains(&to)
    }

    /// Makes something happen to whoever is at an address after a while.
    pub(super) fn later(&mut self, addr: SocketAddr, after: Duration, input: Input) {
        if let Some(life) = self.nodes.get(&addr).map(|node| node.life) {
            self.at(self.now + after, addr, life, input);
        }
    }

    fn at(&mut self, when: Duration, at: SocketAddr, life: u64, input: Input) {
        self.sequence += 1;
        self.pending.insert((when, self.sequence), Pending { at, life, input });
    }

    /// Lets time pass until `until`.
    pub(super) fn run_until(&mut self, until: Duration) {
        while let Some(next) = self.pending.first_entry().filter(|next| next.key().0 <= until) {
            let ((when, _), Pending { at, life, input }) = next.remove_entry();
            self.now = when;
            if self.nodes.get(&at).is_some_and(|node| node.life == life) {
                self.input(at, input);
            }
        }
        self.now = until;
    }

    /// Lets time pass until something is so; says when, counted from now.
    pub(super) fn run_until_so(&mut self, bound: Duration, so: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !so(self) {
            assert!(self.now < start + bound, "not so after {bound:?}:\n{}", self.table());
            self.run_until(self.now + Duration::from_millis(100));
        }
        self.now - start
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    pub(super) fn engine(&self, addr: SocketAddr) -> &Engine {
        &self.nodes[&addr].engine
    }

    pub(super) fn engines(&self) -> impl Iterator<Item = (&SocketAddr, &Engine)> {
        self.nodes.iter().map(|(addr, node)| (addr, &node.engine))
    }

    pub(super) fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.keys().copied().collect()
    }

    /// Returns what a node holds another one for.
    pub(super) fn status(&self, at: SocketAddr, key: &str) -> Option<Status> {
        self.member(at, key).map(|member| member.status)
    }

    pub(super) fn member(&self, at: SocketAddr, key: &str) -> Option<Member> {
        let scope = self.config.scope;
        self.engine(at).members().find(|member| scope.key(&member.profile) == key).cloned()
    }

    /// Tells whether every node but the one itself holds a name for this.
    pub(super) fn all_hold(&self, key: &str, status: Status) -> bool {
        self.engines()
            .filter(|(_, engine)| engine.roster.my_key() != key)
            .all(|(at, _)| self.status(*at, key) == Some(status))
    }

    /// Tells whether every node knows exactly those that run for alive.
    pub(super) fn agrees(&self) -> bool {
        self.engines().all(|(_, engine)| {
            engine.alive() == self.nodes.len()
                && engine
                    .members()
                    .filter(|member| member.is_alive())
                    .all(|member| self.nodes.contains_key(&member.profile.addr))
        })
    }

    /// Returns a fingerprint of all outputs so far.
    pub(super) fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }

    /// Writes what happened to a node, one line each.
    pub(super) fn transcript(&self, addr: SocketAddr) -> String {
        let mut text = String::new();
        for (at, who, event) in self.events.iter().filter(|(_, who, _)| *who == addr) {
            debug_assert_eq!(*who, addr);
            let key = |member: &Member| self.config.scope.key(&member.profile);
            let line = match event {
                Event::Joined(member) => format!("joined {}", key(member)),
                Event::Updated(member) => format!("updated {} ({})", key(member), member.status),
                Event::Failed(member) => format!("failed {}", key(member)),
                Event::Left(member) => format!("left {}", key(member)),
                Event::Reaped(member) => format!("reaped {}", key(member)),
                Event::Removal(removal) => format!("{removal:?}"),
                Event::Rival(rival) => {
                    format!("rival {} at {}", rival.profile.name, rival.profile.addr)
                }
                Event::RivalGone(rival) => format!("no rival any more at {}", rival.profile.addr),
                Event::JoinedPool => "joined the pool".to_owned(),
                Event::Answered(addr) => format!("{addr} answered"),
                Event::Unreadable { records, why } => format!("can't read {records}: {why}"),
                Event::Refused { profile, reason } => {
                    format!(
                        "refused {} at {}: {reason}",
                        self.config.scope.key(profile),
                        profile.addr
                    )
                }
            };
            writeln!(text, "{:.1} s: {line}", at.as_secs_f64()).unwrap();
        }
        text
    }

    /// Writes who holds whom for what, for a failed assertion.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (addr, engine) in self.engines().take(20) {
            let (alive, unknown) = (engine.alive(), engine.roster.unknown().len());
            write!(text, "{} at {addr}: {alive} alive, {unknown} unknown;", engine.roster.my_key())
                .unwrap();
            for member in engine.members().filter(|member| !member.is_alive()).take(10) {
                write!(text, " {} {}", self.config.scope.key(&member.profile), member.status)
                    .unwrap();
            }
            text.push('\n');
        }
        text
    }
}
