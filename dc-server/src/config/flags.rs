//! The flags of `agent`, each a key of the configuration, and what a command line makes of them.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    check::{self, Checked},
    error::{Problem, Problems},
    keys::{self, Kind},
    source::{Format, Text},
};
use crate::cli::flags::{Flag, Line};

/// A flag that sets a key: name, key, what it takes (empty: true or false), help.
type KeyFlag = (&'static str, &'static str, &'static str, &'static str);

const KEY_FLAGS: &[KeyFlag] = &[
    ("server", "server", "", "Be a server rather than a client."),
    (
        "bootstrap-expect",
        "bootstrap_expect",
        "count",
        "Servers that make the first cluster of the datacenter together.",
    ),
    ("bootstrap", "bootstrap", "", "Make a cluster of one server."),
    ("datacenter", "datacenter", "name", "Datacenter of the agent. The default is dc1."),
    (
        "node",
        "node_name",
        "name",
        "Name of this node, unique in its datacenter. The default is the host's name.",
    ),
    (
        "node-id",
        "node_id",
        "uuid",
        "Identity of this node. The default is random and kept in the data directory.",
    ),
    (
        "node-meta",
        "node_meta",
        "key:value",
        "A pair of metadata of this node. Can be given several times.",
    ),
    (
        "disable-host-node-id",
        "disable_host_node_id",
        "",
        "Accepted and ignored: a node's identity is never derived from the host.",
    ),
    ("data-dir", "data_dir", "path", "Directory for the agent's state."),
    ("bind", "bind_addr", "address", "Address for the cluster's traffic. The default is 0.0.0.0."),
    (
        "advertise",
        "advertise_addr",
        "address",
        "Address that other nodes are told. The default is -bind, or the private address.",
    ),
    (
        "advertise-wan",
        "advertise_addr_wan",
        "address",
        "Address that other datacenters are told. The default is -advertise.",
    ),
    ("client", "client_addr", "addresses", "Addresses for HTTP and DNS. The default is 127.0.0.1."),
    ("serf-lan-bind", "serf_lan", "address", "Address for the LAN pool. The default is -bind."),
    ("serf-wan-bind", "serf_wan", "address", "Address for the WAN pool. The default is -bind."),
    ("http-port", "ports.http", "port", "Port of the HTTP interface."),
    (
        "https-port",
        "ports.https",
        "port",
        "Port of the HTTP interface over TLS. It needs tls.https (or tls.defaults) where others can reach the agent.",
    ),
    (
        "dns-port",
        "ports.dns",
        "port",
        "Port of the DNS interface, for UDP and TCP. The default is 8600; -1 disables it.",
    ),
    ("server-port", "ports.server", "port", "Port of the server link."),
    ("serf-lan-port", "ports.serf_lan", "port", "Port of the LAN pool."),
    ("serf-wan-port", "ports.serf_wan", "port", "Port of the WAN pool."),
    ("grpc-port", "ports.grpc", "port", "Accepted and ignored."),
    ("grpc-tls-port", "ports.grpc_tls", "port", "Accepted and ignored."),
    (
        "join",
        "start_join",
        "address",
        "Address of an agent to join at the start, which fails without it. Can be given several times.",
    ),
    (
        "join-wan",
        "start_join_wan",
        "address",
        "Address of a server of another datacenter to join at the start, which fails without it. Can be given several times.",
    ),
    ("retry-join", "retry_join", "address", "Like -join, until it succeeds."),
    ("retry-join-wan", "retry_join_wan", "address", "Like -join-wan, until it succeeds."),
    (
        "retry-interval",
        "retry_interval",
        "duration",
        "Time between two attempts to join. The default is 30s.",
    ),
    (
        "retry-interval-wan",
        "retry_interval_wan",
        "duration",
        "Time between two attempts to join the WAN. The default is 30s.",
    ),
    (
        "retry-max",
        "retry_max",
        "count",
        "How often a failed -retry-join is repeated before the agent gives up and ends. The default is 0: no bound.",
    ),
    (
        "retry-max-wan",
        "retry_max_wan",
        "count",
        "How often a failed -retry-join-wan is repeated before the agent gives up and ends. The default is 0: no bound.",
    ),
    ("rejoin", "rejoin_after_leave", "", "Join again after a leave."),
    ("encrypt", "encrypt", "key", "Key that seals the LAN pool; keygen makes one."),
    ("domain", "domain", "name", "Zone of the DNS interface. The default is consul."),
    ("alt-domain", "alt_domain", "name", "Another name of that zone."),
    (
        "recursor",
        "recursors",
        "address",
        "Address of a DNS server that is asked for names outside that zone, such as 10.0.0.2 or 10.0.0.2:5353. Can be given several times.",
    ),
    (
        "log-level",
        "log_level",
        "level",
        "One of trace, debug, info, warn and err. The default is info.",
    ),
    ("log-json", "log_json", "", "Log JSON lines."),
    ("log-file", "log_file", "path", "Log to a file."),
    ("pid-file", "pid_file", "path", "File for the process id."),
    (
        "default-query-time",
        "default_query_time",
        "duration",
        "Wait of a blocking query that names none. The default is 300s.",
    ),
    (
        "max-query-time",
        "max_query_time",
        "duration",
        "Longest wait of a blocking query. The default is 600s.",
    ),
    (
        "allow-write-http-from",
        "http_config.allow_write_http_from",
        "network",
        "Network that may write through HTTP. Can be given several times.",
    ),
    (
        "enable-script-checks",
        "enable_script_checks",
        "",
        "Let everyone who may register checks have programs run on this machine.",
    ),
    (
        "enable-local-script-checks",
        "enable_local_script_checks",
        "",
        "Let configuration files have programs run as checks.",
    ),
    (
        "check_output_max_size",
        "check_output_max_size",
        "bytes",
        "Most that is kept of what a check prints. The default is 4096.",
    ),
    ("auto-reload-config", "auto_reload_config", "", "Accepted and ignored."),
    ("default-intention-policy", "default_intention_policy", "policy", "Accepted and ignored."),
    ("disable-keyring-file", "disable_keyring_file", "", "Accepted and ignored."),
    ("log-rotate-bytes", "log_rotate_bytes", "bytes", "Accepted and ignored."),
    ("log-rotate-duration", "log_rotate_duration", "duration", "Accepted and ignored."),
    ("log-rotate-max-files", "log_rotate_max_files", "count", "Accepted and ignored."),
    ("non-voting-server", "read_replica", "", "Accepted and ignored."),
    ("read-replica", "read_replica", "", "Accepted and ignored."),
    ("partition", "partition", "name", "Accepted and ignored."),
    ("primary-gateway", "primary_gateways", "address", "Accepted and ignored."),
    ("protocol", "protocol", "version", "Accepted and ignored."),
    ("raft-protocol", "raft_protocol", "version", "Accepted and ignored."),
    ("segment", "segment", "name", "Accepted and ignored."),
    ("serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", "network", "Accepted and ignored."),
    ("serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", "network", "Accepted and ignored."),
    ("syslog", "enable_syslog", "", "Accepted and ignored."),
    ("ui", "ui_config.enabled", "", "Accepted and ignored."),
    ("ui-content-path", "ui_config.content_path", "path", "Accepted and ignored."),
    ("ui-dir", "ui_config.dir", "path", "Accepted and ignored."),
];

