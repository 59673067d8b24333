//! An authority and certificates, made at run time.
//!
//! For the simulation: Ed25519, whose signatures and certificates always have the same length,
//! and a clock that starts at a fixed moment, so that a seed repeats itself to the byte.

use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::{Domains, Identity},
    store::{Bundle, Clock, Keys},
};
use time::OffsetDateTime;
use tokio::time::Instant;
use topology::{Datacenter, NodeName, Role};

/// For how long certificates are valid.
const DAYS: u32 = 30;

/// Issues certificates for a simulation.
pub struct Credentials {
    authority: Authority,
    start: OffsetDateTime,
}

impl Credentials {
    /// Makes an authority.
    pub fn new() -> Self {
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a moment");
        let authority = Authority::create("simulation", Algorithm::Ed25519, start, DAYS);
        Self { authority: authority.expect("an authority"), start }
    }

    /// Issues the certificate of a server, on the clock of the present runtime.
    pub fn server(&self, dc: &Datacenter, node: &NodeName) -> (Identity, Keys) {
        let identity = Identity::new(dc.clone(), Role::Server, Some(node.clone()));
        let subject = Subject::new(identity.clone());
        let issued = self.authority.issue(&subject, self.start, DAYS).expect("a certificate");
        let bundle = Bundle {
            certificates: issued.certificate_pem,
            key: issued.key_pem,
            authorities: vec![self.authority.certificate_pem().to_owned()],
        };
        let hour = std::time::Duration::from_secs(3600);
        let clock = Clock::Simulated { start: self.start + hour, at: Instant::now() };
        (identity, Keys::memory(bundle, Domains::default(), clock).expect("keys"))
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self::new()
    }
}
