//! A program that runs for a check, bounded in time and output, and its end.
//!
//! The program leads a process group of its own. However it ends, the group is killed with it, so
//! that what it left running in the background is gone too. When it is cut off (too slow, too
//! loud, the check stopped), all its descendants are killed, in whatever group: `timeout` and
//! shells with job control make groups of their own. A process that left its parents behind and
//! the group too (a daemon's double fork and `setsid`) is not the check's any more and lives on.
//!
//! Its two outputs are one pipe that is read while it runs; nobody waits for the pipe's end, which
//! a left-over process might hold open.

use std::{
    collections::BTreeSet,
    fs, io,
    num::NonZeroI32,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    process::{Child, Command},
    time::timeout,
};
use tracing::warn;

use super::output::Tail;
use crate::catalog::Text;

/// Most bytes that a program may print: hundreds of times more than any that means well.
const OUTPUT_READ_MAX: u64 = 16 << 20;

/// Bytes that are read at once.
const PIECE_LEN: usize = 8 * 1024;

/// How long a killed program is waited for. One that hangs within the kernel ends later.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Most looks at who descends from a program before it is killed; stopped ones start no others.
const LOOKS_MAX: usize = 16;

/// Most descendants of a program that are killed one by one.
const DESCENDANTS_MAX: usize = 4096;

/// A program with its arguments and bounds.
pub(super) struct Program {
    args: Vec<Text>,
    timeout: Duration,
    output_len_max: usize,
    /// A run that was killed and has not ended yet.
    stuck: Option<Family>,
}

/// How a run came out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) end: End,
    /// What it printed.
    pub(super) output: Tail,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, or by somebody's signal.
    Exited(ExitStatus),
    /// It took too long and was killed.
    TimedOut,
    /// It printed more than anybody would read and was killed.
    Flooded,
}

/// Why a program did not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("there is no program to run")]
    NoProgram,
    #[error("can't run {program:?}: {source}")]
    Start { program: Text, source: io::Error },
    #[error("the last run was killed and has not ended yet: it hangs within the kernel")]
    Stuck,
}

/// A running program with all that it starts.
struct Family {
    leader: Child,
    id: Pid,
}

impl Program {
    pub(super) fn new(args: Vec<Text>, timeout: Duration, output_len_max: usize) -> Self {
        Self { args, timeout, output_len_max, stuck: None }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs the program to its end. Dropping the future kills it.
    pub(super) async fn run(&mut self) -> Result<Run, RunError> {
        if let Some(last) = &mut self.stuck {
            match last.leader.try_wait() {
                Ok(None) => return Err(RunError::Stuck),
                _ => self.stuck = None,
            }
        }
        let (program, args) = self.args.split_first().ok_or(RunError::NoProgram)?;
        let (mut family, mut pipe) = Family::start(program, args)
            .map_err(|source| RunError::Start { program: program.clone(), source })?;
        let mut output = Tail::new(self.output_len_max);
        let end = match timeout(self.timeout, family.watch(&mut pipe, &mut output)).await {
            Ok(end) => end,
            Err(_) => End::TimedOut,
        };
        if let End::TimedOut | End::Flooded = end {
            family.kill();
            if timeout(KILL_PATIENCE, family.leader.wait()).await.is_err() {
                self.stuck = Some(family);
                return Ok(Run { end, output });
            }
        }
        family.kill_group();
        drain(&pipe, &mut output);
        Ok(Run { end, output })
    }
}

impl Family {
    /// Starts the program; returns the pipe that it writes to, too.
    fn start(program: &str, args: &[Text]) -> io::Result<(Self, Receiver)> {
        let (reader, writer) = io::pipe()?;
        let pipe = Receiver::from_owned_fd(reader.into())?;
        let leader = Command::new(program)
            .args(args.iter().map(|arg| &**arg))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        let id = leader.id().and_then(|id| Pid::from_raw(id as i32));
        let id = id.ok_or_else(|| io::Error::other("it has no id"))?;
        Ok((Self { leader, id }, pipe))
    }

    /// Reads what the program prints until it ends or has printed too much.
    async fn watch(&mut self, pipe: &mut Receiver, output: &mut Tail) -> End {
        let mut piece = [0; PIECE_LEN];
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                status = self.leader.wait() => match status {
                    Ok(status) => return End::Exited(status),
                    Err(error) => {
                        warn!(%error, "can't wait for the program of a check");
                        return End::TimedOut;
                    }
                },
                read = pipe.read(&mut piece), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(len) => output.push(&piece[..len]),
                },
            }
            if output.seen() > OUTPUT_READ_MAX {
                return End::Flooded;
            }
        }
    }

    /// Kills the leader, its descendants and its group. The leader must not have been waited for:
    /// until then nobody else has its id.
    fn kill(&self) {
        kill_tree(self.id);
        self.kill_group();
    }

    /// Kills what is left of the group. Ids are given out in turn: that of a group which is gone
    /// has not come round again by the time its leader has been waited for.
    fn kill_group(&self) {
        let _ = kill_process_group(self.id, Signal::KILL);
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if self.leader.id().is_some() {
            // The runtime waits for it.
            self.kill();
        }
    }
}

/// Kills a process and all that descend from it.
pub(super) fn kill_tree(ancestor: Pid) {
    let mut stopped = BTreeSet::new();
    for _ in 0..LOOKS_MAX {
        let before = stopped.len();
        for id in descendants(ancestor) {
            if stopped.insert(id.as_raw_nonzero()) {
                // Who has ended in the meantime needs no signal.
                let _ = kill_process(id, Signal::STOP);
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    for id in stopped.into_iter().map(NonZeroI32::get).filter_map(Pid::from_raw) {
        let _ = kill_process(id, Signal::KILL);
    }
}

/// Returns a process and all that descend from it.
fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut found = vec![ancestor];
    let mut looked_at = 0;
    while let Some(id) = found.get(looked_at).copied() {
        looked_at += 1;
        let tasks = fs::read_dir(format!("/proc/{}/task", id.as_raw_nonzero()));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|id| id.parse().ok());
            found.extend(children.filter_map(Pid::from_raw));
            if found.len() >= DESCENDANTS_MAX {
                return found;
            }
        }
    }
    found
}

/// Takes what a program that has ended left in its pipe.
fn drain(pipe: &Receiver, output: &mut Tail) {
    let mut piece = [0; PIECE_LEN];
    while output.seen() <= OUTPUT_READ_MAX {
        match pipe.try_read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(len) => output.push(&piece[..len]),
        }
    }
}

#[cfg(test)]
mod tests;
