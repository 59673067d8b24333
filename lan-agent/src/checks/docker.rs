//! Finds out by a program that Docker's engine runs within a container: exit codes as those of
//! scripts.
//!
//! ```text
//! POST /containers/ID/exec   what to run          ──▶  its id
//! POST /exec/ID/start                             ──▶  what it prints, until it ends
//! GET  /exec/ID/json                              ──▶  its exit code
//! ```
//!
//! The engine has no means to end such a program. One that takes too long is killed by its process
//! id, where it can be seen from here and lies within the container; elsewhere it runs on, and until
//! it has ended the check is critical and starts no second one.

mod engine;
mod frames;

use std::{fs, time::Duration};

use rustix::process::Pid;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use self::engine::Engine;
use self::{engine::EngineError, frames::Frames};
use super::{
    Finding,
    exchange::Reply,
    output::Tail,
    process::kill_tree,
    script::{of_exit_code, timed_out},
};
use crate::catalog::Text;

/// Most bytes of output that are read.
const OUTPUT_READ_MAX: u64 = 16 << 20;

/// How long the engine is asked to say how a program is that was given up.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often the engine is asked whether a program has ended that has closed its outputs.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// What to run, and in what.
#[derive(Debug, Clone)]
pub(super) struct Docker {
    /// The container's id or name.
    pub(super) container: Text,
    /// The program and its arguments.
    pub(super) args: Vec<Text>,
    /// The shell that runs a single argument as a command line; empty for none. Consul runs
    /// arguments as they are, whatever the shell; so are several here.
    pub(super) shell: Text,
}

/// Runs a check's program, one at a time.
pub(super) struct Runs {
    docker: Docker,
    engine: Engine,
    patience: Duration,
    /// The last one, if it was given up.
    unfinished: Option<String>,
}

/// A program that runs within a container; given up when it is dropped.
struct Exec {
    engine: Engine,
    id: String,
    over: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    exit_code: Option<i32>,
    #[serde(default)]
    pid: i32,
    #[serde(default, rename = "ContainerID")]
    container: String,
}

impl Runs {
    pub(super) fn new(docker: Docker, engine: Engine, patience: Duration) -> Self {
        Self { docker, engine, patience, unfinished: None }
    }

    /// Runs the program once.
    pub(super) async fn find(&mut self, output_len_max: usize) -> Finding {
        let deadline = Instant::now() + self.patience;
        let mut output = Tail::new(output_len_max);
        match timeout_at(deadline, self.run(&mut output)).await {
            Ok(Ok(code)) => Finding { health: of_exit_code(code), output: output.captured() },
            Ok(Err(error)) => Finding::critical(error.to_string()),
            Err(_) => Finding::critical(timed_out(self.patience, output.captured())),
        }
    }

    /// Returns the program's exit code.
    async fn run(&mut self, output: &mut Tail) -> Result<Option<i32>, EngineError> {
        if let Some(last) = &self.unfinished {
            if self.engine.state(last).await?.is_some_and(|state| state.running) {
                return Err(EngineError::Unfinished);
            }
            self.unfinished = None;
        }
        let container = &*self.docker.container;
        let what = json!({
            "AttachStdin": false,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": false,
            "Cmd": self.docker.command(),
        });
        let id = self.engine.create(container, &what).await?;
        self.unfinished = Some(id.clone());
        let mut exec = Exec { engine: self.engine.clone(), id, over: false };
        let mut reply = exec.engine.start(container, &exec.id).await?;
        read(&mut reply, output).await?;
        let code = exec.exit_code().await?;
        exec.over = true;
        self.unfinished = None;
        Ok(code)
    }
}

impl Docker {
    /// Returns what the engine is to run.
    fn command(&self) -> Vec<&str> {
        match self.args.as_slice() {
            [line] if !self.shell.is_empty() => vec![&self.shell, "-c", line],
            args => args.iter().map(|arg| &**arg).collect(),
        }
    }
}

impl Exec {
    /// Returns the exit code of a program that has closed its outputs, once it has ended.
    async fn exit_code(&self) -> Result<Option<i32>, EngineError> {
        loop {
            match self.engine.state(&self.id).await? {
                None => return Err(EngineError::Forgotten),
                Some(State { running: false, exit_code, .. }) => return Ok(exit_code),
                // The engine sees the end of the outputs a little before that of the program.
                Some(_) => sleep(POLL_PAUSE).await,
            }
        }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
        // Without a runtime this agent is ending: there is nobody left to do it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Ok(Some(state))) = timeout(FAREWELL, engine.state(&id)).await {
                    state.kill();
                }
            });
        }
    }
}

impl State {
    /// Kills the program if it can be seen from here.
    fn kill(&self) {
        let Some(id) = Pid::from_raw(self.pid).filter(|_| self.running && self.pid > 1) else {
            return;
        };
        // The engine's ids may be of another machine, or of another name space: only a process
        // that lies within this container is the right one.
        let group = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        if !self.container.is_empty() && group.contains(&self.container) {
            kill_tree(id);
        }
    }
}

/// Reads what the program prints to its end.
async fn read(reply: &mut Reply, output: &mut Tail) -> Result<(), EngineError> {
    let mut frames = Frames::default();
    while let Some(piece) = reply.piece().await {
        // The engine ends the connection in its own way; what came before counts.
        let Ok(piece) = piece else { break };
        frames.push(&piece, |printed| output.push(printed));
        if output.seen() > OUTPUT_READ_MAX {
            return Err(EngineError::Flooded);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
