//! Whole pools, federations and datacenters in one process, on simulated networks and disks.
//!
//! Every test prints the seed of a run that fails; `SEED=n cargo nextest run -p tests name` runs
//! that one alone. See `tests::fabric`, `tests::crowd`, `tests::globe` and
//! `tests::datacenter` for what is simulated.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

mod coordinates;
mod failover;
mod federation;
mod frozen;
mod lan_pool;
mod storms;
mod traffic;

use std::sync::{Arc, OnceLock};

use tests::credentials::Credentials;

/// Certificates are made once: their contents differ, their lengths don't.
fn credentials() -> Arc<Credentials> {
    static CREDENTIALS: OnceLock<Arc<Credentials>> = OnceLock::new();
    CREDENTIALS.get_or_init(Arc::default).clone()
}
