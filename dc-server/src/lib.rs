//! An agent plus Raft plus federation.

pub mod leader;
