//! The effective configuration of an agent: checked, complete, typed.
//!
//! Serialised, it is what `/v1/agent/self` shows as the debug configuration: durations in Go's
//! syntax, secrets replaced by `hidden`.

pub mod dns;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use lan_agent::{
    definition::{CheckDefinition, ServiceDefinition},
    duration,
    http::network::Network,
    watches::Watch,
};
use serde::{Serialize, Serializer};
use serde_json::Value;
use topology::{Datacenter, NodeId, NodeName, Role};

use self::dns::Dns;
use crate::{config_entry::Definition, failover::policy::Policy};

/// Everything that an agent is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agent {
    /// Its datacenter.
    pub datacenter: Datacenter,
    /// The datacenter that decides for all, where one is named.
    pub primary_datacenter: Option<Datacenter>,
    /// Its name; the host's by default.
    pub node_name: NodeName,
    /// Its identity, when it is not to be made and kept in the data directory.
    pub node_id: Option<NodeId>,
    /// What it says of itself in the catalog.
    pub node_meta: BTreeMap<String, String>,
    /// Server or client.
    pub role: Role,
    /// How many servers make the first cluster; 0: join one that is there.
    pub bootstrap_expect: u32,
    /// Development mode: everything in memory, alone, on loopback.
    pub dev: bool,
    /// Where state is kept; `None` in development mode only.
    pub data_dir: Option<PathBuf>,
    /// Where it listens, and what it tells others.
    pub addresses: Addresses,
    /// Whether what is in another datacenter is shown with the addresses that it has on the WAN.
    pub translate_wan: bool,
    /// Whether the node does without a network coordinate.
    pub disable_coordinates: bool,
    /// How it finds its datacenter's pool.
    pub join: Join,
    /// How it finds the WAN pool; empty on clients.
    pub join_wan: Join,
    /// Whether a start after a leave joins the former members again.
    pub rejoin_after_leave: bool,
    /// The key that seals the LAN pool's packets.
    pub encrypt: Option<GossipKey>,
    /// Certificates.
    pub tls: Tls,
    /// Pace and size of Raft.
    pub raft: Raft,
    /// Care for the set of servers.
    pub autopilot: Autopilot,
    /// When a signal makes it leave rather than stop.
    pub leave: Leave,
    /// After which time a failed member is forgotten, in the LAN pool.
    #[serde(serialize_with = "go")]
    pub reconnect_timeout: Duration,
    /// The same in the WAN pool.
    #[serde(serialize_with = "go")]
    pub reconnect_timeout_wan: Duration,
    /// How long a request waits for a leader.
    #[serde(serialize_with = "go")]
    pub rpc_hold_timeout: Duration,
    /// The way to other datacenters.
    pub federation: Federation,
    /// When plain lookups go to other datacenters; `None`: when a service has a policy of its own.
    pub failover: Option<Policy>,
    /// Bounds of requests.
    pub limits: Limits,
    /// The HTTP interface.
    pub http: Http,
    /// What is logged, and where.
    pub log: Log,
    /// The zone of DNS names, without a dot at its end.
    pub domain: String,
    /// The DNS interface.
    pub dns: Dns,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// How checks are treated.
    pub checks: Checks,
    /// The configuration entries that have to be there, in the primary datacenter.
    #[serde(skip)]
    pub config_entries: Vec<Definition>,
    /// What runs on the node, by its files.
    #[serde(skip)]
    pub definitions: Definitions,
}

impl Agent {
    /// Tells whether the agent is a server.
    pub fn is_server(&self) -> bool {
        self.role == Role::Server
    }

    /// Returns the datacenter that decides for all: the own one where none is named.
    pub fn primary(&self) -> &Datacenter {
        self.primary_datacenter.as_ref().unwrap_or(&self.datacenter)
    }

    /// Tells whether nobody but this machine can reach the agent's link and pools.
    pub fn is_only_here(&self) -> bool {
        self.addresses.are_only_here()
    }

    /// Returns the configuration as JSON, without secrets.
    pub fn shown(&self) -> Value {
        serde_json::to_value(self).unwrap_or(Value::Null)
    }
}

/// An address to listen at, and the one that others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Where others reach it.
    pub advertise: SocketAddr,
}

/// Where an agent listens, and what it tells others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The LAN pool.
    pub lan: Endpoint,
    /// Asks and Raft (`ports.server`); a client binds the address with port 0.
    pub link: Endpoint,
    /// The WAN pool and what it carries; `None` on clients and where it is disabled.
    pub wan: Option<Endpoint>,
    /// The HTTP interface.
    pub http: Vec<Listen>,
    /// The HTTP interface over TLS.
    pub https: Vec<Listen>,
    /// The DNS interface.
    pub dns: Vec<SocketAddr>,
    /// What the sockets of [`Listen::Unix`] look like.
    pub unix: UnixSockets,
}

impl Addresses {
    /// Tells whether nobody but this machine can reach the link and the pools.
    pub fn are_only_here(&self) -> bool {
        let endpoints = [Some(self.lan), Some(self.link), self.wan];
        let here = |endpoint: &Endpoint| {
            endpoint.bind.ip().is_loopback() && endpoint.advertise.ip().is_loopback()
        };
        endpoints.iter().flatten().all(here)
    }
}

