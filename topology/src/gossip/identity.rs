//! Who SWIM talks to: an address and the start of the process behind it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// An address in the pool, and which start of a node is behind it; the later start wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Where the member takes packets.
    pub(crate) addr: SocketAddr,
    /// Grows with every start, and by one whenever the member was wrongly held for failed.
    pub(crate) boot: u64,
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self { boot: self.boot.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.boot > adversary.boot
    }
}
