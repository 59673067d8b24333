//! What happened during a drill, as it was seen from outside: the only thing that a drill's
//! judgement rests on. Times are since the drill's start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use topology::{Datacenter, Role};

/// Everything that was recorded.
#[derive(Debug, Clone)]
pub struct History {
    /// All datacenters, in the order of the plan.
    pub datacenters: Vec<Datacenter>,
    /// The one that was lost.
    pub lost: Datacenter,
    /// The servers of the other datacenters, as `node.dc`.
    pub surviving_servers: Vec<String>,
    /// When what was done to the federation.
    pub marks: Marks,
    /// What the clients did, in no order.
    pub operations: Vec<Operation>,
    /// What each surviving server was seen to answer for the lost datacenter, in no order.
    pub probes: Vec<Probe>,
    /// When a server of the lost datacenter named a leader again.
    pub leader_back: Option<Duration>,
    /// When every node saw every member alive again.
    pub whole: Option<Duration>,
    /// What each datacenter holds at the end; none of a datacenter that would not say.
    pub stored: BTreeMap<Datacenter, Vec<Stored>>,
}

/// When what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The servers were about to be killed.
    pub killing: Duration,
    /// The last of them was gone.
    pub killed: Duration,
    /// They were started again.
    pub restarted: Duration,
    /// The clients were told to stop.
    pub ended: Duration,
}

/// One request of a client.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Where it was asked.
    pub via: Arc<Entry>,
    /// The datacenter that it was for.
    pub to: Datacenter,
    /// What it was to do.
    pub kind: Kind,
    /// The key that it was about.
    pub key: Arc<str>,
    /// When it was sent.
    pub start: Duration,
    /// When its outcome was known.
    pub end: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// An agent that clients ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its datacenter.
    pub dc: Datacenter,
    /// Its name, as `node.dc`.
    pub label: String,
    /// Whether it is one of the servers or asks them.
    pub role: Role,
}

/// What a request is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Writes a key that nobody wrote before, if it is not there.
    Create,
    /// Writes a key that nobody wrote before, whatever is there.
    Put,
    /// Counts a counter up if it is as it was read.
    Increment,
    /// Reads from the leader.
    Read,
    /// Reads from the leader that a quorum confirms.
    ReadConsistent,
    /// Reads from any server.
    ReadStale,
}

impl Kind {
    /// Says whether it is to change something.
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Put | Self::Increment)
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done as asked; a write is acknowledged.
    Done,
    /// Answered that the condition did not hold.
    Conflict,
    /// Answered, but the answer contradicts an earlier one.
    Wrong(String),
    /// Answered with an error.
    Error {
        /// The HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// The agent can't be reached: no effect.
    NoConnection(String),
    /// No answer: the effect is unknown.
    Silence(String),
}

impl Operation {
    /// Returns how long it took.
    pub fn took(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }

    /// Says whether the client got what it asked for.
    pub fn is_answer(&self) -> bool {
        matches!(self.outcome, Outcome::Done | Outcome::Conflict)
    }
}

/// A question for the lost datacenter, put to one of the surviving servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The server, as `node.dc`.
    pub server: String,
    /// When it was asked.
    pub start: Duration,
    /// When it answered, or was no longer waited for.
    pub end: Duration,
    /// What it answered.
    pub seen: Seen,
}

/// What a server says of a datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It got an answer from there.
    Answer,
    /// It holds the datacenter for lost.
    Lost,
    /// It could not reach anybody there.
    Unreachable,
    /// Another error.
    Error,
    /// Nothing in time.
    Silence,
}

/// A key as it is stored at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The index of the write that created it.
    pub create_index: u64,
    /// The index of the last write to it.
    pub modify_index: u64,
}
