//! An agent plus Raft plus federation: a server of a datacenter; and the program around it, `causeway`.

pub mod blocking;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod dispatch;
pub mod drill;
pub mod http_client;
pub mod leader;
pub mod link_service;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod processes;
pub mod query;
pub mod raft;
pub mod release;
pub mod server;
pub mod state;
pub mod status;
