//! The map of a federation: which nodes exist, where they are and how healthy they are.
//!
//! Declared (a [`plan`] file) and learned: who is there by [`gossip`], how far away by [`coordinate`].
//! Everything here is a function of values: no socket is opened and no clock is read; `now` and the
//! random generator are arguments, and whoever drives an engine carries out what it asks for.

pub mod name;

pub mod member;

pub mod plan;

pub mod gossip;

pub mod gateway;

pub mod coordinate;

pub use coordinate::Coordinate;
pub use member::{Member, Profile, Role, Status};
pub use name::{Datacenter, NameError, NodeId, NodeName};
