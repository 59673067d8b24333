//! The addresses by which this server gets into the WAN pool, tried until somebody is there.
//!
//! A function of values: what is due comes out, the driver looks names up and asks. An entry
//! whose addresses include a member that is alive is left alone; the others are tried again,
//! first soon, because datacenters are started together, then at the configured interval, also
//! when this server is in the pool long since: the datacenter behind an entry may come later.

use std::{net::SocketAddr, time::Duration};

/// The port of the WAN pool where an entry names none.
pub const PORT: u16 = 8302;

/// The first wait after an attempt; doubled up to the configured interval.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Most entries: an operator writes a handful.
pub const SEEDS_MAX: usize = 64;

/// Addresses to get in by.
#[derive(Debug, Clone)]
pub struct Seeds {
    interval: Duration,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    host: String,
    addrs: Vec<SocketAddr>,
    due: Duration,
    wait: Duration,
}

impl Seeds {
    /// Takes entries of the form `host`, `host:port`, `[v6]:port`; at most [`SEEDS_MAX`] count.
    pub fn new(entries: &[String], interval: Duration) -> Self {
        let entries = entries
            .iter()
            .take(SEEDS_MAX)
            .map(|entry| Entry {
                host: with_port(entry),
                addrs: Vec::new(),
                due: Duration::ZERO,
                wait: RETRY_MIN.min(interval),
            })
            .collect();
        Self { interval, entries }
    }

    /// Returns the entries to look up and ask now, with their ports. `alive` tells whether a
    /// member that is alive has an address.
    pub fn due(&mut self, now: Duration, alive: impl Fn(SocketAddr) -> bool) -> Vec<String> {
        let mut due = Vec::new();
        for entry in &mut self.entries {
            if now < entry.due {
                continue;
            }
            if entry.addrs.iter().any(|addr| alive(*addr)) {
                entry.wait = RETRY_MIN.min(self.interval);
                entry.due = now + self.interval;
                continue;
            }
            entry.due = now + entry.wait;
            entry.wait = (entry.wait * 2).min(self.interval);
            due.push(entry.host.clone());
        }
        due
    }

    /// Takes in what an entry was found to stand for.
    pub fn resolved(&mut self, host: &str, addrs: &[SocketAddr]) {
        for entry in self.entries.iter_mut().filter(|entry| entry.host == host) {
            entry.addrs = addrs.to_vec();
        }
    }
}

/// Adds the usual port to a `host`, `host:port` or `[v6]:port` that has none.
pub fn with_port(entry: &str) -> String {
    if let Ok(addr) = entry.parse::<std::net::IpAddr>() {
        return SocketAddr::new(addr, PORT).to_string();
    }
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(addr)) = bare.map(str::parse::<std::net::Ipv6Addr>) {
        return SocketAddr::from((addr, PORT)).to_string();
    }
    let has_port = entry.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { entry.to_owned() } else { format!("{entry}:{PORT}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seeds() -> Seeds {
        Seeds::new(&["10.0.0.1".to_owned()], SECOND * 3)
    }

    #[test]
    fn the_usual_port_is_added_where_none_is_named() {
        for (entry, wanted) in [
            ("10.0.0.1", "10.0.0.1:8302"),
            ("10.0.0.1:9", "10.0.0.1:9"),
            ("fe80::1", "[fe80::1]:8302"),
            ("[fe80::1]", "[fe80::1]:8302"),
            ("[fe80::1]:9", "[fe80::1]:9"),
            ("wan.example", "wan.example:8302"),
            ("wan.example:9", "wan.example:9"),
        ] {
            assert_eq!(with_port(entry), wanted);
        }
    }

    #[test]
    fn attempts_are_spaced_up_to_the_interval() {
        let mut seeds = seeds();
        let mut times = Vec::new();
        for second in 0..12 {
            if !seeds.due(SECOND * second, |_| false).is_empty() {
                times.push(second);
            }
        }
        assert_eq!(times, [0, 1, 3, 6, 9]);
    }

    #[test]
    fn an_entry_whose_member_is_alive_is_left_alone_until_it_dies() {
        let mut seeds = seeds();
        assert_eq!(seeds.due(Duration::ZERO, |_| false), ["10.0.0.1:8302"]);
        seeds.resolved("10.0.0.1:8302", &["10.0.0.1:8302".parse().unwrap()]);
        assert!(seeds.due(SECOND, |_| true).is_empty());
        assert_eq!(seeds.due(SECOND * 4, |_| false).len(), 1);
    }
}
