//! A block of loopback addresses that no other test has: 127.x.y.0/24.
//!
//! A block is claimed by listening on a port of its last address; the claim ends with the
//! listener, so also when the test is killed. Where to begin looking comes from the process id,
//! so that tests that start together seldom try the same.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The port that claims a block; nothing else uses it.
const CLAIM_PORT: u16 = 47_999;

/// Blocks that are looked at: 127.64.0.0 to 127.127.255.0, away from what people use by hand.
const BLOCKS: u32 = 64 * 256;

/// Addresses 127.x.y.1 to 127.x.y.253, for as long as it lives.
#[derive(Debug)]
pub struct Block {
    high: u8,
    low: u8,
    _claim: TcpListener,
}

impl Block {
    /// Claims a block.
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let begin = process::id().wrapping_mul(2_654_435_761) >> 8; // Knuth's multiplicative hash
        for _ in 0..BLOCKS {
            let number = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
            let [_, _, high, low] = number.to_be_bytes();
            let high = 64 + high;
            let last = Ipv4Addr::new(127, high, low, 254);
            if let Ok(claim) = TcpListener::bind((last, CLAIM_PORT)) {
                return Self { high, low, _claim: claim };
            }
        }
        panic!("all {BLOCKS} blocks of loopback addresses are taken");
    }

    /// Returns an address of the block.
    pub fn host(&self, number: u8) -> IpAddr {
        assert!((1..254).contains(&number), "host {number} is not one of a block's");
        Ipv4Addr::new(127, self.high, self.low, number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_differ_while_they_live() {
        let (one, other) = (Block::claim(), Block::claim());
        assert_ne!(one.host(1), other.host(1));
    }
}
