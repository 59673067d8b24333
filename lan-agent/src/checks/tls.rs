//! TLS towards what is checked.
//!
//! A check believes the authorities of this system, or those of the agent's configuration where it
//! says so (`enable_agent_tls_for_checks`), or anybody. Reading authorities takes a while, so
//! what was read is used for a minute; what is replaced on disk counts after that.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use certs::{
    error::KeyError,
    https::{Connector, Protocol, Server, Stream, Trust, system_authorities},
    store::Clock,
};
use tokio::{net::TcpStream, time::Instant};

use crate::definition;

/// How long files that were read are used.
const READ_AGE_MAX: Duration = Duration::from_secs(60);

/// Whom checks believe, and what they show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Authorities, as files and directories of files; none for those of this system.
    pub authorities: Vec<PathBuf>,
    /// The certificate to show when asked for one, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// What is offered to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Offer {
    /// Nothing in particular.
    Anything,
    /// HTTP, in the newer version if there is a choice.
    Http,
    /// HTTP/2 only.
    Http2,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("this system has no file of authorities: set ca_file, or tls_skip_verify")]
    NoAuthorities,
    #[error("can't use TLS: {}", with_source(.0))]
    Keys(#[from] KeyError),
    #[error("TLS handshake with {host} failed: {source}")]
    Handshake { host: String, source: io::Error },
}

/// Shakes hands.
pub(super) struct Tls {
    credentials: Credentials,
    read: Mutex<BTreeMap<(bool, Offer), Read>>,
}

/// What was read of files.
struct Read {
    connector: Connector,
    at: Instant,
}

impl Offer {
    fn protocols(self) -> &'static [Protocol] {
        match self {
            Offer::Anything => &[],
            Offer::Http => &[Protocol::Http2, Protocol::Http1],
            Offer::Http2 => &[Protocol::Http2],
        }
    }
}

impl Tls {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, read: Mutex::default() }
    }

    /// Shakes hands with the server of this name or address. The caller has a deadline.
    pub(super) async fn connect(
        &self,
        settings: &definition::Tls,
        offer: Offer,
        host: &str,
        stream: TcpStream,
    ) -> Result<Stream<TcpStream>, TlsError> {
        let connector = self.connector(settings.skip_verify, offer)?;
        let host = match &*settings.server_name {
            "" => host,
            name => name,
        };
        let shaken = connector.connect(host, stream).await;
        shaken.map_err(|source| TlsError::Handshake { host: host.to_owned(), source })
    }

    fn connector(&self, skip_verify: bool, offer: Offer) -> Result<Connector, TlsError> {
        let now = Instant::now();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read.get(&(skip_verify, offer))
            && now.duration_since(read.at) < READ_AGE_MAX
        {
            return Ok(read.connector.clone());
        }
        let trust = self.trust(skip_verify)?;
        let connector = Connector::to_anyone(&trust, Clock::System, offer.protocols())?;
        read.insert((skip_verify, offer), Read { connector: connector.clone(), at: now });
        Ok(connector)
    }

    fn trust(&self, skip_verify: bool) -> Result<Trust, TlsError> {
        let Credentials { authorities, own } = &self.credentials;
        let server = match (skip_verify, authorities.is_empty()) {
            (true, _) => Server::Any,
            (false, false) => Server::VouchedBy(authorities.clone()),
            (false, true) => {
                Server::VouchedBy(vec![system_authorities().ok_or(TlsError::NoAuthorities)?])
            }
        };
        Ok(Trust { server, own: own.clone(), name: None })
    }
}

fn with_source(error: &KeyError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
