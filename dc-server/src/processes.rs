//! A plan as processes of this machine: what `causeway topology up` and the drills run.
//!
//! ```text
//!   plan -> layout (names, addresses, directories) -> files (certificates, configuration)
//!        -> processes (this very program, `agent -config-file ...`) -> ready
//! ```
//!
//! Each node has a loopback address of its own and uses the standard ports there. Everything a
//! run writes is below one directory ([`run_dir`]). Processes end with their parent, however it ends
//! ([`process`]). Only processes that were started here are ever signalled.

pub mod config;
pub mod error;
pub mod layout;
pub mod loopback;
pub mod process;
pub mod progress;
pub mod ready;

pub(crate) mod credentials;
mod run_dir;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;
use topology::{Datacenter, Role, plan::Plan};

use crate::{
    http_client::HttpClient,
    processes::{
        error::ProcessesError,
        layout::{HTTP_PORT, Layout},
        loopback::Block,
        process::{Process, Program, log_tail},
        progress::Progress,
        run_dir::RunDir,
    },
};

/// How long a process may take to end before it is killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How often readiness is looked at.
const SURVEY_EVERY: Duration = Duration::from_millis(150);

/// How many lines of its log are shown of a node that ended.
const LOG_TAIL_LINES: usize = 12;

/// How a plan is to be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to run.
    pub plan: Plan,
    /// The program: this one, or another that takes the same configuration.
    pub binary: PathBuf,
    /// Whether the nodes get certificates.
    pub security: Security,
    /// Where to keep configuration, data and logs; a temporary directory when there is none.
    pub dir: Option<PathBuf>,
    /// Where to begin to look for free addresses.
    pub seed: u32,
    /// What time it is: when the certificates begin.
    pub now: OffsetDateTime,
}

/// How the nodes' links are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Certificates of an authority made for this run.
    Certificates,
    /// None: for comparing with a program that has other links.
    Plain,
}

/// Something that is to run.
#[derive(Debug)]
struct Job {
    dc: Datacenter,
    /// Whether other datacenters notice when it is gone: a server or a gateway.
    outward: bool,
    program: Program,
    /// None while it is down.
    process: Option<Process>,
}

/// A running plan.
#[derive(Debug)]
pub struct Federation {
    layout: Layout,
    /// What is run, gateways first.
    jobs: Vec<Job>,
    binary: PathBuf,
    dir: RunDir,
    _block: Block,
}

impl Federation {
    /// Lays the plan out, writes the files and starts the processes. They are not ready yet.
    pub fn start(config: Config) -> Result<Self, ProcessesError> {
        let block = Block::claim(config.seed, HTTP_PORT)
            .map_err(|source| ProcessesError::Addresses { source })?;
        let dir = RunDir::create(config.dir.as_deref(), &std::env::temp_dir(), config.now)?;
        let layout = Layout::new(&config.plan, block.addresses(), dir.path());
        credentials::write(&layout, dir.path(), config.security, config.now)?;
        let jobs = jobs(&layout);
        let mut federation = Self { layout, jobs, binary: config.binary, dir, _block: block };
        federation.start_where(|_| true)?;
        Ok(federation)
    }

    /// Returns where everything is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the directory of configuration, data and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Says what was started, for people.
    pub fn started(&self) -> String {
        let (servers, nodes) = (self.layout.servers().count(), self.layout.nodes.len());
        let (clients, dir) = (nodes - servers, self.dir().display());
        let gateways = match self.layout.gateways.len() {
            0 => String::new(),
            count => format!(" behind {count} gateways"),
        };
        format!("started {servers} servers{gateways} and {clients} client agents below {dir}")
    }

