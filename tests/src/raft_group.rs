//! Raft servers of one datacenter on the simulated network, with disks that forget.
//!
//! Each server is the real `dc_server::raft::Raft` over the real QUIC link; only sockets and
//! disk are the simulation's. A crash is a crash: the server's packets stop, its disk loses what
//! was not synced, and nothing of its memory survives.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use certs::{
    error::CallError,
    identity::Identity,
    link::{
        self, Accept, Answering, Endpoint, Expect, Kind, Limits, Refusal, Request, Service, Target,
    },
};
use dc_server::raft::{
    self, Raft,
    disk::{Latency, Memory},
    network::{Wire, WireError},
    protocol::Peer,
};
use lan_agent::caller::Promise;
use tokio::{task::JoinHandle, time::Instant};
use topology::{Datacenter, NodeName};

use crate::{credentials::Credentials, fabric::Fabric};

/// The code with which a server refuses what its Raft rejects.
const REJECTED: u16 = 32;

/// Entries between two snapshots: few, so that a short run takes and sends some.
const SNAPSHOT_ENTRIES: u64 = 100;

/// The servers and what they run on.
pub struct Group {
    /// The network.
    pub fabric: Fabric,
    dc: Datacenter,
    credentials: Arc<Credentials>,
    members: Vec<Member>,
    seed: u64,
}

struct Member {
    id: u64,
    name: NodeName,
    addr: SocketAddr,
    disk: Memory,
    now: Mutex<Now>,
}

/// What a server is doing.
#[derive(Default)]
struct Now {
    starts: u64,
    running: Option<Running>,
}

struct Running {
    raft: Raft,
    endpoint: Endpoint,
    run: JoinHandle<()>,
}

/// Raft's messages over the link.
struct LinkWire {
    endpoint: Endpoint,
    dc: Datacenter,
}

impl Wire for LinkWire {
    fn call(
        &self,
        _id: u64,
        peer: &Peer,
        kind: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, WireError>> {
        let endpoint = self.endpoint.clone();
        let expect = Expect::server_of(self.dc.clone()).named(peer.name.clone());
        let target = Target { addr: peer.addr, expect };
        Box::pin(async move {
            let request = Request { kind: Kind(kind), deadline, body };
            match endpoint.call(&target, request).await {
                Ok(reply) => Ok(reply.body),
                Err(CallError::Refused { message, .. }) => Err(WireError::Refused(message)),
                Err(error) if error.had_no_effect() => {
                    Err(WireError::Unreachable(error.to_string()))
                }
                Err(error) => Err(WireError::Lost(error.to_string())),
            }
        })
    }
}

/// Hands Raft's messages in; the server starts after its endpoint, so it comes later.
#[derive(Default)]
struct Inside(OnceLock<Raft>);

impl Service for Inside {
    fn call(&self, _peer: Arc<Identity>, _from: SocketAddr, request: Request) -> Answering {
        let raft = self.0.get().cloned();
        Box::pin(async move {
            let raft = raft.ok_or_else(|| Refusal::new(REJECTED, "Raft has not started yet"))?;
            let answer = raft.handle(request.kind.0, request.body).await;
            answer.map_err(|error| Refusal::new(REJECTED, error))
        })
    }

    fn datagram(&self, _peer: &Identity, _from: SocketAddr, _data: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

impl Group {
    /// Starts servers of dc1 and makes them a cluster.
    pub async fn start(
        fabric: Fabric,
        credentials: Arc<Credentials>,
        servers: usize,
        seed: u64,
    ) -> Self {
        let members = (0..servers).map(|index| Member::new(index, seed)).collect();
        let dc = "dc1".parse().expect("a name");
        let group = Self { fabric, dc, credentials, members, seed };
        for index in 0..servers {
            group.restart(index).await;
        }
        let peers: BTreeMap<u64, Peer> = group
            .members
            .iter()
            .map(|member| (member.id, Peer { name: member.name.clone(), addr: member.addr }))
            .collect();
        group.raft(0).expect("it runs").bootstrap(peers).await.expect("the first servers");
        group
    }

    /// Returns how many servers there are, running or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Tells whether there are no servers.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns a server's handle, if it runs.
    pub fn raft(&self, index: usize) -> Option<Raft> {
        self.members[index].now().running.as_ref().map(|running| running.raft.clone())
    }

    /// Returns a server's disk.
    pub fn disk(&self, index: usize) -> &Memory {
        &self.members[index].disk
    }

    /// Returns a server's address.
    pub fn host(&self, index: usize) -> IpAddr {
        self.members[index].addr.ip()
    }

    /// Returns the addresses of all servers but one.
    pub fn others(&self, index: usize) -> Vec<IpAddr> {
        (0..self.len()).filter(|other| *other != index).map(|other| self.host(other)).collect()
    }

    /// Returns the server that leads, as far as it knows itself.
    pub fn leader(&self) -> Option<usize> {
        (0..self.len()).find(|index| self.raft(*index).is_some_and(|raft| raft.is_leader()))
    }

    /// Crashes a server, if it runs.
    pub async fn crash(&self, index: usize) {
        let member = &self.members[index];
        let running = member.now().running.take();
        let Some(Running { raft, endpoint, run }) = running else { return };
        // From here on nothing it says is heard and nothing it writes becomes durable.
        self.fabric.unplug(member.addr.ip());
        member.disk.crash();
        run.abort();
        drop(endpoint);
        raft.shutdown().await;
        member.disk.crash();
    }

    /// Starts a server from what its disk remembers, unless it runs.
    pub async fn restart(&self, index: usize) {
        let dc = self.dc.clone();
        let member = &self.members[index];
        let starts = {
            let mut now = member.now();
            if now.running.is_some() {
                return;
            }
            now.starts += 1;
            now.starts
        };
        let seed = self.seed ^ member.id << 32 ^ starts << 48;
        let (me, keys) = self.credentials.server(&dc, &member.name);
        let service = Arc::new(Inside::default());
        let config = link::Config {
            addr: member.addr,
            me,
            keys,
            accept: Accept::OwnDatacenter(dc.clone()),
            profile: link::Profile::Lan,
            seed: Some(seed),
            limits: Limits::default(),
        };
        let (endpoint, run) =
            Endpoint::bind(config, &self.fabric, service.clone()).expect("the address is free");
        let run = tokio::spawn(run);
        let wire = Arc::new(LinkWire { endpoint: endpoint.clone(), dc });
        let config = raft::Config {
            id: member.id,
            name: member.name.clone(),
            addr: member.addr,
            multiplier: 1,
            snapshot_entries: SNAPSHOT_ENTRIES,
            seed,
            // The servers' clocks differ by hours.
            boot_ms: 1_800_000_000_000 + member.id * 3_600_000,
        };
        let raft = Raft::start(config, Arc::new(member.disk.clone()), wire).await;
        let raft = raft.expect("Raft starts from any disk that was synced when it said so");
        assert!(service.0.set(raft.clone()).is_ok(), "it is set once");
        member.now().running = Some(Running { raft, endpoint, run });
    }
}

impl Member {
    fn new(index: usize, seed: u64) -> Self {
        let number = u8::try_from(index + 1).expect("few servers");
        let latency = Latency {
            min: Duration::from_micros(100),
            max: Duration::from_millis(8),
            seed: seed ^ u64::from(number),
        };
        Self {
            id: u64::from(number),
            name: NodeName::new(format!("server-{number}")).expect("a name"),
            addr: SocketAddr::from(([10, 0, 0, number], 8300)),
            disk: Memory::new(Some(latency)),
            now: Mutex::default(),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().expect("nobody panics in here")
    }
}
