//! A certificate authority and the certificates that it issues.
//!
//! An [`Authority`] is a self-signed certificate with its key, in PEM files that Consul's tools
//! read too (and the other way round): they want ECDSA keys in the form of SEC 1, so that is what
//! is written; any form is read. What it issues says a datacenter, a role and a node
//! ([`Identity`]) and may be used for both ends of a TLS connection; what its holder may act as
//! is decided by the role, not by the key usage. The caller says what time it is.

mod constraints;

use std::{net::IpAddr, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::parse_x509_certificate;

use self::constraints::Constraints;
use crate::{
    error::KeyError,
    identity::{CAUSEWAY_DOMAIN, Identity},
    store::pem,
};

/// How far before `now` a certificate begins, so that clocks may differ a little.
const BACKDATE: Duration = Duration::minutes(1);

/// The kind of key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256: what Consul's tools make.
    #[default]
    EcdsaP256,
    /// Ed25519: signatures of constant length, which the simulation needs to repeat itself.
    Ed25519,
}

/// When a certificate is valid, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: OffsetDateTime,
    /// The last moment.
    pub not_after: OffsetDateTime,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The subject's common name, empty if it has none.
    pub common_name: String,
}

/// Names besides the identity that a certificate is to be valid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// A DNS name, such as `localhost`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// What a certificate is issued for.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Who its holder is.
    pub identity: Identity,
    /// The domain of its DNS names, Consul's `-domain`.
    pub domain: String,
    /// Further names.
    pub sans: Vec<San>,
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PEM: SEC 1 for ECDSA, PKCS #8 for Ed25519.
    pub key_pem: String,
    /// When it is valid.
    pub validity: Validity,
}

/// A certificate authority: may issue certificates.
pub struct Authority {
    certificate_pem: String,
    key: KeyPair,
    key_pem: String,
    algorithm: Algorithm,
    constraints: Constraints,
}

impl Algorithm {
    /// Makes a key pair; also returns it as PEM.
    fn key(self) -> Result<(KeyPair, String), KeyError> {
        match self {
            Algorithm::EcdsaP256 => {
                let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
                let text = pem::block("EC PRIVATE KEY", sec1(key.serialized_der())?.as_ref());
                Ok((key, text))
            }
            Algorithm::Ed25519 => {
                let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
                let text = pem::block("PRIVATE KEY", key.serialized_der());
                Ok((key, text))
            }
        }
    }
}

/// Turns an ECDSA key from PKCS #8 into SEC 1, which says its curve too.
fn sec1(pkcs8: &[u8]) -> Result<EcPrivateKeyRfc5915Der<'static>, KeyError> {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8);
    let der = key.ok().and_then(|key| key.private_key().as_der().ok());
    Ok(der.ok_or(rcgen::Error::CouldNotParseKeyPair)?)
}

impl San {
    fn general_name(&self) -> Result<SanType, KeyError> {
        Ok(match self {
            San::Dns(name) => SanType::DnsName(text(name)?),
            San::Ip(addr) => SanType::IpAddress(*addr),
        })
    }
}

impl Subject {
    /// Names a holder below the domain of our own certificates, with no further names.
    pub fn new(identity: Identity) -> Self {
        Self { identity, domain: CAUSEWAY_DOMAIN.to_owned(), sans: Vec::new() }
    }

    fn names(&self) -> Result<Vec<SanType>, KeyError> {
        let mut dns = Vec::new();
        if let Some(node) = &self.identity.node {
            dns.push(format!("{node}.{}", self.identity.dns(&self.domain)));
        }
        dns.push(self.identity.dns(&self.domain));
        let mut names = Vec::new();
        for name in dns {
            names.push(SanType::DnsName(text(&name)?));
        }
        if let Some(uri) = self.identity.uri() {
            names.push(SanType::URI(text(&uri)?));
        }
        for san in &self.sans {
            names.push(san.general_name()?);
        }
        Ok(names)
    }
}

fn text(name: &str) -> Result<rcgen::string::Ia5String, KeyError> {
    name.try_into().map_err(|_| KeyError::Name { name: name.to_owned() })
}

impl Authority {
    /// Makes a new authority: `name` is its common name, valid from now on for `days`.
    pub fn create(
        name: &str,
        algorithm: Algorithm,
        now: OffsetDateTime,
        days: u32,
    ) -> Result<Self, KeyError> {
        Self::constrained(name, algorithm, now, days, &[])
    }

