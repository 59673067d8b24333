//! An agent plus Raft plus federation.

pub mod blocking;
pub mod cli;
pub mod config;
pub mod drill;
pub mod http_client;
pub mod leader;
pub mod processes;
pub mod query;
pub mod raft;
pub mod state;
