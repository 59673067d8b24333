//! Answers to questions about the state: functions of both, encoded as Consul encodes them.
//!
//! The index of an answer follows Consul's rules. A key has the index of its last change; a
//! prefix that of the last change or deletion below it; where nothing is known, the index of
//! the whole table counts. It is never 0, which would mean "do not wait" to the one who sends it
//! back.

mod json;

use std::ops::ControlFlow;

use bytes::Bytes;
use lan_agent::ask::{Answer, Meta, Outcome, Question, TxnOp};

use crate::state::{
    Applied, State,
    kv::{Key, Table},
    txn,
    watch::Topic,
};

/// What a question would be answered, without the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The index of the answer, at least 1.
    pub index: u64,
    /// Whether there is something to answer with.
    pub outcome: Outcome,
}

/// Returns what a blocking read waits for; `None` when the question can't wait.
pub fn topic(question: &Question) -> Option<Topic<'_>> {
    match question {
        Question::KvGet { key, .. } => Some(Topic::Key(key)),
        Question::KvList { prefix } | Question::KvKeys { prefix, .. } => {
            Some(Topic::Prefix(prefix))
        }
        _ => None,
    }
}

/// Looks at what a question that can wait would be answered; `None` for the others.
pub fn glance(state: &State, question: &Question) -> Option<Glance> {
    let kv = state.kv();
    let (index, found) = match topic(question)? {
        Topic::Key(key) => (kv.index_of(key), kv.get(key).is_some()),
        Topic::Prefix(prefix) => (kv.index_below(prefix), kv.below(prefix).next().is_some()),
    };
    let outcome = if found { Outcome::Found } else { Outcome::Absent };
    Some(Glance { index: index.max(1), outcome })
}

/// Answers a question about the state; `None` for one that changes it or is not about it.
///
/// Of the answer's [`Meta`] only the index is set; the rest is the server's to say.
pub fn answer(state: &State, question: &Question) -> Option<Answer> {
    let kv = state.kv();
    let body = match question {
        Question::KvGet { key, raw: true } => kv.get(key).map(|entry| entry.value.clone()),
        Question::KvGet { key, raw: false } => {
            kv.get(key).map(|entry| json::entries([(key.as_str(), &**entry)].into_iter()))
        }
        Question::KvList { prefix } => list(kv, prefix),
        Question::KvKeys { prefix, separator } => keys(kv, prefix, separator),
        Question::Txn { ops } if question.reads() => return Some(read_txn(kv, ops)),
        _ => return None,
    };
    let Glance { index, outcome } = glance(state, question)?;
    let meta = Meta { index, ..Meta::default() };
    Some(Answer { outcome, meta, body: body.unwrap_or_default() })
}

/// Answers the author of a write.
pub fn written(applied: &Applied) -> Answer {
    match applied {
        Applied::Nothing | Applied::Done(true) => Answer::plain("true"),
        Applied::Done(false) => Answer::plain("false"),
        Applied::Txn(outcome) => transaction(outcome, json::Freshness::Unsaid),
    }
}

fn read_txn(kv: &Table, ops: &[TxnOp]) -> Answer {
    transaction(&txn::read(kv, ops), json::Freshness::Said)
}

fn transaction(done: &txn::Outcome, freshness: json::Freshness) -> Answer {
    let outcome = if done.failures.is_empty() { Outcome::Found } else { Outcome::Conflict };
    Answer { outcome, meta: Meta::default(), body: json::transaction(done, freshness) }
}

fn list(kv: &Table, prefix: &str) -> Option<Bytes> {
    kv.below(prefix).next()?;
    Some(json::entries(kv.below(prefix).map(|(key, entry)| (&**key, &**entry))))
}

fn keys(kv: &Table, prefix: &str, separator: &str) -> Option<Bytes> {
    let mut list = json::Strings::default();
    let mut from = kv.below(prefix).next().map(|(key, _)| key.clone())?;
    if separator.is_empty() {
        kv.below(prefix).for_each(|(key, _)| list.push(key));
        return Some(list.finish());
    }
    loop {
        let walked = kv.from(&from, prefix).try_for_each(|key| {
            let rest = &key[prefix.len()..];
            match rest.find(separator) {
                None => {
                    list.push(key);
                    ControlFlow::Continue(())
                }
                Some(at) => {
                    let group = &key[..prefix.len() + at + separator.len()];
                    list.push(group);
                    ControlFlow::Break(kv.after_group(prefix, group).cloned())
                }
            }
        });
        match walked {
            ControlFlow::Break(Some(next)) => from = next,
            ControlFlow::Break(None) | ControlFlow::Continue(()) => return Some(list.finish()),
        }
    }
}

impl Table {
    fn from<'a>(&'a self, from: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a Key> {
        self.since(from).map(|(key, _)| key).take_while(move |key| key.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests;
