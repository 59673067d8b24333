//! The way to other datacenters.
//!
//! The servers of all datacenters form a pool of their own, keep a connection to each other and
//! judge by these which datacenters can be reached. A request for another datacenter is put in an
//! [`Envelope`] and handed to one of its servers. What an envelope carries is never looked into:
//! datacenters of different versions can federate.

pub mod envelope;

pub mod word;

pub mod sight;

pub mod verdict;

pub mod routes;

pub mod breaker;

pub mod gate;

pub mod watch;

mod table;

pub mod forward;

pub mod error;

pub use envelope::{Consistency, Envelope};
pub use error::{Effect, ForwardError};
pub use verdict::{Degradation, Health, Verdict};
pub use word::Word;
