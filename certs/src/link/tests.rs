//! Endpoints over a network in memory, on a paused clock.

mod calls;
mod nodes;
mod paths;
mod refusals;
mod rotation;
