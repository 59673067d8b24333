//! Finds out by a program of the operator's: exit code 0 is passing, 1 warning, any other critical.
//!
//! The rules are those of Nagios' plugins, except that everything beyond 1 is critical. The end of
//! what the program prints is the check's output.

use std::time::Duration;

use super::{
    Finding,
    process::{End, Program, Run},
};
use crate::{catalog::Health, duration};

/// Runs the program once.
pub(super) async fn find(program: &mut Program) -> Finding {
    match program.run().await {
        Ok(Run { end, output }) => Finding {
            health: health(end),
            output: explained(end, program.timeout(), output.captured()),
        },
        Err(error) => Finding::critical(error.to_string()),
    }
}

fn health(end: End) -> Health {
    match end {
        End::Exited(status) => of_exit_code(status.code()),
        End::TimedOut | End::Flooded => Health::Critical,
    }
}

/// Says what an exit code means; one that a signal ended has none.
pub(super) fn of_exit_code(code: Option<i32>) -> Health {
    match code {
        Some(0) => Health::Passing,
        Some(1) => Health::Warning,
        _ => Health::Critical,
    }
}

fn explained(end: End, timeout: Duration, output: String) -> String {
    match end {
        End::Exited(_) => output,
        End::TimedOut => timed_out(timeout, output),
        End::Flooded => format!("The check printed too much and was killed\n\n{output}"),
    }
}

/// Says that a program took too long, and what it printed before.
pub(super) fn timed_out(timeout: Duration, output: String) -> String {
    let reason = format!("Timed out ({}) running check", duration::format(timeout));
    if output.is_empty() { reason } else { format!("{reason}\n\n{output}") }
}
