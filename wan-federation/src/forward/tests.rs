//! Forwarding on a paused clock: a carrier that answers, hangs or fails by script.

mod topologies;

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;
use topology::NodeName;
use uuid::Uuid;

use super::*;
use crate::{
    attempt::{CarryError, Errand, HEAR_MAX},
    demand::Demand,
    detour,
    envelope::{Consistency, EnvelopeError},
    gate::Gates,
    journey::ATTEMPTS_MAX,
    routes::Reach,
    verdict::{Degradation, Verdict},
    watch::{FAINT_MIN, QUIET_MIN},
    word::Word,
};

/// What the carrier does when a server is asked.
#[derive(Clone)]
enum Script {
    Answer,
    Slow(Duration),
    Hang,
    Fail(CarryError),
    FailLate(Duration, CarryError),
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
        errand: Errand,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, CarryError>> {
        let home = Envelope::decode(&body, deadline).unwrap().goes_home();
        assert_eq!(errand == Errand::PassOn, home || to.dc.as_str() == "dc3", "dc2 is wanted");
        self.asked.lock().unwrap().push(to.name.to_string());
        let script = self.scripts.lock().unwrap().get(to.name.as_str()).cloned();
        let name = Bytes::from(to.name.to_string());
        Box::pin(async move {
            match script.unwrap_or(Script::Answer) {
                Script::Answer => Ok(name),
                Script::Slow(time) => {
                    tokio::time::sleep(time).await;
                    Ok(name)
                }
                Script::Fail(error) => Err(error),
                Script::FailLate(time, error) => {
                    tokio::time::sleep(time).await;
                    Err(error)
                }
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
        Self::with(health, Detours::On, &[])
    }

    /// The same, and a server c1 in dc3.
    fn with_neighbour(health: Health, detours: Detours) -> Self {
        Self::with(health, detours, &["c1"])
    }

    fn with(health: Health, detours: Detours, neighbours: &[&'static str]) -> Self {
        let (dc1, dc2) = (Datacenter::new("dc1").unwrap(), Datacenter::new("dc2").unwrap());
        let mut reach = BTreeMap::new();
        let mut gates = Gates { direct: Gate::new(4), ..Gates::default() };
        let mut remotes = BTreeMap::new();
        let all = [(dc2, &["b1", "b2", "b3"][..]), (Datacenter::new("dc3").unwrap(), neighbours)];
        for (dc, names) in all {
            let server = |(place, name): (usize, &&'static str)| {
                let (sender, receiver) = watch::channel(Reach::Live);
                reach.insert(*name, sender);
                let is_leader = *name == "b2";
                Server {
                    dc: dc.clone(),
                    name: NodeName::new(*name).unwrap(),
                    addr: "127.0.0.1:8302".parse().unwrap(),
                    rtt: Some(Duration::from_millis(10 * (place as u64 + 1))),
                    word: Some(Word { leader_known: true, is_leader, ..Word::default() }),
                    reach: receiver,
                    reason: String::new(),
                    demand: Demand::new(Arc::default()),
                }
            };
            let servers = names.iter().enumerate().map(server).collect();
            let health = if dc.as_str() == "dc2" { health } else { Health::Healthy };
            let evidence = "evidence".to_owned();
            let verdict = Verdict { health, since: Duration::ZERO, evidence };
            let gates = std::mem::take(&mut gates);
            remotes.insert(dc, Remote { verdict, servers, gates });
        }
        let carrier = Arc::new(Actors::default());
        let table = Table { remotes, ..Table::default() };
        let table = Arc::new(ArcSwap::from_pointee(table));
        let forwarder = Forwarder::new(dc1, detours, Instant::now(), table, carrier.clone());
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
        self.forwarder.forward(envelope).await.map(|forwarded| forwarded.answer)
    }

    fn hear_all_of_dc2(&self, reach: Reach) {
        ["b1", "b2", "b3"].into_iter().for_each(|name| self.hear(name, reach));
    }
}

fn envelope(consistency: Consistency, seconds: u64) -> Envelope {
    Envelope {
        dc: Datacenter::new("dc2").unwrap(),
        path: Vec::new(),
        deadline: Instant::now() + Duration::from_secs(seconds),
        request: Uuid::nil(),
        read: true,
        waits: false,
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

/// Lets the servers of dc2 fall silent as they do when all die just after a request was sent.
async fn hush(stage: &Stage) {
    tokio::time::sleep(FAINT_MIN).await;
    stage.hear_all_of_dc2(Reach::Faint);
    tokio::time::sleep(QUIET_MIN - FAINT_MIN).await;
    stage.hear_all_of_dc2(Reach::Quiet);
}

#[tokio::test(start_paused = true)]
async fn a_detour_is_tried_while_the_direct_way_is_in_doubt() {
    let stage = Stage::with_neighbour(Health::Healthy, Detours::On);
    stage.script("b1", Script::Hang);
    let start = Instant::now();
    let (forwarded, ()) = tokio::join!(
        async {
            let forwarded = stage.forwarder.forward(envelope(Consistency::Any, 300)).await;
            (forwarded.unwrap(), start.elapsed())
        },
        hush(&stage),
    );
    assert_eq!((forwarded.0.answer, forwarded.1), (Bytes::from_static(b"c1"), FAINT_MIN));
    assert_eq!(forwarded.0.path.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_direct_answer_counts_when_it_comes_first_after_all() {
    let stage = Stage::with_neighbour(Health::Healthy, Detours::On);
    stage.script("b1", Script::Slow(FAINT_MIN * 3 / 2));
    stage.script("c1", Script::Hang);
    let ask = stage.forward(envelope(Consistency::Any, 300));
    let (answer, ()) = tokio::join!(ask, hush(&stage));
    assert_eq!(answer.unwrap(), "b1");
    assert_eq!(stage.asked(), ["b1", "c1"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_doubt_elsewhere_too_costs_less_than_two_seconds() {
    let neighbours = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"];
    let stage = Stage::with(Health::Healthy, Detours::On, &neighbours);
    ["b1", "b2"].into_iter().for_each(|it| stage.script(it, Script::Hang));
    // Whoever passes a request on notices as late as the one who asks.
    let lost = CarryError::Lost("missed a heartbeat".to_owned());
    let late = |it| stage.script(it, Script::FailLate(FAINT_MIN, lost.clone()));
    neighbours.into_iter().for_each(late);
    let start = Instant::now();
    let (answer, ()) = tokio::join!(
        async {
            let answer = stage.forward(envelope(Consistency::Any, 300)).await;
            (answer, start.elapsed())
        },
        hush(&stage),
    );
    let (answer, took) = answer;
    assert_eq!(answer.unwrap_err().effect(), Effect::Unknown);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(stage.asked().len(), 1 + neighbours.len());
}

#[tokio::test(start_paused = true)]
async fn a_blocking_query_takes_a_detour_only_when_its_server_fell_silent() {
    let stage = Stage::with_neighbour(Health::Healthy, Detours::On);
    stage.script("b1", Script::Hang);
    let envelope = Envelope { waits: true, ..envelope(Consistency::Any, 300) };
    let start = Instant::now();
    let (answer, ()) = tokio::join!(
        async { (stage.forward(envelope).await.unwrap(), start.elapsed()) },
        hush(&stage),
    );
    assert_eq!(answer, (Bytes::from_static(b"c1"), QUIET_MIN));
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

const USUAL: Duration = Duration::from_millis(30);

/// A stage on which dc2 has answered a hundred reads in the usual time, and b1 is slow from now on.
async fn slow_stage(by: Duration) -> Stage {
    let stage = Stage::new(Health::Healthy);
    ["b1", "b2", "b3"].into_iter().for_each(|name| stage.script(name, Script::Slow(USUAL)));
    for _ in 0..100 {
        stage.forward(envelope(Consistency::Any, 9)).await.unwrap();
    }
    stage.carrier.asked.lock().unwrap().clear();
    stage.script("b1", Script::Slow(by));
    stage
}

#[tokio::test(start_paused = true)]
async fn a_late_read_is_sent_to_a_second_server_and_the_first_answer_counts() {
    let stage = slow_stage(Duration::from_secs(5)).await;
    let start = Instant::now();
    assert_eq!(stage.forward(envelope(Consistency::Any, 9)).await.unwrap(), "b2");
    assert!(start.elapsed() <= USUAL * 2 + Duration::from_millis(2), "the usual time twice");
    assert_eq!(stage.asked(), ["b1", "b2"]);
    let barely = slow_stage(USUAL + Duration::from_millis(5)).await;
    assert_eq!(barely.forward(envelope(Consistency::Any, 9)).await.unwrap(), "b1");
    assert_eq!(barely.asked(), ["b1", "b2"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_read_whose_second_server_fails_waits_for_the_first() {
    let stage = slow_stage(USUAL * 3).await;
    stage.script("b2", Script::Fail(CarryError::NotSent("refused".into())));
    assert_eq!(stage.forward(envelope(Consistency::Any, 9)).await.unwrap(), "b1");
    assert_eq!(stage.asked(), ["b1", "b2"]);
}

#[tokio::test(start_paused = true)]
async fn writes_and_waiting_reads_are_not_sent_twice_for_being_late() {
    let stage = slow_stage(Duration::from_secs(5)).await;
    let read = envelope(Consistency::Any, 60);
    let write = Envelope { read: false, ..read.clone() };
    let waiting = Envelope { waits: true, ..read };
    for envelope in [write, waiting] {
        let start = Instant::now();
        assert_eq!(stage.forward(envelope).await.unwrap(), "b1");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
    assert_eq!(stage.asked(), ["b1", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn a_datacenter_that_is_slow_as_a_whole_is_asked_little_more_for_it() {
    let stage = slow_stage(Duration::from_secs(1)).await;
    ["b2", "b3"].into_iter().for_each(|name| stage.script(name, Script::Slow(USUAL * 40)));
    for _ in 0..200 {
        stage.forward(envelope(Consistency::Any, 9)).await.unwrap();
    }
    let asked = stage.asked().len();
    assert!((201..=240).contains(&asked), "{asked} requests for 200");
}

fn names(dcs: &[Datacenter]) -> Vec<&str> {
    dcs.iter().map(Datacenter::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_direct_path_takes_a_detour_at_once_and_says_so() {
    for health in [Health::Lost, Health::Healthy, Health::Degraded(Degradation::Unseen)] {
        let stage = Stage::with_neighbour(health, Detours::On);
        stage.hear_all_of_dc2(Reach::Quiet);
        let start = Instant::now();
        let forwarded = stage.forwarder.forward(envelope(Consistency::Leader, 9)).await.unwrap();
        assert_eq!(forwarded.answer, "c1");
        assert_eq!(names(&forwarded.path), ["dc1", "dc3", "dc2"]);
        assert!(forwarded.is_detour());
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits for who is not heard");
    }
}

#[tokio::test(start_paused = true)]
async fn a_direct_path_is_preferred() {
    let stage = Stage::with_neighbour(Health::Degraded(Degradation::Partial), Detours::On);
    stage.hear("b2", Reach::Down);
    let forwarded = stage.forwarder.forward(envelope(Consistency::Leader, 9)).await.unwrap();
    assert_eq!((forwarded.answer.as_ref(), forwarded.is_detour()), (&b"b1"[..], false));
    assert_eq!(names(&forwarded.path), ["dc1", "dc2"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_goes_on_by_a_detour() {
    let stage = Stage::with_neighbour(Health::Healthy, Detours::On);
    for name in ["b1", "b2", "b3"] {
        stage.script(name, Script::Fail(CarryError::Lost("reset".into())));
    }
    let write = Envelope { read: false, ..envelope(Consistency::Leader, 9) };
    assert_eq!(stage.forward(write).await.unwrap(), "c1");
    assert_eq!(stage.asked(), ["b2", "b1", "c1"]);
}

#[tokio::test(start_paused = true)]
async fn servers_without_a_leader_are_passed_by_once_that_is_more_than_an_election() {
    for (health, answers) in
        [(Health::Healthy, "b1"), (Health::Degraded(Degradation::Leaderless), "c1")]
    {
        let stage = Stage::with_neighbour(health, Detours::On);
        let mut table = Table::clone(&stage.forwarder.table.load());
        for server in &mut table.remotes.get_mut("dc2").unwrap().servers {
            server.word = Some(Word::default());
        }
        stage.forwarder.table.store(Arc::new(table));
        assert_eq!(stage.forward(envelope(Consistency::Leader, 9)).await.unwrap(), answers);
        assert_eq!(stage.forward(envelope(Consistency::Any, 9)).await.unwrap(), "b1");
    }
}

#[tokio::test(start_paused = true)]
async fn detours_that_are_turned_off_are_not_taken() {
    let stage = Stage::with_neighbour(Health::Lost, Detours::Off);
    let error = stage.forward(envelope(Consistency::Leader, 9)).await.unwrap_err();
    assert!(matches!(error, ForwardError::Lost { .. }), "{error}");
    let stage = Stage::with_neighbour(Health::Healthy, Detours::Off);
    stage.hear_all_of_dc2(Reach::Down);
    for name in ["b1", "b2", "b3"] {
        stage.script(name, Script::Hang);
    }
    let error = stage.forward(envelope(Consistency::Leader, 9)).await.unwrap_err();
    assert!(matches!(error, ForwardError::Unreachable { .. }), "{error}");
    assert!(!stage.forwarder.may_go_home());
    assert!(!stage.asked().contains(&"c1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_can_not_help_is_not_asked_by_every_request() {
    let stage = Stage::with_neighbour(Health::Lost, Detours::On);
    let refused =
        CarryError::Refused { code: 20, message: "lost here, too".into(), elsewhere: true };
    stage.script("c1", Script::Fail(refused));
    let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.contains("evidence; through dc3, c1: lost here, too"), "{sentence}");
    for _ in 0..100 {
        let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
        assert!(matches!(error, ForwardError::Lost { .. }), "{error}");
    }
    assert_eq!(stage.asked(), ["c1"]);
    tokio::time::advance(Duration::from_secs(5)).await;
    stage.script("c1", Script::Answer);
    assert_eq!(stage.forward(envelope(Consistency::Any, 9)).await.unwrap(), "c1");
}

#[tokio::test(start_paused = true)]
async fn detours_that_fail_are_not_taken_by_every_request() {
    let stage = Stage::with_neighbour(Health::Lost, Detours::On);
    stage.script("c1", Script::Fail(CarryError::NotSent("reset".into())));
    for _ in 0..10 * crate::breaker::FAILURES_MAX {
        let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
        assert!(matches!(error, ForwardError::Lost { .. }), "{error}");
    }
    assert_eq!(stage.asked().len(), crate::breaker::FAILURES_MAX as usize);
    let error = stage.forward(envelope(Consistency::Any, 9)).await.unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.contains("evidence; no detour: the last requests all failed"), "{sentence}");
}

#[tokio::test(start_paused = true)]
async fn a_request_for_the_own_datacenter_goes_home_by_a_detour_alone() {
    let home =
        || Envelope { dc: Datacenter::new("dc1").unwrap(), ..envelope(Consistency::Leader, 9) };
    let alone = Stage::with_neighbour(Health::Healthy, Detours::Off);
    let error = alone.forward(home()).await.unwrap_err();
    assert!(matches!(error, ForwardError::Unreachable { .. }), "{error}");
    assert!(alone.asked().is_empty());
    let stage = Stage::with(Health::Healthy, Detours::On, &[]);
    assert!(stage.forwarder.may_go_home());
    let forwarded = stage.forwarder.forward(home()).await.unwrap();
    assert_eq!(names(&forwarded.path), ["dc1", "dc2", "dc1"]);
    let refused = CarryError::Refused { code: 20, message: "no leader".into(), elsewhere: true };
    for name in ["b1", "b2", "b3"] {
        stage.script(name, Script::Fail(refused.clone()));
    }
    let error = stage.forwarder.forward(home()).await.unwrap_err();
    assert_eq!(error.effect(), Effect::None);
    assert!(!stage.forwarder.may_go_home(), "nobody is left to ask");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_beyond_a_detour_leaves_the_outcome_open() {
    let stage = Stage::with_neighbour(Health::Lost, Detours::On);
    stage.script("c1", Script::Fail(CarryError::Lost("b1: fell silent".into())));
    let error = stage.forward(envelope(Consistency::Leader, 9)).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    let sentence = error.to_string();
    assert!(sentence.contains("through dc3, c1: b1: fell silent"), "{sentence}");
}
