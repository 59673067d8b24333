//! The keys that a node holds: its certificate, and the authorities that it trusts.
//!
//! [`Keys`] is a handle to one atomically replaced value. Handshakes read it when they happen, so
//! a replaced certificate or authority counts from the next handshake on. Connections live on as
//! long as both certificates hold, and are renewed with the new ones. Replacement is all or nothing: a file that is half written, a key that does not belong to
//! its certificate, or a certificate for another node leaves the old keys in place, and the next
//! look tries again. During a roll-over of the authority both the old and the new one are given;
//! certificates of either are accepted.

pub(crate) mod files;
pub(crate) mod pem;
pub(crate) mod renewal;

mod expiry;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use metrics::Gauge;
use rustls::{
    RootCertStore,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, UnixTime},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::info;

pub use self::files::Files;
use self::renewal::Renewable;
use crate::{
    ca::Validity,
    error::KeyError,
    identity::{Domains, Identity},
    metrics::Metrics,
};

/// How often files are looked at for new keys.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(3);

/// The time of day by which certificates are judged.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    System,
    /// A simulated one: `at` on the runtime's clock was `start`.
    Simulated {
        /// The time of day at `at`.
        start: OffsetDateTime,
        /// The moment on the runtime's clock.
        at: Instant,
    },
}

/// Certificates and a key in PEM form.
#[derive(Clone, Default)]
pub struct Bundle {
    /// The node's certificate, followed by intermediate ones if there are any.
    pub certificates: String,
    /// Its private key.
    pub key: String,
    /// The authorities to trust, any number in each text.
    pub authorities: Vec<String>,
}

/// Keys that were read and are good, and are not in use yet. Dropping them changes nothing.
#[must_use]
pub struct Prepared(Box<dyn FnOnce() -> Reload + Send>);

impl Prepared {
    pub(crate) fn new(use_them: impl FnOnce() -> Reload + Send + 'static) -> Self {
        Self(Box::new(use_them))
    }

    /// Puts them to use.
    pub fn commit(self) -> Reload {
        (self.0)()
    }
}

/// Where keys come from.
pub(crate) enum Source {
    Memory,
    Files(Files),
}

/// What a look at the source found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The same keys as before.
    Unchanged,
    /// New keys, which count from now on.
    Changed,
}

/// A node's certificate and the authorities that it trusts; clones share them.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    current: ArcSwap<Current>,
    source: ArcSwap<Source>,
    domains: Domains,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    metrics: Metrics,
}

/// Numbers the certificates and the sets of authorities that a node held, so that what was
/// decided by old ones can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Edition {
    pub(crate) certificate: u64,
    pub(crate) authorities: u64,
}

/// The keys of one moment.
pub(crate) struct Current {
    pub(crate) edition: Edition,
    bundle: Bundle,
    certified: Arc<CertifiedKey>,
    /// Derived from the private key, for what must not be guessed by others.
    pub(crate) secret: [u8; 32],
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    identity: Identity,
    validity: Validity,
}

impl Clock {
    /// Returns the time of day.
    pub fn now(&self) -> OffsetDateTime {
        match self {
            Clock::System => OffsetDateTime::now_utc(),
            Clock::Simulated { start, at } => *start + at.elapsed(),
        }
    }
}

/// Lets rustls read the time of day from a [`Clock`].
#[derive(Debug)]
pub(crate) struct TlsClock(pub(crate) Clock);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = u64::try_from(self.0.now().unix_timestamp()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(since_epoch)))
    }
}

impl Keys {
    /// Holds keys from memory; [`Keys::replace`] replaces them.
    pub fn memory(bundle: Bundle, domains: Domains, clock: Clock) -> Result<Self, KeyError> {
        Self::open(bundle, Source::Memory, domains, clock)
    }

    /// Holds keys from files; [`Keys::reload`] and [`Keys::watch`] look at them again.
    pub fn files(files: Files, domains: Domains, clock: Clock) -> Result<Self, KeyError> {
        Self::open(files.read()?, Source::Files(files), domains, clock)
    }

