//! The command line.

pub mod drill;
pub mod flags;
pub mod run;
pub mod topology;
