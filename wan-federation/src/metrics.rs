//! What the federation counts. Handles are resolved once, except those by datacenter, of which
//! there are few.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

use certs::link::Refusal;

use crate::{error::ForwardError, forward::Forwarded, pool::Census, relay::Relayed, table::Table};

/// The federation's counters.
pub struct Metrics {
    /// Time from a forwarded request to its answer, in seconds, blocking queries included.
    pub forward_seconds: Histogram,
    /// Requests of other datacenters that were answered here.
    pub answered: Counter,
    /// Requests of other datacenters that were refused here.
    pub answer_refused: Counter,
    /// Gossip packets dropped because their sender's certificate is another member's.
    pub impostors: Counter,
    /// Messages dropped because this server could not keep up.
    pub overflow: Counter,
    /// Members of the WAN pool held for alive, this server included.
    pub members_alive: Gauge,
    /// Members of the WAN pool held for failed.
    pub members_failed: Gauge,
}

/// Requests to other datacenters, by `dc` and `outcome`.
const FORWARDED: &str = "causeway.wan.forwarded";

/// Requests that were to be passed on from one other datacenter to another, by `outcome`.
const RELAYED: &str = "causeway.wan.relayed";

/// 1 for what a datacenter is held for, by `dc` and `health`.
const HEALTH: &str = "causeway.wan.health";

/// Requests under way to a datacenter, by `dc`.
const UNDER_WAY: &str = "causeway.wan.under_way";

/// Reads that were sent to a second server because the first one was late, by `dc`.
const HEDGES: &str = "causeway.wan.hedges";

impl Metrics {
    /// Resolves the counters with the recorder of this process.
    pub fn resolve() -> Self {
        metrics::describe_counter!(FORWARDED, "Requests to other datacenters, by outcome");
        metrics::describe_counter!(
            RELAYED,
            "Requests to be passed on from one other datacenter to another, by outcome"
        );
        metrics::describe_counter!(
            HEDGES,
            "Reads that were sent to a second server because the first one was late"
        );
        metrics::describe_gauge!(HEALTH, "1 for what a datacenter is held for, 0 for the rest");
        metrics::describe_gauge!(UNDER_WAY, "Requests under way to a datacenter");
        metrics::describe_histogram!(
            "causeway.wan.forward_seconds",
            Unit::Seconds,
            "Time from a forwarded request to its answer, blocking queries included"
        );
        Self {
            forward_seconds: metrics::histogram!("causeway.wan.forward_seconds"),
            answered: counter(
                "causeway.wan.answered",
                "Requests of other datacenters that were answered here",
            ),
            answer_refused: counter(
                "causeway.wan.answer_refused",
                "Requests of other datacenters that were refused here",
            ),
            impostors: counter(
                "causeway.wan.impostors",
                "Gossip packets dropped because their sender's certificate is another member's",
            ),
            overflow: counter(
                "causeway.wan.overflow",
                "Messages dropped because this server could not keep up",
            ),
            members_alive: gauge(
                "causeway.wan.members_alive",
                "Members of the WAN pool held for alive, this server included",
            ),
            members_failed: gauge(
                "causeway.wan.members_failed",
                "Members of the WAN pool held for failed",
            ),
        }
    }

    /// Counts a forwarded request.
    pub(crate) fn forwarded(
        &self,
        dc: &str,
        took: Duration,
        result: Result<&Forwarded, &ForwardError>,
    ) {
        // A name that nobody ever heard of comes from a client: it must not make a series.
        let dc = match result {
            Err(ForwardError::UnknownDatacenter { .. }) => "unknown",
            _ => dc,
        };
        let outcome = match result {
            Ok(forwarded) if forwarded.is_detour() => "detour",
            Ok(_) => "answered",
            Err(error) => error.kind(),
        };
        metrics::counter!(FORWARDED, "dc" => dc.to_owned(), "outcome" => outcome).increment(1);
        self.forward_seconds.record(took.as_secs_f64());
    }

    /// Counts a request that was to be passed on.
    pub(crate) fn relayed(&self, result: Result<&Relayed, &Refusal>) {
        let outcome = match result {
            Ok(Relayed::Answer(_)) => "answered",
            Ok(Relayed::Lost(_)) => "lost",
            Err(_) => "refused",
        };
        metrics::counter!(RELAYED, "outcome" => outcome).increment(1);
    }

    /// Shows the pool's members.
    pub(crate) fn members(&self, census: &Census) {
        self.members_alive.set(count(census.alive));
        self.members_failed.set(count(census.failed));
    }

    /// Shows what the datacenters are held for.
    pub(crate) fn datacenters(&self, table: &Table) {
        for (dc, remote) in &table.remotes {
            for health in crate::verdict::Health::ALL {
                let held = f64::from(u8::from(health == remote.verdict.health));
                let name = health.as_str();
                metrics::gauge!(HEALTH, "dc" => dc.to_string(), "health" => name).set(held);
            }
            let under_way = count(remote.gates.under_way());
            metrics::gauge!(UNDER_WAY, "dc" => dc.to_string()).set(under_way);
            let hedges = remote.gates.hedges.get().sent();
            metrics::counter!(HEDGES, "dc" => dc.to_string()).absolute(hedges);
        }
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn counter(name: &'static str, help: &'static str) -> Counter {
    metrics::describe_counter!(name, help);
    metrics::counter!(name)
}

fn gauge(name: &'static str, help: &'static str) -> Gauge {
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name)
}
