//! Which servers are behind gateways, where these are, and what the link has to know of it.
//!
//! A function of what it is told: members, what host names stand for, where the fellow servers are. The
//! pool tells it of every change and publishes the [`Routes`] that come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use certs::link::Routes;
use topology::{Datacenter, Member, NodeName, Profile, Status, gateway};

use crate::seeds;

/// Most gateways of a server.
pub const GATEWAYS_MAX: usize = 8;

/// Most host names that are looked up: a few for each of some hundred datacenters.
const HOSTS_MAX: usize = 512;

/// How often a host name is looked up, and how soon again when it was not found.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(60);
const LOOKUP_AGAIN: Duration = Duration::from_secs(3);

/// What is known of gateways.
pub(crate) struct Gateways {
    me: (Datacenter, NodeName),
    own: Vec<String>,
    /// Where the WAN addresses of the own datacenter's servers behind gateways are.
    fellows: BTreeMap<SocketAddr, SocketAddr>,
    hosts: BTreeMap<String, Host>,
}

#[derive(Default)]
struct Host {
    addrs: Vec<SocketAddr>,
    due: Duration,
}

/// Writes the gateways of a server as its profile says them: the usual port is left out.
pub fn tag(gateways: &[String]) -> String {
    let usual = format!(":{}", seeds::PORT);
    let named = gateways.iter().map(|it| seeds::with_port(it));
    named.map(|it| it.strip_suffix(&usual).unwrap_or(&it).to_owned()).collect::<Vec<_>>().join(",")
}

/// Reads the gateways of a server from its profile, with their ports.
fn gateways(profile: &Profile) -> Option<Vec<String>> {
    let named = profile.tags.get(gateway::GATEWAYS_TAG)?.split(',');
    let named = named.map(str::trim).filter(|it| !it.is_empty());
    Some(named.take(GATEWAYS_MAX).map(seeds::with_port).collect())
}

/// Returns the address by which the WAN pool knows a server of the own datacenter, and where it is.
pub(crate) fn in_pool(fellow: &Profile) -> Option<(SocketAddr, SocketAddr)> {
    let wan = fellow.wan?;
    match fellow.tags.contains_key(gateway::GATEWAYS_TAG) {
        true => Some((gateway::virtual_addr(&fellow.dc, &fellow.name, wan.port()), wan)),
        false => Some((wan, wan)),
    }
}

impl Gateways {
    /// Knows nobody yet but the server that it is for.
    pub(crate) fn new(me: &Profile) -> Self {
        let own = gateways(me).unwrap_or_default();
        let me = (me.dc.clone(), me.name.clone());
        let mut it = Self { me, own, fellows: BTreeMap::new(), hosts: BTreeMap::new() };
        it.want(&[]);
        it
    }

    /// Takes in who the servers of the own datacenter are.
    pub(crate) fn follow(&mut self, fellows: &[Profile]) {
        let known = fellows.iter().filter_map(in_pool).filter(|(known, wan)| known != wan);
        self.fellows = known.collect();
    }

    /// Returns the ways to all members.
    pub(crate) fn routes(&mut self, members: &[Member]) -> Routes {
        self.want(members);
        let mut routes = Routes::default();
        for member in members.iter().filter(|member| stays(member)) {
            let profile = &member.profile;
            if (&profile.dc, &profile.name) == (&self.me.0, &self.me.1) {
                continue;
            }
            let gateways = gateways(profile);
            if gateways.is_some() || !self.own.is_empty() {
                routes.know(&profile.dc, &profile.name, profile.addr);
            }
            match (self.fellows.get(&profile.addr), gateways) {
                (Some(wan), _) => routes.lead(profile.addr, [*wan]),
                (None, Some(hosts)) => routes.lead(profile.addr, self.addrs(&hosts)),
                (None, None) => {}
            }
        }
        // A fellow that is not in the pool yet is let in by its address there.
        for (known, wan) in &self.fellows {
            routes.lead(*known, [*wan]);
        }
        routes
    }

