//! The rules of waiting, on a paused clock.

use std::time::Duration;

use lan_agent::ask::{Answer, Blocking, Outcome, Question};
use tokio::time::{Instant, advance};

use super::{JITTER_PART, WAIT_DEFAULT, WAIT_MAX, answer, wait_of};
use crate::state::{Command, Op, Touched, view::View};

fn get(key: &str) -> Question {
    Question::KvGet { key: key.to_owned(), raw: true }
}

fn list(prefix: &str) -> Question {
    Question::KvKeys { prefix: prefix.to_owned(), separator: String::new() }
}

fn write(view: &View, index: u64, op: Op) {
    let mut state = (*view.load()).clone();
    let mut touched = Touched::default();
    state.apply(index, &Command::new(None, &op), &mut touched).unwrap();
    view.publish(state, &touched);
}

fn set(view: &View, index: u64, key: &str) {
    let value = index.to_string().into();
    write(view, index, Op::KvSet { key: key.into(), value, flags: 0, cas: None });
}

fn wait(view: &View, question: Question, index: u64) -> tokio::task::JoinHandle<Answer> {
    let view = view.clone();
    let blocking = Some(Blocking { index, wait: Duration::from_secs(10) });
    tokio::spawn(async move { answer(&view, &question, blocking, 1).await.unwrap() })
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
fn waits_have_a_default_a_limit_and_a_jitter() {
    for seed in 0..50 {
        let default = wait_of(Duration::ZERO, seed);
        assert!(default >= WAIT_DEFAULT && default <= WAIT_DEFAULT + WAIT_DEFAULT / JITTER_PART);
        let most = wait_of(Duration::from_secs(10_000), seed);
        assert!(most >= WAIT_MAX && most <= WAIT_MAX + WAIT_MAX / JITTER_PART);
    }
    assert_ne!(wait_of(WAIT_MAX, 1), wait_of(WAIT_MAX, 2));
}
