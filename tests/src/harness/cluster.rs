//! Datacenters of agents.
