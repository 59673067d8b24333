//! The rules of waiting, on a paused clock.

use std::{sync::Arc, time::Duration};

use lan_agent::{
    ask::{Answer, Blocking, Outcome, Question},
    catalog::{Form, Lookup, Registration, Selection, Service, Subject},
};
use tokio::time::{Instant, advance};

use super::{JITTER_PART, Waits, answer, stretched};
use crate::{
    query::Answers,
    state::{Command, Op, State, Touched, view::View},
};

fn get(key: &str) -> Question {
    Question::KvGet { key: key.to_owned(), raw: true }
}

fn list(prefix: &str) -> Question {
    Question::KvKeys { prefix: prefix.to_owned(), separator: String::new() }
}

fn write(view: &View, index: u64, op: Op) {
    let mut state = State::clone(&view.load());
    let mut touched = Touched::default();
    state.apply(index, &Command::new(None, &op), &mut touched).unwrap();
    view.publish(state);
    view.watches().wake(&touched);
}

fn set(view: &View, index: u64, key: &str) {
    let value = index.to_string().into();
    write(view, index, Op::KvSet { key: key.into(), value, flags: 0, cas: None });
}

fn wait(view: &View, question: Question, index: u64) -> tokio::task::JoinHandle<Answer> {
    let view = view.clone();
    let blocking = Some(Blocking { index, wait: Duration::from_secs(10) });
    let answers = Answers::new("dc1".parse().unwrap());
    tokio::spawn(async move {
        answer(&view, &answers, &question, blocking, 1, Duration::default).await.unwrap()
    })
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_than_asked_for_is_answered_at_once() {
    let view = View::default();
    set(&view, 7, "a");
    let start = Instant::now();
    assert_eq!(wait(&view, get("a"), 6).await.unwrap().meta.index, 7);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_key_wakes_and_others_do_not() {
    let view = View::default();
    set(&view, 7, "a");
    let waiting = wait(&view, get("a"), 7);
    settle().await;
    assert_eq!(view.watches().len(), 1);
    set(&view, 8, "b");
    settle().await;
    assert!(!waiting.is_finished());
    set(&view, 9, "a");
    assert_eq!(waiting.await.unwrap().meta.index, 9);
    assert!(view.watches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_wakes_those_who_watch_the_prefix() {
    let view = View::default();
    set(&view, 7, "a/1");
    set(&view, 8, "a/2");
    let waiting = wait(&view, list("a/"), 8);
    settle().await;
    write(&view, 9, Op::KvDelete { key: "a/1".into(), cas: None });
    let answer = waiting.await.unwrap();
    assert_eq!((answer.meta.index, &answer.body[..]), (9, &b"[\"a/2\"]"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_to_be_wakes() {
    let view = View::default();
    set(&view, 7, "b");
    let waiting = wait(&view, get("a"), 7);
    settle().await;
    set(&view, 8, "a");
    let answer = waiting.await.unwrap();
    assert_eq!((answer.outcome, answer.meta.index), (Outcome::Found, 8));
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_goes_unseen_is_still_waited_for() {
    let view = View::default();
    set(&view, 7, "b");
    let waiting = wait(&view, get("a"), 7);
    settle().await;
    set(&view, 8, "a");
    write(&view, 9, Op::KvDelete { key: "a".into(), cas: None });
    settle().await;
    assert!(!waiting.is_finished());
    advance(Duration::from_secs(11)).await;
    let answer = waiting.await.unwrap();
    assert_eq!((answer.outcome, answer.meta.index), (Outcome::Absent, 9));
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_the_answer_is_what_there_is() {
    let view = View::default();
    set(&view, 7, "a");
    let start = Instant::now();
    let answer = wait(&view, get("a"), 7).await.unwrap();
    assert_eq!((&answer.body[..], answer.meta.index), (&b"7"[..], 7));
    let wait = Duration::from_secs(10);
    let waited = start.elapsed();
    assert!(waited >= wait && waited <= wait + wait / JITTER_PART + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_restored_snapshot_answers_those_who_wait() {
    let view = View::default();
    set(&view, 7, "a");
    let waiting = wait(&view, get("a"), 7);
    settle().await;
    view.replace(crate::state::State::default());
    assert_eq!(waiting.await.unwrap().outcome, Outcome::Absent);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_query_ends_its_registration() {
    let view = View::default();
    set(&view, 7, "a");
    let waiting = wait(&view, get("a"), 7);
    settle().await;
    assert_eq!(view.watches().len(), 1);
    waiting.abort();
    settle().await;
    assert!(view.watches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_write_wakes_ten_thousand() {
    let view = View::default();
    set(&view, 7, "a");
    let waiting: Vec<_> = (0..10_000).map(|_| wait(&view, get("a"), 7)).collect();
    while view.watches().len() < 10_000 {
        tokio::task::yield_now().await;
    }
    set(&view, 8, "a");
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().meta.index, 8);
    }
}

#[test]
fn waits_have_a_default_and_a_limit() {
    let [default, max] = [20, 90].map(Duration::from_secs);
    for (asked, held) in [(0, 20), (1, 1), (90, 90), (10_000, 90)] {
        let [asked, held] = [asked, held].map(Duration::from_secs);
        let held = Blocking { index: 7, wait: held };
        assert_eq!(Waits { default, max }.hold(Blocking { index: 7, wait: asked }), held);
    }
}

#[test]
fn waits_have_a_jitter() {
    let wait = Duration::from_secs(600);
    for seed in 0..50 {
        let stretched = stretched(wait, seed);
        assert!(stretched >= wait && stretched <= wait + wait / JITTER_PART);
    }
    assert_ne!(stretched(wait, 1), stretched(wait, 2));
}

fn service(name: &str) -> Question {
    let subject = Subject::Health { service: name.into(), passing: true };
    Question::Lookup(Lookup { subject, selection: Selection::default(), form: Form::Json })
}

fn register(view: &View, index: u64, node: &str, id: &str, name: &str) {
    let mut registration = Registration::default();
    registration.node.name = node.into();
    registration.node.id = id.into();
    registration.service =
        Some(Service { id: name.into(), name: name.into(), ..Service::default() });
    write(view, index, Op::Register(Arc::new(registration)));
}

#[tokio::test(start_paused = true)]
async fn a_registration_wakes_those_who_wait_for_its_service_and_not_others() {
    let view = View::default();
    register(&view, 7, "a", "", "web");
    let waiting = wait(&view, service("web"), 7);
    let absent = wait(&view, service("db"), 1);
    settle().await;
    register(&view, 8, "a", "", "cache");
    settle().await;
    assert!(!waiting.is_finished() && !absent.is_finished());
    register(&view, 9, "b", "", "web");
    assert_eq!(waiting.await.unwrap().meta.index, 9);
    register(&view, 10, "b", "", "db");
    assert_eq!(absent.await.unwrap().meta.index, 10);
    assert!(view.watches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_follows_the_state() {
    let view = View::default();
    let subject = Subject::Node("0a".into());
    let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
    let waiting = wait(&view, Question::Lookup(lookup), 100);
    settle().await;
    let by_id = view.watches().len();
    register(&view, 7, "0a", "", "web");
    settle().await;
    assert!(view.watches().len() < by_id, "by its name it is one thing to wait for");
    register(&view, 101, "0a", "", "db");
    assert_eq!(waiting.await.unwrap().meta.index, 101);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_makes_no_sense_is_refused_at_once() {
    let view = View::default();
    let selection = Selection { filter: "?".into(), ..Selection::default() };
    let lookup = Lookup { subject: Subject::Nodes, selection, form: Form::Json };
    let blocking = Some(Blocking { index: 7, wait: Duration::from_secs(10) });
    let answers = Answers::new("dc1".parse().unwrap());
    let start = Instant::now();
    let question = Question::Lookup(lookup);
    assert!(answer(&view, &answers, &question, blocking, 1, Duration::default).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
}
