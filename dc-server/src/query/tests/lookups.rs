//! Lookups: what they show, as of which index, and in both forms.

use std::{collections::BTreeMap, sync::Arc};

use lan_agent::{
    ask::{Answer, AskError, CatalogOp, CatalogRecord, CatalogVerb, Question, TxnOp},
    catalog::{
        Check, Form, Health, Instance, Inventory, Lookup, Node, Registration, Residents,
        SERF_HEALTH, Selection, Service, Subject, Text, Texts,
    },
};
use proptest::prelude::*;

use super::super::{Answers, glance, topics};
use crate::state::{
    Command, Op, State, Touched,
    catalog::tests::commands,
    watch::{Topic, Watches},
};

fn answers() -> Answers {
    Answers::new("dc1".parse().unwrap())
}

fn ask(state: &State, lookup: Lookup) -> Result<Answer, AskError> {
    answers().answer(&state.clone().into(), &Question::Lookup(lookup))
}

fn of(subject: Subject) -> Lookup {
    Lookup { subject, selection: Selection::default(), form: Form::Json }
}

fn records<T: serde::de::DeserializeOwned>(state: &State, subject: Subject) -> T {
    let answer = ask(state, Lookup { form: Form::Records, ..of(subject) }).unwrap();
    rmp_serde::from_slice(&answer.body).unwrap()
}

fn node(name: &str, rack: &str) -> Node {
    let meta: Texts = [("rack".into(), rack.into())].into();
    Node { name: name.into(), address: "10.0.0.1".into(), meta, ..Node::default() }
}

fn instance(name: &str, tags: &[&str]) -> Service {
    let tags = tags.iter().map(|tag| Text::from(*tag)).collect();
    Service { id: name.into(), name: name.into(), tags, ..Service::default() }
}

fn check(id: &str, service_id: &str, status: Health) -> Check {
    Check { id: id.into(), service_id: service_id.into(), status, ..Check::default() }
}

fn put(state: &mut State, registration: Registration) {
    let index = state.applied() + 10;
    let command = Command::new(None, &Op::Register(Arc::new(registration)));
    state.apply(index, &command, &mut Touched::default()).unwrap();
}

/// `web` on a and b, `db` on a; a is alive, web on b warns.
fn state() -> State {
    let mut state = State::default();
    let alive = check(SERF_HEALTH, "", Health::Passing);
    for (name, rack, status) in [("a", "r1", Health::Passing), ("b", "r2", Health::Warning)] {
        let service = Some(instance("web", &["v1", name]));
        let checks = vec![alive.clone(), check("ping", "web", status)];
        put(
            &mut state,
            Registration { node: node(name, rack), service, checks, ..Registration::default() },
        );
    }
    let service = Some(instance("db", &["primary"]));
    put(&mut state, Registration { node: node("a", "r1"), service, ..Registration::default() });
    state
}

fn health(passing: bool) -> Subject {
    Subject::Health { service: "web".into(), passing }
}

fn names_of(instances: &[Instance]) -> Vec<&str> {
    instances.iter().map(|instance| &*instance.node.name).collect()
}

