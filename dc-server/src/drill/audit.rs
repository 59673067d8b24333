//! Whether what was acknowledged is there, and nothing twice. A function of the history.
//!
//! - A client writes each key of its own once. Acknowledged, it must be there with its value at
//!   the end; written twice, its modify index is above its create index.
//! - A key that is created under the condition that it is not there and that nobody else writes
//!   can't conflict, except with a first application of the same write.
//! - The counter must stand between the acknowledged increments and those plus the increments
//!   whose outcome is unknown.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::drill::{
    history::{History, Kind, Operation, Outcome, Stored},
    workload::COUNTER,
};

/// Most keys that are named in a report: the count says the rest.
const NAMED_MAX: usize = 10;

/// What became of the writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that were answered with an error, or found nobody to ask.
    pub errors: usize,
    /// Writes without an answer: they may be there or not.
    pub unknown: usize,
    /// Acknowledged and not there, or not as written.
    pub lost: usize,
    /// Applied more than once.
    pub doubled: usize,
    /// Answers that contradict what was acknowledged before.
    pub contradictions: usize,
    /// Datacenters that would not say what they hold.
    pub unread: Vec<String>,
    /// The first of what is wrong, in words.
    pub findings: Vec<String>,
}

impl Audit {
    fn found(&mut self, finding: String) {
        if self.findings.len() < NAMED_MAX {
            self.findings.push(finding);
        }
    }

    fn lose(&mut self, finding: String) {
        self.lost += 1;
        self.found(finding);
    }

    fn double(&mut self, finding: String) {
        self.doubled += 1;
        self.found(finding);
    }
}

/// Compares what was acknowledged with what is there.
pub fn check(history: &History) -> Audit {
    let mut audit = Audit::default();
    for operation in &history.operations {
        match (&operation.outcome, operation.kind.writes()) {
            (Outcome::Done, true) => audit.acknowledged += 1,
            (Outcome::Error { .. } | Outcome::NoConnection(_), true) => audit.errors += 1,
            (Outcome::Silence(_), true) => audit.unknown += 1,
            (Outcome::Conflict, true) if operation.kind == Kind::Create => {
                audit.double(format!(
                    "{} was created by its only write, which was told that it is there",
                    named(operation)
                ));
            }
            (Outcome::Wrong(what), _) => {
                audit.contradictions += 1;
                audit.found(format!("{}: {what}", named(operation)));
            }
            _ => (),
        }
    }
    for dc in &history.datacenters {
        let Some(stored) = history.stored.get(dc) else {
            audit.unread.push(dc.to_string());
            continue;
        };
        let stored: BTreeMap<&str, &Stored> =
            stored.iter().map(|entry| (entry.key.as_str(), entry)).collect();
        let here = || history.operations.iter().filter(|op| op.to == *dc);
        own_keys(&mut audit, here(), &stored);
        counter(&mut audit, dc.as_str(), here(), &stored);
    }
    audit
}

fn named(operation: &Operation) -> String {
    format!("{} in {}", operation.key, operation.to)
}

fn own_keys<'a>(
    audit: &mut Audit,
    operations: impl Iterator<Item = &'a Operation>,
    stored: &BTreeMap<&str, &Stored>,
) {
    for operation in operations.filter(|op| matches!(op.kind, Kind::Create | Kind::Put)) {
        let name = named(operation);
        let acknowledged = operation.outcome == Outcome::Done;
        match stored.get(&*operation.key) {
            None if acknowledged => {
                audit.lose(format!("{name} was acknowledged and is not there"));
            }
            Some(entry) if acknowledged && *entry.value != *operation.key => {
                audit.lose(format!("{name} was acknowledged and holds {:?}", entry.value));
            }
            Some(entry) if entry.modify_index != entry.create_index => audit.double(format!(
                "{name} was written once, and applied at indexes {} and {}",
                entry.create_index, entry.modify_index
            )),
            _ => (),
        }
    }
}

fn counter<'a>(
    audit: &mut Audit,
    dc: &str,
    operations: impl Iterator<Item = &'a Operation>,
    stored: &BTreeMap<&str, &Stored>,
) {
    let (mut done, mut maybe) = (0, 0);
    for operation in operations.filter(|op| op.kind == Kind::Increment) {
        match operation.outcome {
            Outcome::Done => done += 1,
            // An error after the leader took it can't be told from one before.
            Outcome::Silence(_) | Outcome::Error { .. } => maybe += 1,
            Outcome::Conflict | Outcome::Wrong(_) | Outcome::NoConnection(_) => (),
        }
    }
    let count: u64 = stored.get(COUNTER).and_then(|entry| entry.value.parse().ok()).unwrap_or(0);
    if count < done {
        audit.lose(format!("the counter of {dc} stands at {count} after {done} increments"));
    } else if count > done + maybe {
        let most = done + maybe;
        audit.double(format!(
            "the counter of {dc} stands at {count} after at most {most} increments"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn a_history_in_order_has_no_findings() {
        let audit = check(&sample::history());
        assert_eq!((audit.acknowledged, audit.lost, audit.doubled), (3, 0, 0), "{audit:?}");
        assert!(audit.findings.is_empty(), "{audit:?}");
    }

    #[test]
    fn an_acknowledged_key_that_is_not_there_is_lost() {
        let mut history = sample::history();
        history.stored.values_mut().for_each(Vec::clear);
        assert_eq!(check(&history).lost, 3);
    }

    #[test]
    fn a_key_with_two_indexes_was_applied_twice() {
        let mut history = sample::history();
        history.stored.values_mut().flatten().find(|e| e.key != COUNTER).unwrap().modify_index += 1;
        assert_eq!(check(&history).doubled, 1);
    }

    #[test]
    fn a_conflict_on_a_key_of_its_own_is_a_write_applied_twice() {
        let mut history = sample::history();
        let create = history.operations.iter_mut().find(|op| op.kind == Kind::Create).unwrap();
        create.outcome = Outcome::Conflict;
        assert_eq!(check(&history).doubled, 1);
    }

    #[test]
    fn a_counter_above_its_increments_was_counted_twice() {
        let mut history = sample::history();
        let counter = history.stored.values_mut().flatten().find(|e| e.key == COUNTER).unwrap();
        counter.value = "2".to_owned();
        assert_eq!(check(&history).doubled, 1);
    }

    #[test]
    fn an_increment_without_answer_may_be_there_or_not() {
        let mut history = sample::history();
        let increment =
            history.operations.iter_mut().find(|op| op.kind == Kind::Increment).unwrap();
        increment.outcome = Outcome::Silence("lost".to_owned());
        let audit = check(&history);
        assert_eq!((audit.unknown, audit.lost, audit.doubled), (1, 0, 0));
    }

    #[test]
    fn a_datacenter_that_does_not_say_what_it_holds_is_named() {
        let mut history = sample::history();
        let dc = history.lost.clone();
        history.stored.remove(&dc);
        assert_eq!(check(&history).unread, ["dc2"]);
    }
}
