//! The requests that were applied lately, with what came of them.
//!
//! A write whose answer was lost is sent again under the same id, by the agent, by another
//! server or through another datacenter; it finds its first result here. The table is part of
//! the replicated state: it is bounded by numbers that all servers share, not by time, and it
//! forgets the oldest first.

use imbl::{HashMap, Vector};
use lan_agent::ask::RequestId;

use super::Applied;

/// Most requests remembered. At 5,000 writes a second this covers 13 s, more than the 10 s that
/// a write is retried for; it costs about 8 MiB when full.
pub const REQUESTS_MAX: usize = 65_536;

/// Most bytes of transaction results remembered: results hold the values that were read, which
/// must not keep more memory alive than the writes themselves cost.
pub const RESULT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Recent requests and their results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recent {
    results: HashMap<RequestId, Applied>,
    order: Vector<RequestId>,
    bytes: usize,
}

impl Recent {
    /// Returns what came of a request, if it is remembered.
    pub fn get(&self, id: RequestId) -> Option<&Applied> {
        self.results.get(&id)
    }

    /// Returns the number of requests remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Tells whether no request is remembered.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Returns the requests from a position on, the oldest first.
    pub fn iter_from(&self, position: usize) -> impl Iterator<Item = (RequestId, &Applied)> {
        let ids = self.order.focus();
        let len = ids.len();
        let ids = ids.narrow(position.min(len)..).into_iter();
        ids.filter_map(|id| self.results.get(id).map(|applied| (*id, applied)))
    }

    /// Remembers a request, and forgets the oldest that are over the bounds.
    pub fn remember(&mut self, id: RequestId, applied: Applied) {
        let bytes = weight(&applied);
        if self.results.insert(id, applied).is_some() {
            return;
        }
        self.order.push_back(id);
        self.bytes += bytes;
        while self.order.len() > REQUESTS_MAX || self.bytes > RESULT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(applied) = self.results.remove(&oldest) {
                self.bytes -= weight(&applied);
            }
        }
    }
}

fn weight(applied: &Applied) -> usize {
    match applied {
        Applied::Nothing | Applied::Done(_) => 0,
        Applied::Txn(outcome) => outcome.weight(),
    }
}
