//! Why what is written in the primary datacenter can't be.

use lan_agent::ask::AskError;

use super::way::Map;

/// What goes on all the same.
const READS_GO_ON: &str =
    "config entries are written in the primary datacenter alone; reads of them go on here";

/// Adds to the error of a write that did not reach the primary datacenter what that means.
pub(super) fn unreachable(error: AskError) -> AskError {
    match error {
        AskError::NoPath { dc } => {
            let reason = format!("nobody here has heard of {dc}; {READS_GO_ON}");
            AskError::NoServer { dc, reason }
        }
        AskError::NoServer { dc, reason } => {
            AskError::NoServer { dc, reason: format!("{reason}; {READS_GO_ON}") }
        }
        AskError::Deadline(text) => AskError::Deadline(format!("{text}; {READS_GO_ON}")),
        AskError::Failed(text) => AskError::Failed(format!("{text}; {READS_GO_ON}")),
        error => error,
    }
}

/// Refuses a write from who takes this datacenter for the primary.
pub(super) fn mistaken(map: &Map) -> AskError {
    let Map { home, primary } = map;
    AskError::Bad(format!(
        "config entries are written in the primary datacenter alone: that is {primary} as {home} is configured, \
         and {home} as whoever asks is (primary_datacenter)"
    ))
}
