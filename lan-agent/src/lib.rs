//! One node's life in its datacenter: its place in the LAN pool, what it asks of the
//! servers, and the HTTP interface that it offers to the applications beside it.
//!
//! [`ask`] defines what may be asked of a server, [`caller`] by which way; [`servers`] chooses
//! among the servers; [`pool`] knows the other nodes; [`agent`] puts them together for [`http`].
//! [`checks`] finds out how the services beside it are; [`filter`] says which records of an answer
//! are wanted; [`cache`] holds what the servers said, for when they don't answer, and [`refuge`] knows who else
//! may be asked then. [`coordinates`] tells them where this node is.

pub mod agent;
pub mod ask;
pub mod cache;
pub mod caller;
pub mod catalog;
pub mod checks;
pub mod coordinates;
pub mod definition;
pub mod dns;
pub mod duration;
pub mod files;
pub mod filter;
mod flights;
pub mod http;
pub mod local;
pub mod log;
pub mod lookup;
pub mod metrics;
pub mod pool;
pub mod process;
pub mod refuge;
pub mod remote;
pub mod servers;
pub mod standing;
pub mod telemetry;
pub mod watches;

pub use agent::Agent;
