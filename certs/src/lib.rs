//! Who may speak, and the link they speak over.
//!
//! An [`ca::Authority`] issues certificates that say a datacenter, a role and a node
//! ([`identity::Identity`]); [`store::Keys`] holds a node's own certificate and the authorities
//! it trusts, and replaces them while connections live on; [`link::Endpoint`] speaks QUIC with
//! mutual TLS to the nodes that can prove who they are, and to nobody else.
//!
//! This is the only crate that names rustls, rcgen or quinn. It fails closed: a certificate that
//! can't be read, is expired, comes from another authority or says another role or datacenter
//! than expected ends the handshake, and both sides log why.

pub mod error;

pub mod identity;

pub mod ca;

pub mod store;

pub mod local;

mod verify;

pub mod link;

#[cfg(test)]
mod fabric;