/// The flags that say where the configuration is, rather than what.
pub const SOURCE_FLAGS: &[Flag] = &[
    Flag::bool("dev", "Development mode: one server, everything in memory, on loopback."),
    Flag::value("config-file", "path", "File in HCL or JSON to read. Can be given several times."),
    Flag::value(
        "config-dir",
        "path",
        "Directory whose .hcl and .json files are read in the order of their names. Can be given several times.",
    ),
    CONFIG_FORMAT,
    Flag::value(
        "hcl",
        "fragment",
        "Configuration in HCL, read after the files. Can be given several times.",
    ),
];

/// The flag that demands a syntax for files of any ending.
pub const CONFIG_FORMAT: Flag = Flag::value(
    "config-format",
    "format",
    "Syntax of the files whatever their ending: hcl or json.",
);

/// Returns the flags of `agent`.
pub fn all() -> Vec<Flag> {
    let of_keys = KEY_FLAGS.iter().map(|(name, _, takes, about)| match *takes {
        "" => Flag::bool(name, about),
        takes => Flag::value(name, takes, about),
    });
    SOURCE_FLAGS.iter().copied().chain(of_keys).collect()
}

/// What a command line asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Development mode.
    pub dev: bool,
    /// Files and directories to read, in order.
    pub paths: Vec<PathBuf>,
    /// The syntax of all of them, where it is demanded.
    pub format: Option<Format>,
    /// HCL from the command line.
    pub fragments: Vec<Text>,
    /// Flags that set keys, in order: name and value.
    pub flags: Vec<(String, String)>,
}

