//! The parts of a configuration that stand for themselves: joins, Raft, autopilot, logs.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use topology::Role;

use super::{Build, Pool};
use crate::config::{
    agent::{Autopilot, GossipKey, Join, Leave, Log, Raft},
    error::Problem,
};

/// Time between two attempts to join a pool.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

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
            retries_max: self.number(names[3], 0, 0..=i64::from(u32::MAX)) as u32,
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
        Raft { multiplier, snapshot_threshold: self.count("raft_snapshot_threshold") }
    }

    pub(super) fn autopilot(&mut self) -> Autopilot {
        let settings = self.settings;
        Autopilot {
            cleanup_dead_servers: settings.bool("autopilot.cleanup_dead_servers").unwrap_or(true),
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

    pub(super) fn log(&mut self) -> Log {
        let name = self.settings.text("log_level").unwrap_or("INFO").to_owned();
        let level = lan_agent::log::level(&name).unwrap_or_else(|| {
            let expected = "one of TRACE, DEBUG, INFO, WARN and ERR";
            self.bad("log_level", expected, format!("{name:?}"));
            tracing::Level::INFO
        });
        Log {
            level,
            json: self.settings.bool("log_json").unwrap_or(false),
            file: self.path("log_file"),
        }
    }

    /// Returns a number in a range, or its default.
    pub(super) fn number(
        &mut self,
        path: &str,
        default: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> i64 {
        let number = self.settings.integer(path).unwrap_or(default);
        if range.contains(&number) {
            return number;
        }
        let problem = format!("{path} cannot be {number}. Must be greater than or equal to zero");
        self.problems.push(Problem::Rule(problem));
        default
    }

    pub(super) fn count(&mut self, path: &str) -> Option<u64> {
        self.settings.get(path)?;
        Some(self.number(path, 0, 0..=i64::MAX) as u64).filter(|count| *count > 0)
    }
}
