//! The calling side of HTTPS: whom to trust, and what to show.
//!
//! Names are checked as in browsers: the address that was called, or the name that is expected
//! instead, must be among the certificate's names. A [`Connector`] made by [`Connector::new`] calls
//! agents; one made by [`Connector::to_anyone`] calls whatever the health of which is checked.

mod stream;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct,
    Error, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use self::stream::{Protocol, Stream};
use super::tls_error;
use crate::{
    error::KeyError,
    store::{Clock, Files, TlsClock, files, pem},
    verify::Refused,
};

/// Where distributions keep the authorities that everybody trusts; the first that is there counts.
const SYSTEM_AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which server's certificate is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// One of these authorities must vouch for it: files and directories of files.
    VouchedBy(Vec<PathBuf>),
    /// Any (`CONSUL_HTTP_SSL_VERIFY=false`): who listens in between is not noticed.
    Any,
}

/// How a caller meets a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Whom it believes.
    pub server: Server,
    /// The certificate that it shows when asked for one, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name to expect instead of the address that is called.
    pub name: Option<String>,
}

/// Calls servers over TLS; clones share what was read of the files.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    name: Option<String>,
}

/// Returns the file of the authorities that this system trusts, if there is one.
pub fn system_authorities() -> Option<PathBuf> {
    SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned)
}

impl Connector {
    /// Reads the files, to speak HTTP/1.1 over TLS 1.3 with agents.
    pub fn new(trust: &Trust, clock: Clock) -> Result<Self, KeyError> {
        Self::open(trust, clock, &[&TLS13], &[Protocol::Http1])
    }

    /// Reads the files, to call servers of any kind over whichever version of TLS they have; offers
    /// to speak these protocols, best first, or none in particular.
    pub fn to_anyone(
        trust: &Trust,
        clock: Clock,
        protocols: &[Protocol],
    ) -> Result<Self, KeyError> {
        Self::open(trust, clock, DEFAULT_VERSIONS, protocols)
    }

    fn open(
        trust: &Trust,
        clock: Clock,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[Protocol],
    ) -> Result<Self, KeyError> {
        let unusable = |what| move |source| KeyError::Unusable { what, source };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(TlsClock(clock)))
                .with_protocol_versions(versions)
                .map_err(unusable("this program's TLS"))?;
        let verifier: Arc<dyn ServerCertVerifier> = match &trust.server {
            Server::Any => Arc::new(Anybody(Arc::clone(&provider))),
            Server::VouchedBy(paths) => {
                let roots = Arc::new(roots(paths)?);
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|_| KeyError::NoAuthority)?
            }
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut tls = match &trust.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (certificate, key) = (certificate.clone(), key.clone());
                let own = Files { certificate, key, authorities: Vec::new() }.read()?;
                let own = own.certified(&provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
        };
        tls.resumption = Resumption::disabled();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.name().to_vec()).collect();
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), name: trust.name.clone() })
    }

    /// Shakes hands with the server `host`, a name or an address. The caller has a deadline.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<Stream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let name = self.name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            let text = format!("{name:?} is no name that a certificate could have");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let shaken = self.tls.connect(name, stream).await;
        shaken.map(Stream::new).map_err(|error| match tls_error(&error) {
            Some(tls) => io::Error::other(sentence(tls)),
            None => error,
        })
    }
}

/// Says what TLS has to do with a failure of a connection that was made already; `None` if nothing.
/// That a server wants a certificate is only known then.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref().and_then(tls_error) {
            return Some(sentence(tls));
        }
        next = error.source();
    }
    None
}

/// Says why a server is not believed, or does not believe its caller.
fn sentence(error: &Error) -> String {
    match error {
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate of its callers: name one, and its key".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::DecryptError),
        ) => format!("the server refuses the certificate that it was shown: {alert:?}"),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name: call it by a name that is in its \
              certificate, or say which one to expect"
            .to_owned(),
        Error::InvalidMessage(_) => {
            "who answers there does not speak TLS: is it an http:// address?".to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate was issued by no authority that is trusted here".to_owned()
        }
        error => Refused::from(error.clone()).to_string(),
    }
}

/// Reads authorities. A system's may hold some that can't be used: they are passed over.
fn roots(paths: &[PathBuf]) -> Result<RootCertStore, KeyError> {
    let mut roots = RootCertStore::empty();
    for text in files::authorities(paths)? {
        roots.add_parsable_certificates(pem::certificates(&text, "the authority file")?);
    }
    Ok(roots)
}

/// Believes everyone who holds the key to the certificate that is shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}
