//! Showing people what is going on while it goes on: on standard error, so that standard output
//! holds nothing but the result.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

/// Takes what happens.
pub trait Progress: Send + Sync {
    /// Something happened: a line that stays.
    fn step(&self, line: &str);
    /// How things stand: replaces the last such line, and is nothing where lines can't be replaced.
    fn live(&self, line: &str);
}

/// Writes to standard error: with one live line when it is a terminal.
#[derive(Debug)]
pub struct Stderr {
    terminal: bool,
    live: Mutex<bool>,
}

impl Stderr {
    /// Looks at what standard error is.
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), live: Mutex::new(false) }
    }

    fn write(&self, text: &str, live: bool) {
        let mut shown = self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let clear = if *shown { "\r\x1b[K" } else { "" };
        let end = if live { "" } else { "\n" };
        // Who can't be shown the progress can still be shown the result.
        let _ = write!(io::stderr(), "{clear}{text}{end}");
        let _ = io::stderr().flush();
        *shown = live;
    }
}

impl Default for Stderr {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Stderr {
    fn step(&self, line: &str) {
        self.write(line, false);
    }

    fn live(&self, line: &str) {
        if self.terminal {
            self.write(line, true);
        }
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn step(&self, _: &str) {}
    fn live(&self, _: &str) {}
}