#[test]
fn agents_read_the_records_that_they_know() {
    let state = state();
    let nodes: Vec<Node> = records(&state, Subject::Nodes);
    assert_eq!(nodes, [node("a", "r1"), node("b", "r2")]);
    let inventory: Option<Inventory> = records(&state, Subject::Node("A".into()));
    let inventory = inventory.unwrap();
    assert_eq!((*inventory.node).clone(), node("a", "r1"));
    assert_eq!(inventory.services.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!(records::<Option<Inventory>>(&state, Subject::NodeServices("none".into())), None);
    let names: BTreeMap<Text, Vec<Text>> = records(&state, Subject::Services);
    assert_eq!(names[&Text::from("web")], ["a".into(), "b".into(), "v1".into()]);
    let found: Vec<Instance> = records(&state, Subject::Service("web".into()));
    assert!(found.iter().all(|instance| instance.checks.is_empty()));
    let found: Vec<Instance> = records(&state, health(false));
    assert_eq!(names_of(&found), ["a", "b"]);
    let ids: Vec<_> = found[1].checks.iter().map(|check| &*check.id).collect();
    assert_eq!(ids, [SERF_HEALTH, "ping"]);
    let found: Vec<Instance> = records(&state, health(true));
    assert_eq!(names_of(&found), ["a"]);
    let checks: Vec<Check> = records(&state, Subject::State(Some(Health::Warning)));
    assert_eq!((checks.len(), &*checks[0].service_name), (1, "web"));
    for (subject, count) in [
        (Subject::NodeChecks("a".into()), 2),
        (Subject::ServiceChecks("WEB".into()), 2),
        (Subject::State(None), 4),
        (Subject::State(Some(Health::Critical)), 0),
    ] {
        assert_eq!(records::<Vec<Check>>(&state, subject).len(), count);
    }
}

#[test]
fn what_is_on_the_node_to_be_near_to_comes_first() {
    let state = state();
    let near = |subject| {
        let selection = Selection { near: "B".into(), ..Selection::default() };
        let lookup = Lookup { selection, ..of(subject) };
        String::from_utf8(ask(&state, lookup).unwrap().body.to_vec()).unwrap()
    };
    for subject in [Subject::Nodes, health(false), Subject::State(None)] {
        let body = near(subject);
        let place = |node: &str| body.find(&format!("\"Node\":\"{node}\"")).unwrap();
        assert!(place("b") < place("a"), "{body}");
    }
}

#[test]
fn what_is_absent_is_an_empty_list_with_the_index_of_its_going() {
    let mut state = state();
    let command = Command::new(
        None,
        &Op::Deregister(lan_agent::catalog::Deregistration {
            node: "a".into(),
            what: lan_agent::catalog::Removed::Service("db".into()),
        }),
    );
    state.apply(77, &command, &mut Touched::default()).unwrap();
    let answer = ask(&state, of(Subject::Service("db".into()))).unwrap();
    assert_eq!((&answer.body[..], answer.meta.index), (&b"[]"[..], 77));
    let answer = ask(&State::default(), of(Subject::Service("db".into()))).unwrap();
    assert_eq!(answer.meta.index, 1);
}

#[test]
fn a_filter_that_makes_no_sense_is_refused_also_to_those_who_would_wait() {
    let selection = Selection { filter: "Zork == a".into(), ..Selection::default() };
    let lookup = Lookup { selection, ..of(Subject::Nodes) };
    let (answers, state) = (answers(), state().into());
    for _ in 0..2 {
        let refused = answers.answer(&state, &Question::Lookup(lookup.clone()));
        assert!(matches!(refused, Err(AskError::Bad(_))), "{refused:?}");
    }
    assert!(super::super::check(&Question::Lookup(lookup.clone())).is_err());
    let names = Lookup { subject: Subject::Services, ..lookup };
    assert!(answers.answer(&state, &Question::Lookup(names)).is_ok(), "they have no fields");
}

#[test]
fn agents_read_the_records_that_a_filter_admits() {
    let (state, admits) =
        (state(), |filter: &str| Selection { filter: filter.into(), ..Selection::default() });
    let of =
        |subject, filter: &str| Lookup { subject, selection: admits(filter), form: Form::Records };
    let body = |lookup| ask(&state, lookup).unwrap().body;
    let nodes = body(of(Subject::Nodes, "Meta.rack == r2"));
    let nodes: Vec<Node> = rmp_serde::from_slice(&nodes).unwrap();
    assert_eq!(nodes, [node("b", "r2")]);
    let inventory = body(of(Subject::Node("a".into()), "Tags contains primary"));
    let inventory: Inventory = rmp_serde::from_slice(&inventory).unwrap();
    assert_eq!(inventory.services.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["db"]);
    let found = body(of(health(false), "Checks.Status == warning"));
    let found: Vec<Instance> = rmp_serde::from_slice(&found).unwrap();
    assert_eq!(names_of(&found), ["b"]);
    let checks = body(of(Subject::State(None), "ServiceTags contains b"));
    let checks: Vec<Check> = rmp_serde::from_slice(&checks).unwrap();
    assert_eq!(checks.len(), 1);
}

#[test]
fn a_definition_that_is_no_json_is_refused_before_it_is_written() {
    let with = |definition: &str| {
        let check = Check { definition: definition.into(), ..check("k", "", Health::Passing) };
        let record = CatalogRecord::Check("a".into(), check.clone());
        let op = CatalogOp { verb: CatalogVerb::Set, record, index: 0 };
        let ops = vec![TxnOp::Catalog(Box::new(op))];
        let in_transaction = super::super::check(&Question::Txn { ops });
        let checks = vec![check];
        let registration =
            Registration { node: node("a", "r1"), checks, ..Registration::default() };
        let alone = super::super::check(&Question::Register(Arc::new(registration)));
        assert_eq!(in_transaction, alone);
        alone
    };
    assert_eq!([with(""), with("{\"TTL\":1}")], [Ok(()), Ok(())]);
    assert!(with("{},\"Output\":\"x\"").is_err());
}

/// Lookups of everything that the generated commands touch, with every kind of selection.
fn lookups() -> Vec<Lookup> {
    let mut subjects = vec![Subject::Nodes, Subject::Services, Subject::State(None)];
    subjects.push(Subject::State(Some(Health::Passing)));
    subjects.push(Subject::State(Some(Health::Critical)));
    subjects.extend(["1.1.1.1", "2.2.2.2"].map(|address| Subject::Address(address.into())));
    for node in ["a", "B", "0a", "0", "none"] {
        subjects.extend([Subject::Node(node.into()), Subject::NodeServices(node.into())]);
        subjects.push(Subject::NodeChecks(node.into()));
    }
    for service in ["web", "DB"] {
        subjects.extend([Subject::Service(service.into()), Subject::ServiceChecks(service.into())]);
        subjects.extend(
            [true, false].map(|passing| Subject::Health { service: service.into(), passing }),
        );
    }
    let selections = [
        Selection::default(),
        Selection { node_meta: [("x".into(), "1".into())].into(), ..Selection::default() },
        Selection { tags: vec!["T".into()], near: "b".into(), ..Selection::default() },
    ];
    let with = |subject: Subject| {
        let filtered = Selection { filter: filter(&subject).into(), ..Selection::default() };
        let selections = selections.clone().into_iter().chain([filtered]);
        selections.map(move |selection| Lookup { selection, ..of(subject.clone()) })
    };
    subjects.into_iter().flat_map(with).collect()
}

/// A filter of much that can be seen in what is looked up.
fn filter(subject: &Subject) -> &'static str {
    match subject {
        Subject::Nodes => "Meta contains x or Node == b",
        Subject::Node(_) | Subject::NodeServices(_) => "Port == 80 or Tags is empty",
        Subject::Services | Subject::Address(_) | Subject::Query(_) => "",
        Subject::Service(_) => "NodeMeta contains x or ServiceTags is empty",
        Subject::NodeChecks(_) | Subject::ServiceChecks(_) | Subject::State(_) => {
            "ServiceTags is empty or Status != passing"
        }
        Subject::Health { .. } => "Checks.Status != passing and Node.Meta is empty",
    }
}

