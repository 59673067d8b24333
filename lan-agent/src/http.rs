//! The HTTP interface, as Consul's users know it: paths, parameters, JSON, headers, plain-text errors.
//!
//! ```text
//! connection -> serve (bounds, timeouts) -> routes (path, method) -> handler -> reply (headers, gzip)
//! ```
//!
//! A handler gets a [`context::Context`], asks through the [`Agent`], and returns a
//! [`reply::Reply`] or an [`error::Failure`]; nothing else turns errors into status codes. A
//! client that goes away drops its handler and thereby its ask.

mod context;
mod error;
mod host;
mod json;
mod kv;
mod local;
mod reply;
mod routes;
mod serve;
mod stall;
mod status;
mod txn;
mod wait;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::http::{HeaderName, HeaderValue};

use crate::agent::Agent;

/// Consul's `limits.http_max_conns_per_client`.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 200;

/// How long requests may go on after the agent was told to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How the interface listens.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub addrs: Vec<SocketAddr>,
    /// Most connections from one client address.
    pub connections_per_client_max: usize,
    /// Headers that every response carries (`http_config.response_headers`).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long requests may go on after the agent was told to stop.
    pub shutdown_grace: Duration,
}

impl Config {
    /// Listens at these addresses with the bounds that Consul has.
    pub fn new(addrs: Vec<SocketAddr>) -> Self {
        Self {
            addrs,
            connections_per_client_max: CONNECTIONS_PER_CLIENT_MAX,
            headers: Vec::new(),
            shutdown_grace: SHUTDOWN_GRACE,
        }
    }
}

/// An address could not be listened at.
#[derive(Debug, thiserror::Error)]
#[error("HTTP can't listen at {addr}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Listens at the configured addresses. Returns where it does, and what serves until the agent
/// stops and its requests have ended or [`Config::shutdown_grace`] has passed.
///
/// Must be called within a tokio runtime.
pub fn bind(
    config: Config,
    agent: Arc<Agent>,
) -> Result<(Vec<SocketAddr>, impl Future<Output = ()> + Send + use<>), BindError> {
    serve::bind(config, agent)
}

#[cfg(test)]
mod tests;
