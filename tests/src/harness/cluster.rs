//! Datacenters of agents that trust each other.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use certs::{
    ca::{Algorithm, Authority, San, Subject},
    identity::Identity,
    store::Clock,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use topology::Role;
use uuid::Uuid;

use super::{
    agent::{Agent, base_config},
    block::Block,
    namespaces::Namespaces,
    relay::Relay,
    until,
};

/// How long a fresh datacenter may take until it has a leader and everyone knows everyone.
pub const READY_MAX: Duration = Duration::from_secs(40);

/// How far an agent's advertised address is from the one it binds, when a relay is between.
const ADVERTISED: u8 = 100;

/// For how long certificates are valid.
const DAYS: u32 = 2;

/// What agents there are to be in a datacenter.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Name of the datacenter.
    pub dc: &'static str,
    /// Servers.
    pub servers: u8,
    /// Client agents.
    pub clients: u8,
}

/// Agents, and what they have in common. Gone when it is dropped, processes first.
pub struct Cluster {
    /// All agents, servers first in each datacenter.
    pub agents: Vec<Agent>,
    /// Between all agents, if the cluster was made with one.
    pub relay: Option<Relay>,
    authority: Authority,
    gossip_key: String,
    dir: TempDir,
    ground: Ground,
}

/// Where agents have their addresses from. Dropped after them.
enum Ground {
    /// Loopback addresses.
    Loopback(Block),
    /// The same, where each agent advertises another address than it binds.
    Relayed(Block),
    /// Hosts of their own.
    Hosts(Namespaces),
}

impl Cluster {
    /// Describes the agents; nothing runs yet.
    pub fn plan(shapes: &[Shape]) -> Self {
        Self::describe(shapes, Ground::Loopback(Block::claim()))
    }

    /// The same, each agent on a host of its own, in their order.
    pub fn plan_on(hosts: Namespaces, shapes: &[Shape]) -> Self {
        Self::describe(shapes, Ground::Hosts(hosts))
    }

    /// The same with a relay between all agents.
    pub async fn plan_relayed(shapes: &[Shape]) -> Self {
        let mut cluster = Self::describe(shapes, Ground::Relayed(Block::claim()));
        let places = 0..cluster.agents.len();
        let hosts: Vec<(IpAddr, IpAddr)> =
            places.map(|place| (cluster.agents[place].host, cluster.advertised(place))).collect();
        cluster.relay = Some(Relay::bind(&hosts).await.expect("the block is ours"));
        cluster
    }

    /// Starts agents and waits until they work.
    pub async fn start(shapes: &[Shape]) -> Self {
        let mut cluster = Self::plan(shapes);
        cluster.launch().await;
        cluster
    }

    fn describe(shapes: &[Shape], ground: Ground) -> Self {
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let now = Clock::System.now();
        let mut cluster = Self {
            agents: Vec::new(),
            relay: None,
            authority: Authority::create("tests", Algorithm::EcdsaP256, now, DAYS)
                .expect("an authority"),
            gossip_key: STANDARD.encode(key),
            dir: tempfile::Builder::new().prefix("causeway-").tempdir().expect("a directory"),
            ground,
        };
        let authority = cluster.authority.certificate_pem();
        std::fs::write(cluster.dir.path().join("ca.pem"), authority).expect("a file");
        for shape in shapes {
            for _ in 0..shape.servers {
                cluster.add(shape.dc, Role::Server);
            }
            for _ in 0..shape.clients {
                cluster.add(shape.dc, Role::Client);
            }
        }
        for shape in shapes {
            let servers: Vec<usize> = cluster.servers(shape.dc);
            for server in &servers {
                let expect = json!({ "bootstrap_expect": servers.len() });
                cluster.agents[*server].configure(expect);
            }
        }
        cluster
    }

