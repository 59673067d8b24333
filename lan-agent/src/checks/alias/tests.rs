//! An alias follows what is told by hand.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::*;
use crate::{
    ask::Meta,
    catalog::{Node, Service},
    checks::tests::{PATIENCE, Rig, Silent, definition},
    definition::{self, Probe},
    local::state::Source,
};

fn alias(node: &str, service: &str) -> Probe {
    Probe::Alias { node: node.into(), service: service.into() }
}

fn check(id: &str, service_id: &str, status: Health) -> Check {
    let (id, service_id): (Text, Text) = (id.into(), service_id.into());
    Check { name: id.clone(), id, service_id, status, output: "why".into(), ..Check::default() }
}

fn judged(checks: &[Check]) -> Finding {
    let alias = Alias {
        check: "me".into(),
        generation: 1,
        node: Text::default(),
        service: "web".into(),
        seed: 1,
    };
    alias.judge(Some(&checks.iter().cloned().map(Arc::new).collect::<Vec<_>>()))
}

#[test]
fn the_worst_of_all_counts_and_the_first_of_equals_is_named() {
    use Health::{Critical, Passing, Warning};
    let failing = |name: &str| format!("Aliased check {name:?} failing: why");
    for (statuses, health, output) in [
        (&[][..], Passing, "No checks found.".to_owned()),
        (&[Passing, Passing], Passing, "All checks passing.".to_owned()),
        (&[Passing, Warning, Warning], Warning, failing("1")),
        (&[Warning, Critical, Critical], Critical, failing("1")),
    ] {
        let checks = statuses.iter().enumerate();
        let checks: Vec<Check> =
            checks.map(|(n, status)| check(&n.to_string(), "web", *status)).collect();
        assert_eq!(judged(&checks), Finding { health, output }, "{statuses:?}");
    }
}

#[test]
fn what_it_says_itself_is_no_reason_for_it() {
    let checks = [check("me", "web", Health::Critical), check("c", "web", Health::Passing)];
    assert_eq!(judged(&checks).health, Health::Passing);
}

#[tokio::test(start_paused = true)]
async fn it_follows_a_service_of_this_node() {
    let rig = Rig::new(Arc::new(Silent));
    rig.start(definition("a", alias("", "web")));
    let missing = rig.until("a", |said| !said.output.is_empty()).await;
    let sentence = "Service web could not be found on this node".to_owned();
    assert_eq!(missing, Finding::critical(sentence));
    let web = json!({ "Name": "web", "Check": { "TTL": "1h", "Status": "passing" } });
    let web = definition::service(&web).unwrap();
    rig.local.register(web, Source::Api, true).unwrap();
    let passing = rig.until("a", |said| said.health == Health::Passing).await;
    assert_eq!(passing.output, "All checks passing.");
    rig.local.report(&"service:web".into(), Health::Warning, "slow").unwrap();
    let warning = rig.until("a", |said| said.health == Health::Warning).await;
    assert_eq!(warning.output, "Aliased check \"Service 'web' check\" failing: slow");
    rig.local.maintain(None, true, "").unwrap();
    rig.until("a", |said| said.health == Health::Critical).await;
    rig.local.maintain(None, false, "").unwrap();
    rig.until("a", |said| said.health == Health::Warning).await;
    rig.local.deregister(&"web".into()).unwrap();
    rig.until("a", |said| said.output.contains("could not be found")).await;
}

/// A question that waits for its answer.
type Asked = (Lookup, Option<Blocking>, oneshot::Sender<Result<Answer, AskError>>);

/// A catalog whose answers are given by hand.
struct ByHand(mpsc::UnboundedSender<Asked>);

impl Catalog for ByHand {
    fn look_up(
        &self,
        lookup: Lookup,
        blocking: Option<Blocking>,
    ) -> Promise<Result<Answer, AskError>> {
        let (give, answer) = oneshot::channel();
        self.0.send((lookup, blocking, give)).unwrap();
        Box::pin(async move { answer.await.unwrap() })
    }
}

fn answer(index: u64, records: &impl Serialize) -> Result<Answer, AskError> {
    let body = Bytes::from(rmp_serde::to_vec_named(records).unwrap());
    let meta = Meta { index, ..Meta::default() };
    Ok(Answer { outcome: Outcome::Found, meta, body })
}