    fn open(
        bundle: Bundle,
        source: Source,
        domains: Domains,
        clock: Clock,
    ) -> Result<Self, KeyError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let current = Current::new(bundle, Edition::default(), &domains, &provider)?;
        let current = ArcSwap::from_pointee(current);
        let metrics = Metrics::resolve(&source.to_string());
        let source = ArcSwap::from_pointee(source);
        Ok(Self(Arc::new(Shared { current, source, domains, clock, provider, metrics })))
    }

    /// Tells who the current certificate is for.
    pub fn identity(&self) -> Identity {
        self.0.current.load().identity.clone()
    }

    /// Tells when the current certificate is valid.
    pub fn validity(&self) -> Validity {
        self.0.current.load().validity.clone()
    }

    /// Replaces the keys for all handshakes to come. The new certificate must be for the same
    /// holder as the old one.
    pub fn replace(&self, bundle: Bundle) -> Result<Reload, KeyError> {
        Ok(self.put(self.checked(bundle)?))
    }

    /// Makes keys that are other than the present ones, if they are good.
    fn checked(&self, bundle: Bundle) -> Result<Option<Current>, KeyError> {
        let old = self.0.current.load();
        if old.bundle.same(&bundle) {
            return Ok(None);
        }
        let edition = old.edition.next(&old.bundle, &bundle);
        let new = Current::new(bundle, edition, &self.0.domains, &self.0.provider)?;
        if !new.identity.agrees(&old.identity) {
            return Err(KeyError::OtherIdentity {
                expected: old.identity.to_string(),
                found: new.identity.to_string(),
            });
        }
        Ok(Some(new))
    }

    fn put(&self, new: Option<Current>) -> Reload {
        let Some(new) = new else { return Reload::Unchanged };
        info!(
            identity = %new.identity,
            serial = new.validity.serial,
            expires = %new.validity.not_after,
            authorities = new.roots.len(),
            "certificates replaced"
        );
        self.0.current.store(Arc::new(new));
        Reload::Changed
    }

    /// Looks at the files again; keys from memory stay as they are.
    pub fn reload(&self) -> Result<Reload, KeyError> {
        match &**self.0.source.load() {
            Source::Memory => Ok(Reload::Unchanged),
            Source::Files(files) => self.replace(files.read()?),
        }
    }

    /// Reads keys from files that from [`Prepared::commit`] on are where this node's keys come from.
    pub fn prepare(&self, files: Files) -> Result<Prepared, KeyError> {
        let new = self.checked(files.read()?)?;
        let keys = self.clone();
        Ok(Prepared::new(move || {
            keys.0.source.store(Arc::new(Source::Files(files)));
            keys.put(new)
        }))
    }

    /// Looks at the files every [`WATCH_INTERVAL`], for ever, shows when the certificate expires
    /// and warns when that is soon. Run it once for each set of keys.
    pub async fn watch(self) {
        renewal::watch(self).await;
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.0.current.load_full()
    }

    pub(crate) fn domains(&self) -> &Domains {
        &self.0.domains
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.0.provider
    }
}

impl Renewable for Keys {
    fn owner(&self) -> &'static str {
        "this node"
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
        self.0.clock
    }

    fn expires(&self) -> &Gauge {
        &self.0.metrics.expires
    }
}

impl Bundle {
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.certificates == other.certificates
            && self.key == other.key
            && self.authorities == other.authorities
    }

    /// Makes the certificate usable, with a key that belongs to it.
    pub(crate) fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, KeyError> {
        let chain = pem::certificates(&self.certificates, "the node's certificate")?;
        let unusable = |source| KeyError::Unusable { what: "the private key", source };
        let key = provider.key_provider.load_private_key(self.private_key()?).map_err(unusable)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(certified)
            }
            Err(_) => Err(KeyError::Mismatch),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        pem::private_key(&self.key, "the node's key")
    }
}

/// Reads the authorities to trust.
pub(crate) fn roots(authorities: &[String]) -> Result<RootCertStore, KeyError> {
    let mut roots = RootCertStore::empty();
    for text in authorities {
        for der in pem::certificates(text, "the authority file")? {
            roots.add(der).map_err(|source| {
                let what = "an authority's certificate";
                KeyError::Unusable { what, source }
            })?;
        }
    }
    Ok(roots)
}

impl Edition {
    /// Numbers what follows on a bundle.
    fn next(self, old: &Bundle, new: &Bundle) -> Self {
        Self {
            certificate: self.certificate + u64::from(old.certificates != new.certificates),
            authorities: self.authorities + u64::from(old.authorities != new.authorities),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Memory => f.write_str("memory"),
            Source::Files(files) => write!(f, "{}", files.certificate.display()),
        }
    }
}

impl Current {
    fn new(
        bundle: Bundle,
        edition: Edition,
        domains: &Domains,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, KeyError> {
        let certified = Arc::new(bundle.certified(provider)?);
        let secret = secret_of(bundle.private_key()?.secret_der());
        let first = certified.end_entity_cert().map_err(|_| KeyError::Mismatch)?;
        let identity = Identity::from_certificate(first, domains)?;
        let validity = Validity::of_der(first)?;
        let roots = Arc::new(roots(&bundle.authorities)?);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .build()
                .map_err(|_| KeyError::NoAuthority)?;
        Ok(Self { edition, bundle, certified, secret, roots, clients, identity, validity })
    }
}

fn secret_of(key: &[u8]) -> [u8; 32] {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let tag = aws_lc_rs::hmac::sign(&key, b"causeway link secret 1");
    let mut secret = [0; 32];
    for (to, from) in secret.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    secret
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.identity()).finish()
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.load().certified))
    }
}

impl ResolvesClientCert for Keys {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.load().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