    /// Makes a new authority that can issue certificates only for some DNS names and those below
    /// them; for all names if none are given.
    pub fn constrained(
        name: &str,
        algorithm: Algorithm,
        now: OffsetDateTime,
        days: u32,
        permitted: &[String],
    ) -> Result<Self, KeyError> {
        let constraints = Constraints::new(permitted)?;
        let (key, key_pem) = algorithm.key()?;
        let mut params = params(name, now, days)?;
        params.name_constraints = constraints.extension();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, key, key_pem, algorithm, constraints })
    }

    /// Reads an authority from its certificate and key in PEM form (PKCS #8 or SEC 1).
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, KeyError> {
        let key = pem::signing_key(key_pem)?;
        let algorithm = match key.algorithm() == &rcgen::PKCS_ED25519 {
            true => Algorithm::Ed25519,
            false => Algorithm::EcdsaP256,
        };
        let der = pem::certificates(certificate_pem, "the authority's certificate")?;
        let first = der.first().map(|der| der.as_ref()).unwrap_or_default();
        let (_, certificate) =
            parse_x509_certificate(first).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(KeyError::Mismatch);
        }
        let constraints = Constraints::of(&certificate)?;
        let (certificate_pem, key_pem) = (certificate_pem.to_owned(), key_pem.to_owned());
        Ok(Self { certificate_pem, key, key_pem, algorithm, constraints })
    }

    /// Reads an authority from its two files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, KeyError> {
        Self::load(&pem::read(certificate)?, &pem::read(key)?)
    }

    /// Returns its certificate, PEM: what others need to trust what it issues.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns its private key, PEM: as it was read, or as [`Issued::key_pem`].
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Writes certificate and key to two new files, the key readable by its owner only.
    /// Files that exist are not replaced.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), KeyError> {
        pem::write_private(key, &self.key_pem)?;
        pem::write_public(certificate, &self.certificate_pem)
    }

    /// Reads when it is valid.
    pub fn validity(&self) -> Result<Validity, KeyError> {
        Validity::of(&self.certificate_pem)
    }

    /// Issues a certificate with a key of its own, valid from now on for `days`.
    pub fn issue(
        &self,
        subject: &Subject,
        now: OffsetDateTime,
        days: u32,
    ) -> Result<Issued, KeyError> {
        let mut params = params(&subject.identity.dns(&subject.domain), now, days)?;
        params.subject_alt_names = subject.names()?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Issues a certificate that says no identity: good for tools that call an HTTPS interface,
    /// and for no link.
    pub fn issue_for_tool(
        &self,
        name: &str,
        sans: &[San],
        now: OffsetDateTime,
        days: u32,
    ) -> Result<Issued, KeyError> {
        let mut params = params(name, now, days)?;
        params.subject_alt_names = vec![SanType::DnsName(text(name)?)];
        for san in sans {
            params.subject_alt_names.push(san.general_name()?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Makes it issue what it is constrained from, as one with its key could.
    #[cfg(test)]
    pub(crate) fn unchecked(self) -> Self {
        Self { constraints: Constraints::none(), ..self }
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Issued, KeyError> {
        self.constraints.check(&params.subject_alt_names)?;
        let (key, key_pem) = self.algorithm.key()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key)?;
        let certificate_pem = params.signed_by(&key, &issuer)?.pem();
        let validity = Validity::of(&certificate_pem)?;
        Ok(Issued { certificate_pem, key_pem, validity })
    }
}

fn params(
    common_name: &str,
    now: OffsetDateTime,
    days: u32,
) -> Result<CertificateParams, KeyError> {
    let out_of_range = KeyError::Validity { days };
    let mut params = CertificateParams::default();
    params.not_before = now.checked_sub(BACKDATE).ok_or(KeyError::Validity { days })?;
    params.not_after = now.checked_add(Duration::days(i64::from(days))).ok_or(out_of_range)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    Ok(params)
}

/// Draws a serial number: 128 random bits, positive (RFC 5280, section 4.1.2.2).
fn serial() -> Result<[u8; 16], KeyError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

impl Validity {
    /// Reads when the first certificate of a PEM text is valid.
    pub fn of(certificate_pem: &str) -> Result<Self, KeyError> {
        let der = pem::certificates(certificate_pem, "the certificate")?;
        Self::of_der(der.first().map(|der| der.as_ref()).unwrap_or_default())
    }

    pub(crate) fn of_der(der: &[u8]) -> Result<Self, KeyError> {
        let (_, certificate) =
            parse_x509_certificate(der).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let common_name = certificate.subject().iter_common_name().next();
        Ok(Self {
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            serial: format!("{:x}", certificate.tbs_certificate.serial),
            common_name: common_name
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

impl Issued {
    /// Writes certificate and key to two new files, the key readable by its owner only.
    /// Files that exist are not replaced.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), KeyError> {
        pem::write_private(key, &self.key_pem)?;
        pem::write_public(certificate, &self.certificate_pem)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use topology::{Datacenter, NodeName, Role};

    use super::*;
    use crate::identity::Domains;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn server(node: Option<&str>) -> Identity {
        let node = node.map(|node| NodeName::new(node).unwrap());
        Identity::new(Datacenter::new("dc1").unwrap(), Role::Server, node)
    }

    fn identity_of(issued: &Issued) -> Identity {
        let der = pem::certificates(&issued.certificate_pem, "").unwrap();
        Identity::from_certificate(&der[0], &Domains::default()).unwrap()
    }

    #[test]
    fn a_certificate_says_what_it_was_issued_for() {
        let authority = Authority::create("test", Algorithm::EcdsaP256, now(), 10).unwrap();
        for node in [None, Some("web.Rack-1")] {
            let subject = Subject::new(server(node));
            let issued = authority.issue(&subject, now(), 5).unwrap();
            assert_eq!(identity_of(&issued), server(node));
            assert_eq!(issued.validity.not_after, now() + Duration::days(5));
            assert_eq!(issued.validity.common_name, "server.dc1.causeway");
        }
    }

    #[test]
    fn an_authority_that_was_written_can_issue_again() {
        let home = tempfile::tempdir().unwrap();
        let (certificate, key) = (home.path().join("ca.pem"), home.path().join("ca-key.pem"));
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let authority = Authority::create("test", algorithm, now(), 10).unwrap();
            authority.write(&certificate, &key).unwrap();
            assert!(authority.write(&certificate, &key).is_err(), "it is not overwritten");
            let mode = std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
            let again = Authority::read(&certificate, &key).unwrap();
            assert_eq!(again.algorithm, algorithm);
            assert_eq!(again.key_pem(), authority.key_pem());
            again.issue(&Subject::new(server(None)), now(), 5).unwrap();
            std::fs::remove_file(&certificate).unwrap();
            std::fs::remove_file(&key).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let make = || Authority::create("test", Algorithm::EcdsaP256, now(), 10).unwrap();
        let error = Authority::load(make().certificate_pem(), make().key_pem()).err().unwrap();
        assert!(matches!(error, KeyError::Mismatch), "{error}");
    }

    #[test]
    fn ecdsa_keys_have_the_form_that_consul_reads() {
        let authority = Authority::create("test", Algorithm::EcdsaP256, now(), 10).unwrap();
        let issued = authority.issue(&Subject::new(server(None)), now(), 5).unwrap();
        // SEC 1, section C.4: version 1, 32 bytes of key, the curve's name, the public key.
        let head = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI";
        for key in [authority.key_pem(), &issued.key_pem] {
            assert!(key.starts_with(head), "another form");
            assert_eq!(key.lines().count(), 5);
            let der = pem::private_key(key, "").unwrap();
            let (der, curve) = (der.secret_der(), [0xa0, 10, 6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
            assert!(der.len() == 121 && der[39..51] == curve);
        }
    }

    #[test]
    fn a_constrained_authority_issues_for_its_names_only() {
        let permitted = ["causeway".to_owned(), "localhost".to_owned()];
        let made =
            Authority::constrained("test", Algorithm::EcdsaP256, now(), 10, &permitted).unwrap();
        let read = Authority::load(made.certificate_pem(), made.key_pem()).unwrap();
        for authority in [made, read] {
            let mut subject = Subject::new(server(Some("a")));
            subject.sans = vec![San::Dns("localhost".to_owned()), San::Ip([127, 0, 0, 1].into())];
            authority.issue(&subject, now(), 5).unwrap();
            subject.sans.push(San::Dns("www.example.com".to_owned()));
            let error = authority.issue(&subject, now(), 5).err().unwrap();
            assert_eq!(
                error.to_string(),
                "the authority may not issue certificates for \"www.example.com\", only for causeway, localhost and what is below"
            );
        }
    }

    #[test]
    fn a_validity_beyond_all_dates_is_refused() {
        let error = Authority::create("test", Algorithm::EcdsaP256, now(), u32::MAX).err().unwrap();
        assert!(matches!(error, KeyError::Validity { .. }), "{error}");
    }
}
