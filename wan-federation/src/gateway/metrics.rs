//! What a gateway counts: for the metrics of its process, and for a line in its log.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Gauge};

use super::flows::{REASONS, Reason};

/// Datagrams of clients and servers that were not passed on, by `reason`.
const DROPPED: &str = "causeway.gateway.dropped";

/// A gateway's counters.
pub(super) struct Metrics {
    /// Flows that there are.
    flows: Gauge,
    /// Flows whose clients have not proven their addresses.
    unverified: Gauge,
    pub(super) opened: Count,
    pub(super) to_servers: Count,
    pub(super) to_clients: Count,
    /// Datagrams that the kernel did not take.
    pub(super) unsent: Count,
    dropped: BTreeMap<Reason, Count>,
}

/// A counter that can be read.
pub(super) struct Count {
    counter: Counter,
    value: AtomicU64,
}

impl Count {
    fn new(counter: Counter) -> Self {
        Self { counter, value: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, count: usize) {
        if count > 0 {
            self.counter.increment(count as u64);
            self.value.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// What a gateway has done since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Flows that began.
    pub opened: u64,
    /// Datagrams that went to servers.
    pub to_servers: u64,
    /// Datagrams that went to clients.
    pub to_clients: u64,
    /// Datagrams that were dropped, by reason; those of which there were none are left out.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// Resolves the counters with the recorder of this process.
    pub(super) fn resolve() -> Self {
        metrics::describe_counter!(DROPPED, "Datagrams that were not passed on, by reason");
        let dropped = REASONS.map(|reason| {
            (reason, Count::new(metrics::counter!(DROPPED, "reason" => reason.as_str())))
        });
        Self {
            flows: gauge("causeway.gateway.flows", "Flows that there are"),
            unverified: gauge(
                "causeway.gateway.unverified",
                "Flows whose clients have not proven their addresses",
            ),
            opened: counter("causeway.gateway.opened", "Flows that began"),
            to_servers: counter("causeway.gateway.to_servers", "Datagrams passed on to servers"),
            to_clients: counter("causeway.gateway.to_clients", "Datagrams passed on to clients"),
            unsent: counter("causeway.gateway.unsent", "Datagrams that the kernel did not take"),
            dropped: dropped.into_iter().collect(),
        }
    }

    pub(super) fn flows(&self, all: usize, unverified: usize) {
        self.flows.set(all as f64);
        self.unverified.set(unverified as f64);
    }

    pub(super) fn dropped(&self, reason: Reason) {
        if let Some(count) = self.dropped.get(&reason) {
            count.add(1);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let dropped = self.dropped.iter().map(|(reason, count)| (reason.as_str(), count.value()));
        Totals {
            opened: self.opened.value(),
            to_servers: self.to_servers.value(),
            to_clients: self.to_clients.value(),
            dropped: dropped.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn counter(name: &'static str, help: &'static str) -> Count {
    metrics::describe_counter!(name, help);
    Count::new(metrics::counter!(name))
}

fn gauge(name: &'static str, help: &'static str) -> Gauge {
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name)
}
