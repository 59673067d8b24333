//! What has to change here so that the configuration entries are those of the primary datacenter: a function of both.

use std::collections::BTreeMap;

use bytes::Bytes;
use lan_agent::catalog::Text;
use serde_json::{Map, Value};

use crate::{
    config_entry::Definition,
    state::{
        Op,
        config_entries::{Entry, EntryRow, Place, Table},
    },
};

/// Bytes at which a command is full: all entries together may be more than one takes.
const COMMAND_LEN_AIM: usize = 1024 * 1024;

/// Why an answer of the primary datacenter is not acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubtful {
    #[error("its config entries can't be read: {0}")]
    Unreadable(String),
    #[error(
        "it says that it never had any config entry, so it has lost its state: those here are kept until it has one"
    )]
    Empty,
}

/// Compares what the primary datacenter answered with what is here.
///
/// A list that is empty is believed only if `index` says that there were entries once, and are not any more.
pub(super) fn plan(here: &Table, body: &Bytes, index: u64) -> Result<Vec<Op>, Doubtful> {
    let there = read(body)?;
    // The answer of a table that never changed has the index 1, because 0 would mean not to wait.
    if there.is_empty() && index <= 1 && !here.is_empty() {
        return Err(Doubtful::Empty);
    }
    let gone = here.all().map(|entry| (place(entry), entry));
    let gone = gone.filter(|(place, _)| !there.contains_key(place)).map(|(_, entry)| {
        let Definition { kind, name, .. } = entry.definition.clone();
        (kind, name)
    });
    let set = there.values().filter(|entry| !is_here(here, entry)).map(EntryRow::replicated);
    Ok(commands(set, gone.collect()))
}

/// Puts changes into as few commands as they fit in.
fn commands(set: impl Iterator<Item = EntryRow>, gone: Vec<(Text, Text)>) -> Vec<Op> {
    let mut ops = Vec::new();
    let (mut rows, mut gone, mut len) = (Vec::new(), gone, 0);
    for row in set {
        len += row.size();
        rows.push(row);
        if len >= COMMAND_LEN_AIM {
            let (set, gone) = (std::mem::take(&mut rows), std::mem::take(&mut gone));
            ops.push(Op::ConfigReplicate { set, gone });
            len = 0;
        }
    }
    if !rows.is_empty() || !gone.is_empty() {
        ops.push(Op::ConfigReplicate { set: rows, gone });
    }
    ops
}

fn place(entry: &Entry) -> Place {
    Place::new(&entry.definition.kind, &entry.definition.name)
}

fn is_here(here: &Table, there: &Entry) -> bool {
    here.get(&there.definition.kind, &there.definition.name).is_some_and(|found| {
        Entry { changed_index: there.changed_index, ..Entry::clone(found) } == *there
    })
}

