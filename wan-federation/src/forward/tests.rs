//! Forwarding on a paused clock: a carrier that answers, hangs or fails by script.

use std::{collections::BTreeMap, sync::Mutex};

use topology::NodeName;
use uuid::Uuid;

use super::*;
use crate::{
    envelope::{Consistency, EnvelopeError},
    gate::Gate,
    verdict::Verdict,
    word::Word,
};

/// What the carrier does when a server is asked.
#[derive(Clone)]
enum Script {
    Answer,
    Hang,
    Fail(CarryError),
}

struct Stage {
    forwarder: Forwarder,
    carrier: Arc<Actors>,
    reach: BTreeMap<&'static str, watch::Sender<Reach>>,
}

#[derive(Default)]
struct Actors {
    scripts: Mutex<BTreeMap<String, Script>>,
    asked: Mutex<Vec<String>>,
}

impl Carrier for Actors {
    fn carry(
        &self,
        to: &Server,
        _: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, CarryError>> {
        self.asked.lock().unwrap().push(to.name.to_string());
        let script = self.scripts.lock().unwrap().get(to.name.as_str()).cloned();
        let name = Bytes::from(to.name.to_string());
        Box::pin(async move {
            match script.unwrap_or(Script::Answer) {
                Script::Answer => Ok(name),
                Script::Fail(error) => Err(error),
                Script::Hang => {
                    tokio::time::sleep_until(deadline).await;
                    Err(CarryError::Deadline)
                }
            }
        })
    }
}

impl Stage {
    /// Datacenter dc2 with servers b1, b2 (its leader) and b3.
    fn new(health: Health) -> Self {
        let dc2 = Datacenter::new("dc2").unwrap();
        let mut reach = BTreeMap::new();
        let mut servers = Vec::new();
        for (place, name) in ["b1", "b2", "b3"].into_iter().enumerate() {
            let (sender, receiver) = watch::channel(Reach::Live);
            reach.insert(name, sender);
            servers.push(Server {
                dc: dc2.clone(),
                name: NodeName::new(name).unwrap(),
                addr: "127.0.0.1:8302".parse().unwrap(),
                rtt: Some(Duration::from_millis(10 * (place as u64 + 1))),
                word: Some(Word { leader_known: true, is_leader: name == "b2", ..Word::default() }),
                reach: receiver,
                reason: String::new(),
            });
        }
        let verdict = Verdict { health, since: Duration::ZERO, evidence: "evidence".to_owned() };
        let remote = Remote { verdict, servers, gate: Gate::new(4) };
        let table = Table { remotes: [(dc2, remote)].into(), ..Table::default() };
        let carrier = Arc::new(Actors::default());
        let table = Arc::new(ArcSwap::from_pointee(table));
        let dc1 = Datacenter::new("dc1").unwrap();
        let forwarder = Forwarder::new(dc1, Instant::now(), table, carrier.clone());
        Self { forwarder, carrier, reach }
    }

    fn script(&self, name: &str, script: Script) {
        self.carrier.scripts.lock().unwrap().insert(name.to_owned(), script);
    }

    fn asked(&self) -> Vec<String> {
        self.carrier.asked.lock().unwrap().clone()
    }

    fn hear(&self, name: &str, reach: Reach) {
        self.reach[name].send_replace(reach);
    }