/// Tells whether a watcher of this would be woken.
fn is_woken(state: &State, question: &Question, touched: &Touched) -> bool {
    let watches = Watches::default();
    let watch = watches.watch(topics(state, question));
    let mut changed = watch.changed();
    watches.wake(touched);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::future::Future::poll(changed.as_mut(), &mut context).is_ready()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Who waits for an answer hears when it changes, and then its index is the one of the change,
    /// so that no body is taken for another one.
    #[test]
    fn an_answer_that_changes_has_another_index_and_wakes(
        ops in prop::collection::vec(commands::ops(), 1..40),
    ) {
        let (answers, mut state) = (answers(), State::default());
        let lookups: Vec<_> = lookups().into_iter().map(Question::Lookup).collect();
        let mut before: Vec<Answer> = Vec::new();
        for (index, op) in (2..).zip(&ops) {
            let (was, mut touched) = (state.clone(), Touched::default());
            state.apply(index, &Command::new(None, op), &mut touched).unwrap();
            let published = state.clone().into();
            let now: Vec<_> = lookups.iter().map(|q| answers.answer(&published, q).unwrap()).collect();
            for ((question, now), before) in lookups.iter().zip(&now).zip(&before) {
                prop_assert_eq!(&now.body, &super::lookup_body(&state, question));
                prop_assert_eq!(now.meta.index, glance(&state, question).index);
                prop_assert!(now.meta.index >= before.meta.index, "{:?} after {:?}", question, op);
                if now.body != before.body {
                    prop_assert_eq!(now.meta.index, index, "{:?} after {:?}", question, op);
                    prop_assert!(is_woken(&was, question, &touched), "{:?} after {:?}", question, op);
                }
            }
            before = now;
        }
    }
}

