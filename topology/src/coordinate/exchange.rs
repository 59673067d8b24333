//! Measures round trips in a pool, and so finds the own coordinate.
//!
//! ```text
//! ping = mark | 1 | nonce 8                        to a neighbour: 10 bytes
//! pong = mark | 2 | nonce 8 | 11 × f64             its answer, with where it is: 98 bytes
//! ```
//!
//! The packets travel as those of gossip do, and begin with another byte: who does not know them takes them for
//! nonsense and ignores them. A node pings one neighbour at a time, of a few dozen that it chose at random and that
//! change slowly: so it has several samples of each, whose median it takes, however large the pool is.
//! It begins with a ping a second, and goes on with one in five.
//!
//! How it fails: a lost packet is a sample less. A pong counts once, from the node that was pinged, with the nonce that
//! it was sent; a coordinate that can't be is refused. Only members are answered, so that
//! nobody can have a pool send packets to strangers.

use std::{net::SocketAddr, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use super::{Coordinate, DIMENSIONS, Sample, Vivaldi};

/// How every packet begins; no packet of gossip does.
const MARK: u8 = 0xc0;
const PING: u8 = 1;
const PONG: u8 = 2;

const PING_LEN: usize = 2 + 8;
const PONG_LEN: usize = PING_LEN + 8 * (DIMENSIONS + 3);

/// Most neighbours: with 32 Vivaldi finds its way as well as with all.
const NEIGHBOURS_MAX: usize = 32;

/// One ping in so many goes to anybody, who becomes a neighbour, so that no part of the pool stays unseen.
const STRANGER_PART: u32 = 8;

/// Samples of a neighbour whose median counts.
const FILTER_LEN: usize = 3;

/// How many pings find the place; after them it is only kept.
const PINGS_FIRST: u32 = 120;

/// The pause between those.
const PERIOD_FIRST: Duration = Duration::from_secs(1);

/// The pause between later ones.
const PERIOD: Duration = Duration::from_secs(5);

/// A member that is pinged, and its last samples, the oldest first.
#[derive(Debug)]
struct Neighbour {
    addr: SocketAddr,
    samples: Vec<Duration>,
}

/// A ping that was not answered yet.
#[derive(Debug)]
struct Ping {
    nonce: u64,
    to: SocketAddr,
    at: Duration,
}

/// What a packet came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing to do.
    Nothing,
    /// This is to be sent back.
    Answer(Bytes),
    /// The own coordinate is another one now.
    Moved,
}

/// A node's part in the measuring.
#[derive(Debug)]
pub struct Exchange {
    vivaldi: Vivaldi,
    neighbours: Vec<Neighbour>,
    next: usize,
    pings: u32,
    waiting: Option<Ping>,
    rng: SmallRng,
}

impl Exchange {
    /// Begins at the origin; `seed` feeds all random choices.
    pub fn new(seed: u64) -> Self {
        let (vivaldi, neighbours) = (Vivaldi::default(), Vec::new());
        let rng = SmallRng::seed_from_u64(seed);
        Self { vivaldi, neighbours, next: 0, pings: 0, waiting: None, rng }
    }

    /// Tells whether bytes that came in are for an exchange.
    pub fn is_for(packet: &[u8]) -> bool {
        packet.first() == Some(&MARK)
    }

    /// Returns where the node is.
    pub fn own(&self) -> &Coordinate {
        self.vivaldi.own()
    }

    /// Returns how long to wait until the next ping, a little different each time, so that nodes do not
    /// go in step.
    pub fn pause(&mut self) -> Duration {
        let period = if self.pings < PINGS_FIRST { PERIOD_FIRST } else { PERIOD };
        period.mul_f64(self.rng.random_range(1.0..1.2))
    }

    /// Pings somebody. `peers` are the members that are alive, the node itself not among them.
    pub fn ping(&mut self, now: Duration, peers: &[SocketAddr]) -> Option<(SocketAddr, Bytes)> {
        let to = self.choose(peers)?;
        self.pings = self.pings.saturating_add(1);
        let nonce = self.rng.next_u64();
        self.waiting = Some(Ping { nonce, to, at: now });
        Some((to, head(PING, nonce, PING_LEN).freeze()))
    }

