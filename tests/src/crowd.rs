//! A pool of hundreds of gossip engines without a socket: one queue of events, ordered by time.
//!
//! The engines are [`topology::gossip`]'s own; the crowd is their driver and their network. It
//! delays and loses packets, splits the pool into sides that don't hear each other, kills and
//! restarts nodes, and knows the truth that every node has to arrive at. What the LAN pool's
//! driver does over links (pulling a full state) happens here after a round trip, unless
//! the two are on different sides.
//!
//! Everything is decided by the seed: [`Crowd::trace`] is equal for equal seeds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use topology::{
    Profile, Role, Status,
    gossip::{Config, Engine, Input, Output, Timer},
};
use uuid::Uuid;

/// How the crowd's network treats packets.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Part of the packets that vanish, from 0 to 1.
    pub loss: f64,
    /// Shortest and longest time on the way.
    pub delay: (Duration, Duration),
}

impl Weather {
    /// A LAN on a good day.
    pub const FAIR: Self =
        Self { loss: 0.0, delay: (Duration::from_micros(200), Duration::from_micros(400)) };

    /// A LAN on a bad one: 2 % loss, up to 20 ms.
    pub const FOUL: Self =
        Self { loss: 0.02, delay: (Duration::from_micros(200), Duration::from_millis(20)) };
}

/// One node of the crowd.
struct Node {
    profile: Profile,
    seed: u64,
    boot: u64,
    side: u8,
    engine: Option<Engine>,
}

/// What happens to a node at some time.
enum What {
    Packet { from: SocketAddr, data: Bytes },
    Timer { boot: u64, timer: Timer },
    Pull { puller: usize, boot: u64 },
    Sync { boot: u64, data: Bytes },
}

/// The pool, its network and its clock.
pub struct Crowd {
    config: Config,
    nodes: Vec<Node>,
    by_addr: BTreeMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, (usize, What)>,
    now: Duration,
    serial: u64,
    rng: SmallRng,
    weather: Weather,
    trace: u64,
}

