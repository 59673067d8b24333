//! The catalog against a model that is too simple to be wrong, and the rules one by one.

pub(crate) mod commands;
mod difference;
mod model;
mod rules;

use std::cell::Cell;

use lan_agent::catalog::Health;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use self::model::Model;
use super::{Catalog, Host, Part, Record, fold};
use crate::state::{Applied, Command, Op, State, Touched};

/// All parts that the generated commands can touch, and some that they can't.
fn parts() -> Vec<Part> {
    let mut parts = vec![Part::Nodes, Part::Names, Part::Instances, Part::Checks(None)];
    let all = [Health::Passing, Health::Warning, Health::Critical];
    parts.extend(all.map(|status| Part::Checks(Some(status))));
    for node in ["a", "b", "c", "none"] {
        parts.extend([Part::Node(node.into()), Part::NodeChecks(node.into())]);
    }
    for service in ["web", "db", "none"] {
        let key = || service.into();
        parts.extend([Part::Service(key()), Part::Health(key()), Part::ServiceChecks(key())]);
    }
    parts
}

/// What a part shows, a line for each record.
fn shown(catalog: &Catalog, part: &Part) -> Vec<String> {
    let node = |host: &Host| line("node", &host.node);
    let checks = |host: &Host, checks: Vec<&Record<_>>| -> Vec<String> {
        checks.into_iter().map(|check| check_line(host, check)).collect()
    };
    let services = |host: &Host| -> Vec<String> {
        host.instances().map(|instance| line("service", instance.service())).collect()
    };
    match part {
        Part::Nodes => catalog.hosts().map(node).collect(),
        Part::Node(name) => {
            catalog.host(name).map_or_else(Vec::new, |h| [vec![node(h)], services(h)].concat())
        }
        Part::NodeChecks(name) => {
            catalog.host(name).map_or_else(Vec::new, |host| checks(host, host.checks().collect()))
        }
        Part::Names => {
            let tags = |tags: Vec<_>| tags.into_iter().cloned().collect::<Vec<_>>().join(",");
            let names = catalog.names().iter();
            names.map(|(name, usage)| format!("{name}: {}", tags(usage.tags().collect()))).collect()
        }
        Part::Instances => catalog.hosts().flat_map(services).collect(),
        Part::Service(name) => {
            let instances = catalog.instances(name);
            instances.flat_map(|(h, i)| [node(h), line("service", i.service())]).collect()
        }
        Part::Health(name) => {
            let one = |(host, instance): (&Host, &super::Instance)| {
                let record = vec![node(host), line("service", instance.service())];
                let own = checks(host, host.own_checks().collect());
                [record, own, checks(host, host.checks_of(instance).collect())].concat()
            };
            catalog.instances(name).flat_map(one).collect()
        }
        Part::ServiceChecks(name) => {
            let instances = catalog.instances(name);
            instances.flat_map(|(h, i)| checks(h, h.checks_of(i).collect())).collect()
        }
        Part::Checks(Some(status)) => {
            catalog.checks_in(*status).map(|(host, check)| check_line(host, check)).collect()
        }
        Part::Checks(None) => {
            catalog.hosts().flat_map(|host| checks(host, host.checks().collect())).collect()
        }
    }
}

fn line<T: std::fmt::Debug>(what: &str, record: &Record<T>) -> String {
    format!("{what} {:?} {} {}", record.value, record.create_index, record.modify_index)
}

/// A check with what it shows of its node and its service.
fn check_line(host: &Host, check: &Record<lan_agent::catalog::Check>) -> String {
    let instance = host.instance(&check.value.service_id);
    let tags = instance.map(|instance| instance.service().value.tags.clone()).unwrap_or_default();
    format!("{} {tags:?} {}", host.node.value.name, line("check", check))
}

fn apply(state: &mut State, index: u64, op: &Op) -> (Applied, Vec<Part>) {
    let mut touched = Touched::default();
    let applied = state.apply(index, &Command::new(None, op), &mut touched).unwrap();
    (applied, touched.parts)
}

/// Lists of what must be the same are the same, however they came to be.
fn tables_agree(catalog: &Catalog) {
    for (key, host) in &catalog.hosts {
        assert_eq!(*key, fold(&host.node.value.name));
        let listed: Vec<_> = host
            .own_checks
            .iter()
            .chain(host.instances().flat_map(|instance| instance.checks.iter()))
            .collect();
        assert_eq!(listed.len(), host.checks.len(), "every check is on one list");
        assert!(listed.iter().all(|id| host.checks.contains_key(*id)));
        for instance in host.instances() {
            let id = fold(&instance.record.value.id);
            let same = |check: &Record<lan_agent::catalog::Check>| {
                fold(&check.value.service_id) == id
                    && check.value.service_name == instance.record.value.name
            };
            assert!(host.checks_of(instance).all(same));
        }
    }
    let ids = catalog.hosts().filter(|host| !host.node.value.id.is_empty()).count();
    assert_eq!(catalog.ids.len(), ids);
    for (id, key) in &catalog.ids {
        assert_eq!(fold(&catalog.hosts[key].node.value.id), *id);
    }
    let places: usize = catalog.groups.values().map(|group| group.places.len()).sum();
    assert_eq!(places, catalog.hosts().map(|host| host.instances.len()).sum::<usize>());
    assert!(catalog.groups.values().all(|group| !group.places.is_empty()));
}

/// How often a part was touched, and how often without that it changed.
#[derive(Debug, Default)]
struct Bells {
    rung: Cell<u64>,
    in_vain: Cell<u64>,
}

/// Applies a command to both and compares them, part by part.
fn step(state: &mut State, model: &mut Model, index: u64, op: &Op, bells: &Bells) {
    let before = state.clone();
    let model_before = model.clone();
    let (applied, touched) = apply(state, index, op);
    let refused = !model.apply(index, op);
    assert_eq!(matches!(applied, Applied::Refused(_)), refused, "{op:?}: {applied:?}");
    if refused {
        assert_eq!(state.catalog(), before.catalog());
    }
    tables_agree(state.catalog());
    for part in &parts() {
        let now = shown(state.catalog(), part);
        assert_eq!(now, model.shown(part), "{part:?} after {op:?}");
        let changed = now != model_before.shown(part);
        let (was, is) = (before.catalog().index_of(part), state.catalog().index_of(part));
        assert!(is >= was, "the index of {part:?} fell from {was} to {is}");
        let rung = touched.contains(part);
        assert!(rung || !changed, "{part:?} changed by {op:?}, and nobody hears of it");
        assert!(is == index || !changed, "{part:?} changed by {op:?}, and its index did not");
        bells.rung.set(bells.rung.get() + u64::from(rung));
        bells.in_vain.set(bells.in_vain.get() + u64::from(rung && !changed));
    }
}

#[test]
fn the_catalog_does_what_the_model_does_and_wakes_whom_it_concerns() {
    let bells = Bells::default();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let done = runner.run(&prop::collection::vec(commands::ops(), 1..60), |ops| {
        let (mut state, mut model) = (State::default(), Model::default());
        for (index, op) in (1..).zip(&ops) {
            step(&mut state, &mut model, index, op, &bells);
        }
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}\n{runner}"));
    // What a command changes twice may end as it began, as when it has one check two times.
    let (rung, in_vain) = (bells.rung.get(), bells.in_vain.get());
    assert!(in_vain * 50 < rung, "{in_vain} of {rung} bells were rung in vain");
}
