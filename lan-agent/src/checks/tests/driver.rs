//! The driver: when checks run, how many at once, and what becomes of them.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, advance, sleep, timeout};

use super::{PATIENCE, Rig, Silent, definition, net::serve, roll::Roll};
use crate::{
    catalog::{Health, Text},
    checks::{
        Finding,
        driver::{CALLS_MAX, PROGRAMS_MAX},
        prober::{Find, Prepared},
    },
    definition::{CheckDefinition, Probe, Thresholds, Tls},
};

const INTERVAL: Duration = Duration::from_secs(10);

/// What all runs of a node did, and what they are to do.
#[derive(Default)]
struct Script {
    /// When each check was run.
    runs: BTreeMap<Text, Vec<Instant>>,
    present: usize,
    most: usize,
    /// How long runs take.
    lasting: Duration,
    /// What they find.
    finding: Option<Health>,
}

type Shared = Arc<Mutex<Script>>;

/// Plays its part of the script.
struct Player {
    check: Text,
    script: Shared,
}

/// Is there as long as a run.
struct Present(Shared);

impl Present {
    fn of(player: &Player) -> Self {
        let mut script = player.script.lock().unwrap();
        script.runs.entry(player.check.clone()).or_default().push(Instant::now());
        script.present += 1;
        script.most = script.most.max(script.present);
        Self(player.script.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.lock().unwrap().present -= 1;
    }
}

impl Find for Player {
    fn find(&mut self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(async {
            let _present = Present::of(self);
            let lasting = self.script.lock().unwrap().lasting;
            sleep(lasting).await;
            let finding = self.script.lock().unwrap().finding;
            let health = finding.expect("a finding is in the script");
            Finding { health, output: "played".to_owned() }
        })
    }
}

/// A node whose checks play a script.
fn playing() -> (Rig, Shared) {
    let script: Shared = Arc::default();
    script.lock().unwrap().finding = Some(Health::Passing);
    let shared = script.clone();
    let rig = Rig::preparing(Box::new(move |definition| match definition.probe {
        Probe::Ttl(_) => Prepared::Reported,
        _ => Prepared::Probe(Box::new(Player {
            check: definition.id.clone(),
            script: shared.clone(),
        })),
    }));
    (rig, script)
}

fn check(id: &str) -> CheckDefinition {
    definition(id, Probe::Udp("nowhere:1".into()))
}

fn program(id: &str) -> CheckDefinition {
    definition(id, Probe::Script { args: vec!["check".into()] })
}

/// Returns when a check was run, in seconds from a moment on.
fn runs(script: &Shared, id: &str, from: Instant) -> Vec<f64> {
    let script = script.lock().unwrap();
    let runs = script.runs.get(id).into_iter().flatten();
    runs.map(|run| run.duration_since(from).as_secs_f64()).collect()
}

/// Returns what checks say that do not say it by themselves.
fn played(rig: &Rig, id: &str) -> bool {
    rig.said(id).output == "played"
}

#[tokio::test(start_paused = true)]
async fn a_check_runs_once_every_interval_from_a_moment_within_the_first() {
    let (rig, script) = playing();
    let began = Instant::now();
    rig.start(check("c"));
    sleep(10 * INTERVAL).await;
    let runs = runs(&script, "c", began);
    assert!((0.0..10.0).contains(&runs[0]), "{runs:?}");
    for (n, run) in runs.iter().enumerate() {
        assert!((run - runs[0] - 10.0 * n as f64).abs() < 0.01, "{runs:?}");
    }
    assert_eq!(runs.len(), 10);
    assert_eq!(rig.said("c"), Finding::passing("played".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_longer_than_the_interval_is_not_joined_by_a_second_one() {
    let (rig, script) = playing();
    script.lock().unwrap().lasting = Duration::from_secs(25);
    let began = Instant::now();
    rig.start(check("c"));
    sleep(12 * INTERVAL).await;
    let runs = runs(&script, "c", began);
    // Every third beat.
    assert_eq!(runs.len(), 4);
    assert!((runs[3] - runs[0] - 90.0).abs() < 0.01, "{runs:?}");
    assert_eq!(script.lock().unwrap().most, 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_machine_was_asleep_a_check_runs_once_and_keeps_its_beat() {
    let (rig, script) = playing();
    let began = Instant::now();
    rig.start(check("c"));
    sleep(INTERVAL).await;
    advance(20 * INTERVAL + INTERVAL / 2).await;
    sleep(3 * INTERVAL).await;
    let runs = runs(&script, "c", began);
    assert!(runs[1] > 200.0 && runs.len() <= 5, "{runs:?}");
    let last = runs[runs.len() - 1];
    assert!(((last - runs[0]) % 10.0).abs() < 0.01, "{runs:?}");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_run_at_once_and_the_others_get_their_turn() {
    for (places, definition) in [(CALLS_MAX, check as fn(&str) -> _), (PROGRAMS_MAX, program)] {
        let (rig, script) = playing();
        script.lock().unwrap().lasting = INTERVAL;
        let ids: Vec<String> = (0..places + 50).map(|n| n.to_string()).collect();
        ids.iter().for_each(|id| rig.start(definition(id)));
        sleep(3 * INTERVAL).await;
        assert_eq!(script.lock().unwrap().most, places);
        assert!(ids.iter().all(|id| played(&rig, id)));
    }
}

#[tokio::test(start_paused = true)]
async fn programs_do_not_wait_for_calls() {
    let (rig, script) = playing();
    script.lock().unwrap().lasting = 100 * INTERVAL;
    (0..=CALLS_MAX).for_each(|n| rig.start(check(&n.to_string())));
    sleep(INTERVAL).await;
    script.lock().unwrap().lasting = Duration::ZERO;
    rig.start(program("p"));
    sleep(INTERVAL).await;
    assert!(played(&rig, "p"));
}

#[tokio::test(start_paused = true)]
async fn it_takes_so_many_results_in_a_row_to_change_what_a_check_says() {
    use Health::{Critical, Passing, Warning};
    let (rig, script) = playing();
    let thresholds = Thresholds { passing: 2, warning: 2, critical: 3 };
    rig.start(CheckDefinition { thresholds, ..check("c") });
    let mut said = Vec::new();
    for finding in [Passing, Critical, Critical, Critical, Passing, Passing] {
        script.lock().unwrap().finding = Some(finding);
        sleep(INTERVAL).await;
        said.push(rig.said("c").health);
    }
    assert_eq!(said, [Passing, Passing, Warning, Critical, Critical, Passing]);
}

#[tokio::test(start_paused = true)]
async fn who_registers_the_same_again_and_again_disturbs_nothing() {
    let (rig, script) = playing();
    let began = Instant::now();
    for _ in 0..50 {
        rig.start(check("c"));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(runs(&script, "c", began).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_changed_definition_takes_the_place_of_the_old_one() {
    let (rig, script) = playing();
    let began = Instant::now();
    script.lock().unwrap().lasting = 100 * INTERVAL;
    rig.start(check("c"));
    sleep(INTERVAL).await;
    script.lock().unwrap().lasting = Duration::ZERO;
    rig.start(program("c"));
    sleep(INTERVAL).await;
    assert_eq!(runs(&script, "c", began).len(), 2);
    assert_eq!(script.lock().unwrap().present, 0, "the old run was ended");
    // Also by one that nobody runs.
    rig.start(definition("c", Probe::Ttl(100 * INTERVAL)));
    sleep(5 * INTERVAL).await;
    assert_eq!(runs(&script, "c", began).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_stopped_runs_no_more_wherever_it_was() {
    let (rig, script) = playing();
    let began = Instant::now();
    script.lock().unwrap().lasting = 100 * INTERVAL;
    rig.start(check("due"));
    rig.local.deregister_check(&"due".into()).unwrap();
    // All places are taken, so that one waits.
    let ids: Vec<Text> = (0..=CALLS_MAX).map(|n| n.to_string().into()).collect();
    ids.iter().for_each(|id| rig.start(check(id)));
    sleep(INTERVAL).await;
    assert_eq!(script.lock().unwrap().present, CALLS_MAX);
    ids.iter().for_each(|id| rig.local.deregister_check(id).unwrap());
    script.lock().unwrap().lasting = Duration::ZERO;
    rig.start(check("next"));
    sleep(INTERVAL).await;
    assert!(played(&rig, "next"), "the places are free again");
    assert!(runs(&script, "due", began).is_empty());
    assert_eq!(script.lock().unwrap().runs.len(), CALLS_MAX + 1);
    assert_eq!(script.lock().unwrap().present, 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_within_the_agent_is_critical_and_the_check_goes_on() {
    let (rig, script) = playing();
    script.lock().unwrap().finding = None;
    rig.start(check("c"));
    // Only this panics, not what it shares with this test.
    sleep(INTERVAL).await;
    let said = rig.said("c");
    assert_eq!(said.health, Health::Critical);
    assert!(said.output.contains("failed within this agent"), "{}", said.output);
    script.lock().unwrap().finding = Some(Health::Passing);
    sleep(INTERVAL).await;
    assert_eq!(rig.said("c").health, Health::Passing);
}

fn script(id: &str, line: &str) -> CheckDefinition {
    let args = ["/bin/sh", "-c", line].map(Into::into).to_vec();
    let check = definition(id, Probe::Script { args });
    CheckDefinition { interval: Duration::from_secs(1), ..check }
}

#[tokio::test]
async fn a_script_is_killed_when_its_check_is_stopped() {
    let rig = Rig::new(Arc::new(Silent));
    let mut roll = Roll::new();
    let line = roll.script("exec 9>$PIPE; echo here >&9; exec sleep 1000");
    rig.start(script("c", &line));
    roll.call(1).await;
    rig.local.deregister_check(&"c".into()).unwrap();
    roll.all_gone().await;
}

#[tokio::test]
async fn an_agent_that_ends_leaves_no_script_behind() {
    let rig = Rig::new(Arc::new(Silent));
    let mut roll = Roll::new();
    let line = roll.script(
        "exec 9>$PIPE; sh -c 'echo here >&9; exec sleep 1000' & trap '' TERM
         echo here >&9; while true; do sleep 1000; done",
    );
    rig.start(script("c", &line));
    roll.call(2).await;
    rig.stop.cancel();
    timeout(PATIENCE, rig.driven).await.unwrap().unwrap();
    roll.all_gone().await;
}

#[tokio::test]
async fn what_probes_find_out_is_what_checks_say() {
    let rig = Rig::new(Arc::new(Silent));
    let server = serve(None, |_| async {}).await;
    let target = server.at().to_string().into();
    let tcp = definition("tcp", Probe::Tcp { target, use_tls: false, tls: Tls::default() });
    rig.start(CheckDefinition { interval: Duration::from_secs(1), ..tcp });
    rig.start(script("script", "echo so-so; exit 1"));
    rig.until("tcp", |said| said.health == Health::Passing).await;
    let said = rig.until("script", |said| said.health == Health::Warning).await;
    assert_eq!(said.output, "so-so\n");
}
