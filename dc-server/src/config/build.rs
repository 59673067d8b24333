//! From settings to a checked [`Agent`]: defaults, rules between keys, everything typed.
//!
//! Every problem is collected, so that one start shows all of them.

mod addresses;
mod dns;
mod failover;
mod interface;
mod parts;
mod services;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use topology::{Datacenter, NodeId, NodeName, Role};
use uuid::Uuid;

use super::{
    agent::Agent,
    error::{Problem, Problems},
    host::Host,
    settings::Settings,
};

/// Pairs of node metadata, as in Consul.
const META_PAIRS_MAX: usize = 64;
/// Characters of a key of node metadata, as in Consul.
const META_KEY_LEN_MAX: usize = 128;
/// Characters of a value of node metadata, as in Consul.
const META_VALUE_LEN_MAX: usize = 512;
/// After which time a failed member is forgotten.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(72 * 3600);
/// How long a request waits for a leader: a few elections.
const RPC_HOLD_TIMEOUT: Duration = Duration::from_secs(7);

/// Checks the settings and completes them.
pub(super) fn agent(
    settings: &Settings,
    host: &Host,
    dev: bool,
    warnings: &mut Vec<String>,
) -> Result<Agent, Problems> {
    let mut build = Build { settings, host, dev, warnings, problems: Vec::new() };
    match build.agent() {
        Some(agent) if build.problems.is_empty() => Ok(agent),
        _ => Err(Problems(build.problems)),
    }
}

struct Build<'a> {
    settings: &'a Settings,
    host: &'a Host,
    dev: bool,
    warnings: &'a mut Vec<String>,
    problems: Vec<Problem>,
}

