//! Where an agent's log goes: text or JSON lines, to standard output or a file, and to those who
//! listen to it.

mod taps;

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal},
    sync::Arc,
};

use tracing::{Level as Severity, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

pub use self::taps::Taps;
use crate::config::agent::Log;

/// The targets of this program's own crates.
const OURS: [&str; 6] =
    ["causeway", "certs", "dc_server", "lan_agent", "topology", "wan_federation"];

/// Changes the level of a running agent's log.
#[derive(Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Logs what is at least this severe from now on.
    pub fn set(&self, level: Severity) {
        if let Err(error) = self.0.modify(|filter| *filter = filter_of(level)) {
            tracing::warn!(%error, "the log level can't be changed");
        }
    }
}

/// Starts logging; once in a process.
pub fn start(config: &Log) -> anyhow::Result<(Level, Taps)> {
    let (filter, handle) = reload::Layer::new(filter_of(config.level));
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match &config.file {
        None => lines(config.json, io::stdout().is_terminal(), io::stdout),
        Some(path) => {
            let file =
                OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                    anyhow::anyhow!("can't open the log file {}: {error}", path.display())
                })?;
            lines(config.json, false, Arc::new(file))
        }
    };
    let (taps, mut layers) = Taps::new();
    layers.push(Box::new(layer.with_filter(filter)));
    tracing_subscriber::registry().with(layers).try_init()?;
    Ok((Level(handle), taps))
}

fn lines<W>(json: bool, colours: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_ansi(colours).with_target(true).with_writer(writer);
    if json { Box::new(layer.json()) } else { Box::new(layer) }
}

/// Libraries tell at `info` what is of use to their authors; ours is for operators.
fn filter_of(level: Severity) -> Targets {
    let libraries = match level {
        Severity::TRACE => LevelFilter::TRACE,
        Severity::DEBUG => LevelFilter::INFO,
        Severity::INFO | Severity::WARN => LevelFilter::WARN,
        Severity::ERROR => LevelFilter::ERROR,
    };
    Targets::new()
        .with_default(libraries)
        .with_targets(OURS.map(|target| (target, LevelFilter::from_level(level))))
}
