//! One node, put together from its configuration: a client agent or a server.
//!
//! ```text
//!            ┌────── http, dns ◀── applications
//!            ▼
//!          Agent ── pool (LAN) ◀──▶ other nodes
//!            │ Caller
//!   client:  RemoteCaller ── link ──▶ servers
//!   server:  Server ── dispatch ──┬── raft ◀──▶ peers (link)
//!                                 └── federation ◀──▶ other datacenters
//! ```
//!
//! [`start`] binds every address before it returns, so that whoever is told of them can connect.
//! [`Node::run`] drives everything until the agent is told to stop, then takes it down in the
//! reverse order: applications first, so that nobody is answered by half a server.

pub mod keys;
pub mod reload;

mod entry;
mod interface;
mod services;
mod wan;

use std::{
    collections::BTreeMap, future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration,
};

use anyhow::Context;
use certs::{
    https::Acceptor,
    identity::Identity,
    link::{Accept, Endpoint, Limits, Profile as Network, Service, Sockets},
    store::Keys,
};
use lan_agent::{
    agent::{self, Agent},
    cache,
    caller::Caller,
    checks::Runner,
    dns::{self, Dns},
    http::{self, Most, listen::Place},
    local,
    pool::{
        self, Pool,
        packets::Packets,
        seal::{Key, KeyRing},
    },
    process::Process,
    remote::{ClientService, LinkPuller, RemoteCaller},
    watches::Watches,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use topology::{NodeId, Profile, Role, gateway::GATEWAYS_TAG, gossip};
use tracing::{error, info};
use uuid::Builder;
use wan_federation::gateways;

use self::entry::Entry;
use crate::{
    blocking::Waits,
    cluster_id, config, coordinates,
    data_dir::DataDir,
    dispatch::{self, Dispatch, Patience},
    failover::Own,
    leader::{self, Agreement, Duties, autopilot::Settings},
    link_service::{LinkService, Parts},
    metrics::Replication,
    query::Answers,
    raft::{self, Raft, disk, network::link::Link},
    release,
    server::{InsideServer, Server, follow_leader},
};

/// How long peers are given to hear that this node closes its links.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where a node gets its sockets, its randomness and its time from.
pub struct World {
    /// Opens the sockets of links.
    pub sockets: Arc<dyn Sockets>,
    /// Opens the socket of the LAN pool.
    pub packets: Arc<dyn Packets>,
    /// Feeds every random choice; different at each start.
    pub seed: u64,
    /// When the process started, in milliseconds since 1970; larger at each start.
    pub boot_ms: u64,
    /// The same moment on the clock that never goes back.
    pub boot: Instant,
    /// What the node shares with its process.
    pub process: Process,
    /// The directory of the user's development CA.
    pub development: PathBuf,
    /// Where Docker's engine is, for checks; `None` for where it usually is.
    pub docker_host: Option<String>,
}

impl World {
    /// Returns the present in milliseconds since 1970.
    fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.boot.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.boot_ms.saturating_add(passed)
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A node that listens everywhere and waits to be run.
pub struct Node {
    agent: Arc<Agent>,
    link: Endpoint,
    server: Option<Server>,
    keys: Keys,
    entry: Entry,
    /// What runs as long as the node does.
    tasks: Vec<Task>,
    /// The HTTP interface, which ends by itself when the agent stops.
    interface: Task,
    places: Vec<Place>,
    dns: Dns,
    acceptor: Option<Acceptor>,
    connections_max: Most,
    watches: Watches,
    /// Holds the directory until everything has ended.
    _data_dir: Option<DataDir>,
}

/// Puts a node together and binds its addresses.
pub async fn start(config: &config::Agent, world: World) -> anyhow::Result<Node> {
    let data_dir = config.data_dir.as_deref().map(DataDir::open).transpose()?;
    let me = profile(config, data_dir.as_ref(), &world)?;
    let identity = Identity::new(me.dc.clone(), me.role, Some(me.name.clone()));
    let keys = keys::for_links(config, &identity, &world.development)?;
    match config.role {
        Role::Server => server(config, world, data_dir, me, keys).await,
        Role::Client => client(config, world, data_dir, me, keys),
    }
}

impl Node {
    /// Returns the agent.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Returns where the HTTP interface listens.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns the DNS interface.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Runs the node until its agent is told to stop. Fails when the agent stops because a pool
    /// that it had to join could not be joined.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut running = tokio::task::JoinSet::new();
        for task in self.tasks {
            running.spawn(task);
        }
        let outcome = tokio::select! {
            biased;
            () = &mut self.interface => Ok(()),
            error = self.entry.failed() => Err(error),
        };
        if let Err(error) = &outcome {
            error!(reason = format!("{error:#}"), "the agent can't stay");
            self.agent.stopping().cancel();
            self.interface.await;
        }
        cache::save(&self.agent).await;
        if let Some(server) = &self.server {
            server.raft.shutdown().await;
            if let Some(federation) = &server.federation {
                let goodbye = federation.shutdown("the server is stopping");
                if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
                    info!("stopping without the WAN's goodbye");
                }
            }
        }
        let goodbye = self.link.shutdown("the agent is stopping");
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            info!("stopping without the link's goodbye");
        }
        running.shutdown().await;
        outcome
    }
}

