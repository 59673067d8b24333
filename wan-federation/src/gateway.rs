//! A gateway: one UDP port through which all servers of a datacenter are reached.
//!
//! ```text
//! clients            gateway                                       servers
//!   | -- Initial ---> |  reads the server's name in the ClientHello   |
//!   |                 | -- Initial, from a port of the flow's own --> |
//!   | <-------------- | <-------------------------------------------- |
//!   | -- the rest --> |  by address and connection id                 |
//!   |                 | --------------------------------------------> |
//! ```
//!
//! It relays datagrams and changes none. It holds no key, can read nothing but the name and forge nothing at
//! all: client and server authenticate each other through it. [`map`] knows the servers, [`flows`]
//! decides what becomes of each datagram, both functions of values; [`driver`] has the sockets.
//!
//! A flow is a client's address and a server. The connection ids that servers draw begin with a tag
//! of the server ([`topology::gateway::tag`]), so that a packet that belongs to no flow yet finds its server
//! as well: that of a client whose address changed, or one that came through another gateway before. The server
//! sees such a client at a new address and makes sure of it, as QUIC has it (RFC 9000, section 9).
//!
//! Whoever did not prove that it gets what is sent to its address is sent three times what came from there at
//! most, and there is a bound on how many such there are. What makes no sense is dropped without a word.

pub mod driver;
pub mod flows;
pub mod map;

mod budget;
mod ids;
mod metrics;
mod socket;

#[cfg(test)]
mod tests;

pub use driver::{Config, Gateway};
pub(crate) use resolve::resolve;

mod resolve;
