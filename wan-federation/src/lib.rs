//! The way to other datacenters.
//!
//! The servers of all datacenters form a pool of their own, keep a connection to each other and
//! judge by these which datacenters can be reached. A request for another datacenter is put in an
//! [`Envelope`] and handed to one of its servers. What an envelope carries is never looked into:
//! datacenters of different versions can federate.

pub mod federation;

pub mod answer;

pub mod forward;

pub mod journey;

pub mod attempt;

pub mod hedge;

pub mod detour;

pub mod relay;

pub mod envelope;

pub mod error;

pub mod pool;

pub mod seeds;

pub mod word;

pub mod sight;

pub mod timeline;

pub mod report;

pub mod removal;

pub mod gateway;

pub mod gateways;

mod notice;

mod share;

mod demand;

pub mod watch;

pub mod verdict;

pub mod matrix;

pub mod routes;

pub mod gate;

pub mod breaker;

pub mod metrics;

mod driver;

mod inbox;

mod table;

pub use answer::Inside;
pub use detour::Detours;
pub use envelope::{Consistency, Envelope};
pub use error::{Effect, ForwardError, PoolError};
pub use federation::{Config, Federation, Randomness};
pub use forward::{Forwarded, Promise};
pub use matrix::Matrix;
pub use report::Report;
pub use verdict::{Degradation, Health, Verdict};
pub use word::Word;
