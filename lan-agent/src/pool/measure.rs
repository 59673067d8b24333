//! The node's part in measuring round trips, between the pool's task and [`Exchange`], which decides.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use topology::{
    coordinate::exchange::{Exchange, Heard},
    gossip::Engine,
};

use super::{Measuring, Publisher};

/// Keeps the exchanges of this node apart from other uses of its seed.
const SEED_PART: u64 = 0x636f_6f72_6469_6e61;

/// Measures, and publishes what comes of it.
pub(super) struct Meter(Exchange);

impl Meter {
    /// Begins to measure, if the node is to, and publishes where it begins.
    pub(super) fn new(measuring: Measuring, seed: u64, publisher: &Publisher) -> Option<Self> {
        match measuring {
            Measuring::Off => None,
            Measuring::On => {
                let exchange = Exchange::new(seed ^ SEED_PART);
                publisher.place(*exchange.own());
                Some(Self(exchange))
            }
        }
    }

    /// Tells whether what came in belongs to the measuring.
    pub(super) fn is_for(packet: &[u8]) -> bool {
        Exchange::is_for(packet)
    }

    /// Returns how long to wait until the next ping.
    pub(super) fn pause(&mut self) -> Duration {
        self.0.pause()
    }

    /// Pings a member that is alive.
    pub(super) fn ping(
        &mut self,
        now: Duration,
        engine: &Engine,
        me: SocketAddr,
    ) -> Option<(SocketAddr, Bytes)> {
        let alive = engine.members().filter(|member| member.is_alive());
        let addrs = alive.map(|member| member.profile.addr).filter(|addr| *addr != me);
        self.0.ping(now, &addrs.collect::<Vec<_>>())
    }

    /// Takes what came in, and returns what is to be sent back.
    pub(super) fn packet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        packet: &[u8],
        engine: &Engine,
        publisher: &Publisher,
    ) -> Option<Bytes> {
        let is_member = || engine.members().any(|member| member.profile.addr == from);
        match self.0.packet(now, from, packet, is_member) {
            Heard::Nothing => None,
            Heard::Answer(pong) => Some(pong),
            Heard::Moved => {
                publisher.place(*self.0.own());
                None
            }
        }
    }
}
