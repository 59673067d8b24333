//! Ways to peers that have no address of their own: by which gateways they are reached.
//!
//! A peer behind gateways is known by an address to which no packet is ever sent
//! ([`topology::gateway::virtual_addr`]). Paths, calls and watches go by that address; only who dials
//! looks up here where to. An attempt begins at one gateway and goes on at the next one, too, when the
//! first has not answered within a second; who gave no answer when others did is asked last for a while.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use topology::{Datacenter, NodeName};

use crate::identity::Identity;

/// Most gateways that are tried for one attempt.
pub(super) const WAYS_MAX: usize = 8;

/// How long a gateway has before the next one is tried as well: a handshake over the longest distances takes less.
pub(super) const HEAD_START: Duration = Duration::from_secs(1);

/// Where peers are that are not where their address says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    ways: BTreeMap<SocketAddr, Arc<[SocketAddr]>>,
    known: BTreeMap<(Datacenter, NodeName), SocketAddr>,
}

/// Which gateways gave no answer when they should have.
#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<SocketAddr, Instant>);

impl Routes {
    /// Leads to a peer's address by these ones, of which there may be none yet.
    pub fn lead(&mut self, addr: SocketAddr, ways: impl Into<Arc<[SocketAddr]>>) {
        self.ways.insert(addr, ways.into());
    }

    /// Takes what a server sends for something from its address, wherever it comes from.
    pub fn know(&mut self, dc: &Datacenter, node: &NodeName, addr: SocketAddr) {
        self.known.insert(key(dc, node), addr);
    }

    /// Returns by which addresses a peer's is reached; `None` if by itself.
    pub fn ways(&self, addr: SocketAddr) -> Option<Arc<[SocketAddr]>> {
        self.ways.get(&addr).cloned()
    }

    /// Returns the addresses to which there are other ways than there were.
    pub(super) fn led_anew(&self, before: &Self) -> impl Iterator<Item = SocketAddr> {
        let is_new = |(addr, ways): &(&SocketAddr, &Arc<[SocketAddr]>)| {
            before.ways.get(*addr) != Some(*ways)
        };
        self.ways.iter().filter(is_new).map(|(addr, _)| *addr)
    }

    /// Returns the address of a server that has shown who it is.
    pub(super) fn addr_of(&self, peer: &Identity) -> Option<SocketAddr> {
        let node = peer.node.as_ref().filter(|_| peer.role == topology::Role::Server)?;
        self.known.get(&key(&peer.dc, node)).copied()
    }
}

/// Certificates of Consul keep no capitals.
fn key(dc: &Datacenter, node: &NodeName) -> (Datacenter, NodeName) {
    let lower = NodeName::new(node.as_str().to_ascii_lowercase());
    (dc.clone(), lower.unwrap_or_else(|_| node.clone()))
}

impl Doubts {
    /// Orders the ways to a peer: those that answered, or were never tried, come first, each peer's in an order
    /// of its own; those that did not come behind them, the longest ago first.
    pub(super) fn order(&self, addr: SocketAddr, ways: &[SocketAddr]) -> Vec<SocketAddr> {
        let weight = |way: &SocketAddr| {
            let mut hasher = DefaultHasher::new();
            (addr, way).hash(&mut hasher);
            hasher.finish()
        };
        let mut ordered = ways.to_vec();
        ordered.sort_by_cached_key(|way| (self.0.get(way).copied(), Reverse(weight(way))));
        ordered.truncate(WAYS_MAX);
        ordered
    }

    /// Notes that a way gave no answer.
    pub(super) fn failed(&mut self, now: Instant, way: SocketAddr) {
        self.0.insert(way, now);
    }

    /// Notes that a way led to its peer, and that those that were tried before it did not.
    pub(super) fn led(&mut self, now: Instant, way: SocketAddr, before: &[SocketAddr]) {
        self.0.remove(&way);
        self.0.extend(before.iter().map(|way| (*way, now)));
    }

    /// Forgets ways that lead nowhere any more.
    pub(super) fn keep(&mut self, routes: &Routes) {
        let ways = || routes.ways.values().flat_map(|ways| ways.iter());
        self.0.retain(|way, _| ways().any(|known| known == way));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    #[test]
    fn peers_begin_at_different_gateways() {
        let (doubts, ways) = (Doubts::default(), [addr(1), addr(2)]);
        let first: BTreeSet<_> = (10..30).map(|peer| doubts.order(addr(peer), &ways)[0]).collect();
        assert_eq!(first.len(), 2);
        assert_eq!(doubts.order(addr(10), &ways), doubts.order(addr(10), &ways));
    }

    #[test]
    fn a_gateway_that_gave_no_answer_comes_last_until_it_does() {
        let (mut doubts, ways) = (Doubts::default(), [addr(1), addr(2), addr(3)]);
        let now = Instant::now();
        let first = doubts.order(addr(10), &ways)[0];
        doubts.failed(now, first);
        let second = doubts.order(addr(10), &ways);
        assert_eq!(second[2], first);
        doubts.led(now + HEAD_START, second[1], &second[..1]);
        assert_eq!(doubts.order(addr(10), &ways), [second[1], first, second[0]]);
        doubts.led(now, first, &[]);
        assert_eq!(doubts.order(addr(10), &ways)[2], second[0]);
    }

    #[test]
    fn servers_are_known_by_their_names_whatever_their_case() {
        let mut routes = Routes::default();
        let (dc, node) = (Datacenter::new("dc2").unwrap(), NodeName::new("S1").unwrap());
        routes.know(&dc, &node, addr(1));
        let peer = |role, name| Identity::new(dc.clone(), role, Some(NodeName::new(name).unwrap()));
        assert_eq!(routes.addr_of(&peer(topology::Role::Server, "s1")), Some(addr(1)));
        assert_eq!(routes.addr_of(&peer(topology::Role::Client, "s1")), None);
        assert_eq!(routes.addr_of(&peer(topology::Role::Server, "s2")), None);
    }
}
