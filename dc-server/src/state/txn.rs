//! Transactions: all operations or none.
//!
//! The operations run one after the other on a copy of the tables, each seeing what the ones
//! before it did. All failures are gathered, as Consul does; when there is one, the copy is
//! thrown away.

mod keys;
mod records;

use bytes::Bytes;
use lan_agent::{
    ask::TxnOp,
    catalog::{Check, Node, Service, Text},
};
use serde::{Deserialize, Serialize};

use super::{
    Touched,
    catalog::{Catalog, Record},
    kv::{Key, Table},
};

/// What came of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was read or written, in the order of the operations; empty when there are failures.
    #[serde(default)]
    pub results: Vec<Found>,
    /// Why nothing was changed; empty when all operations were carried out.
    #[serde(default)]
    pub failures: Vec<Failure>,
}

/// What an operation read or wrote. Told apart by its fields: entries came first, and have no name
/// for what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Found {
    /// An entry under a key.
    Entry(FoundEntry),
    /// A record of the catalog.
    Record(FoundRecord),
}

/// A record of the catalog in the results of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundRecord {
    /// A node.
    Node(Record<Node>),
    /// An instance of a service.
    Service(Record<Service>),
    /// A check, with what it shows of its node and its service.
    Check {
        /// The name of the node.
        node: Text,
        /// The tags of the service.
        tags: Vec<Text>,
        /// The check.
        check: Record<Check>,
    },
}

/// An entry in the results of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEntry {
    /// The key.
    pub key: Key,
    /// The value of a read; `None` for a write, whose author knows it.
    #[serde(default)]
    pub value: Option<Bytes>,
    /// The client's own number.
    #[serde(default)]
    pub flags: u64,
    /// The index at which the key came to be.
    #[serde(default)]
    pub create_index: u64,
    /// The index at which value or flags changed last.
    #[serde(default)]
    pub modify_index: u64,
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The position of the operation, from 0.
    pub op: usize,
    /// What failed, in Consul's words.
    pub what: String,
}

impl Outcome {
    /// Returns about how many bytes the outcome keeps in memory.
    pub fn weight(&self) -> usize {
        let found = |found: &Found| 64 + found.text_len();
        let failed = |failure: &Failure| 32 + failure.what.len();
        self.results.iter().map(found).sum::<usize>()
            + self.failures.iter().map(failed).sum::<usize>()
    }
}

impl Found {
    fn text_len(&self) -> usize {
        match self {
            Found::Entry(entry) => entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len),
            Found::Record(FoundRecord::Node(node)) => node.value.text_len(),
            Found::Record(FoundRecord::Service(service)) => service.value.text_len(),
            Found::Record(FoundRecord::Check { node, tags, check }) => {
                let tags = tags.iter().map(|tag| tag.len()).sum::<usize>();
                node.len() + tags + check.value.text_len()
            }
        }
    }
}

/// Runs a transaction on the tables, which are unchanged when an operation fails.
pub fn run(
    kv: &mut Table,
    catalog: &mut Catalog,
    index: u64,
    ops: Vec<TxnOp>,
    touched: &mut Touched,
) -> Outcome {
    let (mut kv_copy, mut catalog_copy) = (kv.clone(), catalog.clone());
    let (keys_before, parts_before) = (touched.keys.len(), touched.parts.len());
    let mut outcome = Outcome::default();
    for (op_index, op) in ops.into_iter().enumerate() {
        let results = &mut outcome.results;
        let done = match op {
            TxnOp::Kv(op) => keys::step(&mut kv_copy, index, op, results, touched),
            TxnOp::Catalog(op) => records::step(&mut catalog_copy, index, *op, results, touched),
        };
        if let Err(what) = done {
            outcome.failures.push(Failure { op: op_index, what });
        }
    }
    if outcome.failures.is_empty() {
        (*kv, *catalog) = (kv_copy, catalog_copy);
    } else {
        outcome.results.clear();
        touched.keys.truncate(keys_before);
        touched.parts.truncate(parts_before);
    }
    outcome
}

/// Answers a transaction that only reads.
pub fn read(kv: &Table, catalog: &Catalog, ops: &[TxnOp]) -> Outcome {
    let (mut kv, mut catalog) = (kv.clone(), catalog.clone());
    run(&mut kv, &mut catalog, 0, ops.to_vec(), &mut Touched::default())
}
