//! The table against a model, and what its indexes promise.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{BYTES_MAX, EntryRow, Place, Table};
use crate::{
    config_entry::Definition,
    state::{Applied, Command, Op, State, Touched},
};

fn definition(kind: &str, name: &str, said: u8) -> Definition {
    let body = format!(r#"{{"Kind":"{kind}","Name":"{name}","Meta":{{"said":"{said}"}}}}"#);
    Definition::kept(kind.into(), name.into(), body.into())
}

fn kinds() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["service-resolver", "service-defaults"][..])
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["web", "Web", "db"][..])
}

fn ops() -> impl Strategy<Value = Op> {
    let cas = || proptest::option::weighted(0.4, 0_u64..9);
    let row = (kinds(), names(), 0_u8..3, 1_u64..9).prop_map(|(kind, name, said, index)| {
        let mut table = Table::default();
        table.set(index, &definition(kind, name, said), None, &mut Touched::default());
        EntryRow::replicated(table.all().next().unwrap())
    });
    let gone = (kinds(), names()).prop_map(|(kind, name)| (kind.into(), name.into()));
    prop_oneof![
        5 => (kinds(), names(), 0_u8..3, cas()).prop_map(|(kind, name, said, cas)| {
            Op::ConfigSet { definition: definition(kind, name, said), cas }
        }),
        3 => (kinds(), names(), cas()).prop_map(|(kind, name, cas)| {
            Op::ConfigDelete { kind: kind.into(), name: name.into(), cas }
        }),
        1 => (prop::collection::vec(row, 0..3), prop::collection::vec(gone, 0..3))
            .prop_map(|(set, gone)| Op::ConfigReplicate { set, gone }),
    ]
}

type Model = BTreeMap<(String, String), (Definition, u64, u64)>;

fn key(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_lowercase())
}

/// Does what an operation says, simply.
fn apply(model: &mut Model, index: u64, op: &Op) -> Applied {
    match op {
        Op::ConfigSet { definition, cas } => {
            let key = key(&definition.kind, &definition.name);
            let found = model.get(&key).cloned();
            if cas.is_some_and(|cas| cas != found.as_ref().map_or(0, |found| found.2)) {
                return Applied::Done(false);
            }
            match found {
                Some((same, ..)) if same == *definition => {}
                found => {
                    let create = found.as_ref().map_or(index, |found| found.1);
                    let modify = found.map_or(index, |found| index.max(found.2 + 1));
                    model.insert(key, (definition.clone(), create, modify));
                }
            }
            Applied::Done(true)
        }
        Op::ConfigDelete { kind, name, cas } => {
            let key = key(kind, name);
            let found = model.get(&key).map(|found| found.2);
            if cas.is_some_and(|cas| found != Some(cas)) {
                return Applied::Done(false);
            }
            model.remove(&key);
            Applied::Done(true)
        }
        Op::ConfigReplicate { set, gone } => {
            for (kind, name) in gone {
                model.remove(&key(kind, name));
            }
            for row in set {
                let entry = row.clone().entry();
                let key = key(&entry.definition.kind, &entry.definition.name);
                model.insert(key, (entry.definition, entry.create_index, entry.modify_index));
            }
            Applied::Nothing
        }
        _ => unreachable!("not generated here"),
    }
}

fn model_of(table: &Table) -> Model {
    let entries = table.all().map(|entry| {
        let key = key(&entry.definition.kind, &entry.definition.name);
        (key, (entry.definition.clone(), entry.create_index, entry.modify_index))
    });
    entries.collect()
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_does(ops in prop::collection::vec(ops(), 1..40)) {
        let (mut state, mut model) = (State::default(), Model::new());
        for (index, op) in (1..).zip(&ops) {
            let before = state.config_entries().clone();
            let old = model.clone();
            let expected = apply(&mut model, index, op);
            let mut touched = Touched::default();
            let applied = state.apply(index, &Command::new(None, op), &mut touched).unwrap();
            let table = state.config_entries();
            prop_assert_eq!(applied, expected);
            prop_assert_eq!(&model_of(table), &model);
            // Whatever changed is told of, raises the indexes that watch it, and nothing else does.
            for kind in ["service-resolver", "service-defaults"] {
                let mut any = false;
                for name in ["web", "db"] {
                    let place = Place::new(&kind.into(), name);
                    let changed = old.get(&key(kind, name)) != model.get(&key(kind, name));
                    any |= changed;
                    if changed {
                        prop_assert!(touched.config_entries.contains(&place));
                        if let Some(entry) = table.get(kind, name) {
                            prop_assert_eq!(entry.changed_index, index);
                        }
                    }
                }
                let known = table.kinds.contains_key(kind);
                if any {
                    prop_assert_eq!((table.index_of_kind(kind), table.index()), (index, index));
                } else if known && touched.config_entries.iter().all(|place| &*place.kind != kind) {
                    prop_assert_eq!(table.index_of_kind(kind), before.index_of_kind(kind));
                }
            }
            if touched.config_entries.is_empty() {
                prop_assert_eq!(table, &before);
            }
            let bytes: usize = table.all().map(|entry| entry.len()).sum();
            prop_assert_eq!(table.bytes, bytes);
        }
    }

    #[test]
    fn rows_make_the_same_table(ops in prop::collection::vec(ops(), 0..40)) {
        let mut state = State::default();
        for (index, op) in (1..).zip(&ops) {
            state.apply(index, &Command::new(None, op), &mut Touched::default()).unwrap();
        }
        let table = state.config_entries();
        let mut read = Table::default();
        let mut after = None;
        // One at a time, as a snapshot of large entries goes.
        loop {
            let next = table.after(after.as_ref()).next();
            let Some((position, entry)) = next else { break };
            let bytes = rmp_serde::to_vec_named(&EntryRow::of(entry)).unwrap();
            read.restore(rmp_serde::from_slice(&bytes).unwrap());
            after = Some(position);
        }
        read.restore_indexes(table.indexes());
        prop_assert_eq!(&read, table);
    }
}

#[test]
fn resolvers_are_found_whatever_the_capitals() {
    let mut state = State::default();
    let read = Definition::read(
        r#"{"Kind":"service-resolver","Name":"Web","Redirect":{"Service":"alt"}}"#,
    );
    let set = Op::ConfigSet { definition: read.unwrap(), cas: None };
    state.apply(1, &Command::new(None, &set), &mut Touched::default()).unwrap();
    for name in ["web", "WEB"] {
        let resolver = state.config_entries().resolver(name).unwrap();
        assert_eq!(resolver.redirect.as_ref().unwrap().service.as_deref(), Some("alt"));
    }
    assert!(state.config_entries().resolver("db").is_none());
}

#[test]
fn an_entry_for_which_there_is_no_room_is_refused_unless_it_replaces_one() {
    let mut table = Table::default();
    let large = |name: &str, len: usize| {
        Definition::kept("service-defaults".into(), name.into(), "x".repeat(len).into())
    };
    let most = large("a", BYTES_MAX - 1_000);
    assert_eq!(table.check_room(&most), Ok(()));
    table.set(1, &most, None, &mut Touched::default());
    assert!(table.check_room(&large("b", 1_000)).is_err());
    assert_eq!(table.check_room(&large("A", 1_000)), Ok(()));
}
