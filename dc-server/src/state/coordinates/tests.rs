//! Coordinates come and go with their nodes, and put rows in order.

use std::sync::Arc;

use lan_agent::{
    ask::{CatalogOp, CatalogRecord, CatalogVerb, TxnOp},
    catalog::{Deregistration, Node, Registration, Removed},
};

use super::*;
use crate::state::{Applied, Command, Op, State};

fn at(millis: f64) -> Coordinate {
    let vec = std::array::from_fn(|i| if i == 0 { millis / 1000.0 } else { 0.0 });
    Coordinate { vec, ..Coordinate::ORIGIN }
}

fn update(node: &str, millis: f64) -> Update {
    Update { node: node.into(), coordinate: at(millis) }
}

fn register(node: &str) -> Op {
    let node = Node { name: node.into(), address: "10.0.0.1".into(), ..Node::default() };
    Op::Register(Arc::new(Registration { node, ..Registration::default() }))
}

fn apply(state: &mut State, op: &Op) -> Touched {
    let mut touched = Touched::default();
    let index = state.applied() + 1;
    let applied = state.apply(index, &Command::new(None, op), &mut touched).unwrap();
    assert!(!matches!(applied, Applied::Refused(_)), "{applied:?}");
    touched
}

fn settled(nodes: &[(&str, f64)]) -> State {
    let mut state = State::default();
    for (node, _) in nodes {
        apply(&mut state, &register(node));
    }
    let updates = nodes.iter().map(|(node, millis)| update(node, *millis)).collect();
    apply(&mut state, &Op::Coordinates { updates });
    state
}

#[test]
fn a_move_raises_the_index_of_its_node_and_wakes_who_waits_for_it() {
    let mut state = settled(&[("A", 1.0), ("b", 2.0)]);
    assert_eq!(state.coordinates().index(), 3);
    let touched = apply(&mut state, &Op::Coordinates { updates: vec![update("a", 5.0)] });
    assert_eq!(touched.coordinates, [Key::from("a")]);
    let table = state.coordinates();
    assert_eq!(
        (table.index(), table.index_of(&"a".into()), table.index_of(&"B".into())),
        (4, 4, 3)
    );
    assert_eq!(&*table.get(&"a".into()).unwrap().node, "A", "as the catalog writes it");
    let touched = apply(&mut state, &Op::Coordinates { updates: vec![update("a", 5.0)] });
    assert_eq!((touched, state.coordinates().index()), (Touched::default(), 4), "no move");
}

#[test]
fn nodes_that_the_catalog_does_not_know_are_passed_over() {
    let mut state = settled(&[("a", 1.0)]);
    let touched = apply(&mut state, &Op::Coordinates { updates: vec![update("x", 5.0)] });
    assert_eq!(touched, Touched::default());
    assert_eq!(state.coordinates().get(&"x".into()), None);
}

#[test]
fn a_coordinate_goes_with_its_node() {
    let deregister = Op::Deregister(Deregistration { node: "A".into(), what: Removed::Node });
    let node = Node { name: "a".into(), ..Node::default() };
    let delete =
        CatalogOp { verb: CatalogVerb::Delete, record: CatalogRecord::Node(node), index: 0 };
    let txn = Op::Txn { ops: vec![TxnOp::Catalog(Box::new(delete))] };
    for removal in [deregister, txn] {
        let mut state = settled(&[("a", 1.0), ("b", 2.0)]);
        let touched = apply(&mut state, &removal);
        assert_eq!(touched.coordinates, [Key::from("a")], "{removal:?}");
        assert_eq!(state.coordinates().get(&"a".into()), None);
        assert_eq!(state.coordinates().index(), 4);
        assert_eq!(state.coordinates().all().count(), 1);
        apply(&mut state, &register("a"));
        assert_eq!(state.coordinates().get(&"a".into()), None, "it begins anew");
    }
}

#[test]
fn rows_are_sorted_by_distance_and_otherwise_stay_as_they_are() {
    let state = settled(&[("a", 10.0), ("b", 1.0), ("c", 3.0), ("d", 9.0)]);
    let sorted = |near: &str, rows: &[&str]| {
        let mut rows: Vec<Text> = rows.iter().map(|row| Text::from(*row)).collect();
        state.coordinates().nearest_first(&near.into(), &mut rows, |row| row);
        rows.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(sorted("A", &["x", "b", "c", "d", "a", "w"]), "a d c b x w");
    assert_eq!(sorted("b", &["d", "a", "c", "b", "b"]), "b b c d a");
    assert_eq!(sorted("x", &["d", "a", "x", "c"]), "x d a c", "nothing is known of x");
}

#[test]
fn the_last_word_on_a_node_counts() {
    let said = latest([update("b", 1.0), update("A", 1.0), update("a", 2.0)]);
    assert_eq!(said, [update("a", 2.0), update("b", 1.0)]);
}
