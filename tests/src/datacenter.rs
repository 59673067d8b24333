//! A datacenter of the simulation, or several that are federated: real servers and client agents on machines of
//! their own.
//!
//! ```text
//! Machine 1 (server)                             Machine 4 (client agent)
//!   link, LAN pool, Raft, dispatch, duties         link, LAN pool, RemoteCaller
//!        '---- Memory (disk)                            |
//!        '---- resident: whoever asks this node         '---- resident
//!        |                                              |
//!   =====+====================== Fabric ================+=====
//! ```
//!
//! What runs is what a process runs, but for HTTP, DNS and the agent's local state: sockets, disk
//! and clock are the simulation's. Every node has a resident, who is there whenever the node runs
//! and asks it over its [`Caller`], as HTTP would.
//!
//! A crash is a power failure: nothing of the node's memory survives, and its disk loses what was
//! not synced. Whenever a node starts its clocks are set anew: the one of the day may be wrong by
//! years, before or after where it was, and the other one runs a little fast or slow.

mod start;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use dc_server::{
    failover::policy::Policy,
    raft::{
        Raft, Role as Standing,
        disk::{Latency, Memory},
    },
    state::State,
};
use lan_agent::caller::{Caller, Promise};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use time::OffsetDateTime;
use topology::{Datacenter, NodeId, NodeName, Profile, Role};
use uuid::Uuid;

use self::start::Start;
use crate::{
    credentials::Credentials,
    fabric::{Clock, Fabric, Link},
    machine::{Machine, TURN},
    storm::Weather,
};

/// How far clocks drift, in microseconds a second: so much that two of them drift apart by nearly what the
/// margin of leases allows.
const DRIFT_MAX: i32 = 20_000;

/// What it is o'clock when a simulation begins, in seconds since 1970.
const BEGIN: i64 = 1_800_000_000;

/// By how much the clock of the day of a node that starts may be wrong, in seconds either way.
const WRONG_MAX: [i64; 4] = [1, 20, 3_600, 10 * 365 * 24 * 3_600];

/// Lives on a node while it runs: is given the node's number, how often it was started, the
/// way to ask it, and its clock.
pub type Resident = Arc<dyn Fn(usize, u64, Arc<dyn Caller>, Clock) -> Promise<()> + Send + Sync>;

/// The nodes, and what they run on.
pub struct Site {
    /// The network.
    pub fabric: Fabric,
    credentials: Arc<Credentials>,
    nodes: Vec<Node>,
    /// How many servers each datacenter has.
    servers: usize,
    /// What is done about services with too few healthy instances, if there are other datacenters.
    federated: Option<Policy>,
    resident: Resident,
    rng: SmallRng,
    now: Duration,
}

struct Node {
    dc: Datacenter,
    name: NodeName,
    host: IpAddr,
    role: Role,
    disk: Memory,
    full: bool,
    starts: u64,
    running: Option<Running>,
}

struct Running {
    machine: Machine,
    frozen: bool,
    /// There as soon as the server has read its disk.
    raft: Slot<Raft>,
    caller: Slot<Arc<dyn Caller>>,
}

type Slot<T> = Arc<Mutex<Option<T>>>;

fn locked<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().expect("nobody panics in here")
}

impl Site {
    /// Describes a datacenter that nobody has started yet; servers come first.
    pub fn new(
        credentials: Arc<Credentials>,
        servers: usize,
        agents: usize,
        seed: u64,
        resident: Resident,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let nodes = (0..servers + agents).map(|number| {
            let role = if number < servers { Role::Server } else { Role::Client };
            Node::new(1, number, role, rng.random())
        });
        Self {
            nodes: nodes.collect(),
            fabric: Fabric::new(rng.random(), Link::LAN),
            credentials,
            servers,
            federated: None,
            resident,
            rng,
            now: Duration::ZERO,
        }
    }

