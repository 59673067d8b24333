//! The servers behind a gateway: by the name that a client asks for, by the tag of a connection id.

use std::{collections::BTreeMap, net::SocketAddr};

use certs::link::Expect;
use topology::{Datacenter, NodeName, Role, gateway};

/// Most servers of a datacenter: beyond a dozen, Raft is slow.
pub const SERVERS_MAX: usize = 64;

/// A server of a [`Map`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(usize);

/// The servers of a datacenter and where they are.
#[derive(Debug, Clone)]
pub struct Map {
    dc: Datacenter,
    servers: Vec<Server>,
    by_tag: BTreeMap<[u8; gateway::TAG_LEN], Option<Place>>,
    /// Which server was given last to one who would have any.
    turn: usize,
}

#[derive(Debug, Clone)]
struct Server {
    name: NodeName,
    addr: Option<SocketAddr>,
}

impl Place {
    /// The place that sorts before all others.
    pub(super) const FIRST: Self = Self(0);

    /// The place that sorts behind all others.
    pub(super) const LAST: Self = Self(usize::MAX);
}

impl Map {
    /// Takes the names of a datacenter's servers; at most [`SERVERS_MAX`] count. Where they are comes by
    /// [`Map::move_to`].
    pub fn new(dc: Datacenter, names: impl IntoIterator<Item = NodeName>) -> Self {
        let names = names.into_iter().take(SERVERS_MAX);
        let servers: Vec<Server> = names.map(|name| Server { name, addr: None }).collect();
        let mut by_tag = BTreeMap::new();
        for (index, server) in servers.iter().enumerate() {
            let place = by_tag.entry(gateway::tag(&dc, &server.name));
            // A tag that two have tells nothing.
            place.and_modify(|place| *place = None).or_insert(Some(Place(index)));
        }
        Self { dc, servers, by_tag, turn: 0 }
    }

    /// Returns the places, in the order of the names.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.servers.len()).map(Place)
    }

    /// Returns the name of a server.
    pub fn name(&self, place: Place) -> Option<&NodeName> {
        self.servers.get(place.0).map(|server| &server.name)
    }

    /// Returns where a server is, if that is known.
    pub fn addr(&self, place: Place) -> Option<SocketAddr> {
        self.servers.get(place.0)?.addr
    }

    /// Notes where a server is.
    pub fn move_to(&mut self, place: Place, addr: SocketAddr) {
        if let Some(server) = self.servers.get_mut(place.0) {
            server.addr = Some(addr);
        }
    }

    /// Returns the server that a TLS server name stands for; one after the other for a name that any of them may
    /// answer to.
    pub fn named(&mut self, name: &str) -> Option<Place> {
        let Expect { dc, role: Role::Server, node } = Expect::from_server_name(name)? else {
            return None;
        };
        if dc.is_some_and(|dc| dc != self.dc) {
            return None;
        }
        let Some(node) = node else { return self.any() };
        let is_it = |server: &Server| server.name.as_str().eq_ignore_ascii_case(node.as_str());
        self.servers.iter().position(is_it).map(Place)
    }

    /// Returns the server whose connection ids begin so.
    pub fn tagged(&self, id: &[u8]) -> Option<Place> {
        let tag = id.first_chunk()?;
        *self.by_tag.get(tag)?
    }

    /// Returns the servers whose packets can't be told from each other's by the tag.
    pub fn twins(&self) -> impl Iterator<Item = &NodeName> {
        let is_twin = |server: &&Server| {
            self.by_tag.get(&gateway::tag(&self.dc, &server.name)) == Some(&None)
        };
        self.servers.iter().filter(is_twin).map(|server| &server.name)
    }

    fn any(&mut self) -> Option<Place> {
        let count = self.servers.len();
        let next = (1..=count).map(|step| (self.turn + step) % count);
        self.turn = next.into_iter().find(|index| self.servers[*index].addr.is_some())?;
        Some(Place(self.turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: &[&str]) -> Map {
        let dc = Datacenter::new("dc2").unwrap();
        let mut map = Map::new(dc, names.iter().map(|name| NodeName::new(name).unwrap()));
        for place in map.places() {
            map.move_to(place, SocketAddr::from(([10, 0, 0, 1 + place.0 as u8], 8302)));
        }
        map
    }

    #[test]
    fn a_server_is_found_by_its_name_whatever_its_case() {
        let mut map = map(&["s1", "web.rack-2"]);
        assert_eq!(map.named("s1.server.dc2.causeway"), Some(Place(0)));
        assert_eq!(map.named("WEB.rack-2.server.dc2.causeway"), Some(Place(1)));
        for other in ["s3.server.dc2.causeway", "s1.server.dc3.causeway", "s1.client.dc2.causeway"]
        {
            assert_eq!(map.named(other), None, "{other}");
        }
        for nothing in ["", "causeway", ".causeway", "example.com", "s1.server.dc2.consul"] {
            assert_eq!(map.named(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn who_would_have_any_server_gets_one_after_the_other() {
        let mut map = map(&["s1", "s2", "s3"]);
        let turns: Vec<_> = (0..4).map(|_| map.named("server.dc2.causeway").unwrap().0).collect();
        assert_eq!(turns, [1, 2, 0, 1]);
        assert_eq!(map.named("server.causeway"), Some(Place(2)));
    }

    #[test]
    fn a_server_whose_address_is_unknown_is_not_any_server() {
        let dc = Datacenter::new("dc2").unwrap();
        let mut map = Map::new(dc, ["s1", "s2"].map(|name| NodeName::new(name).unwrap()));
        assert_eq!(map.named("server.causeway"), None);
        map.move_to(Place(1), "10.0.0.2:8302".parse().unwrap());
        assert_eq!(map.named("server.causeway"), Some(Place(1)));
        assert_eq!(map.named("server.causeway"), Some(Place(1)));
    }

    #[test]
    fn connection_ids_tell_their_server() {
        let map = map(&["s1", "s2"]);
        let tag = gateway::tag(&map.dc, &map.servers[1].name);
        assert_eq!(map.tagged(&[tag[0], tag[1], 9, 9]), Some(Place(1)));
        assert_eq!(map.tagged(&[tag[0]]), None);
        assert_eq!(map.twins().count(), 0);
    }

    #[test]
    fn a_tag_that_two_servers_have_tells_nothing() {
        let dc = Datacenter::new("dc2").unwrap();
        let mut seen = BTreeMap::new();
        let twins = (0..100_000).find_map(|n| {
            let name = NodeName::new(format!("s{n}")).unwrap();
            let twin = seen.insert(gateway::tag(&dc, &name), name.clone())?;
            Some([twin, name])
        });
        let map = Map::new(dc.clone(), twins.clone().unwrap());
        assert_eq!(map.twins().cloned().collect::<Vec<_>>(), twins.clone().unwrap());
        assert_eq!(map.tagged(&gateway::tag(&dc, &twins.unwrap()[0])), None);
    }
}
