//! Whether the certificates of a living connection still hold.
//!
//! A handshake judges certificates once, and a connection may live for months. So each side looks
//! again, at every heartbeat: whether one of the peer's certificates has ended meanwhile, whether
//! the authorities were replaced since they were judged by (then the whole chain is judged anew),
//! and whether its own certificate is the one that the handshake showed. What it costs when nothing
//! happened is a look at the time of day.

use std::{sync::atomic::Ordering, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::{
    ca::Validity,
    link::{connection::Connection, heartbeat::Side},
    store::{Edition, Keys},
    verify::{self, Shown},
};

/// Between two attempts to renew a connection, or requests for it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing to do.
    Holds,
    /// A certificate was replaced since the handshake: a new connection should be made.
    Renew,
    /// The peer's certificate no longer holds: the connection is to be closed.
    Refused(String),
}

/// What the last look at a connection went by.
pub(super) struct Standing {
    edition: Edition,
    /// When the next of the peer's certificates ends, in seconds since 1970.
    until: Option<i64>,
    /// When a renewal was last tried.
    renewed: Instant,
}

impl Standing {
    /// Begins with a connection whose handshake went by `edition` or a later one.
    pub(super) fn new(keys: &Keys, edition: Edition, quic: &quinn::Connection) -> Self {
        Self { edition, until: next_end(keys, &chain(quic)), renewed: Instant::now() }
    }

    /// Looks at it now.
    pub(super) fn look(&mut self, keys: &Keys, connection: &Connection) -> Finding {
        let current = keys.current();
        let ended = self.until.is_some_and(|until| keys.clock().now().unix_timestamp() > until);
        if ended || current.edition.authorities != self.edition.authorities {
            let chain = chain(&connection.quic);
            let shown = match connection.side {
                Side::ByUs => Shown::Dialled,
                Side::ByPeer => Shown::Dialler,
            };
            if let Err(refused) = verify::still(keys, &current, shown, &chain) {
                keys.metrics().distrusted.increment(1);
                return Finding::Refused(refused.to_string());
            }
            self.edition.authorities = current.edition.authorities;
            // One that ended and was not needed is not asked about again.
            self.until = next_end(keys, &chain);
        }
        let outdated = current.edition.certificate != self.edition.certificate
            || connection.outdated.load(Ordering::Relaxed);
        if outdated && self.renewed.elapsed() >= RENEWAL_INTERVAL {
            self.renewed = Instant::now();
            return Finding::Renew;
        }
        Finding::Holds
    }
}

/// Returns the certificates that the peer showed.
fn chain(quic: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity = quic.peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.map(|chain| *chain).unwrap_or_default()
}

/// Returns when the next certificate of a chain ends that has not ended yet.
fn next_end(keys: &Keys, chain: &[CertificateDer<'_>]) -> Option<i64> {
    let now = keys.clock().now().unix_timestamp();
    let ends = chain.iter().filter_map(|der| Validity::of_der(der).ok());
    ends.map(|validity| validity.not_after.unix_timestamp()).filter(|end| *end >= now).min()
}
