//! Who may speak, and the link they speak over.
//!
//! An [`ca::Authority`] issues certificates that say a datacenter, a role and a node
//! ([`identity::Identity`]); [`store::Keys`] holds a node's own certificate and the authorities
//! it trusts, and replaces them while connections live on; [`link::Endpoint`] speaks QUIC with
//! mutual TLS to the nodes that can prove who they are, and to nobody else. [`https`] is TLS as
//! the rest of the world speaks it, for the HTTP interface and those who call it.
//!
//! This is the only crate that names rustls, tokio-rustls, rcgen or quinn. It fails closed: a certificate that
//! can't be read, is expired, comes from another authority or says another role or datacenter
//! than expected ends the handshake, and both sides log why.

pub mod error;

pub mod identity;

pub mod ca;

pub mod store;

pub mod local;

mod verify;

pub mod link;

pub mod initial;

pub mod https;

pub mod complaints;

mod metrics;

#[cfg(test)]
mod fabric;
