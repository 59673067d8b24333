//! `causeway drill`: runs a plan, breaks it on purpose, and says whether the bounds were kept.
//!
//! Progress goes to standard error, the report to standard output. Exit code 0: every bound was
//! kept; 1: one was broken, or the drill could not be held.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use topology::{Datacenter, plan::Plan};

use crate::{
    cli::{
        Command,
        flags::{self, Flag, Line},
        run::{self, Interrupt},
    },
    drill::{
        lose_datacenter::{self, DOWN_DEFAULT, DOWN_MAX, DOWN_MIN},
        report::Report,
    },
    processes::{
        Federation, Keep,
        progress::{Progress, Stderr},
    },
};

const USAGE: &str = "\
Usage: causeway drill lose-datacenter [options]

  Starts a plan, lets clients write and read in and across all datacenters,
  kills every server of one datacenter, starts them again, and prints what
  happened when, what clients saw, and which bounds were kept. Exits with 1 when
  one was broken.

Options:
";

/// The flags of `lose-datacenter`, besides those of everything that runs a plan.
const FLAGS: [Flag; 5] = [
    Flag::value("plan", "file|name", "The plan to run; three datacenters when left out."),
    Flag::value("dc", "name", "The datacenter to lose; the second of the plan when left out."),
    Flag::value("seconds-down", "number", "How long its servers stay down; 10 when left out."),
    Flag::value("format", "pretty|json", "How to print the report."),
    Flag::bool("keep", "Keep configuration, data and logs also of a drill that went well."),
];

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Pretty,
    Json,
}

/// The command.
pub(super) const COMMAND: Command = Command::program(
    "drill",
    "Breaks a topology on purpose and judges what happens",
    |words, itself| Box::pin(async move { run(&words, itself).await }),
);

/// Runs the command; `itself` is the running program.
pub async fn run(words: &[String], itself: PathBuf) -> anyhow::Result<ExitCode> {
    let flags: Vec<Flag> = FLAGS.into_iter().chain(run::FLAGS).collect();
    let line = run::parse(&flags, words)?;
    let named = run::only_argument(&line)?;
    if line.help || named.is_none() {
        print!("{USAGE}{}", flags::help(&flags));
        return Ok(if line.help { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    match named {
        Some("lose-datacenter") => lose_datacenter(&line, itself).await,
        other => bail!("no drill {:?}: there is lose-datacenter", other.unwrap_or_default()),
    }
}

async fn lose_datacenter(line: &Line, itself: PathBuf) -> anyhow::Result<ExitCode> {
    let plan = run::plan(line.value("plan"))?;
    let options = options(line, &plan)?;
    let format = format(line)?;
    options.check(&plan)?;
    let progress = Stderr::new();
    let mut interrupt = Interrupt::listen()?;
    let mut federation = Federation::start(run::config(line, plan, itself))?;
    let outcome = tokio::select! {
        biased;
        () = interrupt.wait() => Ok(None),
        report = lose_datacenter::run(options, &mut federation, &progress) => {
            report.map(Some).map_err(anyhow::Error::from)
        }
    };
    progress.step("taking everything down");
    run::stop(federation, keep(line, &outcome)).await?;
    let Some(report) = outcome? else {
        eprintln!("interrupted: nothing was judged");
        return Ok(ExitCode::FAILURE);
    };
    match format {
        Format::Pretty => print!("{}", report.text()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Files stay when they are wanted, and when they are needed to see what went wrong.
fn keep(line: &Line, outcome: &anyhow::Result<Option<Report>>) -> Keep {
    let went_well = match outcome {
        Ok(None) => true,
        Ok(Some(report)) => report.kept,
        Err(_) => false,
    };
    if line.is_set("keep") || !went_well { Keep::Files } else { Keep::Nothing }
}

fn options(line: &Line, plan: &Plan) -> anyhow::Result<lose_datacenter::Options> {
    let dc = match line.value("dc") {
        Some(name) => Datacenter::new(name)?,
        None => {
            let second = plan.datacenters.get(1).context("the plan has only one datacenter")?;
            second.name.clone()
        }
    };
    let down = match line.value("seconds-down") {
        None => DOWN_DEFAULT,
        Some(text) => {
            let seconds: u64 = text.parse().with_context(|| format!("-seconds-down={text}"))?;
            Duration::from_secs(seconds)
        }
    };
    if !(DOWN_MIN..=DOWN_MAX).contains(&down) {
        let (least, most) = (DOWN_MIN.as_secs(), DOWN_MAX.as_secs());
        bail!("-seconds-down must be from {least} to {most}: the verdict needs its time");
    }
    Ok(lose_datacenter::Options { dc, down })
}

fn format(line: &Line) -> anyhow::Result<Format> {
    match line.value("format") {
        None | Some("pretty") => Ok(Format::Pretty),
        Some("json") => Ok(Format::Json),
        Some(other) => bail!("-format must be pretty or json, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> anyhow::Result<lose_datacenter::Options> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let line = run::parse(&FLAGS, &words)?;
        options(&line, &run::plan(line.value("plan"))?)
    }

    #[test]
    fn the_second_datacenter_is_lost_when_none_is_named() {
        assert_eq!(parsed("").unwrap().dc.as_str(), "dc2");
        assert_eq!(parsed("-dc=dc3").unwrap().dc.as_str(), "dc3");
    }

    #[test]
    fn the_time_down_has_bounds() {
        assert_eq!(parsed("").unwrap().down, DOWN_DEFAULT);
        assert_eq!(parsed("-seconds-down 7").unwrap().down, Duration::from_secs(7));
        assert!(parsed("-seconds-down 1").is_err());
        assert!(parsed("-seconds-down soon").is_err());
    }
}
