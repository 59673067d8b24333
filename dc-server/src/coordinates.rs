//! What servers do with coordinates: the leader writes what agents say of theirs, many at once ([`Inbox`]), and every
//! server can show where the servers of all datacenters are ([`wan`]).
//!
//! ```text
//! asks ──▶ Inbox ──5 s──▶ one command for all ──▶ Raft ──▶ each ask is answered
//! ```
//!
//! The first word after a while is written at once, those that follow wait until five seconds have passed: a thousand
//! agents cost one command each five seconds. An ask is answered when it is written, so nothing
//! that was acknowledged is in memory only. When another server leads by then, the asks are put again, there.

pub mod wan;

use std::{future::Future, time::Duration};

use lan_agent::ask::{Answer, AskError, coordinate::Update};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use topology::coordinate::CoordinateError;

use crate::{
    raft::{Raft, RaftError},
    state::{Command, Op, coordinates::latest},
};

/// The time between two commands.
const PERIOD: Duration = Duration::from_secs(5);

/// Most updates in a command, some 150 bytes each, and most that wait for the next: with 64 a second there are
/// 320, and what is beyond is said again by who is told to come back.
const UPDATES_MAX: usize = 4096;

/// Who waits for what became of an update: whether the catalog knows its node.
type Done = oneshot::Sender<Result<bool, RaftError>>;

/// Takes updates.
#[derive(Debug, Clone)]
pub struct Inbox(mpsc::Sender<(Update, Done)>);

/// Opens an inbox. Returns it, and what writes the updates until all clones of it are gone.
pub fn inbox(raft: Raft) -> (Inbox, impl Future<Output = ()> + Send + 'static) {
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    (Inbox(sender), write_on(raft, updates))
}

/// Refuses an update that makes no sense.
pub fn check(update: &Update) -> Result<(), AskError> {
    update.coordinate.check().map_err(|error: CoordinateError| AskError::Bad(error.to_string()))
}

impl Inbox {
    /// Has an update written with the next command, and answers when it is.
    pub async fn put(&self, update: Update) -> Result<Answer, Undone> {
        check(&update)?;
        let (done, outcome) = oneshot::channel();
        self.0.try_send((update, done)).map_err(|_full| {
            AskError::Busy("too many coordinates are waiting to be written".to_owned())
        })?;
        // The task ends with the server only.
        let known = outcome.await.map_err(|_ended| RaftError::Shutdown)??;
        Ok(Answer::plain(if known { "true" } else { "false" }))
    }
}

/// Why an update was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// It makes no sense, or there are too many.
    #[error(transparent)]
    Refused(#[from] AskError),
    /// Raft did not take it.
    #[error(transparent)]
    Raft(#[from] RaftError),
}

async fn write_on(raft: Raft, mut updates: mpsc::Receiver<(Update, Done)>) {
    let mut next = Instant::now();
    while let Some(first) = updates.recv().await {
        let mut waiting = vec![first];
        sleep_until(next).await;
        while waiting.len() < UPDATES_MAX
            && let Ok(more) = updates.try_recv()
        {
            waiting.push(more);
        }
        next = Instant::now() + PERIOD;
        write(&raft, waiting).await;
    }
}

async fn write(raft: &Raft, waiting: Vec<(Update, Done)>) {
    let updates = latest(waiting.iter().map(|(update, _)| update.clone()));
    let written = raft.write(Command::new(None, &Op::Coordinates { updates })).await;
    let state = raft.view().load();
    for (update, done) in waiting {
        let known = || state.coordinates().get(&update.node).is_some();
        // Who does not wait any more does not want to know.
        let _gone = done.send(written.clone().map(|_applied| known()));
    }
}