/// Reads the list that the primary datacenter answered; all of it or nothing.
fn read(body: &Bytes) -> Result<BTreeMap<Place, Entry>, Doubtful> {
    let failed = |why: String| Doubtful::Unreadable(why);
    let list: Vec<Map<String, Value>> =
        serde_json::from_slice(body).map_err(|error| failed(error.to_string()))?;
    let entries = list.into_iter().map(|mut said| {
        let create_index = said.remove("CreateIndex").and_then(|it| it.as_u64());
        let modify_index = said.remove("ModifyIndex").and_then(|it| it.as_u64());
        let definition = Definition::replicated(said);
        let (Some(definition), Some(create_index), Some(modify_index)) =
            (definition, create_index, modify_index)
        else {
            return Err(failed("one has no kind, name or index".to_owned()));
        };
        let entry = Entry { definition, create_index, modify_index, changed_index: 0 };
        Ok((place(&entry), entry))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        query::Answers,
        state::{Command, State, Touched},
    };
    use lan_agent::ask::Question;

    fn apply(state: &mut State, op: &Op) {
        let index = state.applied() + 1;
        state.apply(index, &Command::new(None, op), &mut Touched::default()).unwrap();
    }

    /// What a datacenter answers to those who replicate from it.
    fn answer(state: &State) -> (Bytes, u64) {
        let all = Question::ConfigRead { kind: None, name: None };
        let answers = Answers::new("dc1".parse().unwrap());
        let answer = answers.answer(&state.clone().into(), &all).unwrap();
        (answer.body, answer.meta.index)
    }

    fn follow(primary: &State, secondary: &mut State) -> Result<usize, Doubtful> {
        let (body, index) = answer(primary);
        let ops = plan(secondary.config_entries(), &body, index)?;
        ops.iter().for_each(|op| apply(secondary, op));
        Ok(ops.len())
    }

    fn set(name: &str, said: u64) -> Op {
        let text = format!(
            r#"{{"Kind":"service-resolver","Name":"{name}","Redirect":{{"Service":"x"}},"Meta":{{"said":"{said}<"}}}}"#
        );
        Op::ConfigSet { definition: Definition::read(&text).unwrap(), cas: None }
    }

    fn delete(name: &str) -> Op {
        Op::ConfigDelete { kind: "service-resolver".into(), name: name.into(), cas: None }
    }

    fn shown(state: &State) -> String {
        String::from_utf8(answer(state).0.to_vec()).unwrap()
    }

    proptest! {
        /// Whatever happens in the primary datacenter, and whenever one looks: after a look both have the same
        /// entries with the same indexes, and another look changes nothing.
        #[test]
        fn a_look_makes_both_equal(
            steps in prop::collection::vec((0..6_usize, any::<bool>(), any::<bool>(), 0..3_u64), 1..40),
        ) {
            let (mut primary, mut secondary) = (State::default(), State::default());
            let names = ["a", "A", "b", "c", "d", "é"];
            apply(&mut primary, &set("first", 0));
            for (name, sets, looks, said) in steps {
                let op = if sets { set(names[name], said) } else { delete(names[name]) };
                apply(&mut primary, &op);
                if looks {
                    follow(&primary, &mut secondary).unwrap();
                    prop_assert_eq!(shown(&primary), shown(&secondary));
                    prop_assert_eq!(follow(&primary, &mut secondary), Ok(0));
                }
            }
        }
    }

    #[test]
    fn what_was_read_here_can_be_compared_there() {
        let (mut primary, mut secondary) = (State::default(), State::default());
        (0..5).for_each(|said| apply(&mut primary, &set("a", said)));
        follow(&primary, &mut secondary).unwrap();
        let modify_index = |state: &State| {
            state.config_entries().get("service-resolver", "a").unwrap().modify_index
        };
        assert_eq!((modify_index(&primary), modify_index(&secondary)), (5, 5));
        assert!(secondary.config_entries().resolver("a").unwrap().redirect.is_some());
    }

    #[test]
    fn everything_is_deleted_only_when_there_was_something_to_delete() {
        let (mut primary, mut secondary) = (State::default(), State::default());
        apply(&mut primary, &set("a", 1));
        follow(&primary, &mut secondary).unwrap();
        let fresh = State::default();
        assert_eq!(follow(&fresh, &mut secondary), Err(Doubtful::Empty));
        assert!(!secondary.config_entries().is_empty());
        apply(&mut primary, &delete("a"));
        assert_eq!(follow(&primary, &mut secondary), Ok(1));
        assert!(secondary.config_entries().is_empty());
        assert_eq!(follow(&fresh, &mut secondary), Ok(0));
    }

    #[test]
    fn an_answer_that_is_none_changes_nothing() {
        let mut secondary = State::default();
        apply(&mut secondary, &set("a", 1));
        for body in [
            "",
            "null",
            "{}",
            "[1]",
            r#"[{"Kind":"k","Name":"n"}]"#,
            r#"[{"Kind":"k","CreateIndex":1,"ModifyIndex":1}]"#,
        ] {
            let planned = plan(secondary.config_entries(), &body.into(), 9);
            assert!(matches!(planned, Err(Doubtful::Unreadable(_))), "{body}: {planned:?}");
        }
    }

    #[test]
    fn many_entries_take_several_commands_and_all_arrive() {
        let (mut primary, mut secondary) = (State::default(), State::default());
        apply(&mut secondary, &set("gone", 1));
        for number in 0..40 {
            let text = format!(
                r#"{{"Kind":"service-defaults","Name":"s{number}","ExternalSNI":"{}"}}"#,
                "x".repeat(100_000)
            );
            let definition = Definition::read(&text).unwrap();
            apply(&mut primary, &Op::ConfigSet { definition, cas: None });
        }
        assert_eq!(follow(&primary, &mut secondary), Ok(4));
        assert_eq!(shown(&primary), shown(&secondary));
    }
}
