//! Answers about coordinates and those that are sorted by them, and what those wait for who wait.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use lan_agent::{
    ask::{
        Blocking, Question,
        coordinate::{Read, Update},
    },
    catalog::{Form, Lookup, Node, Registration, Selection, Service, Subject},
};
use topology::Coordinate;

use super::check_in;
use crate::{
    blocking,
    query::{Answers, check},
    state::{Command, Op, State, Touched, view::View},
};

fn apply(state: &mut State, op: &Op) -> Touched {
    let mut touched = Touched::default();
    let index = state.applied() + 1;
    state.apply(index, &Command::new(None, op), &mut touched).unwrap();
    touched
}

fn moved(places: &[(&str, f64)]) -> Op {
    let update = |(node, millis): &(&str, f64)| {
        let vec = std::array::from_fn(|i| if i == 0 { millis / 1000.0 } else { 0.0 });
        Update { node: (*node).into(), coordinate: Coordinate { vec, ..Coordinate::ORIGIN } }
    };
    Op::Coordinates { updates: places.iter().map(update).collect() }
}

/// `web` on a to d; nobody knows where d is.
fn state() -> State {
    let mut state = State::default();
    for name in ["a", "b", "c", "d"] {
        let node = Node { name: name.into(), ..Node::default() };
        let service = Service { id: "web".into(), name: "web".into(), ..Service::default() };
        let registration = Registration { node, service: Some(service), ..Default::default() };
        apply(&mut state, &Op::Register(Arc::new(registration)));
    }
    apply(&mut state, &moved(&[("a", 9.0), ("b", 1.0), ("c", 3.0)]));
    state
}

fn read(node: Option<&str>) -> Question {
    Question::CoordinateRead(Read { node: node.map(Into::into) })
}

/// The nodes in an answer of a lookup near to one, in their order.
fn near(answers: &Answers, view: &View, subject: Subject, near: &str) -> String {
    let selection = Selection { near: near.into(), ..Selection::default() };
    let lookup = Lookup { subject, selection, form: Form::Json };
    let answer = answers.answer(&view.load(), &Question::Lookup(lookup)).unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let name = |row: &serde_json::Value| {
        let node = row["Node"].as_str().or(row["Node"]["Node"].as_str()).unwrap();
        node.to_owned()
    };
    rows.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ")
}

fn view(state: State) -> View {
    let view = View::default();
    view.publish(state);
    view
}

#[test]
fn places_are_shown_as_consul_shows_them() {
    let one = r#"{"Node":"b","Segment":"","Coord":{"Vec":[0.001,0.0,0.0,0.0,0.0,0.0,0.0,0.0],"Error":1.5,"Adjustment":0.0,"Height":0.00001}}"#;
    let mut state = state();
    apply(&mut state, &moved(&[("a", 9.0), ("b", 1.0), ("c", 4.0)]));
    let home = Answers::new("dc1".parse().unwrap());
    let answer = home.answer(&state.clone().into(), &read(Some("B"))).unwrap();
    assert_eq!((answer.meta.index, &*answer.body), (5, format!("[{one}]").as_bytes()));
    let answer = home.answer(&state.clone().into(), &read(None)).unwrap();
    assert_eq!(answer.meta.index, 6);
    assert!(String::from_utf8(answer.body.to_vec()).unwrap().contains(one));
    check_in(state.clone(), read(Some("d")), expect!["404 index 6 "]);
    check_in(State::default(), read(None), expect!["200 index 1 []"]);
}

#[test]
fn what_is_near_comes_first_and_what_is_nowhere_last() {
    let (answers, view) = (Answers::new("dc1".parse().unwrap()), view(state()));
    let health = || Subject::Health { service: "web".into(), passing: false };
    for subject in [Subject::Nodes, Subject::Service("web".into()), health()] {
        assert_eq!(near(&answers, &view, subject.clone(), "a"), "a c b d");
        assert_eq!(near(&answers, &view, subject.clone(), "B"), "b c a d");
        assert_eq!(near(&answers, &view, subject.clone(), "d"), "d a b c");
        assert_eq!(near(&answers, &view, subject, "unknown"), "a b c d");
    }
}

#[test]
fn an_order_is_made_anew_when_somebody_moved() {
    let mut state = state();
    let (answers, view) = (Answers::new("dc1".parse().unwrap()), view(state.clone()));
    assert_eq!(near(&answers, &view, Subject::Nodes, "b"), "b c a d");
    apply(&mut state, &moved(&[("a", 2.0), ("d", 1.5)]));
    view.publish(state);
    assert_eq!(near(&answers, &view, Subject::Nodes, "b"), "b d a c");
}

#[test]
fn a_coordinate_that_can_not_be_is_refused() {
    let mut coordinate = Coordinate::ORIGIN;
    assert_eq!(check(&Question::CoordinateUpdate(Update { node: "a".into(), coordinate })), Ok(()));
    coordinate.height = f64::NAN;
    check(&Question::CoordinateUpdate(Update { node: "a".into(), coordinate })).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_node_hears_of_its_moves_and_of_no_other() {
    let mut state = state();
    let view = view(state.clone());
    let wait = |node: Option<&'static str>| {
        let view = view.clone();
        tokio::spawn(async move {
            let answers = Answers::new("dc1".parse().unwrap());
            let blocking = Some(Blocking { index: 5, wait: Duration::from_secs(60) });
            let (contact, question) = (|| Duration::ZERO, read(node));
            let answer = blocking::answer(&view, &answers, &question, blocking, 1, contact).await;
            answer.unwrap().meta.index
        })
    };
    let (all, one, other) = (wait(None), wait(Some("a")), wait(Some("b")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let touched = apply(&mut state, &moved(&[("a", 8.0)]));
    view.publish(state);
    view.watches().wake(&touched);
    assert_eq!((all.await.unwrap(), one.await.unwrap()), (6, 6));
    assert!(!other.is_finished());
}
