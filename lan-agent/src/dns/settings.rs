//! What an operator decides about answers (`dns_config`, `domain`, `alt_domain`, `recursors`).
//!
//! The settings are one value that is replaced as a whole when the configuration is read again: an
//! answer is made with those that were there when its question came in.

use std::{cmp::Reverse, fmt, net::SocketAddr, str::FromStr, time::Duration};

use hickory_proto::rr::Name;

use crate::cache::rules::Control;

/// Most answers to somebody who takes 512 bytes only, whatever the configuration says, as in Consul.
pub const PLAIN_ANSWERS_TOP: usize = 8;

/// How answers are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The zone that is answered for.
    pub domain: Zone,
    /// Another name of the zone; questions in it are answered in it.
    pub alt_domain: Option<Zone>,
    /// How long a node's address may be kept.
    pub node_ttl: Duration,
    /// How long a service's addresses may be kept.
    pub service_ttl: Ttls,
    /// How old answers of servers may be.
    pub freshness: Freshness,
    /// Whether the agent's cache answers, and how old that may be; `None` for only when no server
    /// does.
    pub cache: Option<Control>,
    /// Which instances are answered with.
    pub only_passing: bool,
    /// Most answers to somebody who takes 512 bytes only; at most [`PLAIN_ANSWERS_TOP`].
    pub udp_answer_limit: usize,
    /// Most addresses in any answer; 0 for no bound.
    pub a_record_limit: usize,
    /// Whether who gets fewer answers than there are is told so, and asks again over TCP.
    pub truncate: bool,
    /// Whether names that were there before are written as pointers to them.
    pub compress: bool,
    /// Whether the node's meta comes with its address, for those who did not ask for it.
    pub node_meta_txt: bool,
    /// What the zone says of itself.
    pub soa: Soa,
    /// Who is asked for the names of others.
    pub recursors: Recursors,
}

/// Who is asked for the names of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recursors {
    /// Where they are; empty: nobody, and the names of others are refused.
    pub servers: Vec<SocketAddr>,
    /// How long each may take.
    pub timeout: Duration,
    /// Who comes first.
    pub strategy: Strategy,
}

/// Which recursor is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// In the order given.
    Sequential,
    /// Any.
    Random,
}

impl Recursors {
    /// Consul's default of `recursor_timeout`.
    pub const TIMEOUT: Duration = Duration::from_secs(2);

    /// Leaves out those at these addresses, which are the asker's own: a question to oneself never
    /// ends.
    pub(super) fn leave_out(&mut self, own: &[SocketAddr]) {
        self.servers.retain(|server| {
            let is_it = |own: &SocketAddr| {
                let here = own.ip().is_unspecified() && server.ip().is_loopback();
                own.port() == server.port() && (own.ip() == server.ip() || here)
            };
            !own.iter().any(is_it)
        });
    }
}

impl Default for Recursors {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Self::TIMEOUT, strategy: Strategy::Sequential }
    }
}

/// How old answers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As old as the leader's word.
    Leader,
    /// Of any server that heard from its leader within this time; else as the leader has it.
    Stale(Duration),
}

/// What the zone says of itself, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soa {
    /// How often secondaries look for changes.
    pub refresh: u32,
    /// How long they wait after they failed.
    pub retry: u32,
    /// How long they answer without having looked.
    pub expire: u32,
    /// How long it may be kept that there is no such name.
    pub min_ttl: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: Zone(Name::from_labels(["consul"]).unwrap_or_default()),
            alt_domain: None,
            node_ttl: Duration::ZERO,
            service_ttl: Ttls::default(),
            freshness: Freshness::Stale(Freshness::MAX_STALE),
            cache: None,
            only_passing: false,
            udp_answer_limit: 3,
            a_record_limit: 0,
            truncate: false,
            compress: true,
            node_meta_txt: true,
            soa: Soa::default(),
            recursors: Recursors::default(),
        }
    }
}

impl Freshness {
    /// Consul's default of `max_stale`: ten years.
    pub const MAX_STALE: Duration = Duration::from_secs(87_600 * 3600);
}

impl Default for Soa {
    fn default() -> Self {
        Self { refresh: 3600, retry: 600, expire: 86400, min_ttl: 0 }
    }
}

/// The name of a zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(Name);

/// What can't be the name of a zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no name of a zone: {0}")]
pub struct BadZone(String);

impl Zone {
    /// Returns the name, which ends at the root.
    pub fn name(&self) -> &Name {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = BadZone;

    /// Reads a name with or without its last dot.
    fn from_str(text: &str) -> Result<Self, BadZone> {
        let labels = text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes);
        let name = Name::from_labels(labels).map_err(|error| BadZone(error.to_string()))?;
        Ok(Self(name.to_lowercase()))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Times to live by the names of services: exact ones, and ones for all that start alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ttls {
    exact: Vec<(String, u32)>,
    /// The longest first, so that the first that fits is the right one.
    prefixes: Vec<(String, u32)>,
}

impl Ttls {
    /// Takes in a name, `prefix*` for all that start so, or `*` for all.
    pub fn put(&mut self, pattern: &str, ttl: Duration) {
        let pattern = pattern.to_lowercase();
        let entry = |text: &str| (text.to_owned(), seconds(ttl));
        match pattern.strip_suffix('*') {
            Some(prefix) => self.prefixes.push(entry(prefix)),
            None => self.exact.push(entry(&pattern)),
        }
        self.prefixes.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
    }

    /// Returns how many seconds the answers for a service, in small letters, may be kept.
    pub fn of(&self, service: &str) -> u32 {
        let exact = self.exact.iter().find(|(name, _)| name == service);
        let starts = || self.prefixes.iter().find(|(start, _)| service.starts_with(start.as_str()));
        exact.or_else(starts).map_or(0, |(_, ttl)| *ttl)
    }
}

/// Returns a time to live as records have it.
pub(super) fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_goes_before_the_longest_start_before_all() {
        let mut ttls = Ttls::default();
        for (pattern, ttl) in [("*", 1), ("web*", 2), ("web-api*", 3), ("web-api-1", 4)] {
            ttls.put(pattern, Duration::from_secs(ttl));
        }
        for (service, ttl) in [("db", 1), ("web", 2), ("web-api", 3), ("web-api-1", 4)] {
            assert_eq!(ttls.of(service), ttl, "{service}");
        }
        assert_eq!(Ttls::default().of("web"), 0);
    }

    #[test]
    fn a_zone_has_any_number_of_labels_and_no_empty_one() {
        assert_eq!(format!("{:?}", "Consul".parse::<Zone>().unwrap()), "consul.");
        assert_eq!(format!("{:?}", "sd.example.com.".parse::<Zone>().unwrap()), "sd.example.com.");
        let long = "a".repeat(64);
        for bad in ["", ".", "a..b", &long] {
            assert!(bad.parse::<Zone>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nobody_asks_himself() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let servers = ["10.0.0.1:53", "127.0.0.1:8600", "10.0.0.2:8600"].map(addr).to_vec();
        let mut recursors = Recursors { servers, ..Recursors::default() };
        recursors.leave_out(&[addr("0.0.0.0:8600"), addr("10.0.0.1:53")]);
        assert_eq!(recursors.servers, [addr("10.0.0.2:8600")]);
    }
}
