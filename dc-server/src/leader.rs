//! What the leader of a datacenter does for it, and how there comes to be one.

pub mod autopilot;
pub mod bootstrap;
