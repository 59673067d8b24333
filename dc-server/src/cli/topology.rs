//! `causeway topology`: runs a plan as processes of this machine until Ctrl-C, renders it for containers, or shows it.

use std::{fmt::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use topology::plan::{Plan, Site};

use crate::{
    cli::{
        Command,
        flags::{self, Flag, Line},
        run::{self, Interrupt},
    },
    compose::{self, project, subnet},
    http_client::HttpClient,
    processes::{
        Federation, Keep,
        layout::{DNS_PORT, Gateway, Layout, WAN_PORT},
        progress::{Progress, Stderr},
    },
};

/// How long a plan may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// How often the processes are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const USAGE: &str = "\
Usage: causeway topology <subcommand> [options] [PLAN]

  Runs a plan of datacenters as processes of this machine, each node on a
  loopback address of its own, or writes the files to run it in containers.
  PLAN is a TOML file or the name of a plan that comes with the program; three
  datacenters when left out.

      $ causeway topology up
      $ causeway topology render -dir=federation && cd federation
      $ docker-compose up -d

Subcommands:
    render      Writes what docker-compose needs to run a plan
    show        Shows what a plan holds
    up          Runs a plan until Ctrl-C
    validate    Says whether a plan can be run

Options:
";

/// The flags of `render`.
const RENDER_FLAGS: [Flag; 4] = [
    Flag::value("dir", "path", "Write to this new or empty directory."),
    Flag::value("format", "name", "What to write: compose, for docker-compose; the default."),
    Flag::value("binary", "path", "Put this program into the containers instead of this one."),
    Flag::value(
        "subnet",
        "network",
        "Take addresses from this private network; the default is 10.77.0.0/16.",
    ),
];

/// The command.
pub(super) const COMMAND: Command =
    Command::program("topology", "Runs a plan of datacenters on this machine", |words, itself| {
        Box::pin(async move { run(&words, itself).await })
    });

/// Runs the command; `itself` is the running program.
pub async fn run(words: &[String], itself: PathBuf) -> anyhow::Result<ExitCode> {
    let (subcommand, words) = match words.split_first() {
        Some((first, rest)) if !first.starts_with('-') => (first.as_str(), rest),
        _ => ("", words),
    };
    let flags = if subcommand == "render" { &RENDER_FLAGS[..] } else { &run::FLAGS };
    let line = run::parse(flags, words)?;
    if line.help || subcommand.is_empty() {
        print!("{USAGE}{}", flags::help(flags));
        return Ok(if line.help { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let named = run::only_argument(&line)?;
    match subcommand {
        "up" => {
            let plan = run::plan(named)?;
            let interrupt = Interrupt::listen()?;
            up(Federation::start(run::config(&line, plan, itself))?, interrupt).await?;
        }
        "render" => print!("{}", render(&line, run::plan(named)?, itself)?),
        "show" => print!("{}", shown(&run::plan(named)?)),
        "validate" => {
            let plan = run::plan(named)?;
            println!("valid: {} datacenters", plan.datacenters.len());
        }
        other => bail!("no subcommand {other:?}: there is render, show, up, validate"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the files for containers; returns what to do with them.
fn render(line: &Line, plan: Plan, itself: PathBuf) -> anyhow::Result<String> {
    if let Some(other) = line.value("format").filter(|format| *format != "compose") {
        bail!("-format={other}: there is compose");
    }
    let Some(dir) = line.value("dir") else {
        bail!("-dir is missing: name a new or empty directory")
    };
    let subnet = line.value("subnet").map(str::parse).transpose()?;
    let settings = compose::Settings {
        plan,
        dir: PathBuf::from(dir),
        binary: line.value("binary").map_or(itself, PathBuf::from),
        subnet: subnet.unwrap_or(subnet::DEFAULT),
        now: time::OffsetDateTime::now_utc(),
    };
    let layout = compose::render(&settings)?;
    Ok(project::how_to(&layout, dir))
}

async fn up(mut federation: Federation, mut interrupt: Interrupt) -> anyhow::Result<()> {
    let progress = Stderr::new();
    let outcome = tokio::select! {
        biased;
        () = interrupt.wait() => Ok(()),
        outcome = serve(&mut federation, &progress) => outcome,
    };
    let keep = if outcome.is_ok() { Keep::Nothing } else { Keep::Files };
    progress.step("taking it down");
    run::stop(federation, keep).await?;
    outcome
}

/// Waits until the federation is ready, says where it is, and says which nodes end, for good.
async fn serve(federation: &mut Federation, progress: &Stderr) -> anyhow::Result<()> {
    progress.step(&federation.started());
    federation.ready(&HttpClient::new(), progress, READY_WITHIN).await?;
    progress.live("");
    print!("{}", listening(federation));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for ended in federation.reap()? {
            progress.step(&format!("{} ended ({})", ended.node, ended.how));
        }
    }
}

fn listening(federation: &Federation) -> String {
    let layout = federation.layout();
    let mut out = table(layout);
    let _ = write!(out, "\n{}", examples(layout));
    let dir = federation.dir().display();
    let _ = writeln!(out, "\nConfiguration, data and logs: {dir}/<datacenter>/<node>");
    let _ = writeln!(out, "Ctrl-C takes everything down.");
    out
}

fn table(layout: &Layout) -> String {
    let mut out =
        format!("{:<12} {:<12} {:<8} {:<27} {}\n", "Datacenter", "Node", "Role", "HTTP API", "DNS");
    for node in &layout.nodes {
        let _ = writeln!(
            out,
            "{:<12} {:<12} {:<8} {:<27} {}:{DNS_PORT}",
            node.dc,
            node.name,
            node.role,
            format!("http://{}", node.http()),
            node.ip
        );
    }
    for gateway in &layout.gateways {
        let Gateway { dc, name, wan, .. } = gateway;
        let _ = writeln!(out, "{dc:<12} {name:<12} {:<8} {wan}:{WAN_PORT} (UDP)", "gateway");
    }
    out
}

/// Commands to try: write in the first datacenter, read from the last.
fn examples(layout: &Layout) -> String {
    let (Some(first), Some(last)) = (layout.nodes.first(), layout.nodes.last()) else {
        return String::new();
    };
    let (here, there, dc) = (first.http(), last.http(), &first.dc);
    format!(
        "Try:\n  \
         curl -X PUT -d hello http://{here}/v1/kv/greeting\n  \
         curl 'http://{there}/v1/kv/greeting?dc={dc}&raw'\n  \
         causeway members -http-addr={here} -wan\n"
    )
}

fn shown(plan: &Plan) -> String {
    let mut out =
        format!("{:<20} {:>8} {:>8} {:>8}\n", "Datacenter", "Servers", "Clients", "Gateways");
    for site in &plan.datacenters {
        let Site { name, servers, clients, gateways } = site;
        let _ = writeln!(out, "{name:<20} {servers:>8} {clients:>8} {gateways:>8}");
    }
    if let Some(primary) = &plan.primary {
        let _ = writeln!(out, "\nPrimary datacenter: {primary}");
    }
    out
}
