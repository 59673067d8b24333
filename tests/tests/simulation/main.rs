//! Whole pools, federations and datacenters in one process, on simulated networks and disks.
//!
//! Every test prints the seed of a run that fails; `SEED=n cargo nextest run -p tests name` runs
//! that one alone. See `tests::fabric`, `tests::crowd`, `tests::globe` and
//! `tests::datacenter` for what is simulated.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

mod federation;
mod lan_pool;
mod storms;
