//! What the configuration needs to know of the machine: its name and its addresses.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

/// Facts of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: Option<String>,
    /// Its addresses: the one of the default route first.
    pub addresses: Vec<IpAddr>,
}

impl Host {
    /// Asks the kernel. What can't be learned is left out.
    pub fn detect() -> Self {
        let name = fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        let fib = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        let inet6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let mut addresses: Vec<IpAddr> = routed().into_iter().collect();
        for addr in local_v4(&fib).map(IpAddr::V4).chain(local_v6(&inet6).map(IpAddr::V6)) {
            if !addresses.contains(&addr) {
                addresses.push(addr);
            }
        }
        Self { name, addresses }
    }

    /// Returns the private IPv4 addresses (RFC 6890), the best first.
    pub(super) fn private_v4(&self) -> Vec<IpAddr> {
        let private = |addr: &Ipv4Addr| {
            addr.is_private() || (addr.octets()[0] == 100 && addr.octets()[1] & 0xc0 == 64)
        };
        self.addresses
            .iter()
            .filter(|addr| matches!(addr, IpAddr::V4(v4) if private(v4)))
            .copied()
            .collect()
    }

    /// Returns the IPv6 addresses that others may reach, the best first.
    pub(super) fn global_v6(&self) -> Vec<IpAddr> {
        let global = |addr: &Ipv6Addr| {
            !addr.is_loopback() && !addr.is_unicast_link_local() && !addr.is_unspecified()
        };
        self.addresses
            .iter()
            .filter(|addr| matches!(addr, IpAddr::V6(v6) if global(v6)))
            .copied()
            .collect()
    }
}

/// Returns the address that packets to strangers leave from. Connecting a UDP socket sends nothing;
/// the far address is one for documentation (RFC 5737).
fn routed() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|addr| !addr.is_unspecified())
}

/// Reads the local addresses from the kernel's routing trie: a leaf `|-- ADDR` whose next line
/// says `host LOCAL`.
fn local_v4(fib: &str) -> impl Iterator<Item = Ipv4Addr> + '_ {
    fib.lines().zip(fib.lines().skip(1)).filter_map(|(leaf, kind)| {
        let addr = leaf.trim().strip_prefix("|-- ")?;
        kind.contains("host LOCAL").then(|| addr.parse().ok())?
    })
}

/// Reads the addresses of `/proc/net/if_inet6`: 32 hexadecimal digits open each line.
fn local_v6(inet6: &str) -> impl Iterator<Item = Ipv6Addr> + '_ {
    inet6.lines().filter_map(|line| {
        let bits = line.split_whitespace().next()?;
        Some(Ipv6Addr::from_bits(u128::from_str_radix(bits, 16).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_the_host_leaves_of_the_trie() {
        let fib = "Local:\n  |-- 10.1.2.3\n     /32 host LOCAL\n  |-- 10.1.2.255\n     /32 link BROADCAST\n";
        assert_eq!(local_v4(fib).collect::<Vec<_>>(), [Ipv4Addr::new(10, 1, 2, 3)]);
    }

    #[test]
    fn private_addresses_are_those_of_rfc_6890() {
        let host = Host {
            name: None,
            addresses: ["127.0.0.1", "8.8.8.8", "100.64.0.1", "10.0.0.1", "fd00::1", "fe80::1"]
                .map(|a| a.parse().unwrap())
                .to_vec(),
        };
        assert_eq!(
            host.private_v4(),
            ["100.64.0.1", "10.0.0.1"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        assert_eq!(host.global_v6(), ["fd00::1".parse::<IpAddr>().unwrap()]);
    }
}
