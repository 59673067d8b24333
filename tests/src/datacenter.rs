//! One datacenter of the simulation: real servers and client agents on machines of their own.
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

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use certs::{
    identity::Identity,
    link::{self, Accept, Endpoint, Limits, Service},
};
use dc_server::{
    blocking::Waits,
    cluster_id, coordinates,
    dispatch::{self, Dispatch, Patience, way::Map},
    failover::Failover,
    leader::{self, Agreement, Duties, autopilot::Settings},
    link_service::{LinkService, Parts},
    mirror::{self, Mirrors},
    raft::{
        self, Raft, Role as Standing,
        disk::{Latency, Memory},
        network::link::Link as Wire,
    },
    removals::Removals,
    server::{Server, follow_leader},
    state::State,
};
use lan_agent::{
    caller::{Caller, Promise},
    pool::{self, Pool, seal::KeyRing},
    remote::{ClientService, LinkPuller, RemoteCaller},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use time::OffsetDateTime;
use topology::{Datacenter, NodeId, NodeName, Profile, Role, gossip};
use uuid::Uuid;

use crate::{
    credentials::Credentials,
    fabric::{Clock, Fabric, Link},
    machine::{Machine, TURN},
    storm::Weather,
};

/// Entries between two snapshots: few, so that a short run takes and sends some.
const SNAPSHOT_ENTRIES: u64 = 100;

/// How long a server has to be there before it votes, and gone before it is taken out of Raft:
/// short, so that a short run sees that.
const STABILIZATION: Duration = Duration::from_secs(4);

/// How long requests wait for a leader, as in a real server.
const HOLD: Duration = Duration::from_secs(7);

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
    dc: Datacenter,
    credentials: Arc<Credentials>,
    nodes: Vec<Node>,
    servers: usize,
    resident: Resident,
    rng: SmallRng,
    now: Duration,
}

struct Node {
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

/// What a node starts with.
struct Start {
    me: Profile,
    credentials: Arc<Credentials>,
    fabric: Fabric,
    disk: Memory,
    /// The servers' addresses in the LAN pool.
    join: Vec<String>,
    servers: usize,
    day: OffsetDateTime,
    seed: u64,
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
            Node::new(number, role, rng.random())
        });
        Self {
            nodes: nodes.collect(),
            fabric: Fabric::new(rng.random(), Link::LAN),
            dc: Datacenter::new("dc1").expect("a name"),
            credentials,
            servers,
            resident,
            rng,
            now: Duration::ZERO,
        }
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
        let leaders = (0..self.servers).filter_map(|number| leads(&number));
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
        let joined = self.nodes.iter().filter(|node| server(node));
        let node = &self.nodes[number];
        let start = Start {
            me: node.profile(number, &self.dc),
            credentials: self.credentials.clone(),
            fabric: self.fabric.on(machine.clock()),
            disk: node.disk.clone(),
            join: joined.map(|node| SocketAddr::new(node.host, 8301).to_string()).collect(),
            servers: self.servers,
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
    fn new(number: usize, role: Role, seed: u64) -> Self {
        let place = u8::try_from(number + 1).expect("few nodes");
        let latency =
            Latency { min: Duration::from_micros(100), max: Duration::from_millis(8), seed };
        Self {
            name: NodeName::new(format!("{role}-{place}")).expect("a name"),
            host: IpAddr::from([10, 0, 0, place]),
            role,
            disk: Memory::new(Some(latency)),
            full: false,
            starts: 0,
            running: None,
        }
    }

    fn profile(&self, number: usize, dc: &Datacenter) -> Profile {
        let server = self.role == Role::Server;
        Profile {
            name: self.name.clone(),
            id: NodeId(Uuid::from_u64_pair(number as u64 + 1, 0)),
            dc: dc.clone(),
            role: self.role,
            addr: SocketAddr::new(self.host, 8301),
            link: server.then_some(SocketAddr::new(self.host, 8300)),
            wan: None,
            version: "0.1.0".to_owned(),
            tags: BTreeMap::new(),
        }
    }
}

