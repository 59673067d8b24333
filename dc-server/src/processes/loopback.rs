//! Loopback addresses: each topology gets a block `127.<x>.0.0/16` of its own.
//!
//! Linux answers on all of 127.0.0.0/8, so every node can have an address of its own and listen
//! on the standard ports there. A block is claimed by listening on a port that no agent uses, for
//! as long as the topology runs: two that start at once can't get the same one.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
};

use crate::processes::layout::Addresses;

/// The blocks to choose from. 127.0 is what everything else on the machine uses.
const BLOCKS: std::ops::RangeInclusive<u8> = 16..=250;

/// Claimed by listening on this port of the block's first address.
const CLAIM_PORT: u16 = 8299;

/// A block of loopback addresses, held until it is dropped.
#[derive(Debug)]
pub struct Block {
    second: u8,
    _claim: TcpListener,
}

impl Block {
    /// Claims a free block, trying them in turn from the one that `start` falls on. `port` is one
    /// that the nodes will need: a block where it is taken is passed over.
    pub fn claim(start: u32, port: u16) -> io::Result<Self> {
        let count = u32::from(*BLOCKS.end() - *BLOCKS.start()) + 1;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for nth in 0..count {
            let second = BLOCKS.start() + ((start.wrapping_add(nth)) % count) as u8;
            let first = Ipv4Addr::new(127, second, 1, 1);
            match TcpListener::bind((first, CLAIM_PORT)) {
                Ok(claim) => match TcpListener::bind((first, port)) {
                    Ok(_) => return Ok(Self { second, _claim: claim }),
                    Err(error) => last = error,
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns the address of a node, datacenters and their nodes counted from 0. Both stay below
    /// 254: a plan is bounded.
    pub fn address(&self, datacenter: usize, node: usize) -> Ipv4Addr {
        debug_assert!(datacenter < 254 && node < 254, "plans are bounded");
        Ipv4Addr::new(127, self.second, datacenter as u8 + 1, node as u8 + 1)
    }

    /// Gives out its addresses: a node has one for everything.
    pub fn addresses(&self) -> impl Fn(usize, usize) -> Addresses + '_ {
        |datacenter, node| {
            let address = self.address(datacenter, node);
            Addresses { lan: address, wan: address }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_block_is_not_given_out_again() {
        let first = Block::claim(7, 8298).unwrap();
        let second = Block::claim(7, 8298).unwrap();
        assert_ne!(first.address(0, 0), second.address(0, 0));
    }

    #[test]
    fn nodes_have_addresses_of_their_own() {
        let block = Block::claim(99, 8298).unwrap();
        assert_eq!(block.address(1, 2).octets()[2..], [2, 3]);
    }
}
