//! Who of a script's processes is there.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
    time::timeout,
};

use super::PATIENCE;

/// A named pipe that a script and its children hold open as long as they live: they come in with
/// `exec 9>$PIPE` or inherit it, and say so with `echo here >&9`.
pub(in crate::checks) struct Roll {
    _home: TempDir,
    path: PathBuf,
    said: BufReader<pipe::Receiver>,
    /// Keeps the pipe open until somebody else does.
    held: Option<pipe::Sender>,
}

impl Roll {
    pub(in crate::checks) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("roll");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let said = BufReader::new(pipe::OpenOptions::new().open_receiver(&path).unwrap());
        let held = Some(pipe::OpenOptions::new().open_sender(&path).unwrap());
        Self { _home: home, path, said, held }
    }

    /// Puts the path into a script.
    pub(in crate::checks) fn script(&self, line: &str) -> String {
        line.replace("$PIPE", self.path.to_str().unwrap())
    }

    /// Waits until so many processes have said that they are there.
    pub(in crate::checks) async fn call(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.line().await, "here\n");
        }
        self.held = None;
    }

    /// Waits until all have ended.
    pub(in crate::checks) async fn all_gone(&mut self) {
        assert_eq!(self.line().await, "");
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.said.read_line(&mut line)).await.expect("in time").unwrap();
        line
    }
}
