//! Drills: a federation is broken on purpose, under load, and held to its bounds.
//!
//! ```text
//!   plan -> processes -> drill { given, break, expect, recover } -> history -> report
//!                            workload, observe                     timeline, audit, bounds
//! ```
//!
//! A drill is one file. What it judges by is what clients saw, written down in a [`history`]; the
//! judgement is a function of that. A drill that finds a broken bound is a result, not an error.

pub mod audit;
pub mod bounds;
pub mod history;
pub mod kv;
pub mod lose_datacenter;
pub mod observe;
pub mod report;
pub mod timeline;
pub mod workload;

#[cfg(test)]
mod sample;

use topology::Datacenter;

use crate::processes::error::ProcessesError;

/// Says why a drill can't be held.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The plan has no such datacenter, or no other one.
    #[error("can't lose {dc}: the plan has {}, and the drill needs another one to watch from",
        .all.iter().map(Datacenter::as_str).collect::<Vec<_>>().join(", "))]
    Datacenter {
        /// The one to lose.
        dc: Datacenter,
        /// The ones there are.
        all: Vec<Datacenter>,
    },
    /// The federation can't be run.
    #[error(transparent)]
    Processes(#[from] ProcessesError),
}