    /// Waits until every node answers and sees everyone, showing how far it is.
    pub async fn ready(
        &mut self,
        client: &HttpClient,
        progress: &dyn Progress,
        within: Duration,
    ) -> Result<(), ProcessesError> {
        let deadline = Instant::now() + within;
        loop {
            self.check_running()?;
            let healths = ready::survey(client, &self.layout).await;
            let summary = ready::summary(&self.layout, &healths);
            progress.live(&summary);
            if healths.iter().all(|health| *health == ready::Health::Ready) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let dir = self.dir().to_owned();
                return Err(ProcessesError::NotReady { within, summary, dir });
            }
            tokio::time::sleep(SURVEY_EVERY).await;
        }
    }

    /// Fails when a node ended that was not told to.
    pub fn check_running(&mut self) -> Result<(), ProcessesError> {
        match self.reap()?.into_iter().next() {
            None => Ok(()),
            Some(Ended { node, how, log }) => Err(ProcessesError::Ended { node, how, log }),
        }
    }

    /// Returns the nodes that ended since the last call without being told to.
    pub fn reap(&mut self) -> Result<Vec<Ended>, ProcessesError> {
        let mut all = Vec::new();
        for Job { program, process, .. } in &mut self.jobs {
            let Some(running) = process else { continue };
            let ended = running.ended().map_err(|source| end_failed(program, source))?;
            if let Some(status) = ended {
                *process = None;
                let log = log_tail(&program.log, LOG_TAIL_LINES);
                all.push(Ended { node: program.label.clone(), how: status.to_string(), log });
            }
        }
        Ok(all)
    }

    /// Kills every server and gateway of a datacenter with SIGKILL, all at once.
    pub async fn kill_outward(&mut self, dc: &Datacenter) -> Result<(), ProcessesError> {
        let dying = self.jobs.iter_mut().filter_map(|Job { dc: of, outward, program, process }| {
            let process = (*outward && of == dc).then(|| process.take())??;
            Some(async { process.kill().await.map_err(|source| end_failed(program, source)) })
        });
        futures::future::try_join_all(dying).await.map(|_| ())
    }

    /// Starts the servers and gateways of a datacenter that are down, with the data that they had.
    pub fn start_outward(&mut self, dc: &Datacenter) -> Result<(), ProcessesError> {
        self.start_where(|job| job.outward && job.dc == *dc)
    }

    fn start_where(&mut self, wanted: impl Fn(&Job) -> bool) -> Result<(), ProcessesError> {
        for job in &mut self.jobs {
            if job.process.is_none() && wanted(job) {
                let process = Process::spawn(&self.binary, &job.program).map_err(|source| {
                    ProcessesError::Spawn { binary: self.binary.clone(), source }
                })?;
                job.process = Some(process);
            }
        }
        Ok(())
    }

    /// Takes every process down, and the directory when it is a temporary one that is not to be
    /// kept. Returns the directory when it is still there.
    pub async fn stop(self, keep: Keep) -> Result<Option<PathBuf>, ProcessesError> {
        let jobs = self.jobs.into_iter();
        let running: Vec<(Program, Process)> =
            jobs.filter_map(|job| Some((job.program, job.process?))).collect();
        for (program, process) in &running {
            process.ask_to_end().map_err(|source| end_failed(program, source))?;
        }
        let ending = running.into_iter().map(|(program, process)| async move {
            process.end_within(END_WITHIN).await.map_err(|source| end_failed(&program, source))
        });
        futures::future::try_join_all(ending).await?;
        match keep {
            Keep::Files => self.dir.keep().map(Some),
            Keep::Nothing => self.dir.discard(),
        }
    }
}

/// A node that ended without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which one, as `node.dc`.
    pub node: String,
    /// Its exit status.
    pub how: String,
    /// The last lines of its log.
    pub log: String,
}

/// What is to be left of a run in a temporary directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The files: configuration, data, logs.
    Files,
    /// Nothing.
    Nothing,
}

/// Returns all that is to run.
fn jobs(layout: &Layout) -> Vec<Job> {
    let gateways = layout.gateways.iter().map(|gateway| Job {
        dc: gateway.dc.clone(),
        outward: true,
        program: Program {
            command: "gateway",
            label: gateway.label(),
            config: gateway.config(),
            log: gateway.log(),
        },
        process: None,
    });
    let nodes = layout.nodes.iter().map(|node| Job {
        dc: node.dc.clone(),
        outward: node.role == Role::Server,
        program: Program {
            command: "agent",
            label: node.label(),
            config: node.config(),
            log: node.log(),
        },
        process: None,
    });
    gateways.chain(nodes).collect()
}

fn end_failed(program: &Program, source: io::Error) -> ProcessesError {
    ProcessesError::End { node: program.label.clone(), source }
}