/// An alias of `web` on `n2`, and the questions that it asks.
struct Far {
    rig: Rig,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Far {
    fn new() -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let rig = Rig::new(Arc::new(ByHand(asks)));
        rig.start(definition("a", alias("n2", "web")));
        Self { rig, asked }
    }

    /// Answers the next question; returns what it was about, and from which index on.
    async fn answer(&mut self, answer: Result<Answer, AskError>) -> (Subject, Option<u64>) {
        let asked = timeout(Duration::from_secs(600), self.asked.recv()).await;
        let (lookup, blocking, give) = asked.expect("a question").unwrap();
        assert_eq!(lookup.form, Form::Records);
        give.send(answer).unwrap();
        (lookup.subject, blocking.map(|blocking| blocking.index))
    }
}

#[tokio::test(start_paused = true)]
async fn it_follows_a_service_of_another_node_by_questions_that_wait() {
    let mut far = Far::new();
    let checks = Subject::NodeChecks("n2".into());
    let said = [
        check("serfHealth", "", Health::Passing),
        check("c", "web", Health::Passing),
        check("d", "db", Health::Critical),
    ];
    assert_eq!(far.answer(answer(5, &said)).await, (checks.clone(), None));
    far.rig.until("a", |said| said.output == "All checks passing.").await;
    let said = [check("serfHealth", "", Health::Critical), check("c", "web", Health::Passing)];
    assert_eq!(far.answer(answer(9, &said)).await, (checks.clone(), Some(5)));
    let said = far.rig.until("a", |said| said.health == Health::Critical).await;
    assert_eq!(said.output, "Aliased check \"serfHealth\" failing: why");
    // Restored servers begin with low indexes.
    assert_eq!(far.answer(answer(2, &[said_well()])).await, (checks.clone(), Some(9)));
    assert_eq!(far.answer(answer(2, &[said_well()])).await, (checks, None));
}

fn said_well() -> Check {
    check("c", "web", Health::Passing)
}

#[tokio::test(start_paused = true)]
async fn a_service_without_checks_is_there_or_not() {
    let mut far = Far::new();
    let none: [Check; 0] = [];
    far.answer(answer(5, &none)).await;
    let service = Service { id: "web".into(), ..Service::default() };
    let services = vec![Arc::new(service)];
    let node = Arc::new(Node::default());
    let inventory = Inventory { node: node.clone(), services };
    let services = Subject::NodeServices("n2".into());
    assert_eq!(far.answer(answer(5, &inventory)).await.0, services);
    far.rig.until("a", |said| said.output == "No checks found.").await;
    for unknown in [answer(6, &Inventory { node, services: Vec::new() }), answer(6, &())] {
        far.answer(answer(6, &none)).await;
        far.answer(unknown).await;
        let said = far.rig.until("a", |said| said.health == Health::Critical).await;
        assert_eq!(said.output, "Service web could not be found on node n2");
    }
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_overlooked_and_a_second_one_is_critical() {
    let mut far = Far::new();
    far.answer(answer(5, &[said_well()])).await;
    far.rig.until("a", |said| said.health == Health::Passing).await;
    let began = Instant::now();
    far.answer(Err(AskError::NoLeader)).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(far.rig.said("a").health, Health::Passing);
    far.answer(Err(AskError::NoLeader)).await;
    let said = far.rig.until("a", |said| said.health == Health::Critical).await;
    assert_eq!(said.output, "Failure checking aliased node or service: No cluster leader");
    for _ in 0..8 {
        far.answer(Err(AskError::NoLeader)).await;
    }
    // Later and later: 1, 2, 4 ... 60 seconds, each with a random half.
    let passed = began.elapsed();
    assert!(passed > Duration::from_secs(90) && passed < PAUSE_MAX * 5, "{passed:?}");
    far.answer(answer(7, &[said_well()])).await;
    far.rig.until("a", |said| said.health == Health::Passing).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_asks_no_more() {
    let mut far = Far::new();
    let (_, _, give) = far.asked.recv().await.unwrap();
    far.rig.local.deregister_check(&"a".into()).unwrap();
    let mut give = give;
    timeout(PATIENCE, give.closed()).await.unwrap();
    assert!(timeout(Duration::from_secs(600), far.asked.recv()).await.is_err());
}
