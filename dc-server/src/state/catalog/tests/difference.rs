//! One version of a catalog made of another.

use proptest::prelude::*;

use super::{apply, commands, parts, shown, tables_agree};
use crate::state::{Op, State, Touched, catalog::Catalog};

/// Returns the catalogs before and after each command.
fn versions(ops: &[Op]) -> Vec<Catalog> {
    let mut state = State::default();
    let mut versions = vec![Catalog::default()];
    for (index, op) in (1..).zip(ops) {
        apply(&mut state, index, op);
        versions.push(state.catalog().clone());
    }
    versions
}

/// Patches a catalog page by page, each as it comes off the wire. Returns the number of pages.
fn patch(catalog: &mut Catalog, newer: &Catalog, len_aim: usize, touched: &mut Touched) -> usize {
    let older = catalog.clone();
    let mut after = None;
    for pages in 1.. {
        let page = newer.difference(&older, after.as_ref(), len_aim);
        let bytes = rmp_serde::to_vec_named(&page).unwrap();
        let read = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(page, read);
        after = page.last().cloned();
        catalog.patch(read, touched).unwrap();
        if after.is_none() {
            return pages;
        }
    }
    unreachable!("a difference ends")
}

proptest! {
    #[test]
    fn any_version_is_made_of_any_older_one_and_wakes_whom_it_concerns(
        ops in prop::collection::vec(commands::ops(), 1..60),
        (from, to) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        len_aim in prop_oneof![Just(1), Just(200), Just(usize::MAX)],
    ) {
        let versions = versions(&ops);
        let (from, to) = (from.index(versions.len()), to.index(versions.len()));
        let (older, newer) = (&versions[from.min(to)], &versions[from.max(to)]);
        let (mut patched, mut touched) = (older.clone(), Touched::default());
        patch(&mut patched, newer, len_aim, &mut touched);
        prop_assert_eq!(&patched, newer);
        tables_agree(&patched);
        for part in parts() {
            let same = shown(older, &part) == shown(newer, &part);
            prop_assert!(same || touched.parts.contains(&part), "nobody hears of {:?}", part);
        }
    }

    #[test]
    fn the_version_says_which_catalog_it_is(
        ops in prop::collection::vec(commands::ops(), 1..60),
    ) {
        for pair in versions(&ops).windows(2) {
            prop_assert!(pair[0].version() <= pair[1].version());
            prop_assert_eq!(pair[0] == pair[1], pair[0].version() == pair[1].version());
        }
    }
}

#[test]
fn pages_are_cut_at_nodes() {
    let node = |name: String| {
        let node = lan_agent::catalog::Node { name: name.into(), ..Default::default() };
        Op::Register(std::sync::Arc::new(lan_agent::catalog::Registration {
            node,
            ..Default::default()
        }))
    };
    let ops: Vec<Op> = (0..10).map(|number| node(format!("n{number}"))).collect();
    let newest = versions(&ops).pop().unwrap();
    let pages = patch(&mut Catalog::default(), &newest, 1, &mut Touched::default());
    assert_eq!(pages, 10);
    let pages = patch(&mut Catalog::default(), &newest, usize::MAX, &mut Touched::default());
    assert_eq!(pages, 1);
}

#[test]
fn what_changed_on_a_node_is_sent_without_the_rest_of_it() {
    let big = "x".repeat(10_000);
    let mut state = State::default();
    let register = |service: &str, port| {
        let service = lan_agent::catalog::Service {
            id: service.into(),
            name: service.into(),
            meta: [("m".into(), big.as_str().into())].into(),
            port,
            ..Default::default()
        };
        let node = lan_agent::catalog::Node { name: "n".into(), ..Default::default() };
        let registration =
            lan_agent::catalog::Registration { node, service: Some(service), ..Default::default() };
        Op::Register(std::sync::Arc::new(registration))
    };
    for (index, id) in (1..).zip(["a", "b", "c"]) {
        apply(&mut state, index, &register(id, 1));
    }
    let mut catalog = state.catalog.clone();
    apply(&mut state, 4, &register("b", 2));
    let page = state.catalog().difference(&catalog, None, usize::MAX);
    let len = rmp_serde::to_vec_named(&page).unwrap().len();
    assert!((10_000..12_000).contains(&len), "{len}");
    catalog.patch(page, &mut Touched::default()).unwrap();
    assert_eq!(catalog, *state.catalog());
}
