//! Answers to questions about the state: functions of both, encoded as Consul encodes them.
//!
//! The index of an answer follows Consul's rules. A key has the index of its last change; a
//! prefix that of the last change or deletion below it; where nothing is known, the index of
//! the whole table counts. A lookup in the catalog has the index of the parts that it shows. It is
//! never 0, which would mean "do not wait" to the one who sends it back.
//!
//! What the catalog shows is asked for again and again, and changes seldom: its answers are
//! encoded once and kept ([`bodies`]).

mod bodies;
mod json;
mod lookup;
mod records;

use std::ops::ControlFlow;

use bytes::Bytes;
use lan_agent::{
    ask::{Answer, AskError, CatalogRecord, Meta, Outcome, Question, TxnOp},
    catalog::{Check, Lookup},
};
use serde::de::IgnoredAny;
use topology::Datacenter;

use crate::state::{
    Applied, State,
    catalog::{Fault, Refusal},
    kv::{Key, Table},
    txn,
    view::Published,
    watch::Topic,
};

use bodies::{Bodies, Version};

/// Answers questions about the state of a datacenter.
#[derive(Debug)]
pub struct Answers {
    home: Datacenter,
    bodies: Bodies,
}

/// What a question would be answered, without the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The index of the answer, at least 1.
    pub index: u64,
    /// Whether there is something to answer with.
    pub outcome: Outcome,
}

impl Answers {
    /// Answers for a datacenter, whose name the answers show.
    pub fn new(home: Datacenter) -> Self {
        Self { home, bodies: Bodies::default() }
    }

    /// Answers a question about the state.
    ///
    /// Of the answer's [`Meta`] only the index is set; the rest is the server's to say. Fails for a
    /// question that changes the state or is not about it, and for one that makes no sense.
    pub fn answer(&self, state: &Published, question: &Question) -> Result<Answer, AskError> {
        let kv = state.kv();
        let body = match question {
            Question::KvGet { key, raw: true } => kv.get(key).map(|entry| entry.value.clone()),
            Question::KvGet { key, raw: false } => {
                kv.get(key).map(|entry| json::entries([(key.as_str(), &**entry)].into_iter()))
            }
            Question::KvList { prefix } => list(kv, prefix),
            Question::KvKeys { prefix, separator } => keys(kv, prefix, separator),
            Question::Lookup(lookup) => return self.look_up(state, lookup),
            Question::Txn { ops } if question.reads() => {
                let outcome = txn::read(kv, state.catalog(), ops);
                return Ok(self.transaction(&outcome, json::Freshness::Said));
            }
            _ => return Err(AskError::Bad("this can't be read".to_owned())),
        };
        let Glance { index, outcome } = glance(state, question);
        let meta = Meta { index, ..Meta::default() };
        Ok(Answer { outcome, meta, body: body.unwrap_or_default() })
    }

    /// What is not in the catalog is an empty list, not absent.
    fn look_up(&self, state: &Published, lookup: &Lookup) -> Result<Answer, AskError> {
        let catalog = state.catalog();
        let version = Version { lineage: state.lineage(), index: lookup::index(catalog, lookup) };
        let encode = || lookup::body(catalog, &self.home, lookup);
        let body = self.bodies.get_or(lookup, version, encode)?;
        let meta = Meta { index: version.index.max(1), ..Meta::default() };
        Ok(Answer { outcome: Outcome::Found, meta, body })
    }

    /// Answers the author of a write.
    pub fn written(&self, applied: &Applied) -> Result<Answer, AskError> {
        Ok(match applied {
            Applied::Nothing | Applied::Done(true) => Answer::plain("true"),
            Applied::Done(false) => Answer::plain("false"),
            Applied::Txn(outcome) => self.transaction(outcome, json::Freshness::Unsaid),
            Applied::Forgotten => {
                let text = "the request was applied before, and its results are no longer known";
                return Err(AskError::Failed(text.to_owned()));
            }
            Applied::Refused(Refusal { fault, sentence }) => {
                return Err(match fault {
                    Fault::Registration => AskError::Bad(sentence.to_string()),
                    Fault::Catalog => AskError::Failed(sentence.to_string()),
                });
            }
        })
    }

    fn transaction(&self, done: &txn::Outcome, freshness: json::Freshness) -> Answer {
        let outcome = if done.failures.is_empty() { Outcome::Found } else { Outcome::Conflict };
        let body = json::transaction(&self.home, done, freshness);
        Answer { outcome, meta: Meta::default(), body }
    }
}

/// Refuses a question that makes no sense, before anybody waits for its answer and before anything
/// is written.
pub fn check(question: &Question) -> Result<(), AskError> {
    match question {
        Question::Lookup(lookup) => lookup::check(lookup),
        Question::Register(registration) => registration.checks.iter().try_for_each(check_shown),
        Question::Txn { ops } => ops.iter().try_for_each(|op| match op {
            TxnOp::Catalog(op) => match &op.record {
                CatalogRecord::Check(_, check) => check_shown(check),
                CatalogRecord::Node(_) | CatalogRecord::Service(..) => Ok(()),
            },
            TxnOp::Kv(_) => Ok(()),
        }),
        _ => Ok(()),
    }
}

/// Definitions are shown as they are: what is no JSON would spoil all that is around it.
fn check_shown(check: &Check) -> Result<(), AskError> {
    let text = &check.definition;
    if text.is_empty() || serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Ok(());
    }
    Err(AskError::Bad(format!("a definition must be JSON: {text:?}")))
}

/// Returns what a blocking read waits for as things are; nothing when the question can't wait.
pub fn topics(state: &State, question: &Question) -> Vec<Topic> {
    match question {
        Question::KvGet { key, .. } => vec![Topic::Key(key.as_str().into())],
        Question::KvList { prefix } | Question::KvKeys { prefix, .. } => {
            vec![Topic::Prefix(prefix.as_str().into())]
        }
        Question::Lookup(lookup) => {
            let parts = lookup::parts(state.catalog(), lookup);
            parts.into_iter().map(Topic::Catalog).collect()
        }
        _ => Vec::new(),
    }
}

/// Looks at what a question that can wait would be answered.
pub fn glance(state: &State, question: &Question) -> Glance {
    let kv = state.kv();
    let (index, found) = match question {
        Question::KvGet { key, .. } => (kv.index_of(key), kv.get(key).is_some()),
        Question::KvList { prefix } | Question::KvKeys { prefix, .. } => {
            (kv.index_below(prefix), kv.below(prefix).next().is_some())
        }
        Question::Lookup(lookup) => (lookup::index(state.catalog(), lookup), true),
        _ => (state.applied(), true),
    };
    let outcome = if found { Outcome::Found } else { Outcome::Absent };
    Glance { index: index.max(1), outcome }
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