    /// Takes a packet that came in. `is_member` tells whether a member is at its address.
    pub fn packet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        mut packet: &[u8],
        is_member: impl FnOnce() -> bool,
    ) -> Heard {
        let (len, kind) = (packet.len(), packet.get(1).copied());
        if !Self::is_for(packet) || len < PING_LEN {
            return Heard::Nothing;
        }
        packet.advance(2);
        let nonce = packet.get_u64();
        match kind {
            // What a later version adds is passed over.
            Some(PING) if is_member() => Heard::Answer(self.pong(nonce)),
            Some(PONG) if len >= PONG_LEN => self.answered(now, from, nonce, packet),
            _ => Heard::Nothing,
        }
    }

    fn choose(&mut self, peers: &[SocketAddr]) -> Option<SocketAddr> {
        let anybody = *peers.choose(&mut self.rng)?;
        let few = self.neighbours.len() < NEIGHBOURS_MAX.min(peers.len());
        if few || self.rng.random_ratio(1, STRANGER_PART) {
            return Some(self.meet(anybody));
        }
        self.next = (self.next + 1) % self.neighbours.len();
        let addr = self.neighbours[self.next].addr;
        if peers.contains(&addr) {
            return Some(addr);
        }
        self.neighbours.swap_remove(self.next);
        Some(self.meet(anybody))
    }

    /// Makes somebody a neighbour, in the place of another one if there are enough.
    fn meet(&mut self, addr: SocketAddr) -> SocketAddr {
        if self.neighbours.iter().any(|neighbour| neighbour.addr == addr) {
            return addr;
        }
        let neighbour = Neighbour { addr, samples: Vec::with_capacity(FILTER_LEN) };
        match self.neighbours.len() < NEIGHBOURS_MAX {
            true => self.neighbours.push(neighbour),
            false => {
                let place = self.rng.random_range(0..NEIGHBOURS_MAX);
                self.neighbours[place] = neighbour;
            }
        }
        addr
    }

    fn pong(&self, nonce: u64) -> Bytes {
        let mut packet = head(PONG, nonce, PONG_LEN);
        self.own().fields().into_iter().for_each(|field| packet.put_f64(field));
        packet.freeze()
    }

    fn answered(&mut self, now: Duration, from: SocketAddr, nonce: u64, mut rest: &[u8]) -> Heard {
        let asked = |ping: &mut Ping| ping.nonce == nonce && ping.to == from;
        let Some(ping) = self.waiting.take_if(asked) else { return Heard::Nothing };
        let vec = std::array::from_fn(|_| rest.get_f64());
        let (error, adjustment, height) = (rest.get_f64(), rest.get_f64(), rest.get_f64());
        let peer = Coordinate { vec, error, adjustment, height };
        let rtt = self.filtered(from, now.saturating_sub(ping.at));
        match self.vivaldi.learn(&Sample { peer, rtt }, &mut self.rng) {
            Ok(()) => Heard::Moved,
            Err(_) => Heard::Nothing,
        }
    }

    /// Returns the median of a neighbour's last samples, this one included; the lower of two.
    fn filtered(&mut self, from: SocketAddr, rtt: Duration) -> Duration {
        let known = self.neighbours.iter_mut().find(|neighbour| neighbour.addr == from);
        let Some(Neighbour { samples, .. }) = known else { return rtt };
        if samples.len() == FILTER_LEN {
            samples.remove(0);
        }
        samples.push(rtt);
        let mut sorted = samples.clone();
        sorted.sort();
        sorted[(sorted.len() - 1) / 2]
    }
}

fn head(kind: u8, nonce: u64, len: usize) -> BytesMut {
    let mut packet = BytesMut::with_capacity(len);
    packet.put_u8(MARK);
    packet.put_u8(kind);
    packet.put_u64(nonce);
    packet
}

#[cfg(test)]
mod tests;
