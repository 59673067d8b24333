//! One node's life in its datacenter: its place in the LAN pool, what it asks of the
//! servers, and the HTTP interface that it offers to the applications beside it.
//!
//! [`ask`] defines what may be asked of a server, [`caller`] by which way.

pub mod ask;
pub mod caller;
