//! What an agent counts. Handles are resolved once, so that counting is one atomic addition.

use hickory_proto::op::ResponseCode;
use metrics::{Counter, Gauge, Histogram, Unit};

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

fn counter(name: &'static str, help: &'static str) -> Counter {
    metrics::describe_counter!(name, help);
    metrics::counter!(name)
}
