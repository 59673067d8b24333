//! Answers to the letter, as the real Consul 1.8 gives them (compared by hand).

mod config_entries;
mod consul;
mod coordinates;
mod filters;
mod lookups;

use bytes::Bytes;
use expect_test::{Expect, expect};
use lan_agent::ask::{Answer, AskError, KvOp, KvVerb, Outcome, Question, TxnOp};

use super::Answers;
use crate::state::{Command, Op, State, Touched};

fn state() -> State {
    let mut state = State::default();
    let mut apply = |index, op: Op| {
        state.apply(index, &Command::new(None, &op), &mut Touched::default()).unwrap();
    };
    let set = |key: &str, value: &'static [u8], flags| Op::KvSet {
        key: key.into(),
        value: Bytes::from_static(value),
        flags,
        cas: None,
    };
    apply(13, set("a/1", b"one", 0));
    apply(15, set("a/1", b"one", 3));
    apply(16, set("b/x/1", b"two", 0));
    apply(17, set("b/x/2", b"two", 0));
    apply(18, set("b/y", b"", 0));
    apply(19, Op::KvDelete { key: "b/x/2".into(), cas: None });
    apply(20, set("u<&>\u{2028}\"\\\u{1}\n\u{e9}", b"\xff", 0));
    state
}

fn answer(state: State, question: &Question) -> Result<Answer, AskError> {
    Answers::new("dc1".parse().unwrap()).answer(&state.into(), question)
}

/// The body of a lookup as it is now, whatever was encoded before.
fn lookup_body(state: &State, question: &Question) -> Bytes {
    let Question::Lookup(lookup) = question else { panic!("no lookup") };
    let home = "dc1".parse().unwrap();
    let place = super::Place { home: &home, abroad: None };
    super::lookup::body(state, place, lookup, super::Draw::ALL).unwrap()
}

fn check(question: Question, expected: Expect) {
    check_in(state(), question, expected);
}

fn check_in(state: State, question: Question, expected: Expect) {
    let answer = answer(state, &question).unwrap();
    let outcome = match answer.outcome {
        Outcome::Found => 200,
        Outcome::Absent => 404,
        Outcome::Conflict => 409,
    };
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    expected.assert_eq(&format!("{outcome} index {} {body}", answer.meta.index));
}

fn get(key: &str) -> Question {
    Question::KvGet { key: key.to_owned(), raw: false }
}

fn list(prefix: &str) -> Question {
    Question::KvList { prefix: prefix.to_owned() }
}

fn keys(prefix: &str, separator: &str) -> Question {
    Question::KvKeys { prefix: prefix.to_owned(), separator: separator.to_owned() }
}

#[test]
fn one_key_has_the_index_of_its_last_change() {
    check(
        get("a/1"),
        expect![[
            r#"200 index 15 [{"LockIndex":0,"Key":"a/1","Flags":3,"Value":"b25l","CreateIndex":13,"ModifyIndex":15}]"#
        ]],
    );
    check(Question::KvGet { key: "a/1".to_owned(), raw: true }, expect!["200 index 15 one"]);
}

#[test]
fn an_empty_value_is_null() {
    check(
        get("b/y"),
        expect![[
            r#"200 index 18 [{"LockIndex":0,"Key":"b/y","Flags":0,"Value":null,"CreateIndex":18,"ModifyIndex":18}]"#
        ]],
    );
}

#[test]
fn what_is_absent_has_the_index_of_the_table() {
    check(get("zz"), expect!["404 index 20 "]);
    check(list("zz"), expect!["404 index 20 "]);
    check(keys("zz", ""), expect!["404 index 20 "]);
}

#[test]
fn the_index_is_never_0() {
    let answer = answer(State::default(), &get("a")).unwrap();
    assert_eq!((answer.outcome, answer.meta.index), (Outcome::Absent, 1));
}