impl Start {
    /// Puts a server together, as a process does, and lets it run.
    async fn server(self) -> Server {
        let service = LinkService::default();
        let link = self.link(Arc::new(service.clone()));
        let pool = self.pool(&link);
        let raft = self.raft(&link).await;
        let (standing, run) = follow_leader(raft.clone());
        tokio::spawn(run);
        let map = Map { home: self.me.dc.clone(), primary: self.me.dc.clone() };
        let (coordinates, run) = coordinates::inbox(raft.clone());
        tokio::spawn(run);
        let parts = dispatch::Parts {
            map,
            raft: raft.clone(),
            link: link.clone(),
            federation: None,
            removals: Removals::open(None).0,
            pool: pool.clone(),
            standing: standing.clone(),
            mirrors: Mirrors::new(mirror::Settings::default()),
            coordinates,
            failover: Failover::new(
                None,
                false,
                Mirrors::new(mirror::Settings::default()),
                None,
                0,
            ),
        };
        let waits = Waits { default: Duration::from_secs(300), max: Duration::from_secs(600) };
        let patience = Patience { leader: HOLD, waits };
        let dispatch = Dispatch::new(parts, patience, self.seed);
        let (agreement, expect) = (Agreement::default(), Some(self.servers));
        let autopilot = Settings { stabilization: STABILIZATION, ..Settings::default() };
        let cluster = Some(cluster_id::fresh(self.seed, 0));
        let (dc, me) = (self.me.dc.clone(), self.me.name.clone());
        let duties = leader::Config { dc, me, expect, autopilot, cluster };
        let duties = Duties::new(duties, raft.clone(), pool.clone(), link, agreement.clone());
        tokio::spawn(duties.run());
        service.open(Parts {
            dispatch: dispatch.clone(),
            raft: raft.clone(),
            pool: pool.clone(),
            agreement,
            expect,
            federation: None,
        });
        Server { dispatch, raft, federation: None, pool, standing }
    }

    /// Puts a client agent together and lets it run.
    fn client(self) -> RemoteCaller {
        let link = self.link(Arc::new(ClientService));
        let pool = self.pool(&link);
        let (caller, run) = RemoteCaller::new(self.me.dc.clone(), link, pool, None, self.seed);
        tokio::spawn(run);
        caller
    }

    fn link(&self, service: Arc<dyn Service>) -> Endpoint {
        let me = &self.me;
        let identity = Identity::new(me.dc.clone(), me.role, Some(me.name.clone()));
        let config = link::Config {
            addr: me.link.unwrap_or(SocketAddr::new(me.addr.ip(), 0)),
            keys: self.credentials.issue(&identity, self.day),
            me: identity,
            accept: Accept::OwnDatacenter(me.dc.clone()),
            profile: link::Profile::Lan,
            seed: Some(self.seed),
            limits: Limits::default(),
        };
        let bound = Endpoint::bind(config, &self.fabric, service);
        let (endpoint, run) = bound.expect("the address is free");
        tokio::spawn(run);
        endpoint
    }

    fn pool(&self, link: &Endpoint) -> Pool {
        let config = pool::Config {
            me: self.me.clone(),
            bind: self.me.addr,
            ring: KeyRing::plain(),
            join: self.join.clone(),
            retry_interval: Duration::from_secs(1),
            roster: None,
            rejoin: false,
            seed: self.seed,
            boot: self.boot_ms(),
            gossip: gossip::Config::lan(),
            measuring: pool::Measuring::On,
        };
        let puller = Arc::new(LinkPuller::new(link.clone()));
        let bound = Pool::bind(config, &self.fabric, puller);
        let (pool, _addr, run) = bound.expect("the address is free");
        tokio::spawn(run);
        pool
    }

    async fn raft(&self, link: &Endpoint) -> Raft {
        let config = raft::Config {
            id: self.me.id.raft(),
            name: self.me.name.clone(),
            addr: link.local_addr(),
            multiplier: 1,
            snapshot_entries: SNAPSHOT_ENTRIES,
            seed: self.seed,
            boot_ms: self.boot_ms(),
        };
        let wire = Arc::new(Wire::new(link.clone(), self.me.dc.clone()));
        let raft = Raft::start(config, Arc::new(self.disk.clone()), wire).await;
        raft.expect("Raft starts from any disk that was synced when it said so")
    }

    fn boot_ms(&self) -> u64 {
        u64::try_from(self.day.unix_timestamp()).expect("after 1970") * 1_000
    }
}
