//! What the tests are made of: nothing here is a test of the product, the binaries in
//! `tests/tests/` are.
//!
//! - [`source`] reads Rust source as text, for `tidy`.
//! - [`linearizable`] decides whether what concurrent clients saw of a key could have happened
//!   in some order, [`freshness`] whether stale reads are as old as they say at most.
//! - [`seeds`] runs a randomised test for many seeds and says which one failed.
//! - [`crowd`] is a pool of gossip engines without a socket.
//! - [`storm`] draws what goes wrong and when; [`workload`] is clients that record what they see of
//!   it.
//! - [`datacenter`] is servers and client agents on simulated network, disks and clocks, each on a
//!   [`machine`] of its own; [`asking`] is who asks them.
//! - [`chronicle`] is what datacenters held their instances for, and what lookups were told of them.
//! - [`harness`] is real processes.
//! - [`fabric`] is a network in memory, for the simulation: it delays, loses and cuts, and the
//!   same seed gives the same bytes.
//! - [`fuzz`] feeds parsers with what strangers might send.
//! - [`globe`] is a federation on that network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

pub mod asking;
pub mod chronicle;
pub mod credentials;
pub mod crowd;
pub mod datacenter;
pub mod fabric;
pub mod freshness;
pub mod fuzz;
pub mod globe;
pub mod harness;
pub mod linearizable;
pub mod machine;
pub mod seeds;
pub mod source;
pub mod storm;
pub mod workload;
