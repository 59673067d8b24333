//! What the real Consul 1.8.7 chose by filters (`filters.txt`), and the same here.
//!
//! ```text
//! PUT REGISTRATION
//! GET PATH FILTER         the filter is a JSON string
//! 200 NAMES | 400 TEXT    Consul's status is 500
//! ```
//!
//! Here a refusal says the same and then more, but for what is wrong with the form of an
//! expression or of a regular expression.

use std::sync::Arc;

use lan_agent::{
    ask::{AskError, Question},
    catalog::{Form, Lookup, Registration, Selection, Subject},
    definition,
};
use serde_json::Value;

use super::super::Answers;
use crate::state::{Command, Op, State, Touched};

const RECORDED: &str = include_str!("filters.txt");

fn registration(text: &str) -> Registration {
    definition::registration(&serde_json::from_str(text).unwrap()).unwrap().1
}

fn subject(path: &str) -> Subject {
    let parts: Vec<&str> = path.split('/').collect();
    let name = || parts[2].into();
    match (parts[0], parts[1]) {
        ("catalog", "nodes") => Subject::Nodes,
        ("catalog", "node") => Subject::Node(name()),
        ("catalog", "node-services") => Subject::NodeServices(name()),
        ("catalog", "service") => Subject::Service(name()),
        ("health", "node") => Subject::NodeChecks(name()),
        ("health", "checks") => Subject::ServiceChecks(name()),
        ("health", "service") => Subject::Health { service: name(), passing: false },
        ("health", "state") => Subject::State(None),
        other => panic!("{other:?} was not recorded"),
    }
}

/// The names of the records in an answer.
fn names(subject: &Subject, answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = || answer.as_array().unwrap().iter();
    match subject {
        Subject::Nodes | Subject::Service(_) => rows().map(|row| text(&row["Node"])).collect(),
        Subject::Node(_) => answer["Services"].as_object().unwrap().keys().cloned().collect(),
        Subject::NodeServices(_) => {
            answer["Services"].as_array().unwrap().iter().map(|row| text(&row["ID"])).collect()
        }
        Subject::Health { .. } => rows().map(|row| text(&row["Node"]["Node"])).collect(),
        _ => {
            rows().map(|row| format!("{}/{}", text(&row["Node"]), text(&row["CheckID"]))).collect()
        }
    }
}

/// Tells whether a text is about the form of an expression, which everybody says in other words.
fn is_about_form(text: &str) -> bool {
    ["no match found", "rule \"", "error parsing regexp"].iter().any(|sign| text.contains(sign))
}

#[test]
fn filters_choose_what_the_real_consul_chooses() {
    let answers = Answers::new("dc1".parse().unwrap());
    let mut state = State::default();
    let mut lines = RECORDED.lines();
    let mut compared = 0;
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("PUT ") {
            let command = Command::new(None, &Op::Register(Arc::new(registration(text))));
            state.apply(state.applied() + 1, &command, &mut Touched::default()).unwrap();
            continue;
        }
        let (path, filter) = line.strip_prefix("GET ").unwrap().split_once(' ').unwrap();
        let filter: String = serde_json::from_str(filter).unwrap();
        let selection = Selection { filter: filter.as_str().into(), ..Selection::default() };
        let lookup = Lookup { subject: subject(path), selection, form: Form::Json };
        let expected = lines.next().unwrap();
        match answers.answer(&state.clone().into(), &Question::Lookup(lookup.clone())) {
            Ok(answer) => {
                let found = names(&lookup.subject, &serde_json::from_slice(&answer.body).unwrap());
                let told = format!("200 {}", found.join(" "));
                assert_eq!(told.trim_end(), expected, "{path} {filter}");
            }
            Err(AskError::Bad(text)) => {
                let expected = expected.strip_prefix("400 ").unwrap_or("an answer");
                let same = text.starts_with(expected) || is_about_form(expected);
                assert!(same, "{path} {filter}: {text}, not {expected}");
            }
            Err(other) => panic!("{path} {filter}: {other}"),
        }
        compared += 1;
    }
    assert!(compared > 200);
}
