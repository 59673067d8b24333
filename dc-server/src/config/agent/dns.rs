//! The DNS interface, as it is configured.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lan_agent::{
    cache::rules::Control,
    dns::settings::{Freshness, Recursors, Settings, Soa, Strategy, Ttls, Zone},
    duration,
};
use serde::{Serialize, Serializer};

/// How DNS is answered (`dns_config`, `recursors`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dns {
    /// Another name of the zone, without a dot at its end.
    pub alt_domain: Option<String>,
    /// How long a node's address may be kept.
    #[serde(serialize_with = "super::go")]
    pub node_ttl: Duration,
    /// How long a service's addresses may be kept, by its name; `*` at the end stands for anything.
    #[serde(serialize_with = "go_map")]
    pub service_ttl: BTreeMap<String, Duration>,
    /// Whether any server may answer.
    pub allow_stale: bool,
    /// How long ago a server may have heard from its leader to answer.
    #[serde(serialize_with = "super::go")]
    pub max_stale: Duration,
    /// Whether the agent's cache answers.
    pub use_cache: bool,
    /// How old what it answers may be; zero: no bound.
    #[serde(serialize_with = "super::go")]
    pub cache_max_age: Duration,
    /// Whether instances that are warning are left out, too.
    pub only_passing: bool,
    /// Most answers to a client that takes 512 bytes only.
    pub udp_answer_limit: usize,
    /// Most addresses in an answer; 0: no bound.
    pub a_record_limit: usize,
    /// Whether a client is told that not all answers fit.
    pub enable_truncate: bool,
    /// Whether all names are written in full.
    pub disable_compression: bool,
    /// Whether the node's meta goes along with its address.
    pub enable_additional_node_meta_txt: bool,
    /// Seconds that the zone's SOA record names.
    pub soa: SoaTimes,
    /// Who is asked for the names of others.
    pub recursors: Vec<SocketAddr>,
    /// How long each of them may take.
    #[serde(serialize_with = "super::go")]
    pub recursor_timeout: Duration,
    /// Whether they are asked in any order.
    pub recursors_at_random: bool,
}

/// Seconds that an SOA record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SoaTimes {
    /// How often secondaries look for changes.
    pub refresh: u32,
    /// How long they wait after they failed.
    pub retry: u32,
    /// How long they answer without having looked.
    pub expire: u32,
    /// How long it may be kept that there is no such name.
    pub min_ttl: u32,
}

impl Dns {
    /// Returns what the interface is told, for a zone of this name.
    pub fn settings(&self, domain: &str) -> Settings {
        let mut service_ttl = Ttls::default();
        for (pattern, ttl) in &self.service_ttl {
            service_ttl.put(pattern, *ttl);
        }
        let zone = |name: &str| name.parse::<Zone>().ok();
        let defaults = Settings::default();
        Settings {
            domain: zone(domain).unwrap_or(defaults.domain),
            alt_domain: self.alt_domain.as_deref().and_then(zone),
            node_ttl: self.node_ttl,
            service_ttl,
            freshness: match self.allow_stale {
                true => Freshness::Stale(self.max_stale),
                false => Freshness::Leader,
            },
            cache: self.use_cache.then_some(Control {
                max_age: Some(self.cache_max_age).filter(|age| !age.is_zero()),
                ..Control::default()
            }),
            only_passing: self.only_passing,
            udp_answer_limit: self.udp_answer_limit,
            a_record_limit: self.a_record_limit,
            truncate: self.enable_truncate,
            compress: !self.disable_compression,
            node_meta_txt: self.enable_additional_node_meta_txt,
            soa: Soa {
                refresh: self.soa.refresh,
                retry: self.soa.retry,
                expire: self.soa.expire,
                min_ttl: self.soa.min_ttl,
            },
            recursors: Recursors {
                servers: self.recursors.clone(),
                timeout: self.recursor_timeout,
                strategy: match self.recursors_at_random {
                    true => Strategy::Random,
                    false => Strategy::Sequential,
                },
            },
        }
    }
}

fn go_map<S: Serializer>(
    map: &BTreeMap<String, Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, value)| (key, duration::format(*value))))
}
