//! Transactions: all operations or none.
//!
//! The operations run one after the other on a copy of the table, each seeing what the ones
//! before it did. All failures are gathered, as Consul does; when there is one, the copy is
//! thrown away.

use bytes::Bytes;
use lan_agent::ask::{KvVerb, TxnOp};
use serde::{Deserialize, Serialize};

use super::{
    Touched,
    kv::{Entry, Key, Table},
};

/// What came of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The entries that were read or written, in the order of the operations; empty when there
    /// are failures.
    #[serde(default)]
    pub results: Vec<Found>,
    /// Why nothing was changed; empty when all operations were carried out.
    #[serde(default)]
    pub failures: Vec<Failure>,
}

/// An entry in the results of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
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
        let found =
            |found: &Found| 64 + found.key.len() + found.value.as_ref().map_or(0, Bytes::len);
        let failed = |failure: &Failure| 32 + failure.what.len();
        self.results.iter().map(found).sum::<usize>()
            + self.failures.iter().map(failed).sum::<usize>()
    }
}

/// Runs a transaction on the table; the table is unchanged when an operation fails.
pub fn run(table: &mut Table, index: u64, ops: Vec<TxnOp>, touched: &mut Touched) -> Outcome {
    let mut copy = table.clone();
    let touched_before = touched.keys.len();
    let mut outcome = Outcome::default();
    for (op_index, op) in ops.into_iter().enumerate() {
        if let Err(what) = step(&mut copy, index, op, &mut outcome.results, touched) {
            outcome.failures.push(Failure { op: op_index, what });
        }
    }
    if outcome.failures.is_empty() {
        *table = copy;
    } else {
        outcome.results.clear();
        touched.keys.truncate(touched_before);
    }
    outcome
}

/// Answers a transaction that only reads.
pub fn read(table: &Table, ops: &[TxnOp]) -> Outcome {
    run(&mut table.clone(), table.index(), ops.to_vec(), &mut Touched::default())
}

fn step(
    table: &mut Table,
    index: u64,
    op: TxnOp,
    results: &mut Vec<Found>,
    touched: &mut Touched,
) -> Result<(), String> {
    let TxnOp { verb, key, value, flags, index: cas } = op;
    let whole_tree = matches!(verb, KvVerb::GetTree | KvVerb::DeleteTree);
    if key.is_empty() && !whole_tree {
        return Err("Must provide key".to_owned());
    }
    match verb {
        KvVerb::Set | KvVerb::Cas => {
            let cas = (verb == KvVerb::Cas).then_some(cas);
            if !table.set(index, key.as_str().into(), value, flags, cas, touched) {
                return Err(format!("failed to set key {key:?}, index is stale"));
            }
            results.extend(table.get(&key).map(|entry| written(&key, entry)));
        }
        KvVerb::Delete => {
            table.delete(index, &key, None, touched);
        }
        KvVerb::DeleteCas => {
            if !table.delete(index, &key, Some(cas), touched) {
                return Err(format!("failed to delete key {key:?}, index is stale"));
            }
        }
        KvVerb::DeleteTree => {
            table.delete_tree(index, &key, touched);
        }
        KvVerb::Get => match table.get(&key) {
            Some(entry) => results.push(found(&key, entry)),
            None => return Err(format!("key {key:?} doesn't exist")),
        },
        KvVerb::GetOrEmpty => results.push(match table.get(&key) {
            Some(entry) => found(&key, entry),
            None => nothing(&key, flags),
        }),
        KvVerb::GetTree => results.extend(table.below(&key).map(|(key, entry)| found(key, entry))),
        KvVerb::CheckIndex => results.push(check_index(table, &key, cas)?),
        KvVerb::CheckNotExists => {
            if table.get(&key).is_some() {
                return Err(format!("key {key:?} exists"));
            }
        }
    }
    Ok(())
}

fn check_index(table: &Table, key: &str, cas: u64) -> Result<Found, String> {
    match table.get(key) {
        None => Err(format!("failed to check index, key {key:?} doesn't exist")),
        Some(entry) if entry.modify_index == cas => Ok(written(key, entry)),
        Some(entry) => Err(format!(
            "failed index check for key {key:?}, current modify index {} != {cas}",
            entry.modify_index
        )),
    }
}

fn found(key: &str, entry: &Entry) -> Found {
    Found { value: Some(entry.value.clone()), ..written(key, entry) }
}

fn written(key: &str, entry: &Entry) -> Found {
    Found {
        key: key.into(),
        value: None,
        flags: entry.flags,
        create_index: entry.create_index,
        modify_index: entry.modify_index,
    }
}

fn nothing(key: &str, flags: u64) -> Found {
    Found { key: key.into(), value: None, flags, create_index: 0, modify_index: 0 }
}
