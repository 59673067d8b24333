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
    ask::{
        Answer, AskError, CatalogRecord, Meta, Outcome, Question, TxnOp, coordinate::Read as Wanted,
    },
    catalog::{Check, Lookup, Text},
};
use serde::de::IgnoredAny;
use topology::Datacenter;

use crate::{
    config_entry, coordinates,
    failover::policy::Count,
    prepared_query,
    state::{
        Applied, Op, State,
        catalog::{Fault, Part, Refusal, fold},
        config_entries::{self, Place as EntryPlace},
        kv::{Key, Table},
        prepared_queries, txn,
        view::Published,
        watch::Topic,
    },
};

use bodies::Bodies;
use lookup::Place;

pub use bodies::Version;
pub use lookup::Draw;

/// Most bytes of the bodies that are kept for one mirror.
const MIRROR_BODIES_LEN_MAX: usize = 16 * 1024 * 1024;

/// Answers questions about the state of a datacenter.
#[derive(Debug)]
pub struct Answers {
    home: Datacenter,
    /// Whether that is another datacenter than the server's.
    abroad: bool,
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
        Self { home, abroad: false, bodies: Bodies::default() }
    }

    /// Answers for a datacenter that is mirrored here. There may be many, and each keeps less.
    pub fn of_mirror(dc: Datacenter) -> Self {
        Self { home: dc, abroad: true, bodies: Bodies::new(MIRROR_BODIES_LEN_MAX) }
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
            Question::ConfigRead { kind, name } => {
                config_entries(state.config_entries(), kind.as_deref(), name.as_deref())
            }
            Question::CoordinateRead(Wanted { node }) => {
                let all = state.coordinates();
                match node {
                    Some(node) => all.get(node).map(|place| json::coordinates([place].into_iter())),
                    None => Some(json::coordinates(all.all())),
                }
            }
            Question::QueryRead { id } => queries(state.queries(), id.as_deref())?,
            Question::QueryExplain { name } => explained(state.queries(), name)?,
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

    /// Answers a lookup. What is not in the catalog is an empty list, not absent.
    pub fn look_up(&self, state: &Published, lookup: &Lookup) -> Result<Answer, AskError> {
        let catalog = state.catalog();
        let index = lookup::index(catalog, lookup);
        // What is sorted by distance is another body when somebody moved. Whatever changes has an index above all
        // before, so that the greater of the two tells them apart.
        let order = if lookup.selection.near.is_empty() { 0 } else { state.coordinates().index() };
        let version = Version { lineage: state.lineage(), index: index.max(order) };
        let encode = || lookup::body(state, self.place(), lookup, Draw::ALL);
        let body = self.bodies.get_or(lookup, version, encode)?;
        let meta = Meta { index: index.max(1), ..Meta::default() };
        Ok(Answer { outcome: Outcome::Found, meta, body })
    }

    /// Returns the body of a lookup with those of its instances that are drawn.
    pub fn drawn(&self, state: &State, lookup: &Lookup, draw: Draw) -> Result<Bytes, AskError> {
        lookup::body(state, self.place(), lookup, draw)
    }

    /// Counts the instances that a lookup is about, whether it wants them all or the passing ones.
    pub fn count(&self, state: &State, lookup: &Lookup) -> Result<Count, AskError> {
        lookup::count(state, &self.home, lookup)
    }

    /// Returns the datacenter whose state the answers are about.
    pub fn home(&self) -> &Datacenter {
        &self.home
    }

    fn place(&self) -> Place<'_> {
        Place { home: &self.home, abroad: self.abroad.then_some(&self.home) }
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

/// Refuses a lookup that makes no sense.
pub fn check_lookup(lookup: &Lookup) -> Result<(), AskError> {
    lookup::check(lookup)
}

/// Refuses a question that makes no sense, before anybody waits for its answer and before anything
/// is written.
pub fn check(question: &Question) -> Result<(), AskError> {
    match question {
        Question::Lookup(lookup) => check_lookup(lookup),
        Question::CoordinateUpdate(update) => coordinates::check(update),
        Question::ConfigRead { kind: Some(kind), .. } => config_entry::check_kind(kind),
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

/// Refuses what the state has no room for.
pub fn check_room(state: &State, op: &Op) -> Result<(), AskError> {
    match op {
        Op::ConfigSet { definition, .. } => state.config_entries().check_room(definition),
        Op::QuerySet { id, definition: Some(definition), .. } => {
            state.queries().check_room(id, definition)
        }
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
        Question::ConfigRead { kind, name } => vec![match (kind, name) {
            (Some(kind), Some(name)) => Topic::ConfigEntry(EntryPlace::new(kind, name)),
            (Some(kind), None) => Topic::ConfigKind(kind.clone()),
            (None, _) => Topic::ConfigEntries,
        }],
        Question::CoordinateRead(Wanted { node }) => vec![match node {
            Some(node) => Topic::Coordinate(fold(node)),
            None => Topic::Coordinates,
        }],
        _ => Vec::new(),
    }
}

/// Returns which state of a part of the catalog there is.
pub fn version(state: &Published, part: &Part) -> Version {
    Version { lineage: state.lineage(), index: state.catalog().index_of(part) }
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
        Question::QueryRead { id } => {
            let all = state.queries();
            (all.index(), id.as_ref().is_none_or(|id| all.get(id).is_some()))
        }
        Question::QueryExplain { name } => {
            (state.queries().index(), state.queries().find(name).is_some())
        }
        Question::ConfigRead { kind, name } => {
            let all = state.config_entries();
            match (kind, name) {
                (Some(kind), Some(name)) => match all.get(kind, name) {
                    Some(entry) => (entry.changed_index, true),
                    None => (all.index_of_kind(kind), false),
                },
                (Some(kind), None) => (all.index_of_kind(kind), true),
                (None, _) => (all.index(), true),
            }
        }
        Question::CoordinateRead(Wanted { node }) => {
            let all = state.coordinates();
            match node {
                Some(node) => (all.index_of(node), all.get(node).is_some()),
                None => (all.index(), true),
            }
        }
        _ => (state.applied(), true),
    };
    let outcome = if found { Outcome::Found } else { Outcome::Absent };
    Glance { index: index.max(1), outcome }
}

fn list(kv: &Table, prefix: &str) -> Option<Bytes> {
    kv.below(prefix).next()?;
    Some(json::entries(kv.below(prefix).map(|(key, entry)| (&**key, &**entry))))
}

fn config_entries(
    all: &config_entries::Table,
    kind: Option<&str>,
    name: Option<&str>,
) -> Option<Bytes> {
    Some(match (kind, name) {
        (Some(kind), Some(name)) => json::config_entry(all.get(kind, name)?),
        (Some(kind), None) => json::config_entries(all.of_kind(kind)),
        (None, _) => json::config_entries(all.all()),
    })
}

/// Shows the prepared query of an id, or all.
fn queries(all: &prepared_queries::Table, id: Option<&str>) -> Result<Option<Bytes>, AskError> {
    let found: Vec<_> = match id {
        None => all.all().collect(),
        Some(id) => match all.get(id) {
            None => return Ok(None),
            Some(entry) => vec![entry],
        },
    };
    let shown: Vec<String> =
        found.into_iter().map(|it| shown(it, &it.definition)).collect::<Result<_, _>>()?;
    Ok(Some(format!("[{}]", shown.join(",")).into()))
}

/// Shows a prepared query as it runs by a name.
fn explained(all: &prepared_queries::Table, name: &Text) -> Result<Option<Bytes>, AskError> {
    let Some(entry) = all.find(name) else { return Ok(None) };
    let query = shown(entry, &entry.definition.filled_in(name)?)?;
    Ok(Some(format!("{{\"Query\":{query}}}").into()))
}

fn shown(
    entry: &prepared_queries::Entry,
    definition: &prepared_query::Definition,
) -> Result<String, AskError> {
    let shown = definition.shown(&entry.id, entry.create_index, entry.modify_index);
    shown.map_err(|error| AskError::Failed(format!("a prepared query can't be shown: {error}")))
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