    /// Returns the host names to look up now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<String> {
        let due = self.hosts.iter_mut().filter(|(_, host)| now >= host.due);
        due.map(|(name, host)| {
            host.due = now + LOOKUP_AGAIN;
            name.clone()
        })
        .collect()
    }

    /// Takes in what a host name stands for; tells whether that is news.
    pub(crate) fn resolved(&mut self, now: Duration, name: &str, addrs: Vec<SocketAddr>) -> bool {
        let Some(host) = self.hosts.get_mut(name) else { return false };
        host.due = now + LOOKUP_INTERVAL;
        let is_news = host.addrs != addrs;
        host.addrs = addrs;
        is_news
    }

    /// Tells whether an address is that of a gateway of somebody who is alive: of this server itself, too.
    pub(crate) fn leads(&self, addr: SocketAddr, members: &[Member]) -> bool {
        let mut alive = members.iter().filter(|member| member.is_alive());
        self.addrs(&self.own).contains(&addr)
            || alive.any(|member| {
                gateways(&member.profile).is_some_and(|hosts| self.addrs(&hosts).contains(&addr))
            })
    }

    fn addrs(&self, hosts: &[String]) -> Vec<SocketAddr> {
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for host in hosts {
            let found = match host.parse() {
                Ok(addr) => vec![addr],
                Err(_) => self.hosts.get(host).map(|it| it.addrs.clone()).unwrap_or_default(),
            };
            for addr in found {
                if !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }
        }
        addrs
    }

    /// Keeps the host names that somebody has gateways by.
    fn want(&mut self, members: &[Member]) {
        let named = members.iter().filter(|it| stays(it)).filter_map(|it| gateways(&it.profile));
        let named = self.own.clone().into_iter().chain(named.flatten());
        let wanted: BTreeSet<String> =
            named.filter(|it| it.parse::<SocketAddr>().is_err()).take(HOSTS_MAX).collect();
        self.hosts.retain(|name, _| wanted.contains(name));
        for name in wanted {
            self.hosts.entry(name).or_default();
        }
    }
}

fn stays(member: &Member) -> bool {
    matches!(member.status, Status::Alive | Status::Failed)
}

#[cfg(test)]
mod tests {
    use topology::{NodeId, Role};
    use uuid::Uuid;

    use super::*;

    fn profile(dc: &str, name: &str, gateways: &[&str]) -> Profile {
        let (dc, name): (Datacenter, NodeName) = (dc.parse().unwrap(), name.parse().unwrap());
        let gateways: Vec<String> = gateways.iter().map(|it| (*it).to_owned()).collect();
        let addr = match gateways.is_empty() {
            true => "10.0.0.9:8302".parse().unwrap(),
            false => gateway::virtual_addr(&dc, &name, 8302),
        };
        let tags = (!gateways.is_empty())
            .then(|| (gateway::GATEWAYS_TAG.to_owned(), tag(&gateways)))
            .into_iter()
            .collect();
        let (id, version) = (NodeId(Uuid::nil()), "0.1.0".to_owned());
        Profile { name, id, dc, role: Role::Server, addr, link: None, wan: None, version, tags }
    }

    fn alive(profile: &Profile) -> Member {
        Member { profile: profile.clone(), status: Status::Alive }
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_profile_names_gateways_and_leaves_the_usual_port_out() {
        let written = tag(&["gw1".to_owned(), "10.0.0.1:8302".to_owned(), "gw2:9".to_owned()]);
        assert_eq!(written, "gw1,10.0.0.1,gw2:9");
        let read = gateways(&profile("dc2", "s1", &["gw1", "10.0.0.1", "gw2:9"]));
        assert_eq!(read.unwrap(), ["gw1:8302", "10.0.0.1:8302", "gw2:9"]);
    }

    #[test]
    fn a_server_behind_gateways_is_reached_by_them_alone() {
        let mut known = Gateways::new(&profile("dc1", "s1", &[]));
        let (behind, open) = (profile("dc2", "s1", &["10.0.0.1", "gw"]), profile("dc3", "s1", &[]));
        let members = [alive(&behind), alive(&open)];
        let ways = |routes: &Routes| routes.ways(behind.addr).unwrap().to_vec();
        let routes = known.routes(&members);
        assert_eq!(ways(&routes), [addr("10.0.0.1:8302")]);
        assert_eq!(routes.ways(open.addr), None);
        assert_eq!(known.due(Duration::ZERO), ["gw:8302"]);
        assert!(known.due(Duration::ZERO).is_empty());
        assert!(known.resolved(Duration::ZERO, "gw:8302", vec![addr("10.0.0.2:8302")]));
        assert_eq!(ways(&known.routes(&members)).len(), 2);
        assert!(known.leads(addr("10.0.0.2:8302"), &members));
        assert!(!known.leads(addr("10.0.0.3:8302"), &members));
        let failed = [Member { status: Status::Failed, ..alive(&behind) }];
        assert!(!known.leads(addr("10.0.0.2:8302"), &failed));
        known.routes(&[]);
        assert!(known.due(Duration::from_secs(600)).is_empty(), "nobody wants it any more");
    }

    #[test]
    fn fellows_are_reached_where_they_are() {
        let me = profile("dc2", "s1", &["10.0.0.1"]);
        let fellow = profile("dc2", "s2", &["10.0.0.1"]);
        let mut known = Gateways::new(&me);
        let on_lan = Profile { wan: Some(addr("192.168.0.2:8302")), ..fellow.clone() };
        known.follow(&[on_lan]);
        // Also before it is in the pool.
        for members in [vec![], vec![alive(&me), alive(&fellow)]] {
            let routes = known.routes(&members);
            assert_eq!(routes.ways(fellow.addr).unwrap().to_vec(), [addr("192.168.0.2:8302")]);
            assert_eq!(routes.ways(me.addr), None);
        }
        assert!(known.leads(addr("10.0.0.1:8302"), &[]), "the way to itself");
    }
}