    /// Describes a federation of datacenters with a server each, dc1 first, whose services fail over by a policy.
    pub fn federated(
        credentials: Arc<Credentials>,
        dcs: usize,
        policy: Policy,
        seed: u64,
        resident: Resident,
    ) -> Self {
        let mut site = Self::new(credentials, 1, 0, seed, resident);
        let others = 1..dcs;
        site.nodes.extend(others.map(|number| {
            let dc = u8::try_from(number + 1).expect("few datacenters");
            Node::new(dc, number, Role::Server, site.rng.random())
        }));
        site.fabric = Fabric::new(site.rng.random(), Link::WAN);
        site.federated = Some(policy);
        site
    }

    /// Returns the datacenter of a node.
    pub fn datacenter(&self, number: usize) -> &Datacenter {
        &self.nodes[number].dc
    }

    /// Returns the address of a node.
    pub fn host(&self, number: usize) -> IpAddr {
        self.nodes[number].host
    }

    /// Returns how many nodes there are, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Tells whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns the time of this world.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TURN;
            // Nobody is always first.
            let first = (self.now.as_millis() / TURN.as_millis()) as usize % self.nodes.len();
            let (before, after) = self.nodes.split_at(first);
            for running in after.iter().chain(before).filter_map(|node| node.running.as_ref()) {
                if !running.frozen {
                    running.machine.run_until(self.now);
                }
            }
        }
    }

    /// Lets time pass until something is so; fails when that takes too long.
    pub fn until(&mut self, most: Duration, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = self.now + most;
        while !is_so(self) {
            assert!(self.now < end, "not within {most:?}: {what}");
            self.run(10 * TURN);
        }
    }

    /// Makes the weather so, whatever it was before.
    pub fn endure(&mut self, weather: &Weather) {
        self.fabric.heal_all();
        for (from, to) in &weather.cut {
            self.fabric.cut_one_way(&[self.nodes[*from].host], &[self.nodes[*to].host]);
        }
        let link = Link::LAN.with_loss(f64::from(weather.loss) / 100.0);
        self.fabric.default_link(link.with_latency(link.latency + weather.delay));
        for number in 0..self.nodes.len() {
            if weather.down.contains(&number) {
                self.crash(number);
            }
            let full = weather.full.contains(&number);
            self.nodes[number].disk.set_full(full);
            let was_full = std::mem::replace(&mut self.nodes[number].full, full);
            if was_full && !full {
                // A log that failed once is not written again before it is opened anew.
                self.crash(number);
            }
            if !weather.down.contains(&number) {
                self.start(number);
                self.freeze(number, weather.frozen.contains(&number));
            }
        }
    }

    /// Returns the server that was elected last, as far as it knows.
    pub fn leader(&self) -> Option<usize> {
        let leads = |number: &usize| {
            let running = self.nodes[*number].running.as_ref()?;
            let leadership = *locked(&running.raft).as_ref()?.leadership().borrow();
            (leadership.role == Standing::Leader).then_some((leadership.term, *number))
        };
        let leaders = (0..self.nodes.len()).filter_map(|number| leads(&number));
        leaders.max().map(|(_, number)| number)
    }

    /// Returns the way to ask a node, if it runs and has read its disk.
    pub fn caller(&self, number: usize) -> Option<Arc<dyn Caller>> {
        let running = self.nodes[number].running.as_ref()?;
        locked(&running.caller).clone()
    }

    /// Returns the clock of a node, if it runs.
    pub fn clock(&self, number: usize) -> Option<Clock> {
        self.nodes[number].running.as_ref().map(|running| running.machine.clock())
    }

    /// Starts a task on a node's machine, if it runs.
    pub fn spawn(&self, number: usize, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(running) = &self.nodes[number].running {
            running.machine.spawn(task);
        }
    }

    /// Returns the state of a server, if it runs.
    pub fn state(&self, number: usize) -> Option<State> {
        let running = self.nodes[number].running.as_ref()?;
        locked(&running.raft).as_ref().map(Raft::state)
    }

    /// Starts a node from what its disk remembers, unless it runs.
    pub fn start(&mut self, number: usize) {
        if self.nodes[number].running.is_some() {
            return;
        }
        let drift = self.rng.random_range(-DRIFT_MAX..=DRIFT_MAX);
        let wrong = WRONG_MAX[self.rng.random_range(0..WRONG_MAX.len())];
        let wrong = self.rng.random_range(-wrong..=wrong);
        let passed = i64::try_from(self.now.as_secs()).expect("a short run");
        let day = OffsetDateTime::from_unix_timestamp(BEGIN + passed + wrong).expect("a day");
        let machine = Machine::boot(self.now, drift);
        let server = |node: &Node| node.role == Role::Server;
        let node = &self.nodes[number];
        let servers = self.nodes.iter().filter(|node| server(node));
        let fellows = servers.clone().filter(|other| other.dc == node.dc);
        let at = |port: u16| move |node: &Node| SocketAddr::new(node.host, port).to_string();
        let start = Start {
            me: node.profile(number, self.federated.is_some()),
            credentials: self.credentials.clone(),
            fabric: self.fabric.on(machine.clock()),
            disk: node.disk.clone(),
            join: fellows.map(at(8301)).collect(),
            join_wan: servers.map(at(8302)).collect(),
            servers: self.servers,
            failover: self.federated.clone(),
            day,
            seed: self.rng.random(),
        };
        let node = &mut self.nodes[number];
        node.starts += 1;
        let (raft, caller) = (Slot::default(), Slot::default());
        let resident = self.resident.clone();
        let (starts, ready) = (node.starts, (raft.clone(), caller.clone()));
        let clock = machine.clock();
        machine.spawn(async move {
            let caller = match start.me.role {
                Role::Server => {
                    let server = start.server().await;
                    *locked(&ready.0) = Some(server.raft.clone());
                    Arc::new(server) as Arc<dyn Caller>
                }
                Role::Client => Arc::new(start.client()),
            };
            *locked(&ready.1) = Some(caller.clone());
            resident(number, starts, caller, clock).await;
        });
        node.running = Some(Running { machine, frozen: false, raft, caller });
    }

    /// Crashes a node, if it runs.
    pub fn crash(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some(running) = node.running.take() else { return };
        // From here on nothing it says is heard and nothing it writes becomes durable.
        self.fabric.unplug(node.host);
        node.disk.crash();
        drop(running);
    }

    fn freeze(&mut self, number: usize, freeze: bool) {
        let now = self.now;
        let Some(running) = &mut self.nodes[number].running else { return };
        if running.frozen && !freeze {
            running.machine.thaw(now);
        }
        running.frozen = freeze;
    }
}

impl Node {
    fn new(dc: u8, number: usize, role: Role, seed: u64) -> Self {
        let place = u8::try_from(number + 1).expect("few nodes");
        let latency =
            Latency { min: Duration::from_micros(100), max: Duration::from_millis(8), seed };
        Self {
            dc: Datacenter::new(format!("dc{dc}")).expect("a name"),
            name: NodeName::new(format!("{role}-{place}")).expect("a name"),
            host: IpAddr::from([10, 0, dc, place]),
            role,
            disk: Memory::new(Some(latency)),
            full: false,
            starts: 0,
            running: None,
        }
    }

    fn profile(&self, number: usize, federated: bool) -> Profile {
        let server = self.role == Role::Server;
        Profile {
            name: self.name.clone(),
            id: NodeId(Uuid::from_u64_pair(number as u64 + 1, 0)),
            dc: self.dc.clone(),
            role: self.role,
            addr: SocketAddr::new(self.host, 8301),
            link: server.then_some(SocketAddr::new(self.host, 8300)),
            wan: (server && federated).then_some(SocketAddr::new(self.host, 8302)),
            version: "0.1.0".to_owned(),
            tags: BTreeMap::new(),
        }
    }
}