    /// Describes one more agent, which joins by all servers there are; returns its place.
    pub fn add(&mut self, dc: &str, role: Role) -> usize {
        let letter = if role == Role::Server { 's' } else { 'c' };
        let kind = format!("{dc}-{letter}");
        let fellows = self.agents.iter().filter(|agent| agent.name.starts_with(&kind));
        let name = format!("{kind}{}", fellows.count() + 1);
        let number = u8::try_from(self.agents.len() + 1).expect("few agents");
        let host = match &self.ground {
            Ground::Loopback(block) | Ground::Relayed(block) => block.host(number),
            Ground::Hosts(hosts) => hosts.lan(number),
        };
        let dir = self.dir.path().join(&name);
        let mut config = base_config(&name, dc, host, &dir);
        let tls = self.issue(&dir, dc, role, &name, host);
        for (key, value) in [
            ("encrypt", json!(self.gossip_key)),
            ("server", json!(role == Role::Server)),
            ("tls", tls),
        ] {
            config[key] = value;
        }
        let mut agent = Agent::new(&name, host, dir, config);
        match &self.ground {
            Ground::Loopback(_) => {}
            Ground::Relayed(block) => {
                let advertised = block.host(number + ADVERTISED);
                agent.configure(json!({
                    "advertise_addr": advertised,
                    "advertise_addr_wan": advertised,
                }));
            }
            Ground::Hosts(hosts) => {
                agent.front = hosts.desk(number);
                agent.namespace = Some(hosts.host(number));
                agent.configure(json!({ "client_addr": agent.front }));
            }
        }
        self.agents.push(agent);
        self.agents.len() - 1
    }

    /// Issues a certificate of the cluster's authority into a directory; returns the `tls` block.
    fn issue(&self, dir: &Path, dc: &str, role: Role, name: &str, host: IpAddr) -> Value {
        let identity =
            Identity::new(dc.parse().expect("a name"), role, Some(name.parse().expect("a name")));
        issue(&self.authority, &self.ca_file(), dir, identity, host)
    }

    /// Returns the hosts, if every agent has its own.
    pub fn hosts(&self) -> Option<&Namespaces> {
        match &self.ground {
            Ground::Hosts(hosts) => Some(hosts),
            Ground::Loopback(_) | Ground::Relayed(_) => None,
        }
    }

    /// Returns an address of the cluster that no agent has: those of agents begin with 1.
    ///
    /// # Panics
    /// When the agents have hosts of their own.
    pub fn spare_host(&self, number: u8) -> IpAddr {
        match &self.ground {
            Ground::Loopback(block) | Ground::Relayed(block) => block.host(number),
            Ground::Hosts(_) => panic!("agents on hosts of their own have no spare address"),
        }
    }

