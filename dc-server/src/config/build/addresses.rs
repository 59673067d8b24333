//! Where an agent listens and what it advertises.
//!
//! An address is an IP address; `client_addr` and `addresses.*` hold several, separated by
//! blanks, and sockets as `unix://path`. When the cluster's address is "any", the machine's
//! private IPv4 address (or global IPv6 address) is advertised, as Consul does it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use topology::Role;

use super::Build;
use crate::config::agent::{Addresses, Endpoint, Listen};

const HTTP_PORT: u16 = 8500;
const DNS_PORT: u16 = 8600;
const SERVER_PORT: u16 = 8300;
const LAN_PORT: u16 = 8301;
const WAN_PORT: u16 = 8302;

impl Build<'_> {
    pub(super) fn addresses(&mut self, role: Role) -> Option<Addresses> {
        let bind = self.bind_addr()?;
        let advertise = self.advertise("advertise_addr", bind);
        let advertise_wan = match self.settings.text("advertise_addr_wan") {
            Some(_) => self.advertise("advertise_addr_wan", bind),
            None => advertise,
        };
        let lan = self.pool_addr("serf_lan").unwrap_or(bind);
        let wan = self.pool_addr("serf_wan").unwrap_or(bind);
        let lan_port = self.needed_port("ports.serf_lan", LAN_PORT);
        let server_port = self.needed_port("ports.server", SERVER_PORT);
        let wan_port = self.port("ports.serf_wan", Some(WAN_PORT));
        let (advertise, advertise_wan) = (advertise?, advertise_wan?);
        let link_port = if role == Role::Server { server_port } else { 0 };
        let http_port = self.port("ports.http", Some(HTTP_PORT));
        let https_port = self.port("ports.https", None);
        let dns_port = self.port("ports.dns", Some(DNS_PORT));
        let addresses = Addresses {
            lan: endpoint(lan, advertise, lan_port),
            link: endpoint(bind, advertise, link_port),
            wan: wan_port
                .filter(|_| role == Role::Server)
                .map(|port| endpoint(wan, advertise_wan, port)),
            http: self.listeners("addresses.http", http_port),
            https: self.listeners("addresses.https", https_port),
            dns: self.dns_listeners(dns_port),
            unix: self.unix_sockets(),
        };
        self.no_port_twice(&addresses);
        Some(addresses)
    }

    fn bind_addr(&mut self) -> Option<IpAddr> {
        match self.settings.text("bind_addr").map(str::to_owned) {
            Some(text) if text.trim().is_empty() => {
                self.broken("bind_addr cannot be empty");
                None
            }
            Some(text) => self.ip("bind_addr", &text),
            None if self.dev => Some(Ipv4Addr::LOCALHOST.into()),
            None => Some(Ipv4Addr::UNSPECIFIED.into()),
        }
    }

    fn pool_addr(&mut self, path: &str) -> Option<IpAddr> {
        let text = self.settings.text(path).filter(|text| !text.is_empty())?.to_owned();
        self.ip(path, &text)
    }

    fn advertise(&mut self, path: &str, bind: IpAddr) -> Option<IpAddr> {
        if let Some(text) = self.settings.text(path).map(str::to_owned) {
            let addr = self.ip(path, &text)?;
            if addr.is_unspecified() {
                let name = if path == "advertise_addr" { "Advertise" } else { "Advertise WAN" };
                self.broken(format!("{name} address cannot be 0.0.0.0, :: or [::]"));
                return None;
            }
            return Some(addr);
        }
        if !bind.is_unspecified() {
            return Some(bind);
        }
        let (kind, found) = match bind {
            IpAddr::V4(_) => ("private IPv4", self.host.private_v4()),
            IpAddr::V6(_) => ("public IPv6", self.host.global_v6()),
        };
        match found.as_slice() {
            [] => {
                self.broken(format!(
                    "No {kind} address found: configure one with 'bind' and/or 'advertise'"
                ));
                None
            }
            [only] => Some(*only),
            [first, ..] => {
                self.warnings.push(format!(
                    "Multiple {kind} addresses found; {first} is advertised. Configure one with \
                     'bind' and/or 'advertise' to be sure"
                ));
                Some(*first)
            }
        }
    }

    fn ip(&mut self, path: &str, text: &str) -> Option<IpAddr> {
        let bare = text.trim();
        let bare = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']')).unwrap_or(bare);
        if let Ok(addr) = bare.parse() {
            return Some(addr);
        }
        if text.contains("{{") {
            self.bad(
                path,
                "an IP address (go-sockaddr templates are not evaluated)",
                format!("{text:?}"),
            );
        } else {
            self.bad(path, "an IP address", format!("{text:?}"));
        }
        None
    }

    fn port(&mut self, path: &str, default: Option<u16>) -> Option<u16> {
        match self.settings.integer(path) {
            None => default,
            Some(port) => u16::try_from(port).ok().filter(|port| *port > 0),
        }
    }

    fn needed_port(&mut self, path: &str, default: u16) -> u16 {
        self.port(path, Some(default)).unwrap_or_else(|| {
            self.broken(format!("{path} must be a valid port from 1 to 65535"));
            default
        })
    }

    /// Reads a listener's addresses, by default those of `client_addr`.
    fn client_addrs(&mut self, path: &'static str) -> (&'static str, Vec<String>) {
        let given = |path: &str| self.settings.text(path).filter(|text| !text.trim().is_empty());
        let (path, text) = match (given(path), given("client_addr")) {
            (Some(text), _) => (path, text),
            (None, Some(text)) => ("client_addr", text),
            (None, None) => ("client_addr", "127.0.0.1"),
        };
        (path, text.split_whitespace().map(str::to_owned).collect())
    }

    fn listeners(&mut self, path: &'static str, port: Option<u16>) -> Vec<Listen> {
        let (path, texts) = self.client_addrs(path);
        let Some(port) = port else { return Vec::new() };
        texts
            .iter()
            .filter_map(|text| match text.strip_prefix("unix://") {
                Some(socket) => Some(Listen::Unix(PathBuf::from(socket))),
                None => self.ip(path, text).map(|ip| Listen::Tcp(SocketAddr::new(ip, port))),
            })
            .collect()
    }

    fn dns_listeners(&mut self, port: Option<u16>) -> Vec<SocketAddr> {
        let (path, texts) = self.client_addrs("addresses.dns");
        let Some(port) = port else { return Vec::new() };
        texts
            .iter()
            .filter(|text| path != "client_addr" || !text.starts_with("unix://"))
            .filter_map(|text| self.ip(path, text).map(|ip| SocketAddr::new(ip, port)))
            .collect()
    }

    /// Checks that no two listeners of one transport meet.
    fn no_port_twice(&mut self, addresses: &Addresses) {
        let tcp = |name: &'static str, listen: &[Listen]| -> Vec<(&'static str, SocketAddr)> {
            let addr = |l: &Listen| match l {
                Listen::Tcp(addr) => Some((name, *addr)),
                Listen::Unix(_) => None,
            };
            listen.iter().filter_map(addr).collect()
        };
        let dns: Vec<_> = addresses.dns.iter().map(|addr| ("ports.dns", *addr)).collect();
        let mut udp = vec![("ports.serf_lan", addresses.lan.bind)];
        if addresses.link.bind.port() > 0 {
            udp.push(("ports.server", addresses.link.bind));
        }
        udp.extend(addresses.wan.map(|wan| ("ports.serf_wan", wan.bind)));
        udp.extend(&dns);
        let mut all_tcp = tcp("ports.http", &addresses.http);
        all_tcp.extend(tcp("ports.https", &addresses.https));
        all_tcp.extend(dns);
        for listeners in [udp, all_tcp] {
            let mut taken: BTreeMap<u16, (&str, IpAddr)> = BTreeMap::new();
            for (name, addr) in listeners {
                match taken.get(&addr.port()) {
                    Some((other, ip))
                        if *other != name
                            && (*ip == addr.ip()
                                || ip.is_unspecified()
                                || addr.ip().is_unspecified()) =>
                    {
                        self.broken(format!(
                            "{name}: address {addr} already configured for {other}"
                        ));
                    }
                    _ => {
                        taken.insert(addr.port(), (name, addr.ip()));
                    }
                }
            }
        }
    }
}

fn endpoint(bind: IpAddr, advertise: IpAddr, port: u16) -> Endpoint {
    Endpoint { bind: SocketAddr::new(bind, port), advertise: SocketAddr::new(advertise, port) }
}
