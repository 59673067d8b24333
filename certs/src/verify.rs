//! Decides whether the other side of a handshake is who it has to be.
//!
//! WebPKI checks the chain, the validity and the purpose; after it our own rule checks what the
//! certificate says of its holder ([`Identity`]). Host names are not looked at: an address is
//! where a node is, its certificate says who it is. A refusal's reason goes to the other side
//! in the closing frame, so that both can log it.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use time::OffsetDateTime;
use topology::{Datacenter, NodeName, Role};

use crate::{identity::Identity, store::Keys};

/// Who the other side has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Its datacenter; `None` while only an address is known.
    pub dc: Option<Datacenter>,
    /// What it must act as.
    pub role: Role,
    /// Its name; `None` for any node. A certificate that names no node passes for every node.
    pub node: Option<NodeName>,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// Every node of one datacenter, whatever its role.
    OwnDatacenter(Datacenter),
    /// The servers of any datacenter.
    Servers,
}

/// Why a holder is not who it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is for {found}, expected {expected}")]
pub(crate) struct Unexpected {
    found: String,
    expected: String,
}

impl Expect {
    /// Expects a server of a datacenter.
    pub fn server_of(dc: Datacenter) -> Self {
        Self { dc: Some(dc), role: Role::Server, node: None }
    }

    /// Expects a server of whatever datacenter, as when joining by an address.
    pub fn any_server() -> Self {
        Self { dc: None, role: Role::Server, node: None }
    }

    /// Expects this very node.
    pub fn named(mut self, node: NodeName) -> Self {
        self.node = Some(node);
        self
    }

    /// Tells whether a holder is who is expected.
    pub fn matches(&self, peer: &Identity) -> bool {
        let same_node = match (&self.node, &peer.node) {
            // Consul's certificates keep no capitals.
            (Some(expected), Some(found)) => expected.as_str().eq_ignore_ascii_case(found.as_str()),
            _ => true,
        };
        self.role == peer.role && self.dc.as_ref().is_none_or(|dc| *dc == peer.dc) && same_node
    }

    pub(crate) fn check(&self, peer: &Identity) -> Result<(), Unexpected> {
        if self.matches(peer) { Ok(()) } else { Err(Unexpected::new(peer, self)) }
    }

    /// Names the expected one for the TLS server name, which a gateway routes by.
    pub(crate) fn server_name(&self) -> String {
        let dc = self.dc.as_ref().map(|dc| format!("{dc}.")).unwrap_or_default();
        let role = format!("{}.{dc}{}", self.role, crate::identity::CAUSEWAY_DOMAIN);
        let named = self.node.as_ref().map(|node| format!("{node}.{role}"));
        // A node's name may be too long for a DNS label.
        named.filter(|name| ServerName::try_from(name.as_str()).is_ok()).unwrap_or(role)
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{} {node} of ", self.role)?,
            None => write!(f, "a {} of ", self.role)?,
        }
        match &self.dc {
            Some(dc) => write!(f, "{dc}"),
            None => f.write_str("any datacenter"),
        }
    }
}

impl Accept {
    pub(crate) fn check(&self, peer: &Identity) -> Result<(), Unexpected> {
        let accepted = match self {
            Accept::OwnDatacenter(dc) => peer.dc == *dc,
            Accept::Servers => peer.role == Role::Server,
        };
        if accepted { Ok(()) } else { Err(Unexpected::new(peer, self)) }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accept::OwnDatacenter(dc) => write!(f, "a node of {dc}"),
            Accept::Servers => f.write_str("a server"),
        }
    }
}

impl Unexpected {
    fn new(found: &Identity, expected: &impl fmt::Display) -> Self {
        Self { found: found.to_string(), expected: expected.to_string() }
    }
}

/// Verifies the one who is dialled.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) keys: Keys,
    pub(crate) expect: Expect,
}

/// Verifies the one who dials.
#[derive(Debug)]
pub(crate) struct Dialler {
    pub(crate) keys: Keys,
    pub(crate) accept: Accept,
}

impl ServerCertVerifier for Dialled {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let current = self.keys.current();
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.keys.provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &current.roots,
            intermediates,
            now,
            algorithms,
        )
        .map_err(readable)?;
        let peer = Identity::from_certificate(end_entity, self.keys.domains()).map_err(other)?;
        self.expect.check(&peer).map_err(other)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.keys.provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.keys.provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.keys.provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Dialler {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let clients = Arc::clone(&self.keys.current().clients);
        let verified =
            clients.verify_client_cert(end_entity, intermediates, now).map_err(readable)?;
        let peer = Identity::from_certificate(end_entity, self.keys.domains()).map_err(other)?;
        self.accept.check(&peer).map_err(other)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keys.current().clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keys.current().clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.keys.current().clients.supported_verify_schemes()
    }
}

/// Refuses with a reason of our own, which the closing frame then carries in these words.
fn other(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(OtherError(Arc::new(reason)))
}

/// A refusal by WebPKI in words for an operator.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the certificate expired on {0}: replace it")]
    Expired(OffsetDateTime),
    #[error("the certificate is valid from {0} on only: are the clocks right?")]
    NotYet(OffsetDateTime),
    #[error(
        "the certificate was issued by no authority that is trusted here: give both sides the same ca_file"
    )]
    Stranger,
}

/// Says in words what rustls says in seconds and numbers.
fn readable(error: Error) -> Error {
    let date = |time: UnixTime| {
        i64::try_from(time.as_secs())
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
    };
    let Error::InvalidCertificate(refusal) = &error else { return error };
    let refused = match refusal {
        CertificateError::ExpiredContext { not_after, .. } => {
            date(*not_after).map(Refused::Expired)
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            date(*not_before).map(Refused::NotYet)
        }
        // A bad signature is one by an authority of the same name as a trusted one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(Refused::Stranger),
        _ => None,
    };
    refused.map_or(error, other)
}
