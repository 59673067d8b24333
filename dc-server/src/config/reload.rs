//! What another reading of the configuration comes to for an agent that runs.
//!
//! Keys are compared as they were written, after all layers: a value that a flag overrides, or that
//! means the same as before, is no change. Keys that can't change while the agent runs keep their
//! values of the start, and are named as long as they differ from those.

use std::{collections::BTreeMap, fmt};

use super::{
    Loaded,
    agent::{Agent, Checks, Limits, Log, Tls, dns::Dns},
    keys::Fate,
    settings::{Given, Settings},
};

/// The keys that count while the agent runs. Whoever makes another one changeable names it here,
/// takes its value over in [`plan`] and puts it to use in `node::reload`.
const RELOADABLE: &[&str] = &[
    "check",
    "checks",
    "discard_check_output",
    "dns_config.a_record_limit",
    "dns_config.allow_stale",
    "dns_config.disable_compression",
    "dns_config.enable_additional_node_meta_txt",
    "dns_config.enable_truncate",
    "dns_config.max_stale",
    "dns_config.node_ttl",
    "dns_config.only_passing",
    "dns_config.recursor_strategy",
    "dns_config.recursor_timeout",
    "dns_config.service_ttl",
    "dns_config.soa.expire",
    "dns_config.soa.min_ttl",
    "dns_config.soa.refresh",
    "dns_config.soa.retry",
    "dns_config.udp_answer_limit",
    "enable_local_script_checks",
    "limits.http_max_conns_per_client",
    "log_level",
    "node_meta",
    "recursors",
    "service",
    "services",
    "watches",
];

/// The files of certificates: they may change, but not go or come.
const CERTIFICATES: &[&str] = &[
    "tls.defaults.ca_file",
    "tls.defaults.ca_path",
    "tls.defaults.cert_file",
    "tls.defaults.key_file",
    "tls.https.ca_file",
    "tls.https.ca_path",
    "tls.https.cert_file",
    "tls.https.key_file",
    "tls.internal_rpc.ca_file",
    "tls.internal_rpc.ca_path",
    "tls.internal_rpc.cert_file",
    "tls.internal_rpc.key_file",
];

/// The keys that were set, and their values, which are never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Keys(BTreeMap<&'static str, Given>);

impl Keys {
    /// Takes the keys that have an effect.
    pub(super) fn of(settings: &Settings) -> Self {
        let effective = settings.all().filter(|it| !matches!(it.key.fate, Fate::Ignored(_)));
        Self(effective.map(|it| (it.key.path, it.value.clone())).collect())
    }

    /// Returns the keys whose values differ.
    fn differing(&self, other: &Self) -> Vec<&'static str> {
        let mut paths: Vec<_> = self.0.keys().chain(other.0.keys()).copied().collect();
        paths.sort_unstable();
        paths.dedup();
        paths.retain(|path| self.0.get(path) != other.0.get(path));
        paths
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the agent runs with once the plan was carried out.
    pub agent: Agent,
    /// The keys that changed since the last reading and count from now on.
    pub changed: Vec<&'static str>,
    /// The keys that differ from those of the start and wait for the next one.
    pub restart: Vec<&'static str>,
}

