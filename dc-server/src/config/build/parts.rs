//! The parts of a configuration that stand for themselves: joins, Raft, autopilot, logs.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use lan_agent::ask::feed::{PREFIX_LEN_MAX, PREFIXES_MAX};
use topology::{Role, member::LABEL_LEN_MAX};
use wan_federation::gateways::{self, GATEWAYS_MAX};

use super::{Build, Pool};
use crate::config::{
    agent::{Autopilot, Federation, GossipKey, Join, Leave, Log, Raft},
    error::Problem,
};
use crate::mirror::rule::Bounds;

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

    pub(super) fn federation(&mut self) -> Federation {
        let defaults = Bounds::default();
        let settings = self.settings;
        let time = |path, default| settings.duration(path).unwrap_or(default);
        Federation {
            detours: settings.bool("federation.detours").unwrap_or(true),
            gateways: self.gateways(),
            mirrors: settings.bool("federation.mirrors").unwrap_or(true),
            mirror_kv: self.mirror_kv(),
            mirror_max_age: time("federation.mirror_max_age", defaults.fresh),
            max_stale: time("federation.max_stale", defaults.stale),
        }
    }

    fn gateways(&mut self) -> Vec<String> {
        const PATH: &str = "federation.gateways";
        let gateways = self.settings.texts(PATH);
        let is_host = |it: &&String| {
            !it.is_empty() && !it.contains(|c: char| c == ',' || c == '=' || c.is_whitespace())
        };
        if let Some(bad) = gateways.iter().find(|it| !is_host(it)).cloned() {
            self.bad(PATH, "hosts, or hosts with ports", format!("{bad:?}"));
        }
        if gateways.len() > GATEWAYS_MAX {
            let found = format!("{} of them", gateways.len());
            self.bad(PATH, format!("at most {GATEWAYS_MAX} gateways"), found);
        }
        // They are told to all others in one short text.
        let len = gateways::tag(&gateways).len();
        if len > LABEL_LEN_MAX {
            let expected =
                format!("at most {LABEL_LEN_MAX} characters in all: give one name to several");
            self.bad(PATH, expected, len.to_string());
        }
        gateways
    }

    /// Returns the prefixes that are mirrored, without those that are below another one.
    fn mirror_kv(&mut self) -> Vec<String> {
        const PATH: &str = "federation.mirror_kv";
        let mut prefixes = self.settings.texts(PATH);
        if let Some(long) = prefixes.iter().find(|prefix| prefix.len() > PREFIX_LEN_MAX) {
            let found = format!("one of {} bytes", long.len());
            self.bad(PATH, format!("prefixes of at most {PREFIX_LEN_MAX} bytes"), found);
        }
        if let Some(slash) = prefixes.iter().find(|prefix| prefix.starts_with('/')).cloned() {
            self.bad(PATH, "prefixes of keys, which do not start with a slash", slash);
        }
        prefixes.sort();
        // After sorting, what is below a prefix comes right after it.
        prefixes.dedup_by(|prefix, before| prefix.starts_with(before.as_str()));
        if prefixes.len() > PREFIXES_MAX {
            let found = format!("{} of them", prefixes.len());
            self.bad(PATH, format!("at most {PREFIXES_MAX} prefixes"), found);
        }
        prefixes
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