#[test]
fn names_by_meta_change_with_the_instances_and_with_the_nodes() {
    let mut state = state();
    let selection = Selection { node_meta: node("x", "r3").meta, ..Selection::default() };
    let lookup = Lookup { selection, ..of(Subject::Services) };
    let names = |state: &State| {
        let answer = ask(state, lookup.clone()).unwrap();
        (String::from_utf8(answer.body.to_vec()).unwrap(), answer.meta.index)
    };
    put(&mut state, Registration { node: node("c", "r3"), ..Registration::default() });
    assert_eq!(names(&state), ("{}".to_owned(), 40));
    let service = Some(instance("db", &["primary"]));
    put(&mut state, Registration { node: node("c", "r3"), service, ..Registration::default() });
    assert_eq!(names(&state), ("{\"db\":[\"primary\"]}".to_owned(), 50));
    put(&mut state, Registration { node: node("c", "r1"), ..Registration::default() });
    assert_eq!(names(&state), ("{}".to_owned(), 60));
}

#[test]
fn what_may_be_an_id_is_waited_for_by_all_nodes_and_a_name_is_not() {
    let state = state();
    let count =
        |name: &str| topics(&state, &Question::Lookup(of(Subject::Node(name.into())))).len();
    assert_eq!([count("a"), count("none"), count("0a"), count("0")], [1, 1, 3, 1]);
    let web = Question::Lookup(of(health(true)));
    let part = crate::state::catalog::Part::Health("web".into());
    assert_eq!(topics(&state, &web), [Topic::Catalog(part)]);
}

#[test]
fn what_is_at_an_address_is_found_however_it_is_written() {
    let mut state = state();
    for (name, address) in [("v6", "FD00::0:1"), ("v4", "10.0.0.7"), ("host", "www.example.com")] {
        let service = Some(Service { address: address.into(), ..instance(name, &[]) });
        put(&mut state, Registration { node: node("c", "r1"), service, ..Registration::default() });
    }
    let at = |address: &str| -> (Vec<Text>, Vec<Text>) {
        let found: Residents = records(&state, Subject::Address(address.into()));
        (found.nodes, found.services)
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| Text::from(*text)).collect::<Vec<_>>();
    assert_eq!(at("10.0.0.1"), (texts(&["a", "b", "c"]), vec![]));
    assert_eq!(at("fd00::1"), (vec![], texts(&["v6"])));
    assert_eq!(at("10.0.0.7"), (vec![], texts(&["v4"])));
    assert_eq!(at("10.0.0.9"), (vec![], vec![]));
}
