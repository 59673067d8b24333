//! HTTPS: TLS as browsers and tools speak it, for the HTTP interface of an agent.
//!
//! Other than on a link, a certificate here need not say who its holder is: any that the
//! caller's authorities vouch for will do, and a caller shows one only where [`Callers`] says so.
//! An [`Acceptor`] holds one atomically replaced value, like [`crate::store::Keys`]: what is
//! replaced on disk counts from the next handshake on. [`Connector`] is the other side, for the
//! command line and for health checks.
//!
//! TLS 1.3 only, with HTTP/2 and HTTP/1.1 offered by ALPN; no resumption, so that nobody comes
//! back who would not get in. A handshake that takes too long or fails costs its own connection.

mod connect;

use std::{fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use metrics::Gauge;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tracing::info;

pub use self::connect::{Connector, Protocol, Server, Stream, Trust, refusal, system_authorities};
use crate::{
    ca::Validity,
    error::KeyError,
    metrics::expires,
    store::{
        Bundle, Clock, Files, Prepared, Reload, Source, TlsClock,
        renewal::{self, Renewable},
        roots,
    },
    verify::Refused,
};

/// How long a handshake may take unless it is configured, as in Consul
/// (`limits.https_handshake_timeout`).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is offered to callers, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whether callers show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// They don't.
    Anyone,
    /// They show one of an authority that is trusted here (`verify_incoming`).
    Certified,
}

/// How an acceptor takes callers.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Who may call.
    pub callers: Callers,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// The time by which certificates are judged.
    pub clock: Clock,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The caller was too slow.
    #[error("the handshake took longer than {0:?}")]
    Timeout(Duration),
    /// One of both refuses the other's certificate.
    #[error("{0}")]
    Certificate(String),
    /// The caller speaks something else, or went away.
    #[error("{0}")]
    Failed(String),
}

/// Takes callers over TLS; clones share the certificate.
#[derive(Clone)]
pub struct Acceptor(Arc<Shared>);

struct Shared {
    current: ArcSwap<Current>,
    source: ArcSwap<Source>,
    config: Config,
    provider: Arc<CryptoProvider>,
    expires: Gauge,
}

/// The certificate of one moment.
struct Current {
    bundle: Bundle,
    tls: Arc<ServerConfig>,
    validity: Validity,
}

impl Acceptor {
    /// Shows a certificate from files; [`Acceptor::reload`] and [`Acceptor::watch`] look at them
    /// again.
    pub fn files(files: Files, config: Config) -> Result<Self, KeyError> {
        Self::open(files.read()?, Source::Files(files), config)
    }

    /// Shows a certificate from memory.
    pub fn memory(bundle: Bundle, config: Config) -> Result<Self, KeyError> {
        Self::open(bundle, Source::Memory, config)
    }

    fn open(bundle: Bundle, source: Source, config: Config) -> Result<Self, KeyError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = ArcSwap::from_pointee(Current::new(bundle, &config, &provider)?);
        let expires = expires(&source.to_string());
        let source = ArcSwap::from_pointee(source);
        Ok(Self(Arc::new(Shared { current, source, config, provider, expires })))
    }

    /// Tells when the present certificate is valid.
    pub fn validity(&self) -> Validity {
        self.0.current.load().validity.clone()
    }

    /// Tells how long a handshake may take.
    pub fn handshake_timeout(&self) -> Duration {
        self.0.config.handshake_timeout
    }

    /// Looks at the files again. What can't be used leaves the old certificate in place.
    pub fn reload(&self) -> Result<Reload, KeyError> {
        match &**self.0.source.load() {
            Source::Memory => Ok(Reload::Unchanged),
            Source::Files(files) => Ok(self.put(self.read(files)?)),
        }
    }

    /// Reads a certificate from files that from [`Prepared::commit`] on are where it comes from.
    pub fn prepare(&self, files: Files) -> Result<Prepared, KeyError> {
        let new = self.read(&files)?;
        let acceptor = self.clone();
        Ok(Prepared::new(move || {
            acceptor.0.source.store(Arc::new(Source::Files(files)));
            acceptor.put(new)
        }))
    }

    /// Makes what is other than the present certificate of files, if it is good.
    fn read(&self, files: &Files) -> Result<Option<Current>, KeyError> {
        let bundle = files.read()?;
        if self.0.current.load().bundle.same(&bundle) {
            return Ok(None);
        }
        Current::new(bundle, &self.0.config, &self.0.provider).map(Some)
    }

    fn put(&self, new: Option<Current>) -> Reload {
        let Some(new) = new else { return Reload::Unchanged };
        let Validity { serial, not_after, .. } = &new.validity;
        info!(serial, expires = %not_after, "HTTPS certificate replaced");
        self.0.current.store(Arc::new(new));
        Reload::Changed
    }

    /// Looks at the files every [`crate::store::WATCH_INTERVAL`], for ever, shows when the
    /// certificate expires and warns when that is soon.
    pub async fn watch(self) {
        renewal::watch(self).await;
    }

    /// Shakes hands with a caller, within the time for that.
    pub async fn accept<S>(
        &self,
        stream: S,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0.current.load().tls));
        let patience = self.0.config.handshake_timeout;
        match tokio::time::timeout(patience, acceptor.accept(stream)).await {
            Ok(shaken) => shaken.map_err(|error| HandshakeError::of(&error)),
            Err(_) => Err(HandshakeError::Timeout(patience)),
        }
    }
}

impl Renewable for Acceptor {
    fn owner(&self) -> &'static str {
        "the HTTPS interface"
    }

    fn source(&self) -> Arc<Source> {
        self.0.source.load_full()
    }

    fn look(&self) -> Result<Reload, KeyError> {
        self.reload()
    }

    fn period(&self) -> Validity {
        self.validity()
    }

    fn clock(&self) -> Clock {
        self.0.config.clock
    }

    fn expires(&self) -> &Gauge {
        &self.0.expires
    }
}

impl Current {
    fn new(
        bundle: Bundle,
        config: &Config,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, KeyError> {
        let unusable = |source| KeyError::Unusable { what: "the HTTPS certificate", source };
        let certified = bundle.certified(provider)?;
        let validity = Validity::of(&bundle.certificates)?;
        let callers = match config.callers {
            Callers::Anyone => Arc::new(NoClientAuth),
            Callers::Certified => {
                let roots = Arc::new(roots(&bundle.authorities)?);
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                    .build()
                    .map_err(|_| KeyError::NoAuthority)?
            }
        };
        let clock = Arc::new(TlsClock(config.clock));
        let mut tls = ServerConfig::builder_with_details(Arc::clone(provider), clock)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(callers)
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(Self { bundle, tls: Arc::new(tls), validity })
    }
}

impl HandshakeError {
    fn of(error: &io::Error) -> Self {
        use rustls::{AlertDescription as Alert, Error};
        match tls_error(error) {
            Some(Error::NoCertificatesPresented) => {
                Self::Certificate("the caller showed no certificate".to_owned())
            }
            Some(refusal @ Error::InvalidCertificate(_)) => {
                Self::Certificate(Refused::from(refusal.clone()).to_string())
            }
            Some(Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnknownCA
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnsupportedCertificate),
            )) => {
                Self::Certificate(format!("the caller refuses this agent's certificate: {alert:?}"))
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Finds what TLS said in an error of a stream.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner: &(dyn std::error::Error + 'static) = error.get_ref()?;
    inner.downcast_ref().or_else(|| inner.source()?.downcast_ref())
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acceptor").field(&self.0.config).finish()
    }
}

#[cfg(test)]
mod tests;
