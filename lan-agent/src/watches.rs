//! Watches: something of the catalog or of the keys is looked at, and a handler hears of each change.
//!
//! ```text
//! configuration, command line ──▶ Watch { view, handler }
//!
//! view ──▶ ask, blocking ──▶ answer ──▶ Progress: anything new? ──▶ JSON ──▶ handler
//!              ▲                            │
//!              └──────── from its index ◀───┘   later and later after failures
//! ```
//!
//! [`definition`] reads watches, [`view`] says what is asked and what a handler reads of the answer,
//! [`progress`] decides when it hears of it: all functions of values. [`Watches`] runs those of an
//! agent's configuration; the command line has a loop of its own. A handler that fails costs its
//! own watch one message in the log; one that hangs holds up its own watch.

pub mod definition;
pub mod progress;
pub mod view;

mod driver;
mod handler;

use std::{collections::BTreeMap, time::Duration};

pub use self::{definition::WatchError, driver::Watches, progress::Progress, view::View};
use crate::catalog::Text;

/// What is watched, and who hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What is looked at.
    pub view: View,
    /// The datacenter; empty for the agent's own.
    pub datacenter: String,
    /// Whether any server may answer.
    pub stale: bool,
    /// The token to ask with; empty for none.
    pub token: String,
    /// Who hears of changes.
    pub handler: Handler,
}

/// Who hears of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// A program with its arguments, which reads the value from its standard input.
    Program(Vec<String>),
    /// A line for a shell, which does the same (`handler`).
    Shell(String),
    /// A request whose body is the value.
    Http(HttpHandler),
}

/// A request that tells of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHandler {
    /// Where, `http://` or `https://`.
    pub url: Text,
    /// Its method; POST by default.
    pub method: Text,
    /// Its headers, beside those that every one has.
    pub header: BTreeMap<Text, Vec<Text>>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether any certificate will do.
    pub tls_skip_verify: bool,
}
