//! Connection ids: 7 bytes, of which the first 2 tell the node ([`topology::gateway::tag`]) and the rest are
//! random, from a seeded source so that a simulation repeats itself.
//!
//! By the first two a gateway of the node's datacenter knows whom a packet is for that belongs to a connection which it
//! has not seen begin. They are no secret: the name of the node is not one either.
//!
//! The id that a client chooses for a server at first has 8 bytes at least (RFC 9000, section 7.2). With
//! shorter ones of its own an endpoint knows the first packets of a handshake that began before its restart
//! for what they are, and refuses them. Else it would take them for new handshakes, with the wrong keys: what
//! it then reads, and whether it looks any further, is chance.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, SeedableRng, rngs::StdRng};
use topology::gateway::{ID_LEN, TAG_LEN};

/// Shortest id that a client may choose for a server.
const CLIENT_ID_LEN_MIN: usize = 8;

const _: () =
    assert!(ID_LEN < CLIENT_ID_LEN_MIN, "stale handshakes are known by the length of their ids");

/// Draws connection ids. Unlike quinn's own generator it takes no id for foreign, because packets
/// of connections from before a restart are to be answered with a reset.
pub(super) struct Ids {
    tag: [u8; TAG_LEN],
    random: StdRng,
}

impl Ids {
    pub(super) fn new(tag: [u8; TAG_LEN], seed: [u8; 32]) -> Self {
        Self { tag, random: StdRng::from_seed(seed) }
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        let (tag, random) = id.split_at_mut(TAG_LEN);
        tag.copy_from_slice(&self.tag);
        self.random.fill_bytes(random);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
