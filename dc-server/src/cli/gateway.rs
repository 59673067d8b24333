//! `causeway gateway`: one UDP port for the servers of a datacenter, until it is told to stop.
//!
//! It reads no key and no certificate, keeps nothing and writes no file. What flags and files say is
//! put together and checked before anything is bound.

use std::{fs, net::SocketAddr, path::Path, process::ExitCode};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use topology::{Datacenter, NodeName};
use tracing::info;
use wan_federation::{
    gateway::{Config, Gateway, flows::Bounds, map::SERVERS_MAX},
    seeds,
};

use crate::{
    cli::{
        Command, agent,
        flags::{self, Flag, Line},
        run::{self, Interrupt},
    },
    config::{agent::Log, hcl},
    logging, release,
};

/// Open files that are no socket of a flow.
const FILES_KEPT: u64 = 64;

const USAGE: &str = "\
Usage: causeway gateway [options]

  Runs a gateway: one UDP port through which the servers of a datacenter are
  reached from others. It passes QUIC packets on by the name of the server that
  their handshake asks for, and can neither read nor change what is said: it has
  no key. Run two or more, and name them all on the servers.

  A gateway for the three servers of dc2:

      $ causeway gateway -datacenter=dc2 -server=dc2-s1=10.0.0.1 \\
          -server=dc2-s2=10.0.0.2 -server=dc2-s3=10.0.0.3:8302

  On these servers, so that other datacenters go through two gateways:

      federation { gateways = [\"gw1.example.com\", \"gw2.example.com:8302\"] }

  The same from a file, with flags going first:

      $ causeway gateway -config-file=gateway.hcl -bind=0.0.0.0:18302

      datacenter = \"dc2\"
      servers    = [\"dc2-s1=10.0.0.1\", \"dc2-s2=10.0.0.2\", \"dc2-s3=10.0.0.3\"]

Options:
";

const FLAGS: [Flag; 6] = [
    Flag::value(
        "bind",
        "address:port",
        "Where to listen (UDP) for other datacenters. The default is 0.0.0.0:8302.",
    ),
    Flag::value(
        "config-file",
        "path",
        "A file in HCL or JSON with bind, datacenter, servers, log_level and log_json.",
    ),
    Flag::value("datacenter", "name", "The datacenter that the servers are of."),
    Flag::bool("log-json", "Log in JSON lines rather than text."),
    Flag::value(
        "log-level",
        "level",
        "One of trace, debug, info, warn and err. The default is info.",
    ),
    Flag::value(
        "server",
        "name=host:port",
        "A server: its node name and where its WAN address is. A host name is looked up again every 30 s; the port is 8302 when left out. Can be repeated.",
    ),
];

/// The command.
pub(super) const COMMAND: Command = Command::relay(
    "gateway",
    "Relays other datacenters to the servers of one",
    |words, _itself| Box::pin(async move { run(&words).await }),
);

/// What a file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bind: Option<String>,
    datacenter: Option<String>,
    #[serde(default)]
    servers: Vec<String>,
    log_level: Option<String>,
    log_json: Option<bool>,
}

/// How a gateway is to be run.
#[derive(Debug)]
struct Settings {
    bind: SocketAddr,
    dc: Datacenter,
    servers: Vec<(NodeName, String)>,
    log: Log,
}

async fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let line = run::parse(&FLAGS, words)?;
    if line.help {
        print!("{USAGE}{}", flags::help(&FLAGS));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(argument) = line.args.first() {
        bail!("{argument:?}: a gateway takes flags only");
    }
    let Settings { bind, dc, servers, log } = settings(&line)?;
    let mut interrupt = Interrupt::listen()?;
    let (_level, _taps) = logging::start(&log)?;
    let names: Vec<String> = servers.iter().map(|(name, host)| format!("{name}={host}")).collect();
    let config = Config { bind, dc: dc.clone(), servers, bounds: bounds() };
    let flows_max = config.bounds.flows;
    let (gateway, relaying) = Gateway::bind(config)
        .with_context(|| format!("can't listen at {bind} (UDP) for other datacenters"))?;
    println!("==> Starting Causeway gateway...");
    println!("           Version: '{}'", release::VERSION);
    println!("        Datacenter: '{dc}'");
    println!("         Listening: {} (UDP)", gateway.local_addr()?);
    println!("           Servers: [{}]", names.join(" "));
    println!("             Flows: {flows_max} at most");
    println!();
    println!("==> Log data will now stream in as it occurs:");
    println!();
    info!(%dc, addr = %gateway.local_addr()?, servers = names.len(), "gateway started");
    tokio::select! {
        biased;
        () = interrupt.wait() => {}
        () = agent::orphaned() => {}
        () = relaying => {}
    }
    info!(flows = gateway.open_flows(), "gateway stopped");
    Ok(ExitCode::SUCCESS)
}

/// Allows as many flows as there may be sockets.
fn bounds() -> Bounds {
    let bounds = Bounds::default();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = bounds.flows as u64 + FILES_KEPT;
    let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let mut allowed = current.unwrap_or(u64::MAX);
    if allowed < raised
        && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok()
    {
        allowed = raised;
    }
    let flows = usize::try_from(allowed.saturating_sub(FILES_KEPT)).unwrap_or(usize::MAX);
    let flows = flows.clamp(1, bounds.flows);
    Bounds { flows, unverified: bounds.unverified.min(flows.div_ceil(4)), ..bounds }
}

/// Puts flags and the file together.
fn settings(line: &Line) -> anyhow::Result<Settings> {
    let file = line.value("config-file").map(read).transpose()?.unwrap_or_default();
    let bind = line.value("bind").or(file.bind.as_deref()).unwrap_or("0.0.0.0:8302");
    let bind = bind.parse().with_context(|| format!("bind: {bind:?} is no address:port"))?;
    let dc = line.value("datacenter").or(file.datacenter.as_deref());
    let dc = dc.context("no datacenter: say with -datacenter whose servers these are")?;
    let dc = Datacenter::new(dc).context("datacenter")?;
    let level = line.value("log-level").or(file.log_level.as_deref()).unwrap_or("info");
    let level = lan_agent::log::level(level).with_context(|| {
        format!("log-level: {level:?} is none of trace, debug, info, warn, err")
    })?;
    let json = line.is_set("log-json") || file.log_json.unwrap_or(false);
    let mut named: Vec<&str> = line.values("server").collect();
    if named.is_empty() {
        named = file.servers.iter().map(String::as_str).collect();
    }
    let servers = servers(&named)?;
    Ok(Settings { bind, dc, servers, log: Log { level, json, file: None } })
}

fn servers(named: &[&str]) -> anyhow::Result<Vec<(NodeName, String)>> {
    if named.is_empty() {
        bail!("no servers: name at least one with -server=name=host:port");
    }
    if named.len() > SERVERS_MAX {
        bail!("{} servers: a gateway is for {SERVERS_MAX} at most", named.len());
    }
    let mut servers: Vec<(NodeName, String)> = Vec::new();
    for entry in named {
        let (name, host) = entry
            .split_once('=')
            .with_context(|| format!("server {entry:?}: write it as name=host:port"))?;
        let name = NodeName::new(name).with_context(|| format!("server {entry:?}"))?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            bail!("server {entry:?}: {host:?} is no host");
        }
        let known =
            |(other, _): &(NodeName, String)| other.as_str().eq_ignore_ascii_case(name.as_str());
        if servers.iter().any(known) {
            bail!("server {entry:?}: there is another one of that name");
        }
        servers.push((name, seeds::with_port(host)));
    }
    Ok(servers)
}

fn read(path: &str) -> anyhow::Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {path}"))?;
    let is_json = Path::new(path).extension().is_some_and(|ending| ending == "json");
    let value = match is_json || text.trim_start().starts_with('{') {
        true => serde_json::from_str(&text).with_context(|| path.to_owned())?,
        false => hcl::parse(&text).with_context(|| path.to_owned())?.value,
    };
    serde_json::from_value(value).with_context(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> anyhow::Result<Settings> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        settings(&run::parse(&FLAGS, &words)?)
    }

    fn complaint(words: &str) -> String {
        format!("{:#}", parsed(words).unwrap_err())
    }

    #[test]
    fn servers_are_named_with_their_addresses() {
        let settings =
            parsed("-datacenter dc2 -server=s1=10.0.0.1 -server s2=gw.example:9").unwrap();
        assert_eq!(settings.bind.to_string(), "0.0.0.0:8302");
        assert_eq!(settings.dc.as_str(), "dc2");
        let servers: Vec<String> =
            settings.servers.iter().map(|(name, host)| format!("{name} {host}")).collect();
        assert_eq!(servers, ["s1 10.0.0.1:8302", "s2 gw.example:9"]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        for (words, said) in [
            ("-server=s1=10.0.0.1", "no datacenter: say with -datacenter whose servers these are"),
            ("-datacenter=dc2", "no servers: name at least one with -server=name=host:port"),
            ("-datacenter=d.c -server=a=b", "can't hold '.'"),
            ("-datacenter=dc2 -server=10.0.0.1", "write it as name=host:port"),
            ("-datacenter=dc2 -server=a/b=10.0.0.1", "can't hold '/'"),
            ("-datacenter=dc2 -server=a=", "is no host"),
            ("-datacenter=dc2 -server=a=b -server=A=c", "another one of that name"),
            ("-datacenter=dc2 -server=a=b -bind=8302", "bind: \"8302\" is no address:port"),
            ("-datacenter=dc2 -server=a=b -log-level=loud", "is none of trace, debug"),
            ("-config-file=/nowhere/at-all.hcl", "can't read /nowhere/at-all.hcl"),
        ] {
            let complaint = complaint(words);
            assert!(complaint.contains(said), "{words}: {complaint}");
        }
    }

    #[test]
    fn a_file_says_it_and_flags_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.hcl");
        fs::write(
            &path,
            "datacenter = \"dc2\"\nservers = [\"s1=10.0.0.1\"]\nbind = \"127.0.0.1:1\"",
        )
        .unwrap();
        let path = path.display();
        let settings = parsed(&format!("-config-file={path} -bind=127.0.0.1:2")).unwrap();
        assert_eq!(settings.bind.port(), 2);
        assert_eq!(settings.servers.len(), 1);
        fs::write(path.to_string(), "datacentre = \"dc2\"").unwrap();
        assert!(complaint(&format!("-config-file={path}")).contains("datacentre"));
    }
}
