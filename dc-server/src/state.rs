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

pub mod catalog;
pub mod clock;
pub mod command;
pub mod config_entries;
pub mod coordinates;
pub mod kv;
pub mod prepared_queries;
pub mod reaper;
pub mod requests;
pub mod txn;
pub mod view;
pub mod watch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use command::{Command, Op, Refused};

use catalog::{Catalog, Part, Refusal};
use clock::Clock;
use config_entries::Place;
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
    /// It was applied before; its results are not remembered any more.
    Forgotten,
    /// Nothing, and why: a registration that can't be.
    Refused(Refusal),
}

/// What a batch of commands touched, for those who wait for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The keys that were set, changed or deleted.
    pub keys: Vec<Key>,
    /// The parts of the catalog that changed; some may be there more than once.
    pub parts: Vec<Part>,
    /// The configuration entries that were set, changed or deleted.
    pub config_entries: Vec<Place>,
    /// The nodes that moved, or whose coordinates went.
    pub coordinates: Vec<catalog::Key>,
    /// Whether prepared queries were set, changed or deleted.
    pub queries: bool,
}

/// The replicated state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    applied: u64,
    clock: Clock,
    cluster: Option<Uuid>,
    kv: kv::Table,
    catalog: Catalog,
    config_entries: config_entries::Table,
    queries: prepared_queries::Table,
    requests: requests::Recent,
    coordinates: coordinates::Table,
}

impl State {
    /// Puts a state together from its parts, as a snapshot holds them.
    pub fn from_parts(
        applied: u64,
        clock: Clock,
        kv: kv::Table,
        catalog: Catalog,
        config_entries: config_entries::Table,
        requests: requests::Recent,
    ) -> Self {
        Self {
            applied,
            clock,
            cluster: None,
            kv,
            catalog,
            config_entries,
            queries: prepared_queries::Table::default(),
            requests,
            coordinates: coordinates::Table::default(),
        }
    }

    /// The same with prepared queries.
    pub fn with_queries(self, queries: prepared_queries::Table) -> Self {
        Self { queries, ..self }
    }

    /// The same of a cluster that has an identity.
    pub fn of_cluster(self, cluster: Option<Uuid>) -> Self {
        Self { cluster, ..self }
    }

    /// The same with nodes whose places are known.
    pub fn with_coordinates(self, coordinates: coordinates::Table) -> Self {
        Self { coordinates, ..self }
    }

    /// Returns the log index up to which commands were applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns the time that the servers agree on.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns the identity that the cluster was given when it began: it tells it from another one that has its
    /// datacenter's name. `None` before that, and where there is no WAN.
    pub fn cluster(&self) -> Option<Uuid> {
        self.cluster
    }

    /// Returns the table of keys and values.
    pub fn kv(&self) -> &kv::Table {
        &self.kv
    }

    /// Returns the nodes, services and checks.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the configuration entries.
    pub fn config_entries(&self) -> &config_entries::Table {
        &self.config_entries
    }

    /// Returns where the nodes are.
    pub fn coordinates(&self) -> &coordinates::Table {
        &self.coordinates
    }

    /// Returns the prepared queries.
    pub fn queries(&self) -> &prepared_queries::Table {
        &self.queries
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
                self.pass_command(index, command);
                return Ok(Applied::Nothing);
            }
            Err(refused) => return Err(refused),
        };
        self.pass_command(index, command);
        if let Some(applied) = command.request.and_then(|id| self.requests.get(id)) {
            return Ok(applied.clone());
        }
        let before = touched.parts.len();
        let applied = self.change(index, op, touched);
        let gone = self.coordinates.follow(index, &self.catalog, &touched.parts[before..]);
        touched.coordinates.extend(gone);
        if let Some(request) = command.request {
            self.requests.remember(self.clock.now_ms(), index, request, applied.clone());
        }
        Ok(applied)
    }

    fn pass_command(&mut self, index: u64, command: &Command) {
        self.applied = index;
        if let Some(stamp_ms) = command.stamp_ms {
            self.clock.advance(stamp_ms);
        }
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
            Op::Txn { ops } => {
                let outcome = txn::run(&mut self.kv, &mut self.catalog, index, ops, touched);
                Applied::Txn(Arc::new(outcome))
            }
            Op::ReapTombstones { upto } => {
                self.kv.reap(upto);
                Applied::Nothing
            }
            Op::Register(registration) => {
                outcome(self.catalog.register(index, &registration, touched))
            }
            Op::Deregister(what) => {
                self.catalog.deregister(index, &what, touched);
                Applied::Done(true)
            }
            Op::Found { cluster } => {
                self.cluster.get_or_insert(cluster);
                Applied::Nothing
            }
            Op::ConfigSet { definition, cas } => {
                Applied::Done(self.config_entries.set(index, &definition, cas, touched))
            }
            Op::ConfigDelete { kind, name, cas } => {
                let place = Place::new(&kind, &name);
                Applied::Done(self.config_entries.delete(index, &place, cas, touched))
            }
            Op::QuerySet { id, definition, new } => {
                match definition {
                    Some(it) => outcome(self.queries.set(index, &id, &it, new, touched)),
                    // An older version wrote it, which read it otherwise.
                    None => Applied::Nothing,
                }
            }
            Op::QueryDelete { id } => outcome(self.queries.delete(index, &id, touched)),
            Op::ConfigReplicate { set, gone } => {
                self.config_entries.replicate(index, &set, &gone, touched);
                Applied::Nothing
            }
            Op::Coordinates { updates } => {
                self.coordinates.update(index, updates, &self.catalog, touched);
                Applied::Nothing
            }
        }
    }
}

fn outcome(result: Result<(), Refusal>) -> Applied {
    match result {
        Ok(()) => Applied::Done(true),
        Err(refusal) => Applied::Refused(refusal),
    }
}

#[cfg(test)]
mod tests;