/// What the node says of itself in the LAN pool.
fn profile(
    config: &config::Agent,
    data_dir: Option<&DataDir>,
    world: &World,
) -> anyhow::Result<Profile> {
    let random =
        (u128::from(world.seed) << 64) | u128::from(world.boot_ms ^ world.seed.rotate_left(17));
    let fresh = NodeId(Builder::from_random_bytes(random.to_be_bytes()).into_uuid());
    let id = match (config.node_id, data_dir) {
        (Some(id), _) => id,
        (None, Some(dir)) => dir.node_id(fresh)?,
        (None, None) => fresh,
    };
    let addresses = &config.addresses;
    let mut tags = BTreeMap::new();
    if config.bootstrap_expect > 0 {
        tags.insert("expect".to_owned(), config.bootstrap_expect.to_string());
    }
    let gateways = &config.federation.gateways;
    if config.is_server() && !gateways.is_empty() {
        tags.insert(GATEWAYS_TAG.to_owned(), gateways::tag(gateways));
    }
    Ok(Profile {
        name: config.node_name.clone(),
        id,
        dc: config.datacenter.clone(),
        role: config.role,
        addr: addresses.lan.advertise,
        link: config.is_server().then_some(addresses.link.advertise),
        wan: addresses.wan.map(|wan| wan.advertise),
        version: release::VERSION.to_owned(),
        tags,
    })
}

async fn server(
    config: &config::Agent,
    world: World,
    data_dir: Option<DataDir>,
    me: Profile,
    keys: Keys,
) -> anyhow::Result<Node> {
    let mut tasks: Vec<Task> = Vec::new();
    let service = LinkService::default();
    let (link, run) = bind_link(config, &world, &me, &keys, Arc::new(service.clone()))?;
    tasks.push(Box::pin(run));
    let puller = Arc::new(LinkPuller::new(link.clone()));
    let (pool, run) = bind_pool(config, &world, &me, data_dir.as_ref(), puller)?;
    tasks.push(Box::pin(run));
    let raft = start_raft(config, &world, data_dir.as_ref(), &me, &link).await?;
    let inside = InsideServer::default();
    let parts = (&keys, &link, inside.clone());
    let (removals, federation) =
        wan::enter(config, &world, &me, parts, data_dir.as_ref(), &raft, &mut tasks)?;
    let (standing, run) = follow_leader(raft.clone());
    tasks.push(Box::pin(run));
    let mirrors = wan::mirrors(config);
    let map = dispatch::way::Map { home: me.dc.clone(), primary: config.primary().clone() };
    let (coordinates, run) = coordinates::inbox(raft.clone());
    tasks.push(Box::pin(run));
    let own = Own { view: raft.view().clone(), answers: Arc::new(Answers::new(me.dc.clone())) };
    let parts = dispatch::Parts {
        map: map.clone(),
        raft: raft.clone(),
        link: link.clone(),
        federation: federation.clone(),
        removals,
        pool: pool.clone(),
        standing: standing.clone(),
        mirrors: mirrors.clone(),
        failover: wan::failover(config, &world, own, &mirrors, federation.as_ref()),
        coordinates,
    };
    let dispatch = Dispatch::new(parts, patience(config), world.seed);
    tasks.extend(wan::copiers(
        config,
        &world,
        map,
        &dispatch,
        &raft,
        (mirrors, federation.as_ref()),
    ));
    let duties = duties(config, &me, &world);
    let (agreement, expect) = (Agreement::default(), duties.expect);
    let duties = Duties::new(duties, raft.clone(), pool.clone(), link.clone(), agreement.clone());
    tasks.push(Box::pin(duties.run()));
    tasks.push(Box::pin(keys.clone().watch()));
    tasks.push(Box::pin(Replication::resolve().follow(raft.clone())));
    tasks.extend(federation.clone().map(|wan| -> Task { Box::pin(wan::flood(wan, pool.clone())) }));
    let wan = federation.clone().map(|wan| (config.join_wan.clone(), wan));
    let entry = Entry::new((config.join.clone(), pool.clone()), wan);
    let server = Server {
        dispatch: dispatch.clone(),
        raft: raft.clone(),
        federation: federation.clone(),
        pool: pool.clone(),
        standing,
    };
    inside.open(server.clone());
    let parts = Parts { dispatch, raft, pool: pool.clone(), agreement, expect, federation };
    service.open(parts);
    let caller = Arc::new(server.clone());
    let core = Core { link, server: Some(server), keys, entry, tasks, data_dir };
    complete(config, &world, me, pool, caller, core)
}