impl Request {
    /// Sorts out the flags of a command line that was parsed with [`all`].
    pub fn from_line(line: &Line) -> Result<Self, Problems> {
        let mut request = Self::default();
        for (name, value) in &line.flags {
            match *name {
                "dev" => request.dev = value == "true",
                "config-file" | "config-dir" => request.paths.push(value.into()),
                "config-format" => request.format = Some(format_named(value)?),
                "hcl" => request.fragments.push(Text {
                    name: "-hcl".to_owned(),
                    format: Format::Hcl,
                    body: value.clone(),
                }),
                name => request.flags.push((name.to_owned(), value.clone())),
            }
        }
        Ok(request)
    }

    /// Checks the flags that set keys.
    pub(super) fn checked(&self) -> Checked {
        let mut all = Checked::default();
        for (name, value) in &self.flags {
            let path = KEY_FLAGS.iter().find(|(flag, ..)| flag == name).map(|(_, path, ..)| *path);
            let Some(key) = path.and_then(keys::find) else { continue };
            let checked = check::value(key, &as_json(key.kind, value), &format!("-{name}"));
            all.settings.extend(checked.settings);
            all.warnings.extend(checked.warnings);
            all.problems.extend(checked.problems);
        }
        all
    }
}

/// Reads the value of `-config-format`.
pub fn format_named(name: &str) -> Result<Format, Problem> {
    Format::named(name)
        .ok_or_else(|| Problem::Rule("-config-format must be either 'hcl' or 'json'".to_owned()))
}

/// Writes a flag's value as a file would; one that can't be stays a text and is refused as such.
fn as_json(kind: Kind, value: &str) -> Value {
    let text = || Value::String(value.to_owned());
    match kind {
        Kind::Bool => value.parse().map_or_else(|_| text(), Value::Bool),
        Kind::Integer | Kind::Port => value.parse::<i64>().map_or_else(|_| text(), Value::from),
        Kind::Float => value.parse::<f64>().map_or_else(|_| text(), Value::from),
        Kind::Texts => Value::Array(vec![text()]),
        Kind::TextMap => {
            let (key, value) = value.split_once(':').unwrap_or((value, ""));
            Value::Object([(key.to_owned(), Value::String(value.to_owned()))].into_iter().collect())
        }
        Kind::Text | Kind::Secret | Kind::Duration | Kind::Block | Kind::Raw => text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_sets_a_known_key_that_it_can_fill() {
        for (name, path, takes, _) in KEY_FLAGS {
            let key = keys::find(path).unwrap();
            assert_eq!(key.kind == Kind::Bool, takes.is_empty(), "-{name}");
            assert!(!matches!(key.fate, keys::Fate::Alias(_)), "-{name}");
        }
    }

    #[test]
    fn no_flag_is_there_twice() {
        let mut names: Vec<_> = all().iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
