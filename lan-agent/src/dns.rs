//! The DNS interface, as Consul's users know it: services, nodes and addresses as names of a zone.
//!
//! ```text
//! serve (UDP, TCP; bounds) ──▶ request (bytes to a question)
//!   `-> resolve ──▶ name (what is asked) ──▶ source (the catalog's word) ──▶ kept, records
//!           │            `────▶ recursor (the names of others)
//!           `─────▶ answer (records of DNS) ──▶ message (bytes, no more than the client takes)
//! ```
//!
//! Whatever decides is a function of values: a name, records, settings and a seeded die. A question
//! that can't be answered is told so within 2 s: SERVFAIL when no server answers, NXDOMAIN when the
//! name has no meaning. The codec is `hickory-proto`'s.

mod answer;
mod datagrams;
mod kept;
mod message;
mod name;
mod order;
mod records;
mod recursor;
mod request;
mod resolve;
mod serve;
mod source;

pub mod settings;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use self::{request::Incoming, resolve::Resolver, serve::Sockets, settings::Settings};
use crate::agent::Agent;

/// How the interface listens and answers.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// How answers are made.
    pub settings: Settings,
}

/// An address could not be listened at.
#[derive(Debug, thiserror::Error)]
#[error("DNS can't listen at {addr}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The interface while it runs. Clones are handles to the same one.
#[derive(Clone)]
pub struct Dns {
    resolver: Arc<Resolver>,
    places: Arc<[SocketAddr]>,
}

impl Dns {
    /// Returns where it listens.
    pub fn places(&self) -> &[SocketAddr] {
        &self.places
    }

    /// Answers otherwise from now on.
    pub fn replace(&self, mut settings: Settings) {
        settings.recursors.leave_out(&self.places);
        self.resolver.replace(settings);
    }
}

/// Tells whether a datagram is a question, and what its name asks for can be told: for those who
/// feed the parsers with any bytes.
pub fn understands(bytes: &[u8]) -> bool {
    let settings = Settings::default();
    let Incoming::Question(request) = request::parse(bytes) else { return false };
    let asked = name::parse(&request.query.name, request.query.query_type, &settings);
    asked != name::Asked::Elsewhere
}

/// Listens at the configured addresses. Returns a handle, and what answers until the agent stops.
///
/// Must be called within a tokio runtime.
pub fn bind(
    config: Config,
    agent: Arc<Agent>,
) -> Result<(Dns, impl Future<Output = ()> + Send + use<>), BindError> {
    let mut sockets = Vec::new();
    let mut places = Vec::new();
    for addr in config.listen {
        let (bound, addr) = Sockets::bind(addr)?;
        sockets.push(bound);
        places.push(addr);
    }
    let mut settings = config.settings;
    settings.recursors.leave_out(&places);
    let resolver = Arc::new(Resolver::new(agent, settings));
    let dns = Dns { resolver: resolver.clone(), places: places.into() };
    Ok((dns, serve::run(resolver, sockets)))
}
