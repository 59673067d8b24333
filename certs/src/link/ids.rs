//! Connection ids: 8 random bytes, from a seeded source so that a simulation repeats itself.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, SeedableRng, rngs::StdRng};

const ID_LEN: usize = 8;

/// Draws connection ids. Unlike quinn's own generator it takes no id for foreign, because packets
/// of connections from before a restart are to be answered with a reset.
pub(super) struct Ids(StdRng);

impl Ids {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        self.0.fill_bytes(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
