//! What the real Consul 1.8.7 was told and what it answered (`consul.txt`), and the same here.
//!
//! ```text
//! PUT INDEX PATH BODY     INDEX is where the log of the real one had it
//! STATUS BODY             of a registration that is refused only the status
//!
//! GET PATH
//! BODY
//! ```

use std::sync::Arc;

use lan_agent::{
    ask::{Outcome, Question, TxnOp},
    catalog::{Form, Health, Lookup, Selection, Subject, Text},
    definition::{self, DefinitionError},
};
use serde_json::Value;

use super::super::Answers;
use crate::state::{Command, Op, State, Touched};

const RECORDED: &str = include_str!("consul.txt");

/// Makes a lookup of a path, as the HTTP interface does.
fn lookup(path: &str) -> Lookup {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut selection = Selection::default();
    let mut passing = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace("%3C", "<").replace("%26", "&").replace("%3E", ">");
        match name {
            "node-meta" => {
                let (key, value) = value.split_once(':').unwrap();
                selection.node_meta.insert(key.into(), value.into());
            }
            "tag" => selection.tags.push(value.into()),
            "near" => selection.near = value.into(),
            "passing" => passing = true,
            other => panic!("{other:?} was not recorded"),
        }
    }
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let name: Text = parts.get(2).copied().unwrap_or_default().into();
    let subject = match (parts[0], parts[1]) {
        ("catalog", "nodes") => Subject::Nodes,
        ("catalog", "node") => Subject::Node(name),
        ("catalog", "node-services") => Subject::NodeServices(name),
        ("catalog", "services") => Subject::Services,
        ("catalog", "service") => Subject::Service(name),
        ("health", "node") => Subject::NodeChecks(name),
        ("health", "checks") => Subject::ServiceChecks(name),
        ("health", "service") => Subject::Health { service: name, passing },
        ("health", "state") => Subject::State(Health::from_name(&name)),
        other => panic!("{other:?} was not recorded"),
    };
    Lookup { subject, selection, form: Form::Json }
}

/// Does what a `PUT` asks for and returns the status and, of what succeeds, the body.
fn put(answers: &Answers, state: &mut State, index: u64, path: &str, body: &str) -> String {
    let Ok(value) = serde_json::from_str(body) else { return "400".to_owned() };
    let question = match path {
        "/v1/catalog/register" => {
            definition::registration(&value).map(|(_, it)| Question::Register(Arc::new(it)))
        }
        "/v1/catalog/deregister" => {
            definition::deregistration(&value).map(|(_, it)| Question::Deregister(it))
        }
        _ => transaction(&value),
    };
    let question = match question {
        Ok(question) => question,
        Err(DefinitionError::Malformed(_)) => return "400".to_owned(),
        Err(DefinitionError::Invalid(_)) => return "500".to_owned(),
    };
    let answer = match Op::from_question(&question).unwrap() {
        None => answers.answer(&state.clone().into(), &question),
        Some(op) => {
            let command = Command::new(None, &op);
            answers.written(&state.apply(index, &command, &mut Touched::default()).unwrap())
        }
    };
    let Ok(answer) = answer else { return "500".to_owned() };
    let status = if answer.outcome == Outcome::Conflict { 409 } else { 200 };
    format!("{status} {}", std::str::from_utf8(&answer.body).unwrap())
}

fn transaction(value: &Value) -> Result<Question, DefinitionError> {
    let ops =
        value.as_array().unwrap().iter().map(|op| {
            Ok(TxnOp::Catalog(Box::new(definition::operation(op)?.expect("an operation"))))
        });
    Ok(Question::Txn { ops: ops.collect::<Result<_, _>>()? })
}

#[test]
fn answers_are_those_of_the_real_consul_to_the_letter() {
    let answers = Answers::new("dc1".parse().unwrap());
    let mut state = State::default();
    let mut lines = RECORDED.lines();
    let mut compared = 0;
    while let Some(line) = lines.next() {
        let expected = lines.next().unwrap();
        if let Some(path) = line.strip_prefix("GET ") {
            let question = Question::Lookup(lookup(path));
            let answer = answers.answer(&state.clone().into(), &question).unwrap();
            let body = String::from_utf8(answer.body.to_vec()).unwrap();
            assert_eq!(body, expected, "\n{path}");
        } else {
            let mut words = line.strip_prefix("PUT ").unwrap().splitn(3, ' ');
            let index = words.next().unwrap().parse().unwrap();
            let (path, body) = (words.next().unwrap(), words.next().unwrap_or_default());
            assert_eq!(put(&answers, &mut state, index, path, body), expected, "{line}");
        }
        compared += 1;
        assert_eq!(lines.next().unwrap_or_default(), "");
    }
    assert!(compared > 100);
}
