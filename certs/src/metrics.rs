//! What is counted of certificates. Handles are resolved once, so that counting is one atomic
//! addition.

use metrics::{Counter, Gauge};

/// Handshakes that ended because of who took part, by `reason`.
const REFUSED: &str = "causeway.certs.refused";

/// The time left of a certificate, by the `file` that it is read from.
const EXPIRES: &str = "causeway.certs.expires.seconds";

/// Connections closed because a certificate no longer held.
const DISTRUSTED: &str = "causeway.certs.distrusted";

/// The counters of a node's keys and of the links that they open.
pub(crate) struct Metrics {
    /// Seconds until the node's own certificate expires; negative when it has expired.
    pub(crate) expires: Gauge,
    /// Living connections closed because the peer's certificate expired or its authority is no
    /// longer trusted.
    pub(crate) distrusted: Counter,
    /// Handshakes refused because the peer's certificate has expired.
    expired: Counter,
    /// Handshakes refused because the peer's certificate is not valid yet.
    not_yet_valid: Counter,
    /// Handshakes refused because no trusted authority issued the peer's certificate.
    unknown_authority: Counter,
    /// Handshakes refused because the peer's certificate is another node's, role's or
    /// datacenter's.
    other_identity: Counter,
    /// Handshakes refused because the peer's certificate can't be used for another reason.
    unusable: Counter,
    /// Handshakes refused because the peer showed no certificate.
    no_certificate: Counter,
    /// Handshakes refused because the peer doesn't speak our protocol.
    protocol: Counter,
    /// Handshakes refused because there were too many of them or too many connections.
    busy: Counter,
    /// Handshakes that the peer refused because of this node's certificate.
    by_peer: Counter,
}

/// Why a handshake was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Expired,
    NotYetValid,
    UnknownAuthority,
    OtherIdentity,
    Unusable,
    NoCertificate,
    Protocol,
    Busy,
    ByPeer,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Reason::Expired => "expired",
            Reason::NotYetValid => "not_yet_valid",
            Reason::UnknownAuthority => "unknown_authority",
            Reason::OtherIdentity => "other_identity",
            Reason::Unusable => "unusable",
            Reason::NoCertificate => "no_certificate",
            Reason::Protocol => "protocol",
            Reason::Busy => "busy",
            Reason::ByPeer => "by_peer",
        }
    }

    fn counter(self) -> Counter {
        metrics::counter!(REFUSED, "reason" => self.as_str())
    }
}

impl Metrics {
    /// Resolves the counters with the recorder of this process, for keys that are read from
    /// `file`.
    pub(crate) fn resolve(file: &str) -> Self {
        metrics::describe_counter!(REFUSED, "Handshakes that certificates ended, by reason");
        metrics::describe_counter!(
            DISTRUSTED,
            "Connections closed because the peer's certificate expired or lost its authority"
        );
        Self {
            expires: expires(file),
            distrusted: metrics::counter!(DISTRUSTED),
            expired: Reason::Expired.counter(),
            not_yet_valid: Reason::NotYetValid.counter(),
            unknown_authority: Reason::UnknownAuthority.counter(),
            other_identity: Reason::OtherIdentity.counter(),
            unusable: Reason::Unusable.counter(),
            no_certificate: Reason::NoCertificate.counter(),
            protocol: Reason::Protocol.counter(),
            busy: Reason::Busy.counter(),
            by_peer: Reason::ByPeer.counter(),
        }
    }

    /// Counts a refused handshake.
    pub(crate) fn refused(&self, reason: Reason) {
        let counter = match reason {
            Reason::Expired => &self.expired,
            Reason::NotYetValid => &self.not_yet_valid,
            Reason::UnknownAuthority => &self.unknown_authority,
            Reason::OtherIdentity => &self.other_identity,
            Reason::Unusable => &self.unusable,
            Reason::NoCertificate => &self.no_certificate,
            Reason::Protocol => &self.protocol,
            Reason::Busy => &self.busy,
            Reason::ByPeer => &self.by_peer,
        };
        counter.increment(1);
    }
}

/// Resolves the gauge of the time left of a certificate that is read from `file`.
pub(crate) fn expires(file: &str) -> Gauge {
    metrics::describe_gauge!(
        EXPIRES,
        "Seconds until the node's own certificate expires; negative when it has expired"
    );
    metrics::gauge!(EXPIRES, "file" => file.to_owned())
}
