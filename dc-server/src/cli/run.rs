//! What `topology` and `drill` have in common: which plan to run, with which program, where, and
//! how long people want it to.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use topology::plan::{self, Plan};

use crate::{
    cli::flags::{self, Flag, Line},
    processes::{Config, Federation, Keep, Security},
};

/// The flags of every command that runs a plan.
pub(super) const FLAGS: [Flag; 3] = [
    Flag::value("dir", "path", "Keep configuration, data and logs in this new or empty directory."),
    Flag::value("binary", "path", "Run the agents of this program instead of this one."),
    Flag::bool("plain", "Run the agents without certificates, to compare with other programs."),
];

/// Takes a command line apart whose flags may stand before and after its arguments.
pub(super) fn parse(flags: &[Flag], words: &[String]) -> Result<Line, flags::FlagError> {
    let mut line = flags::parse(flags, words)?;
    let mut args = Vec::new();
    while !line.args.is_empty() {
        let rest = line.args.split_off(1);
        args.append(&mut line.args);
        let more = flags::parse(flags, &rest)?;
        line.flags.extend(more.flags);
        line.help |= more.help;
        line.args = more.args;
    }
    line.args = args;
    Ok(line)
}

/// Reads a plan: one that comes with the program, by name, or a file; the default without either.
pub(super) fn plan(named: Option<&str>) -> anyhow::Result<Plan> {
    let named = named.unwrap_or(plan::DEFAULT);
    if let Some(plan) = Plan::embedded(named) {
        return plan.with_context(|| format!("plan {named}"));
    }
    let text = fs::read_to_string(named).with_context(|| {
        let known = Plan::embedded_names().collect::<Vec<_>>().join(", ");
        format!("can't read plan {named} (the program comes with {known})")
    })?;
    Plan::parse(&text).with_context(|| format!("plan {named}"))
}

/// Puts together how a plan is to be run; `itself` is the running program.
pub(super) fn config(line: &Line, plan: Plan, itself: PathBuf) -> Config {
    Config {
        plan,
        binary: line.value("binary").map_or(itself, PathBuf::from),
        security: if line.is_set("plain") { Security::Plain } else { Security::Certificates },
        dir: line.value("dir").map(PathBuf::from),
        seed: std::process::id(),
        now: time::OffsetDateTime::now_utc(),
    }
}

/// Takes a federation down and says where its files are, if they are still there.
pub(super) async fn stop(federation: Federation, keep: Keep) -> anyhow::Result<()> {
    if let Some(dir) = federation.stop(keep).await? {
        eprintln!("configuration, data and logs are in {}", dir.display());
    }
    Ok(())
}

/// Whoever wants the program to end: Ctrl-C, SIGTERM, or a terminal that is closed.
pub(super) struct Interrupt {
    signals: [Signal; 3],
}

impl Interrupt {
    /// Listens from now on; done before anything is started that has to be taken down.
    pub(super) fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self { signals: [interrupt?, terminate?, hangup?] })
    }

    /// Waits for the first.
    pub(super) async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            biased;
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
            _ = hangup.recv() => (),
        }
    }
}

/// Returns the only argument, if there is one.
pub(super) fn only_argument(line: &Line) -> anyhow::Result<Option<&str>> {
    match line.args.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        [_, second, ..] => bail!("too many arguments: {second:?} is one more than expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_stand_before_and_after_arguments() {
        let line = parse(&FLAGS, &words("-plain plan.toml -dir=/run/x")).unwrap();
        assert_eq!(line.args, ["plan.toml"]);
        assert_eq!(line.value("dir"), Some("/run/x"));
        assert!(line.is_set("plain"));
    }

    #[test]
    fn a_plan_that_is_not_there_is_an_error_that_names_the_ones_there_are() {
        let error = plan(Some("/nowhere/at-all.toml")).unwrap_err().to_string();
        assert!(error.contains("three-dc"), "{error}");
    }
}
