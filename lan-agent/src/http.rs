//! The HTTP interface, as Consul's users know it: paths, parameters, JSON, headers, plain-text errors.
//!
//! ```text
//! listen (TCP, TLS, socket files)
//!   `-> serve (bounds, timeouts) -> routes (path, method) -> rules -> handler -> reply (headers, gzip)
//! ```
//!
//! A handler gets a [`context::Context`], asks through the [`Agent`], and returns a
//! [`reply::Reply`] or an [`error::Failure`]; nothing else turns errors into status codes. A
//! client that goes away drops its handler and thereby its ask.

pub mod listen;
pub mod network;
pub mod rules;

mod catalog;
mod checks;
mod config;
mod context;
mod coordinate;
mod error;
mod federation;
mod health;
mod host;
mod json;
mod kv;
mod local;
mod lookup;
mod monitor;
mod query;
mod reply;
mod routes;
mod serve;
mod services;
mod stall;
mod stats;
mod status;
mod txn;
mod union;
mod wait;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue};

use self::{
    listen::{BindError, Listen, Place},
    rules::{Bounds, Rules},
};
use crate::agent::Agent;

/// Consul's `limits.http_max_conns_per_client`.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 200;

/// How long requests may go on after the agent was told to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A bound that may change while it counts. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Most(Arc<AtomicUsize>);

impl Most {
    /// Makes a bound.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(most)))
    }

    /// Changes the bound. What is above it already stays.
    pub fn set(&self, most: usize) {
        self.0.store(most, Ordering::Relaxed);
    }

    /// Returns the bound.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// How the interface listens.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// Most connections from one client address, and to one socket file.
    pub connections_per_client_max: Most,
    /// Who may do what.
    pub rules: Rules,
    /// How large and how long requests may be.
    pub bounds: Bounds,
    /// Headers that every response carries (`http_config.response_headers`).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long requests may go on after the agent was told to stop.
    pub shutdown_grace: Duration,
}

impl Config {
    /// Listens at these addresses with the bounds that Consul has.
    pub fn new(addrs: Vec<SocketAddr>) -> Self {
        Self {
            listen: addrs.into_iter().map(Listen::Http).collect(),
            connections_per_client_max: Most::new(CONNECTIONS_PER_CLIENT_MAX),
            rules: Rules::default(),
            bounds: Bounds::default(),
            headers: Vec::new(),
            shutdown_grace: SHUTDOWN_GRACE,
        }
    }
}

/// Listens at the configured places. Returns where it does, and what serves until the agent
/// stops and its requests have ended or [`Config::shutdown_grace`] has passed.
///
/// Must be called within a tokio runtime.
pub fn bind(
    config: Config,
    agent: Arc<Agent>,
) -> Result<(Vec<Place>, impl Future<Output = ()> + Send + use<>), BindError> {
    serve::bind(config, agent)
}

/// Tells whether the parameters of a request make sense: for those who feed the parsers with any
/// bytes. The first line is the request's target; those that follow are its `Cache-Control`,
/// `traceparent` and `X-Consul-Token`.
pub fn understands(bytes: &[u8]) -> bool {
    context::understands(bytes)
}

#[cfg(test)]
mod tests;
