//! Operations of a transaction on keys.

use lan_agent::ask::{KvOp, KvVerb};

use super::{Found, FoundEntry};
use crate::state::{
    Touched,
    kv::{Entry, Table},
};

/// Carries out an operation and adds what it found to `results`, or tells why it can't be.
pub(super) fn step(
    table: &mut Table,
    index: u64,
    op: KvOp,
    results: &mut Vec<Found>,
    touched: &mut Touched,
) -> Result<(), String> {
    let KvOp { verb, key, value, flags, index: cas } = op;
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
            results.extend(table.get(&key).map(|entry| Found::Entry(written(&key, entry))));
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
            Some(entry) => results.push(Found::Entry(found(&key, entry))),
            None => return Err(format!("key {key:?} doesn't exist")),
        },
        KvVerb::GetOrEmpty => results.push(Found::Entry(match table.get(&key) {
            Some(entry) => found(&key, entry),
            None => nothing(&key, flags),
        })),
        KvVerb::GetTree => {
            let entries = table.below(&key);
            results.extend(entries.map(|(key, entry)| Found::Entry(found(key, entry))));
        }
        KvVerb::CheckIndex => results.push(Found::Entry(check_index(table, &key, cas)?)),
        KvVerb::CheckNotExists => {
            if table.get(&key).is_some() {
                return Err(format!("key {key:?} exists"));
            }
        }
    }
    Ok(())
}

fn check_index(table: &Table, key: &str, cas: u64) -> Result<FoundEntry, String> {
    match table.get(key) {
        None => Err(format!("failed to check index, key {key:?} doesn't exist")),
        Some(entry) if entry.modify_index == cas => Ok(written(key, entry)),
        Some(entry) => Err(format!(
            "failed index check for key {key:?}, current modify index {} != {cas}",
            entry.modify_index
        )),
    }
}

fn found(key: &str, entry: &Entry) -> FoundEntry {
    FoundEntry { value: Some(entry.value.clone()), ..written(key, entry) }
}

fn written(key: &str, entry: &Entry) -> FoundEntry {
    FoundEntry {
        key: key.into(),
        value: None,
        flags: entry.flags,
        create_index: entry.create_index,
        modify_index: entry.modify_index,
    }
}

fn nothing(key: &str, flags: u64) -> FoundEntry {
    FoundEntry { key: key.into(), value: None, flags, create_index: 0, modify_index: 0 }
}
