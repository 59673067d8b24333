//! What the tests are made of: nothing here is a test of the product, the binaries in
//! `tests/tests/` are.
//!
//! - [`source`] reads Rust source as text, for `tidy`.
//! - [`linearizable`] decides whether what concurrent clients saw of a key could have happened
//!   in some order.
//! - [`seeds`] runs a randomised test for many seeds and says which one failed.
//! - [`crowd`] is a pool of gossip engines without a socket.
//! - [`raft_group`] is a datacenter's Raft servers on simulated network and disks.
//! - [`harness`] is real processes, and [`workload`] clients that record what they see of them.
//! - [`fabric`] is a network in memory, for the simulation: it delays, loses and cuts, and the
//!   same seed gives the same bytes.
//! - [`fuzz`] feeds parsers with what strangers might send.
//! - [`globe`] is a federation on that network.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

pub mod credentials;
pub mod crowd;
pub mod fabric;
pub mod fuzz;
pub mod globe;
pub mod harness;
pub mod linearizable;
pub mod raft_group;
pub mod seeds;
pub mod source;
pub mod workload;
