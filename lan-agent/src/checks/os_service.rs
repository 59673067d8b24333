//! Finds out by asking systemd: passing while the unit is active, warning while it is on its way
//! to or from that, else critical. Where there is no systemd, critical with a sentence that says so.

use std::{process::ExitStatus, time::Duration};

use super::{
    Finding,
    process::{End, Program, Run, RunError},
};
use crate::{catalog::Text, definition::OUTPUT_LEN_MAX, duration};

/// Makes what asks systemd for a unit, such as `nginx` or `nginx.service`.
pub(super) fn program(name: &str, timeout: Duration) -> Program {
    asking(&["systemctl"], name, timeout)
}

fn asking(systemctl: &[&str], name: &str, timeout: Duration) -> Program {
    let args = systemctl.iter().copied().chain(["is-active", "--", name]);
    Program::new(args.map(Text::from).collect(), timeout, OUTPUT_LEN_MAX)
}

/// Asks once.
pub(super) async fn find(name: &str, program: &mut Program) -> Finding {
    match program.run().await {
        Ok(Run { end: End::Exited(status), output }) => judged(name, status, output.text().trim()),
        Ok(Run { end: End::TimedOut | End::Flooded, .. }) => {
            let patience = duration::format(program.timeout());
            Finding::critical(format!("systemd did not say within {patience} how {name:?} is"))
        }
        Err(RunError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Finding::critical(format!(
                "can't tell how {name:?} is: this machine has no systemd (no systemctl was found)"
            ))
        }
        Err(error) => Finding::critical(error.to_string()),
    }
}

/// Judges what systemd said: the state of the unit in a word.
fn judged(name: &str, status: ExitStatus, said: &str) -> Finding {
    match said {
        "active" | "reloading" | "refreshing" => {
            Finding::passing(format!("Service {name:?} is healthy"))
        }
        "activating" | "deactivating" | "maintenance" => {
            Finding::warning(format!("Service {name:?} is {said}"))
        }
        "inactive" | "failed" => Finding::critical(format!("Service {name:?} is {said}")),
        "" | "unknown" => Finding::critical(format!("Service {name:?} is not known to systemd")),
        // Not a state: why systemd can't be asked.
        _ => Finding::critical(format!("can't tell how {name:?} is ({status}): {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::Health, checks::tests::PATIENCE};

    /// Asks a systemd that is this script.
    async fn ask(script: &str) -> Finding {
        let mut program = asking(&["/bin/sh", "-c", script, "systemctl"], "-unit", PATIENCE);
        find("-unit", &mut program).await
    }

    #[tokio::test]
    async fn the_state_of_the_unit_says_how_it_is() {
        for (state, code, health) in [
            ("active", 0, Health::Passing),
            ("reloading", 0, Health::Passing),
            ("activating", 3, Health::Warning),
            ("inactive", 3, Health::Critical),
            ("failed", 3, Health::Critical),
            ("unknown", 4, Health::Critical),
        ] {
            let said = format!("[ \"$*\" = 'is-active -- -unit' ] && echo {state}; exit {code}");
            let finding = ask(&said).await;
            assert_eq!(finding.health, health, "{state}");
            let output = match health {
                Health::Passing => "Service \"-unit\" is healthy".to_owned(),
                _ if state == "unknown" => "Service \"-unit\" is not known to systemd".to_owned(),
                _ => format!("Service \"-unit\" is {state}"),
            };
            assert_eq!(finding.output, output);
        }
    }

    #[tokio::test]
    async fn where_there_is_no_systemd_a_sentence_says_so() {
        let finding = ask("echo 'System has not been booted with systemd' >&2; exit 1").await;
        assert_eq!(finding.health, Health::Critical);
        assert!(finding.output.contains("has not been booted"), "{}", finding.output);
        let mut missing = asking(&["/nowhere/systemctl"], "unit", PATIENCE);
        let finding = find("unit", &mut missing).await;
        assert_eq!(finding.health, Health::Critical);
        assert!(finding.output.contains("no systemd"), "{}", finding.output);
    }

    #[tokio::test]
    async fn the_real_one_knows_no_such_unit() {
        let mut program = program("causeway-no-such-unit", PATIENCE);
        assert_eq!(find("causeway-no-such-unit", &mut program).await.health, Health::Critical);
    }
}
