//! One node, or gateway, as a process of this machine.
//!
//! The child gets the read end of a pipe as its standard input and exits when that ends, which
//! the kernel sees to however this process dies: nothing is left behind by a SIGKILL either. It
//! is in a process group of its own, so that a Ctrl-C at the terminal reaches only this process,
//! which then takes its children down in order.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

/// Tells an agent to exit when its standard input ends.
pub const PARENT_PIPE: &str = "CAUSEWAY_PARENT_PIPE";

/// What is run: a node or a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The command of the program that runs it.
    pub command: &'static str,
    /// Its name in the whole federation.
    pub label: String,
    /// The path of its configuration file.
    pub config: PathBuf,
    /// The path of its log.
    pub log: PathBuf,
}

/// A running node or gateway.
#[derive(Debug)]
pub struct Process {
    child: Child,
    _pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts it; what it prints is added to its log.
    pub fn spawn(binary: &Path, program: &Program) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&program.log)?;
        let mut child = Command::new(binary)
            .arg(program.command)
            .arg("-config-file")
            .arg(&program.config)
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

/// Returns the last lines of a log, to say why somebody ended.
pub fn log_tail(log: &Path, lines_max: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Starts a shell script in the place of an agent.
    fn spawn(dir: &Path, script: &str) -> Process {
        let binary = dir.join("agent.sh");
        fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
        let program = Program {
            command: "agent",
            label: "server-1.dc1".to_owned(),
            config: dir.join("config.json"),
            log: dir.join("log.txt"),
        };
        Process::spawn(&binary, &program).unwrap()
    }

    #[tokio::test]
    async fn a_child_sees_its_parent_end_by_its_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = spawn(dir.path(), "exec cat");
        drop(process._pipe.take());
        assert!(process.child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_child_that_does_not_end_when_asked_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let process = spawn(dir.path(), "trap '' TERM; echo deaf; exec sleep 600");
        let pid = process.child.id().and_then(|id| Pid::from_raw(id as i32)).unwrap();
        process.ask_to_end().unwrap();
        process.end_within(Duration::from_millis(10)).await.unwrap();
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[tokio::test]
    async fn what_a_child_prints_is_in_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = spawn(dir.path(), "echo one; echo two >&2; echo three; exit 3");
        assert_eq!(process.child.wait().await.unwrap().code(), Some(3));
        let log = fs::read_to_string(dir.path().join("log.txt")).unwrap();
        assert_eq!(log, "one\ntwo\nthree\n");
    }
}
