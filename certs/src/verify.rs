//! Decides whether the other side of a handshake is who it has to be.
//!
//! WebPKI checks the chain, the validity and the purpose; after it our own rule checks what the
//! certificate says of its holder ([`Identity`]). Host names are not looked at: an address is
//! where a node is, its certificate says who it is. A refusal's reason goes to the other side
//! in the closing frame, so that both can log it. While the connection lives, [`still`] asks
//! WebPKI again.

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

use crate::{
    identity::{Identity, IdentityError},
    metrics::Reason,
    store::{Current, Keys},
};

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
    /// Every agent of any datacenter.
    Agents,
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

    /// Expects one who was met before.
    pub(crate) fn same(peer: &Identity) -> Self {
        Self { dc: Some(peer.dc.clone()), role: peer.role, node: peer.node.clone() }
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

    /// Reads who is expected from the TLS server name of one who dials; `None` for a name that means nothing.
    pub fn from_server_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(crate::identity::CAUSEWAY_DOMAIN)?.strip_suffix('.')?;
        let in_dc = name.rsplit_once('.').and_then(|(before, dc)| {
            let (role, node) = role_at_end(before)?;
            Some(Self { dc: Some(Datacenter::new(dc).ok()?), role, node })
        });
        in_dc.or_else(|| {
            let (role, node) = role_at_end(name)?;
            Some(Self { dc: None, role, node })
        })
    }
}

/// Reads `role` or `node.role`.
fn role_at_end(name: &str) -> Option<(Role, Option<NodeName>)> {
    [Role::Server, Role::Client].into_iter().find_map(|role| {
        let before = name.strip_suffix(role.as_str())?;
        match before {
            "" => Some((role, None)),
            node => Some((role, Some(NodeName::new(node.strip_suffix('.')?).ok()?))),
        }
    })
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
            Accept::Agents => true,
        };
        if accepted { Ok(()) } else { Err(Unexpected::new(peer, self)) }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accept::OwnDatacenter(dc) => write!(f, "a node of {dc}"),
            Accept::Servers => f.write_str("a server"),
            Accept::Agents => f.write_str("an agent"),
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

/// Which side of a connection shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The one who was dialled.
    Dialled,
    /// The one who dialled.
    Dialler,
}

/// Why a certificate is refused, in words for an operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the certificate expired on {0}: replace it")]
    Expired(OffsetDateTime),
    #[error("the certificate is valid from {0} on only: are the clocks right?")]
    NotYet(OffsetDateTime),
    #[error(
        "the certificate was issued by no authority that is trusted here: give both sides the same ca_file"
    )]
    Stranger,
    #[error("the certificate was issued for names that its authority is constrained from")]
    Constrained,
    #[error(transparent)]
    Nobody(#[from] IdentityError),
    #[error(transparent)]
    Other(#[from] Unexpected),
    #[error("{0}")]
    Unusable(Error),
}

impl Refused {
    fn reason(&self) -> Reason {
        match self {
            Refused::Expired(_) => Reason::Expired,
            Refused::NotYet(_) => Reason::NotYetValid,
            Refused::Stranger => Reason::UnknownAuthority,
            Refused::Nobody(_) | Refused::Other(_) => Reason::OtherIdentity,
            Refused::Constrained | Refused::Unusable(_) => Reason::Unusable,
        }
    }

    /// Counts it, and says it in a form whose words the closing frame then carries.
    fn counted(self, keys: &Keys) -> Error {
        keys.metrics().refused(self.reason());
        match self {
            Refused::Unusable(error) => error,
            refused => Error::Other(OtherError(Arc::new(refused))),
        }
    }
}

impl From<Error> for Refused {
    /// Says in words what rustls says in seconds and numbers.
    fn from(error: Error) -> Self {
        let date = |time: UnixTime| {
            i64::try_from(time.as_secs())
                .ok()
                .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        };
        let Error::InvalidCertificate(refusal) = &error else { return Refused::Unusable(error) };
        let refused = match refusal {
            CertificateError::ExpiredContext { not_after, .. } => {
                date(*not_after).map(Refused::Expired)
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                date(*not_before).map(Refused::NotYet)
            }
            // A bad signature is one by an authority of the same name as a trusted one.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Some(Refused::Stranger)
            }
            // WebPKI's own errors come through without their type.
            CertificateError::Other(OtherError(error))
                if error.to_string() == "NameConstraintViolation" =>
            {
                Some(Refused::Constrained)
            }
            _ => None,
        };
        refused.unwrap_or(Refused::Unusable(error))
    }
}

/// Judges a chain by the authorities, the time and its purpose.
fn trusted(
    keys: &Keys,
    current: &Current,
    shown: Shown,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Refused> {
    match shown {
        Shown::Dialled => {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = keys.provider().signature_verification_algorithms.all;
            let (roots, chain) = (&current.roots, intermediates);
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, chain, now, algorithms)?;
        }
        Shown::Dialler => {
            current.clients.verify_client_cert(end_entity, intermediates, now)?;
        }
    }
    Ok(())
}

/// Judges the chain of a living connection again; who its holder is can't have changed.
pub(crate) fn still(
    keys: &Keys,
    current: &Current,
    shown: Shown,
    chain: &[CertificateDer<'_>],
) -> Result<(), Refused> {
    let since_epoch = u64::try_from(keys.clock().now().unix_timestamp()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(since_epoch));
    // Without a certificate there would have been no connection.
    let (end_entity, intermediates) = chain.split_first().ok_or(Refused::Stranger)?;
    trusted(keys, current, shown, end_entity, intermediates, now)
}

impl Dialled {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refused> {
        let current = self.keys.current();
        trusted(&self.keys, &current, Shown::Dialled, end_entity, intermediates, now)?;
        let peer = Identity::from_certificate(end_entity, self.keys.domains())?;
        Ok(self.expect.check(&peer)?)
    }
}

impl Dialler {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refused> {
        let current = self.keys.current();
        trusted(&self.keys, &current, Shown::Dialler, end_entity, intermediates, now)?;
        let peer = Identity::from_certificate(end_entity, self.keys.domains())?;
        Ok(self.accept.check(&peer)?)
    }
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
        self.judge(end_entity, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|refused| refused.counted(&self.keys))
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
        self.judge(end_entity, intermediates, now)
            .map(|()| ClientCertVerified::assertion())
            .map_err(|refused| refused.counted(&self.keys))
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
