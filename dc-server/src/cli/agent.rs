//! `causeway agent`: runs a node until it is told to stop.

use std::{
    env, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use certs::link::sockets::Kernel;
use lan_agent::{
    pool,
    process::{self, Process, Requests},
    telemetry::Registry,
};
use time::OffsetDateTime;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::Instant,
};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    cli::{Command, flags},
    config::{self, Host, agent::Endpoint, flags::Request},
    logging,
    node::{self, Node, World, reload::Reloader},
    release,
};

/// Set by a program that starts agents and keeps the other end of their standard input: they end when
/// it does, however it ends.
const PARENT_PIPE: &str = "CAUSEWAY_PARENT_PIPE";

const USAGE: &str = "\
Usage: causeway agent [options]

  Runs an agent: a server with -server, or a client agent that asks the servers
  of its datacenter.

  One server for development, all in memory:

      $ causeway agent -dev

  Three servers of a datacenter, each with files of its own:

      $ causeway agent -server -bootstrap-expect=3 -data-dir=/var/lib/causeway \\
          -retry-join=10.0.0.1 -retry-join=10.0.0.2 -config-file=tls.hcl

Options:
";

/// The command.
pub(super) const COMMAND: Command =
    Command::program("agent", "Runs a server or a client agent", |words, _itself| {
        Box::pin(async move { run(&words).await })
    });

/// What ends an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// The program that started it is gone.
    Orphaned,
    /// It stopped by itself: somebody told it to leave.
    Stopped,
}

/// Runs the command.
pub async fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let all = config::flags::all();
    let line = flags::parse(&all, words)?;
    if line.help {
        print!("{USAGE}{}", flags::help(&all));
        return Ok(ExitCode::SUCCESS);
    }
    let request = Request::from_line(&line)?;
    let loaded = config::load(&request, &Host::detect())?;
    let config = loaded.agent.clone();
    let (level, taps) = logging::start(&config.log)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let registry = Registry::default();
    if let Err(reason) = registry.install() {
        warn!(%reason, "metrics are off");
    }
    let (reloads, requests) = process::reloads();
    let node =
        node::start(&config, world(Process { registry, reloads, log: Arc::new(taps) })).await?;
    banner(&config, &node);
    let _pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    let reloader = Reloader::new(&node, request, loaded, level);
    let end = drive(&config, node, reloader, requests).await?;
    info!(?end, "stopped");
    Ok(ExitCode::SUCCESS)
}

/// Runs the node; signals make it read its configuration again, leave or stop.
async fn drive(
    config: &config::Agent,
    node: Node,
    mut reloader: Reloader,
    mut requests: Requests,
) -> anyhow::Result<End> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let agent = node.agent().clone();
    let mut running = tokio::spawn(node.run());
    let mut orphaned = std::pin::pin!(orphaned());
    let end = loop {
        tokio::select! {
            biased;
            ended = &mut running => {
                ended.context("the agent failed")??;
                return Ok(End::Stopped);
            }
            _ = interrupt.recv() => break End::Interrupt,
            _ = terminate.recv() => break End::Terminate,
            () = &mut orphaned => break End::Orphaned,
            // The log says what comes of it.
            _ = hangup.recv() => drop(reloader.reload().await),
            request = requests.next() => {
                // Who asked may have gone away meanwhile.
                let _unheard = request.send(reloader.reload().await);
            }
        }
    };
    let leaves = match end {
        End::Interrupt => config.leave.on_interrupt,
        End::Terminate => config.leave.on_terminate,
        End::Orphaned | End::Stopped => false,
    };
    info!(?end, leaves, "stopping");
    let goodbye = async {
        if leaves && let Err(reason) = agent.leave().await {
            warn!(%reason, "left without a word to everyone");
        }
        agent.stopping().cancel();
        (&mut running).await
    };
    tokio::select! {
        biased;
        ended = goodbye => ended.context("the agent failed")??,
        () = again(&mut interrupt, &mut terminate) => warn!("stopping at once"),
    }
    Ok(end)
}

/// Waits for a second signal, which ends a goodbye that takes too long.
async fn again(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Waits for the end of the program that started this one, if that wants it so.
pub(super) async fn orphaned() {
    if env::var_os(PARENT_PIPE).is_none_or(|value| value != "1") {
        return std::future::pending().await;
    }
    let (held, released) = oneshot::channel::<()>();
    // A thread of its own: nothing can interrupt a read of standard input, nor wait for it.
    std::thread::spawn(move || {
        let _held = held;
        let mut bytes = [0; 64];
        while !matches!(io::stdin().read(&mut bytes), Ok(0) | Err(_)) {}
    });
    // The other half only ever goes away.
    let _gone = released.await;
}

fn world(process: Process) -> World {
    let now = OffsetDateTime::now_utc();
    World {
        sockets: Arc::new(Kernel),
        packets: Arc::new(pool::packets::Kernel),
        seed: Uuid::new_v4().as_u64_pair().1,
        boot: Instant::now(),
        boot_ms: u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
        process,
        development: development_directory(),
        docker_host: env::var_os("DOCKER_HOST")
            .and_then(|host| host.into_string().ok())
            .filter(|host| !host.is_empty()),
    }
}

/// The user's own directory for the development CA.
fn development_directory() -> PathBuf {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    match state.or_else(home) {
        Some(directory) => directory.join("causeway/development-ca"),
        None => {
            let user = fs::metadata("/proc/self").map(|process| process.uid()).unwrap_or_default();
            env::temp_dir().join(format!("causeway-{user}-development-ca"))
        }
    }
}

/// Says what was started, in Consul's words.
fn banner(config: &config::Agent, node: &Node) {
    let me = &node.agent().config.me;
    let port = |endpoint: Option<Endpoint>| {
        endpoint.map_or(-1, |endpoint| i32::from(endpoint.advertise.port()))
    };
    let addresses = &config.addresses;
    let places: Vec<String> = node.places().iter().map(ToString::to_string).collect();
    println!("==> Starting Causeway agent...");
    println!("           Version: '{}'", release::VERSION);
    if !release::REVISION.is_empty() {
        println!("          Revision: '{}'", release::REVISION);
    }
    println!("           Node ID: '{}'", me.id);
    println!("         Node name: '{}'", me.name);
    println!("        Datacenter: '{}'", me.dc);
    println!("            Server: {} (Expect: {})", config.is_server(), config.bootstrap_expect);
    let dns = node.dns().places().iter().map(|addr| format!("dns://{addr}"));
    let places: Vec<String> = places.into_iter().chain(dns).collect();
    println!("       Client Addr: [{}]", places.join(" "));
    println!(
        "      Cluster Addr: {} (LAN: {}, Server: {}, WAN: {})",
        addresses.lan.advertise.ip(),
        addresses.lan.advertise.port(),
        port(config.is_server().then_some(addresses.link)),
        port(addresses.wan),
    );
    println!("           Encrypt: Gossip: {}, TLS: true", config.encrypt.is_some());
    println!();
    println!("==> Log data will now stream in as it occurs:");
    println!();
}

/// The file with the process id, as long as the process runs.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> anyhow::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("can't write the pid file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(error) => error!(path = %self.0.display(), %error, "the pid file stays"),
        }
    }
}
