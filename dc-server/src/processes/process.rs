//! One node as a process of this machine.
//!
//! The child gets the read end of a pipe as its standard input and exits when that ends, which
//! the kernel sees to however this process dies: nothing is left behind by a SIGKILL either. It
//! is in a process group of its own, so that a Ctrl-C at the terminal reaches only this process,
//! which then takes its children down in order.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::processes::layout::Node;

/// Tells an agent to exit when its standard input ends.
pub const PARENT_PIPE: &str = "CAUSEWAY_PARENT_PIPE";

/// A running node.
#[derive(Debug)]
pub struct Process {
    child: Child,
    _pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts the agent of a node; what it prints is added to the node's log.
    pub fn spawn(binary: &Path, node: &Node) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(node.log())?;
        let mut child = Command::new(binary)
            .arg("agent")
            .arg("-config-file")
            .arg(node.config())
            .env(PARENT_PIPE, "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, _pipe: pipe })
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Asks the process to end, without waiting.
    pub fn ask_to_end(&self) -> io::Result<()> {
        // The id is there only while the child is not yet waited for: no foreign process can
        // have it.
        match self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            Some(pid) => Ok(kill_process(pid, Signal::TERM)?),
            None => Ok(()),
        }
    }

    /// Waits for the end for so long, then sends SIGKILL.
    pub async fn end_within(mut self, grace: Duration) -> io::Result<()> {
        match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(ended) => ended.map(|_| ()),
            Err(_) => self.child.kill().await,
        }
    }

    /// Says whether the process ended, and how.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

/// Returns the last lines of a node's log, to say why it ended.
pub fn log_tail(node: &Node, lines_max: usize) -> String {
    let text = fs::read(node.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}
