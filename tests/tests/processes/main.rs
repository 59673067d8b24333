//! Real processes: killed, cut off, given bad disks, bad certificates and garbage.
//!
//! Each test has loopback addresses, directories and certificates of its own and leaves nothing
//! behind; see `tests::harness`. They need `target/PROFILE/causeway`, which `make build` makes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stands")]

mod ailments;
mod carriage;
mod catalog;
mod checks;
mod clusters;
mod command_line;
mod config_entries;
mod coordinates;
mod cut_off;
mod datacenters;
mod detour;
mod disks;
mod dns;
mod failover;
mod federation;
mod flapping;
mod gateways;
mod handlers;
mod intruders;
mod leaders;
mod listeners;
mod membership;
mod mirrors;
mod monitor;
mod partitions;
mod prepared_queries;
mod reload;
mod removal;
mod runs;
mod services;
mod split;
mod storms;
mod traces;
mod unions;
mod watches;

use tests::harness::cluster::Shape;

/// One datacenter.
fn dc1(servers: u8, clients: u8) -> [Shape; 1] {
    [Shape { dc: "dc1", servers, clients }]
}
