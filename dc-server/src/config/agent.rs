//! The effective configuration of an agent: checked, complete, typed.
//!
//! Serialised, it is what `/v1/agent/self` shows as the debug configuration: durations in Go's
//! syntax, secrets replaced by `hidden`.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::Value;
use topology::{Datacenter, NodeId, NodeName, Role};

use super::duration;

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
    /// Bounds of requests.
    pub limits: Limits,
    /// The HTTP interface.
    pub http: Http,
    /// What is logged, and where.
    pub log: Log,
    /// Metrics.
    pub telemetry: Telemetry,
    /// Causeway's own: the way to other datacenters.
    pub federation: Federation,
    /// The zone of DNS names, without a dot at its end.
    pub domain: String,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Definitions that are kept for the version that registers them.
    #[serde(skip)]
    pub definitions: Definitions,
}

impl Agent {
    /// Tells whether the agent is a server.
    pub fn is_server(&self) -> bool {
        self.role == Role::Server
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
    /// Mode of the sockets of [`Listen::Unix`].
    pub unix_mode: Option<u32>,
}

/// A place for an HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
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
    /// Most attempts; 0: no bound.
    pub attempts_max: u32,
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
    /// For the HTTPS listener.
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
    /// Entries kept behind a snapshot, where it is not Raft's own default.
    pub trailing_logs: Option<u64>,
}

/// Care for the set of servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Autopilot {
    /// Whether dead servers are removed.
    pub cleanup_dead_servers: bool,
    /// Longest silence of a healthy server.
    #[serde(serialize_with = "go")]
    pub last_contact_threshold: Duration,
    /// Most entries that a healthy server is behind.
    pub max_trailing_logs: u64,
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
    /// Connections that one address may hold to the server link; 0: no bound.
    pub rpc_max_conns_per_client: u32,
    /// Longest request to a server that is no blocking query.
    #[serde(serialize_with = "go")]
    pub rpc_client_timeout: Duration,
    /// Bytes of a KV value.
    pub kv_max_value_size: u64,
    /// Bytes of a transaction.
    pub txn_max_req_len: u64,
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
    /// Bytes of a request's headers.
    pub max_header_bytes: u32,
}

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub addr: std::net::IpAddr,
    /// Leading bits that all its addresses share.
    pub prefix: u8,
}

impl Network {
    /// Tells whether an address is in the network.
    pub fn contains(&self, addr: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        match (self.addr, addr.to_canonical()) {
            (V4(net), V4(addr)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (u64::from(net.to_bits()) >> shift) == (u64::from(addr.to_bits()) >> shift)
            }
            (V6(net), V6(addr)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                cut(net.to_bits()) == cut(addr.to_bits())
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a network such as 10.0.0.0/8");
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let addr: std::net::IpAddr = addr.parse().map_err(|_| bad())?;
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|p| *p <= bits).ok_or_else(bad)?;
        Ok(Self { addr, prefix })
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/{}", self.addr, self.prefix))
    }
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

/// Metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telemetry {
    /// How long a metric that is no longer written is shown; zero: Prometheus is off, as in Consul.
    #[serde(serialize_with = "go")]
    pub prometheus_retention_time: Duration,
    /// Whether gauges' names lack the host's name.
    pub disable_hostname: bool,
    /// What every metric's name begins with.
    pub metrics_prefix: String,
}

/// Causeway's own: the way to other datacenters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Federation {
    /// Whether requests may travel through a third datacenter.
    pub detour: bool,
    /// How long a lost datacenter's last-known state is served.
    #[serde(serialize_with = "go")]
    pub max_stale: Duration,
}

/// Definitions of services and checks, as they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    /// `service` and `services`.
    pub services: Vec<Value>,
    /// `check` and `checks`.
    pub checks: Vec<Value>,
}

fn go<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration::format(*value))
}

fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
