//! An authority and certificates, made at run time.
//!
//! For the simulation: Ed25519, whose signatures and certificates always have the same length,
//! and clocks that start at given moments, so that a seed repeats itself to the byte.

use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::{Domains, Identity},
    store::{Bundle, Clock, Keys},
};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// Since when certificates are valid, and for how long: clocks of simulated machines are wrong by
/// years.
const ISSUED: OffsetDateTime = OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::days(15_000));
const DAYS: u32 = 13_000;

/// Issues certificates for a simulation.
pub struct Credentials(Authority);

impl Credentials {
    /// Makes an authority.
    pub fn new() -> Self {
        let authority = Authority::create("simulation", Algorithm::Ed25519, ISSUED, DAYS);
        Self(authority.expect("an authority"))
    }

    /// Issues a node's certificate; on the clock of the present runtime it is `start` now.
    pub fn issue(&self, identity: &Identity, start: OffsetDateTime) -> Keys {
        let subject = Subject::new(identity.clone());
        let issued = self.0.issue(&subject, ISSUED, DAYS);
        let issued = issued.expect("a certificate");
        let bundle = Bundle {
            certificates: issued.certificate_pem,
            key: issued.key_pem,
            authorities: vec![self.0.certificate_pem().to_owned()],
        };
        let clock = Clock::Simulated { start, at: Instant::now() };
        Keys::memory(bundle, Domains::default(), clock).expect("keys")
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::new()
    }
}