fn client(
    config: &config::Agent,
    world: World,
    data_dir: Option<DataDir>,
    me: Profile,
    keys: Keys,
) -> anyhow::Result<Node> {
    let mut tasks: Vec<Task> = Vec::new();
    let (link, run) = bind_link(config, &world, &me, &keys, Arc::new(ClientService))?;
    tasks.push(Box::pin(run));
    let puller = Arc::new(LinkPuller::new(link.clone()));
    let (pool, run) = bind_pool(config, &world, &me, data_dir.as_ref(), puller)?;
    tasks.push(Box::pin(run));
    tasks.push(Box::pin(keys.clone().watch()));
    let refuges = wan::refuges(config, &world, (&me, &keys), data_dir.as_ref(), &mut tasks)?;
    let home = me.dc.clone();
    let (caller, run) =
        RemoteCaller::new(home, link.clone(), pool.clone(), Some(refuges.clone()), world.seed);
    tasks.push(Box::pin(run));
    tasks.push(Box::pin(refuges.keep(caller.clone())));
    let entry = Entry::new((config.join.clone(), pool.clone()), None);
    let core = Core { link, server: None, keys, entry, tasks, data_dir };
    complete(config, &world, me, pool, Arc::new(caller), core)
}

fn bind_link(
    config: &config::Agent,
    world: &World,
    me: &Profile,
    keys: &Keys,
    service: Arc<dyn Service>,
) -> anyhow::Result<(Endpoint, impl Future<Output = ()> + Send + 'static + use<>)> {
    let addr = config.addresses.link.bind;
    let settings = certs::link::Config {
        addr,
        me: Identity::new(me.dc.clone(), me.role, Some(me.name.clone())),
        keys: keys.clone(),
        accept: Accept::OwnDatacenter(me.dc.clone()),
        profile: Network::Lan,
        seed: None,
        limits: Limits::default(),
    };
    Endpoint::bind(settings, &*world.sockets, service)
        .with_context(|| format!("can't listen at {addr} (UDP) for the server link"))
}

fn bind_pool(
    config: &config::Agent,
    world: &World,
    me: &Profile,
    data_dir: Option<&DataDir>,
    puller: Arc<dyn pool::Puller>,
) -> anyhow::Result<(Pool, impl Future<Output = ()> + Send + 'static + use<>)> {
    let bind = config.addresses.lan.bind;
    let ring = match &config.encrypt {
        Some(key) => KeyRing::new(Key::new(key.bytes())?, Vec::new())?,
        None => KeyRing::plain(),
    };
    let join = [config.join.start.clone(), config.join.retry.clone()].concat();
    let settings = pool::Config {
        me: me.clone(),
        bind,
        ring,
        join,
        retry_interval: config.join.interval,
        roster: data_dir.map(|dir| dir.path().join("lan-roster.json")),
        rejoin: config.rejoin_after_leave,
        seed: world.seed,
        boot: world.boot_ms,
        gossip: gossip::Config { reap_after: config.reconnect_timeout, ..gossip::Config::lan() },
        measuring: pool::Measuring::unless(config.disable_coordinates),
    };
    Pool::bind(settings, &*world.packets, puller)
        .map(|(pool, _addr, run)| (pool, run))
        .with_context(|| format!("can't listen at {bind} (UDP) for the LAN pool"))
}

