//! Answers about configuration entries, and what those wait for who wait for one.

use std::time::Duration;

use expect_test::expect;
use lan_agent::ask::{AskError, Blocking, Question};

use super::check_in;
use crate::{
    blocking,
    config_entry::Definition,
    query::{Answers, check},
    state::{Command, Op, State, Touched, view::View},
};

fn set(json: &str) -> Op {
    Op::ConfigSet { definition: Definition::read(json).unwrap(), cas: None }
}

fn state() -> State {
    let mut state = State::default();
    for (index, op) in [
        (
            4,
            set(
                r#"{"Kind":"service-resolver","Name":"Web","Subsets":{"a":{"Filter":"Service.ID != \"<\""}}}"#,
            ),
        ),
        (5, set(r#"{"Kind":"service-resolver","Name":"api","ConnectTimeout":"5s"}"#)),
        (6, set(r#"{"Kind":"proxy-defaults","Name":"global"}"#)),
        (8, set(r#"{"Kind":"service-resolver","Name":"api","ConnectTimeout":"6s"}"#)),
        (9, Op::ConfigDelete { kind: "proxy-defaults".into(), name: "global".into(), cas: None }),
    ] {
        state.apply(index, &Command::new(None, &op), &mut Touched::default()).unwrap();
    }
    state
}

fn read(kind: Option<&str>, name: Option<&str>) -> Question {
    Question::ConfigRead { kind: kind.map(Into::into), name: name.map(Into::into) }
}

#[test]
fn entries_are_shown_with_their_indexes() {
    let resolver = Some("service-resolver");
    check_in(
        state(),
        read(resolver, Some("web")),
        expect![[
            r#"200 index 4 {"Kind":"service-resolver","Name":"Web","Subsets":{"a":{"Filter":"Service.ID != \"\u003c\""}},"CreateIndex":4,"ModifyIndex":4}"#
        ]],
    );
    check_in(
        state(),
        read(resolver, None),
        expect![[
            r#"200 index 8 [{"Kind":"service-resolver","Name":"api","ConnectTimeout":"6s","CreateIndex":5,"ModifyIndex":8},{"Kind":"service-resolver","Name":"Web","Subsets":{"a":{"Filter":"Service.ID != \"\u003c\""}},"CreateIndex":4,"ModifyIndex":4}]"#
        ]],
    );
    check_in(state(), read(resolver, Some("none")), expect!["404 index 8 "]);
    check_in(state(), read(Some("proxy-defaults"), None), expect!["200 index 9 []"]);
    check_in(state(), read(Some("service-defaults"), None), expect!["200 index 9 []"]);
    check_in(
        state(),
        read(None, None),
        expect![[
            r#"200 index 9 [{"Kind":"service-resolver","Name":"api","ConnectTimeout":"6s","CreateIndex":5,"ModifyIndex":8},{"Kind":"service-resolver","Name":"Web","Subsets":{"a":{"Filter":"Service.ID != \"\u003c\""}},"CreateIndex":4,"ModifyIndex":4}]"#
        ]],
    );
}

#[test]
fn a_kind_that_there_is_not_is_refused() {
    let refused = check(&read(Some("mesh"), None)).unwrap_err();
    assert!(
        matches!(refused, AskError::Bad(text) if text.contains("\"mesh\" is not supported here"))
    );
}

/// Tells which of these were answered by a change, rather than by the end of their time.
async fn woken(op: Op, questions: &[Question]) -> Vec<bool> {
    let (view, answers) = (View::default(), Answers::new("dc1".parse().unwrap()));
    view.publish(state());
    let waiting = questions.iter().map(|question| {
        let (view, answers) = (&view, &answers);
        async move {
            let blocking = Some(Blocking { index: 9, wait: Duration::from_secs(60) });
            let asked = tokio::time::Instant::now();
            let contact = || Duration::ZERO;
            blocking::answer(view, answers, question, blocking, 1, contact).await.unwrap();
            asked.elapsed() < Duration::from_secs(50)
        }
    });
    let change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (mut state, mut touched) = (state(), Touched::default());
        state.apply(10, &Command::new(None, &op), &mut touched).unwrap();
        view.publish(state);
        view.watches().wake(&touched);
    };
    futures::join!(futures::future::join_all(waiting), change).0
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_those_whom_it_concerns() {
    let resolver = Some("service-resolver");
    let questions = [
        read(resolver, Some("WEB")),
        read(resolver, Some("api")),
        read(resolver, Some("none")),
        read(resolver, None),
        read(Some("proxy-defaults"), None),
        read(None, None),
    ];
    let change = set(r#"{"Kind":"service-resolver","Name":"web","ConnectTimeout":"1s"}"#);
    assert_eq!(woken(change, &questions).await, [true, false, false, true, false, true]);
    let gone = Op::ConfigDelete { kind: "service-resolver".into(), name: "web".into(), cas: None };
    assert_eq!(woken(gone, &questions).await, [true, false, false, true, false, true]);
    let new = set(r#"{"Kind":"service-resolver","Name":"none"}"#);
    assert_eq!(woken(new, &questions).await, [false, false, true, true, false, true]);
}
