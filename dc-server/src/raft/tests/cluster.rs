//! A cluster in one process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use lan_agent::caller::Promise;
use tokio::time::{Instant, sleep};
use topology::NodeName;

use crate::{
    raft::{
        Config, Raft, RaftError, Read,
        disk::{Latency, Memory},
        network::{Wire, WireError},
        protocol::Peer,
    },
    state::{Applied, Command, Op, State},
};

/// Routes calls to the servers of this process.
#[derive(Clone, Default)]
pub(super) struct Switch {
    inner: Arc<Mutex<Ports>>,
}

#[derive(Default)]
struct Ports {
    servers: BTreeMap<u64, Raft>,
    isolated: BTreeSet<u64>,
}

struct Port {
    switch: Switch,
    me: u64,
}

impl Wire for Port {
    fn call(
        &self,
        id: u64,
        _: &Peer,
        kind: u16,
        body: Bytes,
        _: Instant,
    ) -> Promise<Result<Bytes, WireError>> {
        let (switch, me) = (self.switch.clone(), self.me);
        Box::pin(async move {
            sleep(Duration::from_micros(500)).await;
            let server = switch.reach(me, id)?;
            let answer = server.handle(kind, body).await;
            sleep(Duration::from_micros(500)).await;
            switch.reach(me, id)?;
            answer.map_err(|rejected| WireError::Refused(rejected.to_string()))
        })
    }
}

impl Switch {
    fn reach(&self, from: u64, to: u64) -> Result<Raft, WireError> {
        let ports = self.inner.lock().unwrap();
        let cut = ports.isolated.contains(&from) || ports.isolated.contains(&to);
        let server = ports.servers.get(&to).filter(|_| !cut);
        server.cloned().ok_or_else(|| WireError::Unreachable("cut".to_owned()))
    }
}

pub(super) struct Cluster {
    switch: Switch,
    disks: BTreeMap<u64, Memory>,
    pub(super) snapshot_entries: u64,
    seed: u64,
}

pub(super) fn set(i: u64) -> Command {
    let value = Bytes::from(i.to_be_bytes().to_vec());
    Command::new(None, &Op::KvSet { key: key(i).into(), value, flags: 0, cas: None })
}

fn key(i: u64) -> String {
    format!("key/{i:06}")
}

pub(super) fn get(state: &State, i: u64) -> Option<u64> {
    let entry = state.kv().get(&key(i))?;
    Some(u64::from_be_bytes(entry.value.as_ref().try_into().unwrap()))
}

impl Cluster {
    pub(super) fn new(count: u64, seed: u64) -> Self {
        let disk = |id: u64| {
            let (min, max) = (Duration::from_micros(100), Duration::from_millis(3));
            (id, Memory::new(Some(Latency { min, max, seed: seed * 100 + id })))
        };
        let disks = (1..=count).map(disk).collect();
        Self { switch: Switch::default(), disks, snapshot_entries: 1000, seed }
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.disks.keys().copied().collect()
    }

    pub(super) fn peer(&self, id: u64) -> Peer {
        Peer {
            name: NodeName::new(format!("s{id}")).unwrap(),
            addr: format!("10.0.0.{id}:8300").parse().unwrap(),
        }
    }

    pub(super) fn disk(&self, id: u64) -> Memory {
        self.disks[&id].clone()
    }

    pub(super) async fn start(&mut self, id: u64) {
        let Peer { name, addr } = self.peer(id);
        let config = Config {
            id,
            name,
            addr,
            multiplier: 1,
            snapshot_entries: self.snapshot_entries,
            seed: self.seed * 1000 + id,
            // The servers' clocks differ by hours.
            boot_ms: 1_800_000_000_000 + id * 3_600_000,
        };
        let disk = self.disks.entry(id).or_default().clone();
        let wire = Arc::new(Port { switch: self.switch.clone(), me: id });
        let raft = Raft::start(config, Arc::new(disk), wire).await.unwrap();
        self.switch.inner.lock().unwrap().servers.insert(id, raft);
    }

    /// Starts all servers and makes them one cluster; returns the leader.
    pub(super) async fn bootstrap(&mut self) -> u64 {
        for id in self.ids() {
            self.start(id).await;
        }
        let servers = self.ids().into_iter().map(|id| (id, self.peer(id))).collect();
        self.raft(1).bootstrap(servers).await.unwrap();
        let leader = self.leader().await;
        self.raft(leader).confirm(Read::Index).await.unwrap();
        leader
    }

    /// Cuts a server off and loses what its disk did not sync.
    pub(super) fn crash(&mut self, id: u64) {
        let raft = self.switch.inner.lock().unwrap().servers.remove(&id).unwrap();
        self.disks[&id].crash();
        tokio::spawn(async move { raft.shutdown().await });
    }

    pub(super) fn isolate(&mut self, id: u64) {
        self.switch.inner.lock().unwrap().isolated.insert(id);
    }

    pub(super) fn heal(&mut self) {
        self.switch.inner.lock().unwrap().isolated.clear();
    }

    pub(super) fn raft(&self, id: u64) -> Raft {
        self.switch.inner.lock().unwrap().servers[&id].clone()
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = Raft> {
        let servers: Vec<_> = self.switch.inner.lock().unwrap().servers.values().cloned().collect();
        servers.into_iter()
    }

    pub(super) fn states(&self) -> Vec<State> {
        self.servers().map(|raft| raft.state()).collect()
    }

    pub(super) fn other(&self, id: u64) -> u64 {
        self.ids().into_iter().find(|other| *other != id).unwrap()
    }

    pub(super) async fn leader(&self) -> u64 {
        self.leader_but(u64::MAX).await
    }

    pub(super) async fn leader_but(&self, but: u64) -> u64 {
        self.until(|| {
            let leader = self.servers().find(|raft| raft.is_leader() && raft.id() != but)?;
            Some(leader.id())
        })
        .await
    }

    pub(super) async fn write(&self, id: u64, command: Command) -> Result<Applied, RaftError> {
        self.raft(id).write(command).await
    }

    /// Waits until all running servers applied the same, longest log.
    pub(super) async fn caught_up(&self) {
        self.until(|| {
            let last = self.servers().map(|raft| raft.status().last_index).max()?;
            self.servers().all(|raft| raft.applied() == last).then_some(())
        })
        .await;
    }

    pub(super) async fn until<T>(&self, ready: impl Fn() -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(value) = ready() {
                return value;
            }
            assert!(Instant::now() < limit, "not within a minute");
            sleep(Duration::from_millis(10)).await;
        }
    }
}
