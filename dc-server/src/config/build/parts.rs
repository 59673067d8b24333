//! The parts of a configuration that stand for themselves: joins, certificates, Raft, limits, logs.

use std::{path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use topology::Role;

use super::{Build, Pool};
use crate::config::{
    agent::{
        Autopilot, Federation, GossipKey, Http, Join, Leave, Limits, Log, Pem, Raft, Telemetry, Tls,
    },
    error::Problem,
};

/// Time between two attempts to join a pool.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a KV value and of a transaction.
const VALUE_LEN_MAX: u64 = 512 << 10;
/// Bytes of a request's headers.
const HEADER_LEN_MAX: u32 = 1 << 20;

impl Build<'_> {
    pub(super) fn join(&mut self, pool: Pool, role: Role) -> Join {
        let names = match pool {
            Pool::Lan => ["start_join", "retry_join", "retry_interval", "retry_max"],
            Pool::Wan => {
                ["start_join_wan", "retry_join_wan", "retry_interval_wan", "retry_max_wan"]
            }
        };
        let mut join = Join {
            start: self.settings.texts(names[0]),
            retry: self.settings.texts(names[1]),
            interval: self.settings.duration(names[2]).unwrap_or(RETRY_INTERVAL),
            attempts_max: self.number(names[3], 0, 0..=i64::from(u32::MAX)) as u32,
        };
        if join.interval.is_zero() {
            self.bad(names[2], "a duration above zero", "0s");
        }
        for (name, list) in [(names[0], &join.start), (names[1], &join.retry)] {
            if list.iter().any(|text| text.contains("provider=")) {
                self.broken(format!(
                    "{name}: Causeway has no cloud auto-join: list addresses instead of provider=..."
                ));
            }
        }
        if pool == Pool::Wan
            && role == Role::Client
            && !(join.start.is_empty() && join.retry.is_empty())
        {
            self.warnings.push("the WAN is not joined: 'server' is not true".to_owned());
            join.start.clear();
            join.retry.clear();
        }
        join
    }

    pub(super) fn encrypt(&mut self) -> Option<GossipKey> {
        let text = self.settings.text("encrypt").filter(|text| !text.is_empty())?;
        match STANDARD.decode(text) {
            Ok(key) if matches!(key.len(), 16 | 32) => Some(GossipKey(key)),
            Ok(key) => {
                self.bad(
                    "encrypt",
                    "a key of 32 or 16 bytes (keygen makes one)",
                    format!("{} bytes", key.len()),
                );
                None
            }
            Err(_) => {
                self.bad("encrypt", "a key in base64 (keygen makes one)", "something else");
                None
            }
        }
    }

    pub(super) fn tls(&mut self) -> Tls {
        let https = self.pem("tls.https");
        if https.is_none() && self.settings.integer("ports.https").is_some_and(|port| port > 0) {
            self.broken("ports.https needs tls.https.cert_file and key_file (or tls.defaults)");
        }
        Tls {
            link: self.pem("tls.internal_rpc"),
            https,
            https_verify_incoming: self.settings.bool("tls.https.verify_incoming").unwrap_or(false),
        }
    }

    /// Collects the files of an interface, each by default from `tls.defaults`.
    fn pem(&mut self, interface: &str) -> Option<Pem> {
        let file = |name: &str| -> Option<PathBuf> {
            self.path(&format!("{interface}.{name}"))
                .or_else(|| self.path(&format!("tls.defaults.{name}")))
        };
        let ca: Vec<PathBuf> = [file("ca_file"), file("ca_path")].into_iter().flatten().collect();
        match (file("cert_file"), file("key_file")) {
            (Some(cert_file), Some(key_file)) => {
                if ca.is_empty() && interface == "tls.internal_rpc" {
                    self.broken(format!(
                        "{interface}: cert_file needs ca_file or ca_path beside it"
                    ));
                }
                Some(Pem { cert_file, key_file, ca })
            }
            (None, None) => None,
            (Some(_), None) => {
                self.broken(format!("{interface}: cert_file needs key_file beside it"));
                None
            }
            (None, Some(_)) => {
                self.broken(format!("{interface}: key_file needs cert_file beside it"));
                None
            }
        }
    }

    pub(super) fn raft(&mut self) -> Raft {
        let multiplier = match self.settings.integer("performance.raft_multiplier") {
            // Zero asks for the default, as in current versions of Consul.
            None | Some(0) => 1,
            Some(n @ 1..=10) => n as u8,
            Some(n) => {
                self.bad(
                    "performance.raft_multiplier",
                    "a whole number between 1 and 10",
                    n.to_string(),
                );
                1
            }
        };
        Raft {
            multiplier,
            snapshot_threshold: self.count("raft_snapshot_threshold"),
            trailing_logs: self.count("raft_trailing_logs"),
        }
    }

    pub(super) fn autopilot(&mut self) -> Autopilot {
        let settings = self.settings;
        Autopilot {
            cleanup_dead_servers: settings.bool("autopilot.cleanup_dead_servers").unwrap_or(true),
            last_contact_threshold: settings
                .duration("autopilot.last_contact_threshold")
                .unwrap_or(Duration::from_millis(200)),
            max_trailing_logs: self.number("autopilot.max_trailing_logs", 250, 0..=i64::MAX) as u64,
            min_quorum: self.number("autopilot.min_quorum", 0, 0..=i64::from(u32::MAX)) as u32,
            server_stabilization_time: settings
                .duration("autopilot.server_stabilization_time")
                .unwrap_or(Duration::from_secs(10)),
        }
    }

    pub(super) fn leave(&mut self, role: Role) -> Leave {
        let server = role == Role::Server;
        Leave {
            on_terminate: self.settings.bool("leave_on_terminate").unwrap_or(!server),
            on_interrupt: !self.settings.bool("skip_leave_on_interrupt").unwrap_or(server),
            drain_time: self
                .settings
                .duration("performance.leave_drain_time")
                .unwrap_or(Duration::from_secs(5)),
        }
    }

    pub(super) fn limits(&mut self) -> Limits {
        let all = i64::from(u32::MAX);
        let duration = |path: &str, seconds: u64| {
            let given = self.settings.duration(path).filter(|given| !given.is_zero());
            given.unwrap_or(Duration::from_secs(seconds))
        };
        let default_query_time = duration("default_query_time", 300);
        let max_query_time = duration("max_query_time", 600);
        let rpc_client_timeout = duration("limits.rpc_client_timeout", 60);
        let kv_max_value_size = self.size("limits.kv_max_value_size");
        // Consul lets the larger of the two bound a transaction.
        let txn_max_req_len = self.size("limits.txn_max_req_len").max(kv_max_value_size);
        Limits {
            http_max_conns_per_client: self.number("limits.http_max_conns_per_client", 200, 0..=all)
                as u32,
            rpc_max_conns_per_client: self.number("limits.rpc_max_conns_per_client", 100, 0..=all)
                as u32,
            rpc_client_timeout,
            kv_max_value_size,
            txn_max_req_len,
            default_query_time,
            max_query_time,
        }
    }

    pub(super) fn http(&mut self) -> Http {
        let networks = self.settings.texts("http_config.allow_write_http_from");
        let allow_write_http_from = networks
            .iter()
            .filter_map(|text| match text.parse() {
                Ok(network) => Some(network),
                Err(error) => {
                    self.bad("http_config.allow_write_http_from", "networks", error);
                    None
                }
            })
            .collect();
        let header_bytes =
            self.number("http_config.max_header_bytes", 0, i64::MIN..=i64::from(u32::MAX));
        Http {
            response_headers: self.settings.text_map("http_config.response_headers"),
            block_endpoints: self.settings.texts("http_config.block_endpoints"),
            allow_write_http_from,
            max_header_bytes: if header_bytes > 0 { header_bytes as u32 } else { HEADER_LEN_MAX },
        }
    }

    pub(super) fn log(&mut self) -> Log {
        let name = self.settings.text("log_level").unwrap_or("INFO").to_owned();
        let level = match name.to_ascii_uppercase().as_str() {
            "TRACE" => tracing::Level::TRACE,
            "DEBUG" => tracing::Level::DEBUG,
            "INFO" => tracing::Level::INFO,
            "WARN" => tracing::Level::WARN,
            "ERR" | "ERROR" => tracing::Level::ERROR,
            _ => {
                self.bad(
                    "log_level",
                    "one of TRACE, DEBUG, INFO, WARN and ERR",
                    format!("{name:?}"),
                );
                tracing::Level::INFO
            }
        };
        Log {
            level,
            json: self.settings.bool("log_json").unwrap_or(false),
            file: self.path("log_file"),
        }
    }

    pub(super) fn telemetry(&mut self) -> Telemetry {
        let settings = self.settings;
        Telemetry {
            prometheus_retention_time: settings
                .duration("telemetry.prometheus_retention_time")
                .unwrap_or_default(),
            disable_hostname: settings.bool("telemetry.disable_hostname").unwrap_or(false),
            metrics_prefix: settings
                .text("telemetry.metrics_prefix")
                .unwrap_or("consul")
                .to_owned(),
        }
    }

    pub(super) fn federation(&mut self) -> Federation {
        Federation {
            detour: self.settings.bool("federation.detour").unwrap_or(true),
            max_stale: self
                .settings
                .duration("federation.max_stale")
                .unwrap_or(Duration::from_secs(72 * 3600)),
        }
    }

    /// Returns a number in a range, or its default.
    fn number(&mut self, path: &str, default: i64, range: std::ops::RangeInclusive<i64>) -> i64 {
        let number = self.settings.integer(path).unwrap_or(default);
        if range.contains(&number) {
            return number;
        }
        let problem = format!("{path} cannot be {number}. Must be greater than or equal to zero");
        self.problems.push(Problem::Rule(problem));
        default
    }

    fn count(&mut self, path: &str) -> Option<u64> {
        self.settings.get(path)?;
        Some(self.number(path, 0, 0..=i64::MAX) as u64).filter(|count| *count > 0)
    }

    fn size(&mut self, path: &str) -> u64 {
        self.count(path).unwrap_or(VALUE_LEN_MAX)
    }
}
