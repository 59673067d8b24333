//! What requests are routed by: the datacenters with their verdicts and servers at one moment.
//!
//! One task makes a new table whenever something changed; requests read the latest one without
//! waiting. Only a server's [`Reach`] is followed while a request is under way.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;
use topology::{Datacenter, NodeName};

use crate::{
    demand::Demand,
    envelope::Consistency,
    gate::Gates,
    matrix::{Cell, Matrix, Row},
    routes::{self, Candidate, Need, Reach},
    verdict::Verdict,
    word::Word,
};

/// A server of another datacenter.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) dc: Datacenter,
    pub(crate) name: NodeName,
    pub(crate) addr: SocketAddr,
    pub(crate) rtt: Option<Duration>,
    pub(crate) word: Option<Word>,
    /// The path to it, followed while a request is under way.
    pub(crate) reach: watch::Receiver<Reach>,
    /// Why there is no path, if there is none.
    pub(crate) reason: String,
    /// Whether its datacenter is being asked for something.
    pub(crate) demand: Arc<Demand>,
}

/// Another datacenter.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) verdict: Verdict,
    /// Servers that did not leave, by name.
    pub(crate) servers: Vec<Server>,
    pub(crate) gates: Gates,
}

/// All other datacenters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) remotes: BTreeMap<Datacenter, Remote>,
    /// What each datacenter holds of each other one.
    pub(crate) matrix: Arc<Matrix>,
}

impl Server {
    pub(crate) fn reach(&self) -> Reach {
        *self.reach.borrow()
    }

    pub(crate) fn candidate(&self) -> Candidate {
        let word = self.word.unwrap_or_default();
        Candidate {
            name: self.name.clone(),
            reach: self.reach(),
            rtt: self.rtt,
            is_leader: word.is_leader,
            leader_known: word.leader_known,
        }
    }
}

impl Remote {
    /// Returns what one of its servers has to have for a request to make sense.
    pub(crate) fn need(&self, consistency: Consistency) -> Need {
        Need::of(consistency, self.verdict.health)
    }

    /// Returns the round trip that stands for the datacenter.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        routes::median_rtt(self.servers.iter().filter_map(|server| server.rtt).collect())
    }
}

impl Table {
    /// Returns the own row of the matrix.
    pub(crate) fn row(&self) -> Row {
        let cell =
            |remote: &Remote| Cell { health: Some(remote.verdict.health), rtt: remote.rtt() };
        Row(self.remotes.iter().map(|(dc, remote)| (dc.clone(), cell(remote))).collect())
    }

    /// Returns the datacenters, the nearest first.
    pub(crate) fn by_distance(&self) -> Vec<(&Datacenter, &Remote)> {
        let mut remotes: Vec<_> = self.remotes.iter().collect();
        remotes.sort_by_key(|(_, remote)| remote.rtt().unwrap_or(Duration::MAX));
        remotes
    }
}