async fn start_raft(
    config: &config::Agent,
    world: &World,
    data_dir: Option<&DataDir>,
    me: &Profile,
    link: &Endpoint,
) -> anyhow::Result<Raft> {
    let disk: Arc<dyn disk::Disk> = match data_dir {
        Some(dir) => Arc::new(disk::Files::open(&dir.raft())?),
        None => Arc::new(disk::Memory::new(None)),
    };
    let settings = raft::Config {
        id: me.id.raft(),
        name: me.name.clone(),
        addr: config.addresses.link.advertise,
        multiplier: config.raft.multiplier,
        snapshot_entries: config.raft.snapshot_threshold.unwrap_or(raft::SNAPSHOT_ENTRIES),
        seed: world.seed,
        boot_ms: world.boot_ms,
    };
    let wire = Arc::new(Link::new(link.clone(), me.dc.clone()));
    Ok(Raft::start(settings, disk, wire).await?)
}

/// What a node consists of before its interface is there.
struct Core {
    link: Endpoint,
    server: Option<Server>,
    keys: Keys,
    entry: Entry,
    tasks: Vec<Task>,
    data_dir: Option<DataDir>,
}

/// Opens the local interface, which makes the node complete.
fn complete(
    config: &config::Agent,
    world: &World,
    me: Profile,
    pool: Pool,
    caller: Arc<dyn Caller>,
    core: Core,
) -> anyhow::Result<Node> {
    let identity = Identity::new(me.dc.clone(), me.role, Some(me.name.clone()));
    let Core { link, server, keys, entry, mut tasks, data_dir } = core;
    let runner = Runner::default();
    let local = services::open(config, &me, data_dir.as_ref(), &runner)?;
    let settings = agent::Config {
        primary_dc: config.primary().clone(),
        me,
        revision: release::REVISION,
        build_date: release::BUILD_DATE,
        ask_timeout: config.limits.rpc_client_timeout,
        drain_time: if config.is_server() { config.leave.drain_time } else { Duration::ZERO },
        remote_scripts: config.checks.remote_scripts,
        translate_wan: config.translate_wan,
        cache_file: data_dir.as_ref().map(|dir| dir.path().join("cache")),
        seed: world.seed,
        started_ms: world.boot_ms,
    };
    let stop = CancellationToken::new();
    let (shown, process) = (config.shown(), world.process.clone());
    let agent = Agent::new(settings, shown, pool, caller, local.clone(), process, stop.clone());
    tasks.push(Box::pin(local::run(local.clone(), agent.clone(), world.seed)));
    tasks.push(Box::pin(cache::run(agent.clone())));
    tasks.push(Box::pin(lan_agent::coordinates::run(agent.clone(), world.seed)));
    let checks = services::checks(config, world.seed, world.docker_host.as_deref());
    tasks.push(Box::pin(runner.run(checks, local, Arc::new(agent.clone()), stop)));
    let watches = Watches::new(agent.clone());
    watches.set(&config.definitions.watches);
    let (settings, acceptor) = interface::settings(config, &identity, &world.development)?;
    let connections_max = settings.connections_per_client_max.clone();
    let (places, interface) = http::bind(settings, agent.clone())?;
    let settings = dns::Config {
        listen: config.addresses.dns.clone(),
        settings: config.dns.settings(&config.domain),
    };
    let (dns, run) = dns::bind(settings, agent.clone())?;
    tasks.push(Box::pin(run));
    tasks.extend(acceptor.clone().map(|acceptor| -> Task { Box::pin(acceptor.watch()) }));
    Ok(Node {
        agent,
        link,
        server,
        keys,
        entry,
        tasks,
        interface: Box::pin(interface),
        places,
        dns,
        acceptor,
        connections_max,
        watches,
        _data_dir: data_dir,
    })
}

fn patience(config: &config::Agent) -> Patience {
    let default = config.limits.default_query_time;
    let waits = Waits { default, max: config.limits.max_query_time };
    Patience { leader: config.rpc_hold_timeout, waits }
}

/// What a leader does for its datacenter.
fn duties(config: &config::Agent, me: &Profile, world: &World) -> leader::Config {
    let expect = usize::try_from(config.bootstrap_expect).ok().filter(|expect| *expect > 0);
    let autopilot = autopilot(config);
    let cluster =
        config.addresses.wan.as_ref().map(|_| cluster_id::fresh(world.seed, world.boot_ms));
    leader::Config { dc: me.dc.clone(), me: me.name.clone(), expect, autopilot, cluster }
}

fn autopilot(config: &config::Agent) -> Settings {
    Settings {
        cleanup_dead_servers: config.autopilot.cleanup_dead_servers,
        stabilization: config.autopilot.server_stabilization_time,
        quorum_min: usize::try_from(config.autopilot.min_quorum).unwrap_or(usize::MAX),
    }
}