impl Build<'_> {
    fn agent(&mut self) -> Option<Agent> {
        let settings = self.settings;
        let role = match settings.bool("server").unwrap_or(self.dev) {
            true => Role::Server,
            false => Role::Client,
        };
        let datacenter = self.datacenter("datacenter").or_else(|| self.known("dc1"));
        let addresses = self.addresses(role);
        let node_name = self.node_name();
        let checks = self.checks();
        Some(Agent {
            primary_datacenter: self.datacenter("primary_datacenter"),
            node_id: self.node_id(),
            node_meta: self.node_meta(),
            role,
            bootstrap_expect: self.bootstrap_expect(role),
            dev: self.dev,
            data_dir: self.data_dir(),
            translate_wan: settings.bool("translate_wan_addrs").unwrap_or(false),
            disable_coordinates: settings.bool("disable_coordinates").unwrap_or(false),
            join: self.join(Pool::Lan, role),
            join_wan: self.join(Pool::Wan, role),
            rejoin_after_leave: settings.bool("rejoin_after_leave").unwrap_or(false),
            encrypt: self.encrypt(),
            tls: self.tls(addresses.as_ref()),
            raft: self.raft(),
            autopilot: self.autopilot(),
            leave: self.leave(role),
            reconnect_timeout: settings.duration("reconnect_timeout").unwrap_or(RECONNECT_TIMEOUT),
            reconnect_timeout_wan: settings
                .duration("reconnect_timeout_wan")
                .unwrap_or(RECONNECT_TIMEOUT),
            rpc_hold_timeout: settings
                .duration("performance.rpc_hold_timeout")
                .unwrap_or(RPC_HOLD_TIMEOUT),
            federation: self.federation(),
            failover: self.failover(),
            limits: self.limits(),
            http: self.http(),
            log: self.log(),
            domain: self.zone("domain").unwrap_or_else(|| "consul".to_owned()),
            dns: self.dns(),
            pid_file: self.path("pid_file"),
            definitions: self.definitions(&checks),
            config_entries: self.config_entries(),
            checks,
            datacenter: datacenter?,
            node_name: node_name?,
            addresses: addresses?,
        })
    }

    /// Notes that a value is wrong.
    fn bad(&mut self, path: &str, expected: impl Into<String>, found: impl Into<String>) {
        let place = self.settings.place(path);
        let (key, expected, found) = (path.to_owned(), expected.into(), found.into());
        self.problems.push(Problem::BadValue { place, key, expected, found });
    }

    /// Notes that a rule is broken.
    fn broken(&mut self, rule: impl Into<String>) {
        self.problems.push(Problem::Rule(rule.into()));
    }

    fn path(&self, path: &str) -> Option<PathBuf> {
        self.settings.text(path).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn known(&mut self, name: &str) -> Option<Datacenter> {
        Datacenter::new(name).ok()
    }

    fn datacenter(&mut self, path: &str) -> Option<Datacenter> {
        let name = self.settings.text(path).filter(|name| !name.is_empty())?.to_owned();
        Datacenter::new(&name)
            .map_err(|error| self.bad(path, format!("a name ({error})"), format!("{name:?}")))
            .ok()
    }

    fn node_name(&mut self) -> Option<NodeName> {
        let given = self.settings.text("node_name").filter(|name| !name.is_empty());
        let Some(name) = given.or(self.host.name.as_deref()).map(str::to_owned) else {
            self.broken("node_name cannot be empty: this machine has no name to use instead");
            return None;
        };
        match NodeName::new(&name) {
            Ok(node) => {
                if name.contains(['.', '_']) {
                    self.warnings.push(format!(
                        "Node name {name:?} will not be discoverable via DNS due to invalid \
                         characters. Valid characters include all alpha-numerics and dashes."
                    ));
                }
                Some(node)
            }
            Err(error) => {
                self.bad("node_name", format!("a name ({error})"), format!("{name:?}"));
                None
            }
        }
    }

    fn node_id(&mut self) -> Option<NodeId> {
        let text = self.settings.text("node_id").filter(|text| !text.is_empty())?.to_owned();
        match Uuid::parse_str(&text) {
            Ok(id) => Some(NodeId(id)),
            Err(_) => {
                self.bad("node_id", "a UUID such as 40e4a748-2192-161a-0510-9bf59fe950b5", text);
                None
            }
        }
    }

    fn node_meta(&mut self) -> BTreeMap<String, String> {
        let meta = self.settings.text_map("node_meta");
        if meta.len() > META_PAIRS_MAX {
            self.bad(
                "node_meta",
                format!("at most {META_PAIRS_MAX} pairs"),
                meta.len().to_string(),
            );
        }
        for (key, value) in &meta {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let reason = if key.is_empty() {
                "a key cannot be blank".to_owned()
            } else if !key.chars().all(allowed) {
                "a key holds letters, digits, dashes and underscores".to_owned()
            } else if key.len() > META_KEY_LEN_MAX {
                format!("a key has at most {META_KEY_LEN_MAX} characters")
            } else if key.starts_with("consul-") && key != "consul-network-segment" {
                "the prefix consul- is reserved".to_owned()
            } else if value.len() > META_VALUE_LEN_MAX {
                format!("a value has at most {META_VALUE_LEN_MAX} characters")
            } else {
                continue;
            };
            self.bad("node_meta", format!("pairs ({reason})"), format!("{key:?} = {value:?}"));
        }
        meta
    }

    fn bootstrap_expect(&mut self, role: Role) -> u32 {
        let bootstrap = self.settings.bool("bootstrap").unwrap_or(false);
        let expect = self.settings.integer("bootstrap_expect").unwrap_or(0);
        if expect < 0 {
            self.broken("'bootstrap_expect' cannot be negative");
        }
        if expect > 0 && role == Role::Client {
            self.broken("'bootstrap_expect > 0' requires 'server = true'");
        }
        if bootstrap && role == Role::Client {
            self.broken("'bootstrap = true' requires 'server = true'");
        }
        if expect > 0 && bootstrap {
            self.broken("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive");
        }
        if expect > 1 && self.dev {
            self.broken("'bootstrap_expect > 1' not allowed in dev mode");
        }
        if expect > 0 && expect % 2 == 0 {
            self.warnings.push(match expect {
                2 => "bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance"
                    .to_owned(),
                _ => "bootstrap_expect is even number: A cluster with an even number of servers does \
                      not achieve optimum fault tolerance"
                    .to_owned(),
            });
        }
        let alone = bootstrap || (self.dev && role == Role::Server);
        u32::try_from(expect.max(i64::from(alone))).unwrap_or(0)
    }

    fn data_dir(&mut self) -> Option<PathBuf> {
        let path = self.path("data_dir");
        if self.dev {
            if path.is_some() {
                self.warnings
                    .push("data_dir is ignored: -dev keeps everything in memory".to_owned());
            }
            return None;
        }
        if path.is_none() {
            self.broken(
                "data_dir cannot be empty: set it with -data-dir or in a file, or use -dev",
            );
        }
        path
    }
}

/// One of the two pools.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pool {
    Lan,
    Wan,
}