impl Crowd {
    /// Makes a pool of profiles; nobody runs yet.
    pub fn new(config: Config, profiles: Vec<Profile>, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let by_addr = profiles.iter().enumerate().map(|(i, p)| (p.addr, i)).collect();
        let nodes = profiles
            .into_iter()
            .map(|profile| Node { profile, seed: rng.random(), boot: 0, side: 0, engine: None })
            .collect();
        Self {
            config,
            nodes,
            by_addr,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            now: Duration::ZERO,
            serial: 0,
            rng,
            weather: Weather::FAIR,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Returns how long the crowd has been running.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Returns a hash of everything that was sent so far, and when.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Changes the network.
    pub fn weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Puts a node on a side; only nodes on the same side hear each other.
    pub fn side(&mut self, node: usize, side: u8) {
        self.nodes[node].side = side;
    }

    /// Starts a node, which joins through others.
    pub fn start(&mut self, node: usize, join: &[usize]) {
        self.nodes[node].boot += 1;
        let Node { profile, seed, boot, .. } = &self.nodes[node];
        let started = 1 + self.now.as_millis() as u64;
        let engine = Engine::new(self.config.clone(), profile.clone(), started, seed ^ boot);
        self.nodes[node].engine = Some(engine);
        let addrs = join.iter().map(|other| self.nodes[*other].profile.addr).collect();
        self.handle(node, Input::Start);
        self.handle(node, Input::Join(addrs));
    }

    /// Kills a node: it says nothing and forgets everything.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].engine = None;
    }

    /// Tells a running node something.
    pub fn tell(&mut self, node: usize, input: Input) {
        self.handle(node, input);
    }

    /// Returns the engine of a running node.
    pub fn engine(&self, node: usize) -> Option<&Engine> {
        self.nodes[node].engine.as_ref()
    }

    /// Returns the nodes that run.
    pub fn running(&self) -> BTreeSet<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].engine.is_some()).collect()
    }

    /// Runs for some time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, serial))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            if let Some((node, what)) = self.events.remove(&serial) {
                self.happen(node, what);
            }
        }
        self.now = end;
    }

    /// Runs until a condition holds, which is looked at every 250 ms; fails after `most`.
    pub fn run_until(
        &mut self,
        most: Duration,
        what: &str,
        mut holds: impl FnMut(&Self) -> Result<(), String>,
    ) -> Duration {
        let begin = self.now;
        loop {
            match holds(self) {
                Ok(()) => return self.now - begin,
                Err(why) if self.now - begin >= most => panic!("{what}: not in {most:?}: {why}"),
                Err(_) => self.run(Duration::from_millis(250)),
            }
        }
    }

    /// Says who is wrong about whom, if anybody is: every running node has to hold exactly the
    /// running nodes for alive.
    pub fn agreement(&self) -> Result<(), String> {
        let running = self.running();
        let engines = running.iter().filter_map(|node| Some((*node, self.engine(*node)?)));
        // Counting is cheap and finds nearly everything that is wrong.
        for (node, engine) in engines.clone() {
            if engine.alive() != running.len() {
                return Err(self.complaint(node, engine, &running));
            }
        }
        for (node, engine) in engines {
            let alive = engine.members().filter(|member| member.status == Status::Alive);
            if alive.filter(|member| self.runs(&member.profile)).count() != running.len() {
                return Err(self.complaint(node, engine, &running));
            }
        }
        Ok(())
    }

    fn runs(&self, profile: &Profile) -> bool {
        self.by_addr.get(&profile.addr).is_some_and(|node| self.nodes[*node].engine.is_some())
    }

    fn complaint(&self, node: usize, engine: &Engine, running: &BTreeSet<usize>) -> String {
        let truth: BTreeSet<_> =
            running.iter().map(|node| &self.nodes[*node].profile.name).collect();
        let alive = engine.members().filter(|member| member.status == Status::Alive);
        let held: BTreeSet<_> = alive.map(|member| &member.profile.name).collect();
        let missing: Vec<_> = truth.difference(&held).take(5).collect();
        let extra: Vec<_> = held.difference(&truth).take(5).collect();
        format!(
            "{} holds {} for alive, {} are; it misses {missing:?} and still has {extra:?}",
            self.nodes[node].profile.name,
            held.len(),
            truth.len()
        )
    }

    fn happen(&mut self, node: usize, what: What) {
        let boot = self.nodes[node].boot;
        match what {
            What::Packet { from, data } => self.handle(node, Input::Packet { from, data }),
            What::Timer { boot: of, timer } if of == boot => self.handle(node, Input::Timer(timer)),
            What::Sync { boot: of, data } if of == boot => self.handle(node, Input::Sync(data)),
            What::Pull { puller, boot: of } => self.pull(puller, of, node),
            What::Timer { .. } | What::Sync { .. } => {}
        }
    }

    /// Answers a pull: both get the other's full state.
    fn pull(&mut self, puller: usize, boot: u64, node: usize) {
        let alive = self.nodes[puller].boot == boot && self.nodes[puller].engine.is_some();
        if !alive || self.nodes[puller].side != self.nodes[node].side {
            return;
        }
        let (Some(mine), Some(theirs)) = (self.engine(puller), self.engine(node)) else { return };
        let (mine, theirs) = (mine.export(), theirs.export());
        self.handle(node, Input::Sync(mine));
        let delay = self.delay();
        self.push(delay, puller, What::Sync { boot, data: theirs });
    }

    fn handle(&mut self, node: usize, input: Input) {
        let Some(engine) = self.nodes[node].engine.as_mut() else { return };
        let mut out = Vec::new();
        engine.handle(self.now, input, &mut out);
        let (boot, from) = (self.nodes[node].boot, self.nodes[node].profile.addr);
        for output in out {
            match output {
                Output::Send { to, data } => self.send(from, to, data),
                Output::Schedule { after, timer } => {
                    self.push(after, node, What::Timer { boot, timer });
                }
                Output::Pull { from } => {
                    let Some(other) = self.by_addr.get(&from.addr).copied() else { continue };
                    let delay = self.delay();
                    self.push(delay, other, What::Pull { puller: node, boot });
                }
                Output::Event(_) => {}
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, data: Bytes) {
        let line = format!("{} {from} {to} {};", self.now.as_nanos(), data.len());
        for byte in line.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3); // FNV-1a
        }
        let lost = self.weather.loss > 0.0 && self.rng.random_bool(self.weather.loss);
        let Some(node) = self.by_addr.get(&to).copied() else { return };
        let sides = (self.nodes[self.by_addr[&from]].side, self.nodes[node].side);
        if !lost && sides.0 == sides.1 {
            let delay = self.delay();
            self.push(delay, node, What::Packet { from, data });
        }
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.weather.delay;
        let micros = self.rng.random_range(least.as_micros() as u64..=most.as_micros() as u64);
        Duration::from_micros(micros)
    }

    fn push(&mut self, after: Duration, node: usize, what: What) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + after, self.serial)));
        self.events.insert(self.serial, (node, what));
    }
}

/// Makes the profile of a node of dc1: the first few are servers.
pub fn profile(index: usize, servers: usize) -> Profile {
    let role = if index < servers { Role::Server } else { Role::Client };
    let [high, low] = u16::try_from(index).expect("few enough").to_be_bytes();
    let host = [10, 1, high, low];
    let link = (role == Role::Server).then(|| SocketAddr::from((host, 8300)));
    Profile {
        name: format!("node-{index}").parse().expect("a name"),
        id: topology::NodeId(Uuid::from_u128(index as u128 + 1)),
        dc: "dc1".parse().expect("a name"),
        role,
        addr: SocketAddr::from((host, 8301)),
        link,
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    }
}
