//! Endpoints over a network in memory, on a paused clock.

mod abuse;
mod calls;
mod log;
mod nodes;
mod paths;
mod refusals;
mod rotation;
mod standing;
mod watching;
