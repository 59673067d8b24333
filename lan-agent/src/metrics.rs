//! What an agent counts. Handles are resolved once, so that counting is one atomic addition.

use hickory_proto::op::ResponseCode;
use metrics::{Counter, Gauge, Histogram, Unit};

use crate::cache::Holdings;

/// The agent's counters.
pub struct Metrics {
    /// HTTP requests answered below 400.
    pub http_ok: Counter,
    /// HTTP requests answered from 400 to 499: the client was wrong, or there was nothing.
    pub http_refused: Counter,
    /// HTTP requests answered from 500 on: the cluster was wrong.
    pub http_failed: Counter,
    /// Time from an HTTP request's head to its answer, in seconds; blocking queries excepted.
    pub http_seconds: Histogram,
    /// Open HTTP connections.
    pub http_connections: Gauge,
    /// HTTP connections refused because their client had too many.
    pub http_connections_refused: Counter,
}

impl Metrics {
    /// Resolves the counters with the recorder of this process.
    pub fn resolve() -> Self {
        Self {
            http_ok: counter("causeway.http.ok", "HTTP requests answered below 400"),
            http_refused: counter(
                "causeway.http.refused",
                "HTTP requests answered from 400 to 499: the client was wrong, or there was nothing",
            ),
            http_failed: counter(
                "causeway.http.failed",
                "HTTP requests answered from 500 on: the cluster was wrong",
            ),
            http_seconds: {
                metrics::describe_histogram!(
                    "causeway.http.seconds",
                    Unit::Seconds,
                    "Time from an HTTP request's head to its answer; blocking queries excepted"
                );
                metrics::histogram!("causeway.http.seconds")
            },
            http_connections: {
                metrics::describe_gauge!("causeway.http.connections", "Open HTTP connections");
                metrics::gauge!("causeway.http.connections")
            },
            http_connections_refused: counter(
                "causeway.http.connections_refused",
                "HTTP connections refused because their client had too many",
            ),
        }
    }
}

/// The counters of the DNS interface.
pub struct DnsMetrics {
    /// Questions answered, also those about names that have nothing of the type.
    pub ok: Counter,
    /// Questions about names that there are not.
    pub absent: Counter,
    /// Questions that nobody answered: the cluster was wrong, or too much is under way.
    pub failed: Counter,
    /// Questions that are not for this agent.
    pub refused: Counter,
    /// Messages that are no questions.
    pub broken: Counter,
    /// Time from a question to its answer, in seconds.
    pub seconds: Histogram,
    /// Open DNS connections.
    pub connections: Gauge,
    /// DNS connections refused because there were too many.
    pub connections_refused: Counter,
}

impl DnsMetrics {
    /// Resolves the counters with the recorder of this process.
    pub fn resolve() -> Self {
        metrics::describe_histogram!(
            "causeway.dns.seconds",
            Unit::Seconds,
            "Time from a DNS question to its answer"
        );
        metrics::describe_gauge!("causeway.dns.connections", "Open DNS connections");
        Self {
            ok: counter("causeway.dns.ok", "DNS questions answered"),
            absent: counter("causeway.dns.absent", "DNS questions about names that there are not"),
            failed: counter(
                "causeway.dns.failed",
                "DNS questions that nobody answered: the cluster was wrong, or too much is under way",
            ),
            refused: counter("causeway.dns.refused", "DNS questions that are not for this agent"),
            broken: counter("causeway.dns.broken", "DNS messages that are no questions"),
            seconds: metrics::histogram!("causeway.dns.seconds"),
            connections: metrics::gauge!("causeway.dns.connections"),
            connections_refused: counter(
                "causeway.dns.connections_refused",
                "DNS connections refused because there were too many",
            ),
        }
    }

    /// Counts an answer by its code.
    pub fn count(&self, code: ResponseCode) {
        match code {
            ResponseCode::NoError => self.ok.increment(1),
            ResponseCode::NXDomain => self.absent.increment(1),
            ResponseCode::ServFail => self.failed.increment(1),
            _ => self.refused.increment(1),
        }
    }
}

/// The counters of the LAN pool.
pub struct PoolMetrics {
    /// Members that are alive, this node too.
    pub alive: Gauge,
    /// Packets sent.
    pub sent: Counter,
    /// Packets that the socket did not take.
    pub send_failed: Counter,
    /// Packets received.
    pub received: Counter,
    /// Packets received that no key opened.
    pub refused: Counter,
}

impl PoolMetrics {
    /// Resolves the counters with the recorder of this process.
    pub fn resolve() -> Self {
        metrics::describe_gauge!(
            "causeway.lan.alive",
            "Members of the LAN pool that are alive, this node too"
        );
        Self {
            alive: metrics::gauge!("causeway.lan.alive"),
            sent: counter("causeway.lan.sent", "Packets sent"),
            send_failed: counter(
                "causeway.lan.send_failed",
                "Packets that the socket did not take",
            ),
            received: counter("causeway.lan.received", "Packets received"),
            refused: counter("causeway.lan.refused", "Packets received that no key opened"),
        }
    }
}

/// The counters of the cache.
pub struct CacheMetrics {
    /// Lookups that were answered from it.
    pub hit: Counter,
    /// Lookups that were to be, and had to go to the servers.
    pub missed: Counter,
    /// Entries that had to leave.
    pub evicted: Counter,
    entries: Gauge,
    fresh: Gauge,
    bytes: Gauge,
    age_max: Gauge,
}

impl CacheMetrics {
    /// Resolves the counters with the recorder of this process.
    pub fn resolve() -> Self {
        Self {
            hit: counter("causeway.cache.hit", "Lookups answered from the agent's cache"),
            missed: counter(
                "causeway.cache.missed",
                "Lookups that the agent's cache was to answer and that went to the servers",
            ),
            evicted: counter("causeway.cache.evicted", "Answers that had to leave the cache"),
            entries: gauge("causeway.cache.entries", "Answers in the cache"),
            fresh: gauge("causeway.cache.fresh", "Answers in the cache that are kept fresh now"),
            bytes: gauge("causeway.cache.bytes", "Bytes of the cache"),
            age_max: gauge("causeway.cache.age_max_seconds", "Age of the oldest cached answer"),
        }
    }

    /// Takes in what is held.
    pub fn see(&self, holdings: &Holdings) {
        self.entries.set(holdings.entries as f64);
        self.fresh.set(holdings.fresh as f64);
        self.bytes.set(holdings.bytes as f64);
        self.age_max.set(holdings.age_max.as_secs_f64());
    }
}

fn gauge(name: &'static str, help: &'static str) -> Gauge {
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name)
}

fn counter(name: &'static str, help: &'static str) -> Counter {
    metrics::describe_counter!(name, help);
    metrics::counter!(name)
}
