//! Gathers the rows of all datacenters: says which server to ask for its row, and when.
//!
//! ```text
//!   own verdicts ------------+
//!   marks in heartbeats -----+--> Gather::step(now) --> the own row, whom to ask, the matrix
//!   rows that were answered -+
//! ```
//!
//! Of each datacenter one server's row is held. It is asked again when its mark changes, and
//! another one's when it is not heard any more. A row that never comes is asked for
//! again: nothing is lost but time.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use topology::{Datacenter, NodeName};

use super::{Matrix, Row, Told, Written, mark};

/// How soon the same datacenter is asked again: rows may change several times a second while
/// something breaks, and nobody needs each of them.
pub(crate) const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// A server that is heard and has a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) dc: Datacenter,
    pub(crate) node: NodeName,
    pub(crate) addr: SocketAddr,
    pub(crate) rtt: Option<Duration>,
    /// The mark of the row that it has now; 0: none.
    pub(crate) mark: u32,
}

/// Gathers rows.
pub(crate) struct Gather {
    dc: Datacenter,
    node: NodeName,
    /// The own row as others read it.
    own: Arc<Written>,
    /// The marks of the rows that are held.
    marks: BTreeMap<Datacenter, u32>,
    asked: BTreeMap<Datacenter, Duration>,
    matrix: Arc<Matrix>,
}

impl Gather {
    /// Starts with no row but an empty one of the own datacenter.
    pub(crate) fn new(dc: Datacenter, node: NodeName) -> Self {
        Self {
            dc,
            node,
            own: Arc::default(),
            marks: BTreeMap::new(),
            asked: BTreeMap::new(),
            matrix: Arc::default(),
        }
    }

    /// Takes in a row that a server answered with.
    pub(crate) fn told(&mut self, now: Duration, dc: Datacenter, by: NodeName, bytes: &[u8]) {
        let Some(row) = Row::decode(bytes).filter(|_| dc != self.dc) else { return };
        self.marks.insert(dc.clone(), mark(bytes));
        let told = Told { row, by, at: now, current: true };
        Arc::make_mut(&mut self.matrix).rows.insert(dc, told);
    }

    /// Takes in the own row and who is heard; returns whom to ask for a row now.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        own: Row,
        sources: &[Source],
    ) -> Vec<(Datacenter, SocketAddr)> {
        self.forget_others(&own);
        let mut wanted = Vec::new();
        for dc in own.0.keys() {
            let here: Vec<&Source> = sources.iter().filter(|source| source.dc == *dc).collect();
            if let Some(addr) = self.want(now, dc, &here) {
                self.asked.insert(dc.clone(), now);
                wanted.push((dc.clone(), addr));
            }
            let reachable = own.0[dc].health.is_some_and(|health| health.takes_requests());
            self.see(dc, reachable && !here.is_empty());
        }
        self.hold_own(now, own);
        wanted
    }

    /// Returns the own row as others read it.
    pub(crate) fn own(&self) -> &Arc<Written> {
        &self.own
    }

    /// Returns all rows.
    pub(crate) fn matrix(&self) -> &Arc<Matrix> {
        &self.matrix
    }

    /// Returns the server to ask for its row.
    fn want(&self, now: Duration, dc: &Datacenter, here: &[&Source]) -> Option<SocketAddr> {
        if self.asked.get(dc).is_some_and(|at| now < *at + ASK_INTERVAL) {
            return None;
        }
        let held = self.matrix.rows.get(dc);
        let same = held.and_then(|told| here.iter().find(|source| source.node == told.by));
        let nearest = || here.iter().min_by_key(|source| source.rtt.unwrap_or(Duration::MAX));
        let source = same.or_else(nearest)?;
        let is_new = source.mark != 0 && self.marks.get(dc) != Some(&source.mark);
        is_new.then_some(source.addr)
    }

    /// Notes whether a datacenter can be asked.
    fn see(&mut self, dc: &Datacenter, current: bool) {
        if self.matrix.rows.get(dc).is_some_and(|told| told.current != current) {
            let matrix = Arc::make_mut(&mut self.matrix);
            if let Some(told) = matrix.rows.get_mut(dc) {
                told.current = current;
            }
        }
    }

    /// Forgets datacenters that nobody belongs to any more.
    fn forget_others(&mut self, own: &Row) {
        let known = |dc: &Datacenter| *dc == self.dc || own.0.contains_key(dc);
        if !self.matrix.rows.keys().all(known) {
            Arc::make_mut(&mut self.matrix).rows.retain(|dc, _| known(dc));
        }
        self.marks.retain(|dc, _| own.0.contains_key(dc));
        self.asked.retain(|dc, _| own.0.contains_key(dc));
    }

    fn hold_own(&mut self, now: Duration, mut own: Row) {
        let before = self.matrix.rows.get(&self.dc);
        if let Some(before) = before {
            own.settle(&before.row);
        }
        if before.is_none_or(|before| before.row != own) {
            self.own = Arc::new(own.encode());
            let told = Told { row: own, by: self.node.clone(), at: now, current: true };
            Arc::make_mut(&mut self.matrix).rows.insert(self.dc.clone(), told);
        }
    }
}

#[cfg(test)]
mod tests;