    /// Returns the file of the authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Returns the directory of the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the authority of the cluster.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    fn advertised(&self, place: usize) -> IpAddr {
        match self.agents[place].config["advertise_addr"].as_str() {
            Some(advertised) => advertised.parse().expect("an address"),
            None => self.agents[place].host,
        }
    }

    /// Starts one agent: it joins the servers of its datacenter and one of each other one.
    pub fn spawn(&mut self, place: usize) {
        let dc = self.dc(place);
        let join: Vec<String> = self
            .servers(&dc)
            .into_iter()
            .filter(|server| *server != place)
            .map(|server| self.advertised(server).to_string())
            .collect();
        let mut changes = json!({ "retry_join": join });
        if self.agents[place].config["server"] == true {
            let first = |dc: &String| self.servers(dc).first().copied();
            let others: Vec<String> = self.datacenters().into_iter().filter(|d| *d != dc).collect();
            let ways = |server: usize| {
                let gateways = self.agents[server].config["federation"]["gateways"].as_array();
                let gateways = gateways.map(|all| all.iter().filter_map(Value::as_str));
                match gateways {
                    Some(gateways) => gateways.map(str::to_owned).collect(),
                    None => vec![self.advertised(server).to_string()],
                }
            };
            let wan: Vec<String> = others.iter().filter_map(first).flat_map(ways).collect();
            changes["retry_join_wan"] = json!(wan);
        }
        self.agents[place].configure(changes);
        self.agents[place].spawn();
    }

    /// Starts one agent and waits until it answers HTTP.
    pub async fn run(&mut self, place: usize) {
        self.spawn(place);
        self.agents[place].wait_for_http().await;
    }

    /// Starts all agents that do not run and waits until everything works.
    pub async fn launch(&mut self) {
        for place in 0..self.agents.len() {
            if !self.agents[place].is_running() {
                self.spawn(place);
            }
        }
        for agent in &mut self.agents {
            agent.wait_for_http().await;
        }
        self.ready().await;
    }

    /// Waits until every datacenter answers every agent, and has all its servers for peers.
    pub async fn ready(&self) {
        // Asking others before they are met would fill the logs with what failed.
        for place in 0..self.agents.len() {
            self.meets_everyone(place).await;
        }
        for agent in &self.agents {
            let client = agent.client();
            for dc in self.datacenters() {
                let peers = self.servers(&dc).len();
                let what = format!("{dc} answers {}", agent.name);
                until(READY_MAX, &what, async || {
                    let path = format!("/v1/status/peers?dc={dc}");
                    let found = client.json(&path).await.map_err(|error| format!("{error:#}"))?;
                    let count = found.as_array().map_or(0, Vec::len);
                    if count != peers {
                        return Err(format!("{count} peers: {found}"));
                    }
                    let path = format!("harness/ready?dc={dc}");
                    client.kv_get(&path).await.map(drop).map_err(|error| format!("{error:#}"))
                })
                .await;
            }
        }
    }

    /// Waits until an agent sees all of its datacenter alive, and a server all servers of all.
    async fn meets_everyone(&self, place: usize) {
        let (agent, dc) = (&self.agents[place], self.dc(place));
        let places = [self.servers(&dc), self.clients(&dc)].concat();
        let mut expected =
            vec![("", places.iter().map(|p| self.agents[*p].name.clone()).collect())];
        if agent.config["server"] == true {
            let of = |dc: &String| {
                let servers = self.servers(dc).into_iter();
                servers.map(|p| format!("{}.{dc}", self.agents[p].name)).collect::<Vec<_>>()
            };
            expected.push(("?wan=1", self.datacenters().iter().flat_map(of).collect()));
        }
        for (pool, names) in expected {
            let names: Vec<String> = names;
            let what = format!("{} meets everyone", agent.name);
            until(READY_MAX, &what, async || {
                let found = agent.client().json(&format!("/v1/agent/members{pool}")).await;
                let found = found.map_err(|error| format!("{error:#}"))?;
                let alive = |name: &String| {
                    let members = found.as_array().into_iter().flatten();
                    members.filter(|m| m["Status"] == 1).any(|m| m["Name"] == **name)
                };
                let missing: Vec<_> = names.iter().filter(|name| !alive(name)).collect();
                if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are missing")) }
            })
            .await;
        }
    }

    /// Returns the name of an agent's datacenter.
    pub fn dc(&self, place: usize) -> String {
        self.agents[place].config["datacenter"].as_str().expect("it has one").to_owned()
    }

    /// Returns the names of the datacenters.
    pub fn datacenters(&self) -> Vec<String> {
        let mut all: Vec<String> = (0..self.agents.len()).map(|place| self.dc(place)).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Returns the places of a datacenter's servers.
    pub fn servers(&self, dc: &str) -> Vec<usize> {
        self.places(dc, true)
    }

    /// Returns the places of a datacenter's client agents.
    pub fn clients(&self, dc: &str) -> Vec<usize> {
        self.places(dc, false)
    }

    fn places(&self, dc: &str, server: bool) -> Vec<usize> {
        let is =
            |agent: &Agent| agent.config["datacenter"] == dc && agent.config["server"] == server;
        (0..self.agents.len()).filter(|place| is(&self.agents[*place])).collect()
    }

    /// Waits until the servers of a datacenter that run, but for `without`, agree on a leader.
    pub async fn leader(&mut self, dc: &str, without: Option<usize>) -> usize {
        let servers = self.servers(dc);
        let running: Vec<usize> = servers
            .into_iter()
            .filter(|place| Some(*place) != without && self.agents[*place].is_running())
            .collect();
        until(READY_MAX, "the servers agree on a leader", async || {
            let mut leaders = Vec::new();
            for place in &running {
                leaders.push(self.leader_of(*place, Duration::from_secs(2)).await?);
            }
            leaders.dedup();
            match leaders.as_slice() {
                [leader] if running.contains(leader) => Ok(*leader),
                _ => Err(format!("{leaders:?} of {running:?}")),
            }
        })
        .await
    }

    /// Asks an agent who leads its datacenter.
    pub async fn leader_of(&self, place: usize, patience: Duration) -> Result<usize, String> {
        let client = self.agents[place].client().patient(patience);
        let leader = client.json("/v1/status/leader").await;
        let leader = leader.map_err(|error| format!("{error:#}"))?;
        let addr = leader.as_str().unwrap_or_default();
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
        let is = |place: &usize| self.advertised(*place).to_string() == host;
        (0..self.agents.len()).find(is).ok_or_else(|| format!("{addr:?} is no agent's"))
    }
}

/// Issues a certificate into a directory; returns the `tls` block for it.
pub fn issue(
    authority: &Authority,
    ca_file: &Path,
    dir: &Path,
    identity: Identity,
    host: IpAddr,
) -> Value {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut subject = Subject::new(identity);
    subject.sans.push(San::Ip(host));
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let issued = authority.issue(&subject, Clock::System.now(), DAYS).expect("a certificate");
    issued.write(&cert, &key).expect("two files");
    json!({ "defaults": { "ca_file": ca_file, "cert_file": cert, "key_file": key } })
}
