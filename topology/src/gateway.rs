//! What gateways, the servers behind them and those who reach them agree on, without a word between them.
//!
//! A server behind gateways has two marks, both a hash of its datacenter and its name: the first bytes
//! of the connection ids that it draws, by which any gateway of its datacenter knows whose packet it
//! has before it ([`tag`]), and the address by which the pool knows it ([`virtual_addr`]), which no packet
//! is ever sent to: those of two datacenters would be the same ones behind their gateways.

use std::net::{Ipv6Addr, SocketAddr};

use crate::name::{Datacenter, NodeName};

/// The tag in which a server says by which gateways it is reached: `host:port`, with commas between.
pub const GATEWAYS_TAG: &str = "gateways";

/// Bytes of a connection id that a node draws: shorter than what a client may choose for a server at first
/// (8, RFC 9000, section 7.2), and long enough that nobody guesses one.
pub const ID_LEN: usize = 7;

/// Bytes of it that tell the server.
pub const TAG_LEN: usize = 2;

/// The first bits of a virtual address.
const PREFIX: u16 = 0xfdca;

/// Returns the bytes with which the connection ids of a node begin. Those of two nodes may be the same.
pub fn tag(dc: &Datacenter, node: &NodeName) -> [u8; TAG_LEN] {
    let [first, second, ..] = hash(b"tag", dc, node).to_be_bytes();
    [first, second]
}

/// Returns the address by which the WAN pool knows a server behind gateways: unique local (RFC 4193), from 112 bits
/// of a hash.
pub fn virtual_addr(dc: &Datacenter, node: &NodeName, port: u16) -> SocketAddr {
    let high = u128::from(hash(b"high", dc, node));
    let low = u128::from(hash(b"low", dc, node));
    let hashed = (high << 64 | low) & ((1 << 112) - 1);
    SocketAddr::from((Ipv6Addr::from_bits(u128::from(PREFIX) << 112 | hashed), port))
}

/// Tells whether an address is one of those that no packet is sent to.
pub fn is_virtual(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(addr) if addr.ip().segments()[0] == PREFIX)
}

/// Hashes a node's name, whatever its case: certificates of Consul keep no capitals.
fn hash(salt: &[u8], dc: &Datacenter, node: &NodeName) -> u64 {
    // FNV-1a, whose last bytes count for little: so all bits are mixed at the end (splitmix64).
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for word in [salt, dc.as_str().as_bytes(), node.as_str().as_bytes()] {
        for byte in word.iter().chain(&[0]) {
            let byte = u64::from(byte.to_ascii_lowercase());
            hash = (hash ^ byte).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn dc(name: &str) -> Datacenter {
        Datacenter::new(name).unwrap()
    }

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    #[test]
    fn marks_are_the_same_in_every_version() {
        assert_eq!(tag(&dc("dc2"), &node("dc2-s1")), [234, 56]);
        let addr = virtual_addr(&dc("dc2"), &node("dc2-s1"), 8302);
        assert!(is_virtual(addr) && !is_virtual("[fd00::1]:8302".parse().unwrap()));
        assert_eq!(addr.to_string(), "[fdca:b930:d7c:1404:bcfb:805e:f2bd:cef]:8302");
    }

    #[test]
    fn marks_go_by_the_name_whatever_its_case() {
        assert_eq!(tag(&dc("dc2"), &node("S1")), tag(&dc("dc2"), &node("s1")));
        let addr = |name| virtual_addr(&dc("dc2"), &node(name), 1);
        assert_eq!(addr("S1"), addr("s1"));
    }

    #[test]
    fn ten_thousand_servers_have_ten_thousand_addresses() {
        let addrs: BTreeSet<SocketAddr> = (0..10_000)
            .map(|n| {
                virtual_addr(&dc(&format!("dc{}", n % 100)), &node(&format!("s{}", n / 100)), 1)
            })
            .collect();
        assert_eq!(addrs.len(), 10_000);
    }
}