#[test]
fn a_prefix_has_the_index_of_the_last_deletion_below_it() {
    check(
        list("b/"),
        expect![[
            r#"200 index 19 [{"LockIndex":0,"Key":"b/x/1","Flags":0,"Value":"dHdv","CreateIndex":16,"ModifyIndex":16},{"LockIndex":0,"Key":"b/y","Flags":0,"Value":null,"CreateIndex":18,"ModifyIndex":18}]"#
        ]],
    );
    check(
        list("a"),
        expect![[
            r#"200 index 15 [{"LockIndex":0,"Key":"a/1","Flags":3,"Value":"b25l","CreateIndex":13,"ModifyIndex":15}]"#
        ]],
    );
}

#[test]
fn keys_are_cut_after_the_separator() {
    check(keys("b/", "/"), expect![[r#"200 index 19 ["b/x/","b/y"]"#]]);
    check(keys("b", "/"), expect![[r#"200 index 19 ["b/"]"#]]);
    check(keys("a", ""), expect![[r#"200 index 15 ["a/1"]"#]]);
    check(
        keys("", "/"),
        expect![[r#"200 index 20 ["a/","b/","u\u003c\u0026\u003e\u2028\"\\\u0001\né"]"#]],
    );
}

#[test]
fn text_is_escaped_as_go_does() {
    check(
        get("u<&>\u{2028}\"\\\u{1}\n\u{e9}"),
        expect![[
            r#"200 index 20 [{"LockIndex":0,"Key":"u\u003c\u0026\u003e\u2028\"\\\u0001\né","Flags":0,"Value":"/w==","CreateIndex":20,"ModifyIndex":20}]"#
        ]],
    );
}

fn op(verb: KvVerb, key: &str, index: u64) -> TxnOp {
    let value = Bytes::from_static(b"one");
    TxnOp::Kv(KvOp { verb, key: key.to_owned(), value, flags: 7, index })
}

#[test]
fn a_transaction_that_reads_says_how_fresh_it_is() {
    check(
        Question::Txn { ops: vec![op(KvVerb::Get, "a/1", 0), op(KvVerb::CheckIndex, "a/1", 15)] },
        expect![[
            r#"200 index 0 {"Results":[{"KV":{"LockIndex":0,"Key":"a/1","Flags":3,"Value":"b25l","CreateIndex":13,"ModifyIndex":15}},{"KV":{"LockIndex":0,"Key":"a/1","Flags":3,"Value":null,"CreateIndex":13,"ModifyIndex":15}}],"Errors":null,"Index":0,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":""}"#
        ]],
    );
    check(
        Question::Txn { ops: vec![op(KvVerb::CheckIndex, "none", 1), op(KvVerb::Get, "", 1)] },
        expect![[
            r#"409 index 0 {"Results":null,"Errors":[{"OpIndex":0,"What":"failed to check index, key \"none\" doesn't exist"},{"OpIndex":1,"What":"Must provide key"}],"Index":0,"LastContact":0,"KnownLeader":true,"ConsistencyLevel":""}"#
        ]],
    );
}

#[test]
fn a_transaction_that_writes_is_answered_without_the_values() {
    let ops = vec![op(KvVerb::Set, "t", 0), op(KvVerb::Get, "t", 0), op(KvVerb::Delete, "t", 0)];
    let command = Command::new(None, &Op::Txn { ops });
    let applied = state().apply(21, &command, &mut Touched::default()).unwrap();
    let answer = Answers::new("dc1".parse().unwrap()).written(&applied).unwrap();
    expect![[r#"{"Results":[{"KV":{"LockIndex":0,"Key":"t","Flags":7,"Value":null,"CreateIndex":21,"ModifyIndex":21}},{"KV":{"LockIndex":0,"Key":"t","Flags":7,"Value":"b25l","CreateIndex":21,"ModifyIndex":21}}],"Errors":null}"#]]
        .assert_eq(std::str::from_utf8(&answer.body).unwrap());
}

#[test]
fn questions_that_change_something_are_not_answered_here() {
    let put = Question::KvPut { key: "a".to_owned(), value: Bytes::new(), flags: 0, cas: None };
    assert!(answer(state(), &put).is_err());
    assert!(answer(state(), &Question::StatusLeader).is_err());
}