/// How requests get to other datacenters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Federation {
    /// Whether they may go through a third datacenter, and this server passes on those of others.
    pub detours: bool,
    /// The gateways by which other datacenters reach the servers of this one; none: they reach each by itself.
    pub gateways: Vec<String>,
    /// Whether servers keep mirrors of the catalogs of other datacenters.
    pub mirrors: bool,
    /// The prefixes of the keys that are mirrored, none below another one.
    pub mirror_kv: Vec<String>,
    /// Up to which age a mirror answers while its datacenter may be asked as well.
    #[serde(serialize_with = "go")]
    pub mirror_max_age: Duration,
    /// Up to which age a mirror answers at all.
    #[serde(serialize_with = "go")]
    pub max_stale: Duration,
}

/// Who may open socket files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UnixSockets {
    /// Their mode.
    pub mode: Option<u32>,
    /// Their owner: a name or a number.
    pub user: Option<String>,
    /// Their group: a name or a number.
    pub group: Option<String>,
}

/// A place for an HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl Listen {
    /// Returns the address of one that has an address.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Listen::Tcp(addr) => Some(addr.ip()),
            Listen::Unix(_) => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(addr) => write!(f, "{addr}"),
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a pool is found. Addresses are `host` or `host:port`; hosts are resolved at each attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// Joined once, at the start; failing that is fatal.
    pub start: Vec<String>,
    /// Joined until it succeeds.
    pub retry: Vec<String>,
    /// Time between two attempts.
    #[serde(serialize_with = "go")]
    pub interval: Duration,
    /// How often a failed attempt is repeated before the agent gives up; 0: no bound.
    pub retries_max: u32,
}

/// A key of the LAN pool: 16 or 32 bytes. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey(pub(super) Vec<u8>);

impl GossipKey {
    /// Returns the key itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

impl Serialize for GossipKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("hidden")
    }
}

/// Certificates of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// For links to other agents; `None`: the user's own development CA.
    pub link: Option<Pem>,
    /// For the HTTPS listener; `None`: the user's own development CA.
    pub https: Option<Pem>,
    /// Whether the HTTPS listener wants a certificate of its clients.
    pub https_verify_incoming: bool,
}

/// Files with a certificate chain, its key, and the CAs that are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pem {
    /// Certificate chain.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
    /// Trusted CAs: files and directories of files.
    pub ca: Vec<PathBuf>,
}

/// Pace and size of Raft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Raft {
    /// Scales heartbeats and election timeouts: 1 (fast, the default) to 10.
    pub multiplier: u8,
    /// Entries between two snapshots, where it is not Raft's own default.
    pub snapshot_threshold: Option<u64>,
}

/// Care for the set of servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Autopilot {
    /// Whether dead servers are removed.
    pub cleanup_dead_servers: bool,
    /// Servers that are never gone below.
    pub min_quorum: u32,
    /// How long a new server must be healthy before it votes.
    #[serde(serialize_with = "go")]
    pub server_stabilization_time: Duration,
}

/// When a signal makes the agent leave rather than stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leave {
    /// On SIGTERM: by default clients do, servers don't.
    pub on_terminate: bool,
    /// On SIGINT: by default clients do, servers don't.
    pub on_interrupt: bool,
    /// How long a leaving server goes on answering.
    #[serde(serialize_with = "go")]
    pub drain_time: Duration,
}

/// Bounds of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Connections that one address may hold to the HTTP interface; 0: no bound.
    pub http_max_conns_per_client: u32,
    /// How long a TLS handshake with the HTTP interface may take.
    #[serde(serialize_with = "go")]
    pub https_handshake_timeout: Duration,
    /// Longest request to a server that is no blocking query.
    #[serde(serialize_with = "go")]
    pub rpc_client_timeout: Duration,
    /// Bytes of a KV value.
    pub kv_max_value_size: usize,
    /// Bytes of a transaction's request.
    pub txn_max_req_len: usize,
    /// Wait of a blocking query that names none.
    #[serde(serialize_with = "go")]
    pub default_query_time: Duration,
    /// Longest wait of a blocking query.
    #[serde(serialize_with = "go")]
    pub max_query_time: Duration,
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Headers that every answer carries.
    pub response_headers: BTreeMap<String, String>,
    /// Prefixes of paths that are answered with 403.
    pub block_endpoints: Vec<String>,
    /// Networks that may write, in CIDR notation; empty: all.
    pub allow_write_http_from: Vec<Network>,
    /// Bytes of a request's headers: those below it are taken, those of twice as many are not.
    pub max_header_bytes: usize,
}

/// What is logged, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Least severe level that is logged.
    #[serde(serialize_with = "text")]
    pub level: tracing::Level,
    /// JSON lines rather than text.
    pub json: bool,
    /// A file instead of the standard output.
    pub file: Option<PathBuf>,
}

/// Services, checks and watches that files define.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    /// `service` and `services`.
    pub services: Vec<ServiceDefinition>,
    /// `check` and `checks`.
    pub checks: Vec<CheckDefinition>,
    /// `watches`.
    pub watches: Vec<Watch>,
}

/// How this agent treats checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// Whether those who call the agent may register checks that run programs.
    pub remote_scripts: bool,
    /// Whether its files may.
    pub local_scripts: bool,
    /// How long a changed output may wait before the catalog hears of it; zero for not at all.
    #[serde(serialize_with = "go")]
    pub update_interval: Duration,
    /// Whether outputs are kept at all.
    pub discard_output: bool,
    /// Most bytes that are kept of an output.
    pub output_len_max: usize,
    /// Whether checks believe the authorities of links, and show their certificate.
    pub agent_tls: bool,
}

impl Checks {
    /// Consul's default of `check_update_interval`.
    pub const UPDATE_INTERVAL: Duration = Duration::from_secs(300);
}

fn go<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration::format(*value))
}

fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
