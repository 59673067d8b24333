//! What is shown of the federation: how the datacenters are, what happened between them.
//!
//! The shapes of `/v1/federation`, whose fields docs/FEDERATION.md explains, and functions of values that fill
//! them. [`crate::dispatch`] asks around for what they are filled with.

pub mod status;
pub mod timeline;

use std::time::Duration;

/// Returns a time in milliseconds, with three digits behind the point.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns a time in seconds, with three digits behind the point.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