/// Decides what becomes of a new reading. `started` are the keys that the agent was started with;
/// `last` is what it runs with, and the keys of the last reading.
pub fn plan(started: &Keys, last: &Loaded, new: &Loaded) -> Plan {
    let (running, wanted) = (&last.agent, &new.agent);
    // Between a node's own files and the development CA there is no way but a restart.
    let files_stay = running.tls.link.is_some() == wanted.tls.link.is_some()
        && running.tls.https.is_some() == wanted.tls.https.is_some();
    let counts = |path: &&'static str| {
        RELOADABLE.contains(path) || (files_stay && CERTIFICATES.contains(path))
    };
    let mut changed = last.keys.differing(&new.keys);
    changed.retain(counts);
    let mut restart = started.differing(&new.keys);
    restart.retain(|path| !counts(path));
    let tls =
        Tls { https_verify_incoming: running.tls.https_verify_incoming, ..wanted.tls.clone() };
    let agent = Agent {
        node_meta: wanted.node_meta.clone(),
        definitions: wanted.definitions.clone(),
        dns: Dns { alt_domain: running.dns.alt_domain.clone(), ..wanted.dns.clone() },
        log: Log { level: wanted.log.level, ..running.log.clone() },
        limits: Limits {
            http_max_conns_per_client: wanted.limits.http_max_conns_per_client,
            ..running.limits.clone()
        },
        checks: Checks {
            local_scripts: wanted.checks.local_scripts,
            discard_output: wanted.checks.discard_output,
            ..running.checks
        },
        tls: if files_stay { tls } else { running.tls.clone() },
        ..running.clone()
    };
    Plan { agent, changed, restart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Host, build,
        flags::Request,
        keys,
        source::{Format, Text},
    };

    fn loaded(body: &str) -> Loaded {
        let text = Text { name: "a.hcl".to_owned(), format: Format::Hcl, body: body.to_owned() };
        let host = Host { name: Some("n1".to_owned()), addresses: Vec::new() };
        let flags = vec![("log-json".to_owned(), "true".to_owned())];
        build(&Request { dev: true, flags, ..Request::default() }, &[text], &host).unwrap()
    }

    fn planned(old: &str, new: &str) -> Plan {
        let old = loaded(old);
        plan(&old.keys, &old, &loaded(new))
    }

    #[test]
    fn the_same_is_nothing_however_it_is_written() {
        let plan = planned("log_level = \"info\"", "/* a */ \"log_level\" = \"info\"");
        assert!(plan.changed.is_empty() && plan.restart.is_empty(), "{plan:?}");
        let plan = planned("", "log_json = false");
        assert!(plan.restart.is_empty(), "the flag decides: {plan:?}");
        let plan = planned("", "disable_update_check = true");
        assert!(plan.restart.is_empty(), "a key without effect never has one: {plan:?}");
    }

    #[test]
    fn what_can_change_changes_and_the_rest_is_named_and_stays() {
        let old = "datacenter = \"dc1\" log_level = \"info\" ports { http = 8500 }";
        let new = r#"
            datacenter = "dc2" log_level = "debug" ports { http = 8700 } node_meta { a = "b" }
            service { name = "web" } limits { http_max_conns_per_client = 7 kv_max_value_size = 9 }
            discard_check_output = true enable_script_checks = true"#;
        let plan = planned(old, new);
        assert_eq!(
            plan.changed,
            [
                "discard_check_output",
                "limits.http_max_conns_per_client",
                "log_level",
                "node_meta",
                "service"
            ]
        );
        let restart =
            ["datacenter", "enable_script_checks", "limits.kv_max_value_size", "ports.http"];
        assert_eq!(plan.restart, restart);
        let (old, new) = (loaded(old).agent, loaded(new).agent);
        assert_eq!((plan.agent.datacenter, plan.agent.addresses), (old.datacenter, old.addresses));
        assert_eq!(plan.agent.limits.kv_max_value_size, old.limits.kv_max_value_size);
        assert_eq!(plan.agent.limits.http_max_conns_per_client, 7);
        assert!(plan.agent.checks.discard_output && !plan.agent.checks.remote_scripts);
        assert_eq!(plan.agent.log.level, tracing::Level::DEBUG);
        assert_eq!(plan.agent.node_meta, new.node_meta);
        assert_eq!(plan.agent.definitions, new.definitions);
    }

    #[test]
    fn a_key_waits_for_its_restart_however_often_is_read() {
        let start = loaded("domain = \"a\"");
        let first = loaded("domain = \"b\"");
        let Plan { agent, restart, .. } = plan(&start.keys, &start, &first);
        assert_eq!(restart, ["domain"]);
        let last = Loaded { agent, ..first.clone() };
        let again = plan(&start.keys, &last, &first);
        assert_eq!((again.changed, again.restart), (vec![], vec!["domain"]));
        assert_eq!(again.agent.domain, "a");
        assert!(plan(&start.keys, &last, &start).restart.is_empty(), "it is as it was");
    }

    #[test]
    fn answers_of_dns_change_and_its_zones_stay() {
        let new = "alt_domain = \"b\" dns_config { only_passing = true soa { min_ttl = 9 } }";
        let plan = planned("alt_domain = \"a\"", new);
        assert_eq!(plan.changed, ["dns_config.only_passing", "dns_config.soa.min_ttl"]);
        assert_eq!(plan.restart, ["alt_domain"]);
        let dns = plan.agent.dns;
        assert_eq!((dns.alt_domain.as_deref(), dns.soa.min_ttl), (Some("a"), 9));
        assert!(dns.only_passing);
    }

    #[test]
    fn files_of_certificates_may_change_but_not_come_and_go() {
        let files = |dir: &str| {
            format!(
                "tls {{ defaults {{ ca_file = \"{dir}/ca\" cert_file = \"{dir}/c\" key_file = \"{dir}/k\" }} }}"
            )
        };
        let keys = ["tls.defaults.ca_file", "tls.defaults.cert_file", "tls.defaults.key_file"];
        let moved = planned(&files("/a"), &files("/b"));
        assert_eq!((moved.changed.as_slice(), moved.restart.as_slice()), (&keys[..], &[][..]));
        assert_eq!(moved.agent.tls, loaded(&files("/b")).agent.tls);
        let gone = planned(&files("/a"), "");
        assert_eq!((gone.changed.as_slice(), gone.restart.as_slice()), (&[][..], &keys[..]));
        assert_eq!(gone.agent.tls, loaded(&files("/a")).agent.tls);
    }

    #[test]
    fn every_key_that_counts_at_once_is_one() {
        for path in RELOADABLE.iter().chain(CERTIFICATES) {
            let fate = keys::find(path).map(|key| key.fate);
            assert_eq!(fate, Some(Fate::Used), "{path}");
        }
    }
}