    async fn forward(&self, envelope: Envelope) -> Result<Bytes, ForwardError> {
        self.forwarder.forward(envelope).await
    }
}

fn envelope(consistency: Consistency, seconds: u64) -> Envelope {
    Envelope {
        dc: Datacenter::new("dc2").unwrap(),
        path: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(seconds),
        request: Uuid::nil(),
        read: true,
        consistency,
        trace: Uuid::nil(),
        payload: Bytes::from_static(b"opaque"),
    }
}

#[tokio::test(start_paused = true)]
async fn leader_requests_go_to_the_leader_and_others_to_the_nearest() {
    let stage = Stage::new(Health::Healthy);
    assert_eq!(stage.forward(envelope(Consistency::Leader, 9)).await.unwrap(), "b2");
    assert_eq!(stage.forward(envelope(Consistency::Any, 9)).await.unwrap(), "b1");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_datacenter_is_said_to_be_unknown() {
    let stage = Stage::new(Health::Healthy);
    let mut envelope = envelope(Consistency::Any, 9);
    envelope.dc = Datacenter::new("dc9").unwrap();
    let error = stage.forward(envelope).await.unwrap_err();
    assert!(matches!(error, ForwardError::UnknownDatacenter { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_lost_datacenter_is_an_error_at_once_with_evidence() {
    let stage = Stage::new(Health::Lost);
    let start = Instant::now();
    let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    assert!(error.to_string().contains("evidence"), "{error}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(stage.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_second_server_is_asked_when_the_first_fails() {
    let stage = Stage::new(Health::Healthy);
    stage.script("b2", Script::Fail(CarryError::Lost("reset".into())));
    assert_eq!(stage.forward(envelope(Consistency::Leader, 9)).await.unwrap(), "b1");
    assert_eq!(stage.asked(), ["b2", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn two_servers_are_asked_at_most() {
    let stage = Stage::new(Health::Healthy);
    for name in ["b1", "b2", "b3"] {
        stage.script(name, Script::Fail(CarryError::NotSent("refused".into())));
    }
    let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    assert_eq!(stage.asked().len(), ATTEMPTS_MAX);
    assert_eq!(error.effect(), Effect::None);
}

#[tokio::test(start_paused = true)]
async fn a_long_query_runs_to_its_deadline_while_its_server_is_heard() {
    let stage = Stage::new(Health::Healthy);
    stage.script("b1", Script::Hang);
    let start = Instant::now();
    let error = stage.forward(envelope(Consistency::Any, 300)).await.unwrap_err();
    assert!(matches!(error, ForwardError::Deadline { .. }), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_query_moves_on_when_its_server_falls_silent() {
    let stage = Stage::new(Health::Healthy);
    stage.script("b1", Script::Hang);
    let ask = stage.forward(envelope(Consistency::Any, 300));
    let hush = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        stage.hear("b1", Reach::Quiet);
    };
    let (answer, ()) = tokio::join!(ask, hush);
    assert_eq!(answer.unwrap(), "b2");
}

#[tokio::test(start_paused = true)]
async fn a_datacenter_that_falls_silent_fails_without_a_second_attempt() {
    let stage = Stage::new(Health::Healthy);
    stage.script("b1", Script::Hang);
    let start = Instant::now();
    let ask = stage.forward(envelope(Consistency::Any, 300));
    let hush = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stage.hear("b2", Reach::Faint);
        stage.hear("b3", Reach::Faint);
        stage.hear("b1", Reach::Quiet);
    };
    let (answer, ()) = tokio::join!(ask, hush);
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("fell silent"), "{error}");
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(start.elapsed(), Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_not_heard_cost_less_than_two_seconds() {
    let stage = Stage::new(Health::Degraded(crate::verdict::Degradation::Unseen));
    for name in ["b1", "b2", "b3"] {
        stage.hear(name, Reach::Dialing);
        stage.script(name, Script::Hang);
    }
    let start = Instant::now();
    let error = stage.forward(envelope(Consistency::Any, 300)).await.unwrap_err();
    assert!(matches!(error, ForwardError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() <= HEAR_MAX * ATTEMPTS_MAX as u32);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_comes_back_as_it_is() {
    let stage = Stage::new(Health::Healthy);
    let refused =
        CarryError::Refused { code: 7, message: "no such thing".into(), elsewhere: false };
    stage.script("b1", Script::Fail(refused));
    let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    assert_eq!(error.to_string(), "b1.dc2 refused: no such thing");
    assert_eq!(stage.asked(), ["b1"]);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_turns_callers_away_after_failures_in_a_row() {
    let stage = Stage::new(Health::Healthy);
    for name in ["b1", "b2", "b3"] {
        stage.script(name, Script::Fail(CarryError::NotSent("refused".into())));
    }
    for _ in 0..crate::breaker::FAILURES_MAX {
        stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    }
    let asked = stage.asked().len();
    let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    assert!(error.to_string().contains("next try"), "{error}");
    assert_eq!(stage.asked().len(), asked);
}

#[tokio::test(start_paused = true)]
async fn requests_over_the_bound_are_turned_away() {
    let stage = Stage::new(Health::Healthy);
    stage.script("b1", Script::Hang);
    let ask = || stage.forward(envelope(Consistency::Any, 5));
    let results = tokio::join!(ask(), ask(), ask(), ask(), ask());
    let error = results.4.unwrap_err();
    assert!(matches!(error, ForwardError::Busy { under_way: 4, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_envelope_that_was_here_before_is_not_sent() {
    let stage = Stage::new(Health::Healthy);
    let mut envelope = envelope(Consistency::Any, 9);
    envelope.path = vec![Datacenter::new("dc1").unwrap()];
    let error = stage.forward(envelope).await.unwrap_err();
    assert!(matches!(error, ForwardError::Envelope(EnvelopeError::Loop { .. })), "{error}");
}
