//! What a server knows of all datacenters at one moment, for those who look after them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use topology::{
    Datacenter, NodeName, Status,
    gossip::{Removal, Rival},
};

use crate::{
    matrix::Matrix,
    verdict::{Seen, Verdict},
    word::Word,
};

/// What a server knows of all datacenters.
#[derive(Debug, Clone)]
pub struct Report {
    /// A number that changes whenever members, verdicts, breakers or the matrix do.
    pub index: u64,
    /// The servers of the own datacenter as the WAN pool holds them.
    pub home: BTreeMap<NodeName, (SocketAddr, Status)>,
    /// The other datacenters.
    pub sites: BTreeMap<Datacenter, Site>,
    /// What was said of removed datacenters.
    pub removals: Arc<Vec<Removal>>,
    /// Who is refused for its cluster, and since when, in milliseconds since 1970.
    pub refused: Vec<(u64, Rival)>,
    /// What each datacenter holds of each other one.
    pub matrix: Arc<Matrix>,
    /// How long ago each of its rows was told.
    pub told: BTreeMap<Datacenter, Duration>,
}

/// What is known of another datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What it is held for.
    pub verdict: Verdict,
    /// For how long it has been.
    pub held: Duration,
    /// The round trip that stands for it.
    pub rtt: Option<Duration>,
    /// The server that says it leads.
    pub leader: Option<NodeName>,
    /// Its servers, those that left included.
    pub servers: BTreeMap<NodeName, Server>,
    /// Requests that go straight there.
    pub direct: Way,
    /// Those that go there by way of other datacenters.
    pub detours: Way,
    /// Those that are passed on to it for other datacenters.
    pub relays: Way,
}

/// What is known of a server of another datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it takes the WAN pool.
    pub addr: SocketAddr,
    /// What gossip holds it for.
    pub status: Status,
    /// The round trip to it, measured from here or by a fellow server.
    pub rtt: Option<Duration>,
    /// What it said of itself last.
    pub word: Option<Word>,
    /// What each server of the own datacenter that watches it sees.
    pub seen: BTreeMap<NodeName, Seen>,
}

/// One way from this server into another datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Whether its breaker turns requests away.
    pub open: bool,
    /// How many requests are under way.
    pub under_way: usize,
}

impl Server {
    /// Returns the part of the heartbeats that were lost lately, 0 to 1; `None` when nobody counted any.
    pub fn loss(&self) -> Option<f64> {
        let beats: u32 = self.seen.values().map(|seen| seen.beats).sum();
        let lost: u32 = self.seen.values().map(|seen| seen.beats_lost).sum();
        (beats > 0).then(|| f64::from(lost) / f64::from(beats))
    }
}
