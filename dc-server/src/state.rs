//! The replicated state of a datacenter: what every server computes from the same log.
//!
//! [`State::apply`] is a function of the state, the log index and a command; it reads no clock
//! and draws nothing at random, so that all servers end up with equal states. The tables are
//! persistent maps: a clone costs nothing worth counting, so the whole state is published as one
//! immutable value after each batch of commands, and a snapshot is a clone.
//!
//! A command that this program does not know ends in [`Refused::UnknownKind`], unless it says
//! that those who don't know it may pass it over: a server that skipped what others applied
//! would answer differently from then on.

pub mod command;
pub mod kv;
pub mod reaper;
pub mod requests;
pub mod txn;
pub mod view;
pub mod watch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use command::{Command, Op, Refused};

use kv::Key;

/// What a command did, as its author is told; remembered for those who ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// Nothing to tell: a blank entry, a change of the Raft membership, housekeeping.
    Nothing,
    /// `true`, or `false` when a comparison failed and nothing was changed.
    Done(bool),
    /// The results of a transaction, or why it was rolled back.
    Txn(Arc<txn::Outcome>),
}

/// What a batch of commands touched, for those who wait for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The keys that were set, changed or deleted.
    pub keys: Vec<Key>,
}

/// The replicated state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    applied: u64,
    kv: kv::Table,
    requests: requests::Recent,
}

impl State {
    /// Puts a state together from its parts, as a snapshot holds them.
    pub fn from_parts(applied: u64, kv: kv::Table, requests: requests::Recent) -> Self {
        Self { applied, kv, requests }
    }

    /// Returns the log index up to which commands were applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns the table of keys and values.
    pub fn kv(&self) -> &kv::Table {
        &self.kv
    }

    /// Returns the requests that were applied lately.
    pub fn requests(&self) -> &requests::Recent {
        &self.requests
    }

    /// Notes that the log is applied up to `index` although the entry there held no command.
    pub fn pass(&mut self, index: u64) {
        self.applied = index;
    }

    /// Applies the command at `index` and adds what it changed to `touched`.
    ///
    /// A command whose request was applied before changes nothing and is answered as it was then.
    pub fn apply(
        &mut self,
        index: u64,
        command: &Command,
        touched: &mut Touched,
    ) -> Result<Applied, Refused> {
        let op = match command.op() {
            Ok(op) => op,
            Err(Refused::UnknownKind { kind, .. }) if command::may_be_passed_over(kind) => {
                tracing::warn!(kind, index, "command of a newer version passed over");
                self.applied = index;
                return Ok(Applied::Nothing);
            }
            Err(refused) => return Err(refused),
        };
        self.applied = index;
        if let Some(applied) = command.request.and_then(|id| self.requests.get(id)) {
            return Ok(applied.clone());
        }
        let applied = self.change(index, op, touched);
        if let Some(request) = command.request {
            self.requests.remember(request, applied.clone());
        }
        Ok(applied)
    }

    fn change(&mut self, index: u64, op: Op, touched: &mut Touched) -> Applied {
        match op {
            Op::KvSet { key, value, flags, cas } => {
                Applied::Done(self.kv.set(index, key, value, flags, cas, touched))
            }
            Op::KvDelete { key, cas } => Applied::Done(self.kv.delete(index, &key, cas, touched)),
            Op::KvDeleteTree { prefix } => {
                self.kv.delete_tree(index, &prefix, touched);
                Applied::Done(true)
            }
            Op::Txn { ops } => Applied::Txn(Arc::new(txn::run(&mut self.kv, index, ops, touched))),
            Op::ReapTombstones { upto } => {
                self.kv.reap(upto);
                Applied::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests;
