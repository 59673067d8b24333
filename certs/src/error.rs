//! What can go wrong with keys, certificates, dialling and calls.
//!
//! [`KeyError`] is about files and certificates of our own, [`LinkError`] about opening an
//! endpoint, [`DialError`] about reaching a peer, [`CallError`] about a request to it. A message
//! says what to do where the reader can do something.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use topology::NameError;

use crate::identity::IdentityError;

/// Why certificates or keys could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file could not be read or written.
    #[error("{what} {path:?}")]
    File {
        /// What was tried, such as `can't read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A text holds no certificate or key where one was expected.
    #[error("{what} holds no {expected} in PEM form")]
    Pem {
        /// Where it was looked for.
        what: String,
        /// What was looked for, such as `private key`.
        expected: &'static str,
    },
    /// A certificate or key could not be made or read.
    #[error("can't make or read a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// A certificate or key is not one that TLS can use.
    #[error("can't use {what} for TLS: {source}")]
    Unusable {
        /// Which one.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
    /// There is no certificate among those of the authorities.
    #[error("no authority is named to trust: the list of authorities holds no certificate")]
    NoAuthority,
    /// The private key does not belong to the certificate.
    #[error("the private key does not belong to the certificate: give both of one pair")]
    Mismatch,
    /// The certificate does not say who its holder is.
    #[error("the certificate does not say who its holder is")]
    Identity(#[from] IdentityError),
    /// The replaced certificate speaks for someone else than the one before.
    #[error(
        "the new certificate is for {found}, this node is {expected}: it stays with the old one"
    )]
    OtherIdentity {
        /// Who the running node is.
        expected: String,
        /// Who the new certificate is for.
        found: String,
    },
    /// A name in a certificate request can't be one.
    #[error("can't issue a certificate for {name:?}: it is not a DNS name")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A name constraint that is not a name.
    #[error("can't constrain an authority to {name:?}: it is not a DNS name")]
    Constraint {
        /// The name as given.
        name: String,
    },
    /// The authority is constrained to other names.
    #[error(
        "the authority may not issue certificates for {name:?}, only for {permitted} and what is below"
    )]
    NotPermitted {
        /// The name asked for.
        name: String,
        /// What it may issue for.
        permitted: String,
    },
    /// A validity outside what X.509 can say.
    #[error("can't issue a certificate for {days} days from now")]
    Validity {
        /// The days asked for.
        days: u32,
    },
    /// Files of a private directory can be read by others.
    #[error("{path:?} can be read by other users (mode {mode:o}): run chmod {wanted:o} on it")]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        wanted: u32,
    },
}

/// Why an endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address could not be bound.
    #[error("can't bind udp address {addr}: is another agent running on it?")]
    Bind {
        /// The address asked for.
        addr: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TLS settings were refused.
    #[error("can't set up TLS")]
    Tls(#[from] rustls::Error),
    /// The certificate is not for the node that the endpoint speaks for.
    #[error(
        "the certificate is for {certificate}, but this node is {node}: give it a certificate of its own"
    )]
    OtherIdentity {
        /// Who the certificate is for.
        certificate: String,
        /// Who the node says that it is.
        node: String,
    },
}

/// Why a peer could not be reached. The request was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time.
    #[error("no answer from {addr} within {after:?}")]
    Timeout {
        /// Where.
        addr: std::net::SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The peer's certificate was refused here.
    #[error("refused the certificate of {addr}: {reason}")]
    RefusedPeer {
        /// Where.
        addr: std::net::SocketAddr,
        /// Why.
        reason: Arc<str>,
    },
    /// Our certificate was refused by the peer.
    #[error("{addr} refused our certificate: {reason}")]
    RefusedByPeer {
        /// Where.
        addr: std::net::SocketAddr,
        /// What the peer said.
        reason: Arc<str>,
    },
    /// The one who answers there proved to be someone else than expected.
    #[error("{addr} is {found}, not {expected}")]
    OtherPeer {
        /// Where.
        addr: std::net::SocketAddr,
        /// Who was expected.
        expected: String,
        /// Who it is.
        found: String,
    },
    /// The connection ended before it was usable.
    #[error("can't connect to {addr}: {reason}")]
    Failed {
        /// Where.
        addr: std::net::SocketAddr,
        /// Why.
        reason: Arc<str>,
    },
    /// The last attempt failed a moment ago; the next one waits for its turn.
    #[error("{addr} was tried a moment ago ({last}), next attempt in {retry_in:?}")]
    BackingOff {
        /// Where.
        addr: std::net::SocketAddr,
        /// Why the last attempt failed.
        last: Arc<str>,
        /// When the next one may start.
        retry_in: Duration,
    },
    /// The endpoint is shut down.
    #[error("this node is shutting down")]
    Closed,
}

/// Why a call gave no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached; the request was not sent.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer answered that it will not do it; it did nothing.
    #[error("refused by {peer} (code {code}): {message}")]
    Refused {
        /// Who refused.
        peer: std::net::SocketAddr,
        /// Its number for the reason.
        code: u16,
        /// Its reason.
        message: String,
    },
    /// The deadline passed before the reply.
    #[error("no reply before the deadline")]
    Deadline {
        /// Whether the request may have reached the peer.
        sent: bool,
    },
    /// The connection was lost; what became of the request is not known if it was sent.
    #[error("connection lost: {reason}")]
    Lost {
        /// Why.
        reason: Arc<str>,
        /// Whether the request may have reached the peer.
        sent: bool,
    },
    /// The request's body is longer than the link carries.
    #[error("a request of {len} bytes is longer than {len_max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The bound.
        len_max: usize,
    },
    /// The reply was longer than the link carries; the request was carried out.
    #[error("the reply is longer than {len_max} bytes")]
    ReplyTooLarge {
        /// The bound.
        len_max: usize,
    },
}

impl CallError {
    /// Tells whether it is certain that the peer did not act on the request, so that it may be
    /// sent again anywhere.
    pub fn had_no_effect(&self) -> bool {
        match self {
            CallError::Dial(_) | CallError::Refused { .. } | CallError::TooLarge { .. } => true,
            CallError::Deadline { sent } | CallError::Lost { sent, .. } => !sent,
            CallError::ReplyTooLarge { .. } => false,
        }
    }
}

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// It does not fit into a packet: send it as a call.
    #[error("a datagram holds at most {len_max} bytes on this path")]
    TooLarge {
        /// What fits now; it changes while the path's packet size is discovered.
        len_max: usize,
    },
    /// There is no connection; one is being made.
    #[error("no path to the peer yet")]
    NoPath,
}

impl From<NameError> for KeyError {
    fn from(error: NameError) -> Self {
        KeyError::Identity(IdentityError::Name(error))
    }
}
