//! Where the addresses of containers come from: one subnet, cut up among the datacenters and the WAN.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use crate::processes::layout::Addresses;

/// The subnet that is used when none is named: nobody is known to use it much.
pub const DEFAULT: Subnet = Subnet([10, 77]);

/// The first node of a network; the engine keeps the lowest addresses for itself.
const FIRST: usize = 10;

/// The first network of the WAN's half.
const WAN: u8 = 128;

/// A private network of 65,536 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet([u8; 2]);

/// Says that a subnet can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no private network of 65,536 addresses: write it as 10.77.0.0/16")]
pub struct SubnetError(String);

impl Subnet {
    /// Returns where a node is, both counted from 0: datacenter 0 has the network 1, and is on the WAN in 129.
    pub fn addresses(self, dc: usize, node: usize) -> Addresses {
        Addresses {
            lan: self.at(Self::network_of(dc), node),
            wan: self.at(WAN + Self::network_of(dc), node),
        }
    }

    /// Returns the network of a datacenter, counted from 0.
    pub fn datacenter(self, dc: usize) -> String {
        format!("{}/24", Ipv4Addr::new(self.0[0], self.0[1], Self::network_of(dc), 0))
    }

    /// Returns the network that all servers are on.
    pub fn wan(self) -> String {
        format!("{}/17", Ipv4Addr::new(self.0[0], self.0[1], WAN, 0))
    }

    fn network_of(dc: usize) -> u8 {
        u8::try_from(dc + 1).unwrap_or(u8::MAX)
    }

    fn at(self, network: u8, node: usize) -> Ipv4Addr {
        let last = u8::try_from(FIRST + node).unwrap_or(u8::MAX);
        Ipv4Addr::new(self.0[0], self.0[1], network, last)
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let network = text.strip_suffix("/16").and_then(|addr| addr.parse::<Ipv4Addr>().ok());
        match network.map(|addr| (addr, addr.octets())) {
            Some((addr, [first, second, 0, 0])) if addr.is_private() => Ok(Self([first, second])),
            _ => Err(SubnetError(text.to_owned())),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0.0/16", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use topology::plan::{CLIENTS_MAX, DATACENTERS_MAX, GATEWAYS_MAX, SERVERS_MAX};

    use super::*;

    #[test]
    fn every_plan_fits_in() {
        let (dc, node) =
            (DATACENTERS_MAX - 1, usize::from(SERVERS_MAX + CLIENTS_MAX + GATEWAYS_MAX) - 1);
        let Addresses { lan, wan } = DEFAULT.addresses(dc, node);
        assert_eq!(
            (lan.to_string(), wan.to_string()),
            ("10.77.32.226".into(), "10.77.160.226".into())
        );
        assert_eq!(DEFAULT.datacenter(dc), "10.77.32.0/24");
        assert_eq!(DEFAULT.wan(), "10.77.128.0/17");
    }

    #[test]
    fn a_subnet_is_private_and_large_enough() {
        assert_eq!("10.77.0.0/16".parse(), Ok(DEFAULT));
        assert_eq!("192.168.0.0/16".parse::<Subnet>().unwrap().to_string(), "192.168.0.0/16");
        for wrong in ["8.8.0.0/16", "10.77.0.0/24", "10.77.1.0/16", "10.77.0.0", "x"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }
}
