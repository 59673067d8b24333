//! Puts a node together, as a process does, and lets it run.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use certs::{
    identity::Identity,
    link::{self, Accept, Endpoint, Limits, Service},
};
use dc_server::{
    blocking::Waits,
    cluster_id::{self, ClusterId},
    coordinates,
    dispatch::{self, Dispatch, Patience, way::Map},
    failover::{Failover, Own, policy::Policy},
    leader::{self, Agreement, Duties, autopilot::Settings},
    link_service::{LinkService, Parts},
    mirror::{self, MIRRORS_TAG, Mirrors, puller::Puller},
    query::Answers,
    raft::{self, Raft, disk::Memory, network::link::Link as Wire},
    removals::Removals,
    server::{InsideServer, Server, follow_leader},
};
use lan_agent::{
    pool::{self, Pool, seal::KeyRing},
    remote::{ClientService, LinkPuller, RemoteCaller},
};
use time::OffsetDateTime;
use topology::{Profile, Role, gossip};
use wan_federation::{Detours, Federation, Randomness};

use crate::{credentials::Credentials, fabric::Fabric};

/// Entries between two snapshots: few, so that a short run takes and sends some.
const SNAPSHOT_ENTRIES: u64 = 100;

/// How long a server has to be there before it votes, and gone before it is taken out of Raft:
/// short, so that a short run sees that.
const STABILIZATION: Duration = Duration::from_secs(4);

/// How long requests wait for a leader, as in a real server.
const HOLD: Duration = Duration::from_secs(7);

/// What a node starts with.
pub(super) struct Start {
    pub me: Profile,
    pub credentials: Arc<Credentials>,
    pub fabric: Fabric,
    pub disk: Memory,
    /// The datacenter's servers' addresses in the LAN pool.
    pub join: Vec<String>,
    /// All servers' addresses in the WAN pool.
    pub join_wan: Vec<String>,
    /// How many servers the datacenter has.
    pub servers: usize,
    /// What is done about services with too few healthy instances.
    pub failover: Option<Policy>,
    pub day: OffsetDateTime,
    pub seed: u64,
}

impl Start {
    /// Puts a server together, as a process does, and lets it run.
    pub(super) async fn server(self) -> Server {
        let service = LinkService::default();
        let link = self.link(Arc::new(service.clone()));
        let pool = self.pool(&link);
        let raft = self.raft(&link).await;
        let (standing, run) = follow_leader(raft.clone());
        tokio::spawn(run);
        let map = Map { home: self.me.dc.clone(), primary: self.me.dc.clone() };
        let (coordinates, run) = coordinates::inbox(raft.clone());
        tokio::spawn(run);
        let inside = InsideServer::default();
        let federation = self.federation(&link, &raft, inside.clone());
        let mirrors = Mirrors::new(mirror::Settings::default());
        let answers = Arc::new(Answers::new(self.me.dc.clone()));
        let failover = Failover::new(
            Own { view: raft.view().clone(), answers },
            self.failover.clone(),
            false,
            mirrors.clone(),
            federation.clone(),
            self.seed,
        );
        let parts = dispatch::Parts {
            map,
            raft: raft.clone(),
            link: link.clone(),
            federation: federation.clone(),
            removals: Removals::open(None).0,
            pool: pool.clone(),
            standing: standing.clone(),
            mirrors: mirrors.clone(),
            coordinates,
            failover,
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
            federation: federation.clone(),
        });
        if let Some(federation) = federation.clone() {
            let dispatch = dispatch.clone();
            tokio::spawn(Puller { mirrors, dispatch, federation, seed: self.seed }.run());
        }
        let server = Server { dispatch, raft, federation, pool, standing };
        inside.open(server.clone());
        server
    }

    /// Enters the federation, if there is one.
    fn federation(&self, link: &Endpoint, raft: &Raft, inside: InsideServer) -> Option<Federation> {
        let addr = self.me.wan?;
        let identity = Identity::new(self.me.dc.clone(), Role::Server, Some(self.me.name.clone()));
        let mut me = Profile { addr, ..self.me.clone() };
        me.tags.insert(MIRRORS_TAG.to_owned(), String::new());
        let config = wan_federation::Config {
            me,
            bind: addr,
            lan: link.clone(),
            keys: self.credentials.issue(&identity, self.day),
            join: self.join_wan.clone(),
            retry_interval: Duration::from_secs(1),
            gossip: gossip::Config::wan(),
            seed: self.seed,
            boot: self.boot_ms(),
            wall_ms: self.boot_ms(),
            removed: Vec::new(),
            randomness: Randomness::Seeded,
            detours: Detours::On,
        };
        let bound = Federation::bind(config, &self.fabric, Arc::new(inside));
        let (federation, run) = bound.expect("the address is free");
        tokio::spawn(run);
        let (kept, _) = ClusterId::open(None);
        tokio::spawn(kept.run(raft.clone(), federation.clone()));
        Some(federation)
    }

    /// Puts a client agent together and lets it run.
    pub(super) fn client(self) -> RemoteCaller {
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
