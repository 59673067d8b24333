//! Registering, reporting, restarting: what stays and what goes.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::definition::{self, OUTPUT_LEN_MAX};

/// Remembers which checks run.
#[derive(Default)]
struct Probes(Mutex<Vec<Text>>);

impl Prober for Probes {
    fn start(&self, check: &CheckDefinition) {
        let mut running = self.0.lock().unwrap();
        running.retain(|id| *id != check.id);
        running.push(check.id.clone());
    }

    fn stop(&self, id: &Text) {
        self.0.lock().unwrap().retain(|running| running != id);
    }
}

fn local(dir: Option<&std::path::Path>) -> (Local, Arc<Probes>) {
    let node = Node { name: "n1".into(), ..Node::default() };
    let config = Config {
        node,
        output_delay: Duration::ZERO,
        discard_output: false,
        output_len_max: OUTPUT_LEN_MAX,
    };
    let probes = Arc::new(Probes::default());
    (Local::new(config, dir.map(|dir| Store::open(dir).unwrap()), probes.clone()), probes)
}

fn web(checks: serde_json::Value) -> ServiceDefinition {
    definition::service(&json!({ "Name": "web", "Checks": checks })).unwrap()
}

fn running(probes: &Probes) -> Vec<Text> {
    let mut running = probes.0.lock().unwrap().clone();
    running.sort();
    running
}

#[tokio::test(start_paused = true)]
async fn checks_run_while_their_service_is_there() {
    let (local, probes) = local(None);
    local
        .register(
            web(json!([{ "TTL": "5s" }, { "CheckID": "c", "TTL": "5s" }])),
            Source::Api,
            false,
        )
        .unwrap();
    assert_eq!(running(&probes), ["c".into(), "service:web:1".into()] as [Text; 2]);
    local.register(web(json!([{ "CheckID": "c", "TTL": "5s" }])), Source::Api, true).unwrap();
    assert_eq!(running(&probes), ["c".into()] as [Text; 1]);
    local.deregister(&"web".into()).unwrap();
    assert!(running(&probes).is_empty());
    assert!(matches!(local.deregister(&"web".into()), Err(LocalError::Unknown(_))));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_does_not_come_is_critical_and_the_next_one_passes_again() {
    let (local, _) = local(None);
    let id = Text::from("service:web");
    local.register(web(json!([{ "TTL": "5s" }])), Source::Api, false).unwrap();
    local.report(&id, Health::Passing, "fine").unwrap();
    let due = local.look(State::next_tick).unwrap();
    assert_eq!(due, Instant::now() + Duration::from_secs(5));
    assert!(local.with(|state| state.tick(due)));
    assert_eq!(local.look(|state| state.health_of("web")), Health::Critical);
    let output = local.look(|state| state.check(&id).unwrap().check.output.clone());
    assert_eq!(&*output, "TTL expired (last output before timeout follows): fine");
    local.report(&id, Health::Passing, "fine").unwrap();
    assert_eq!(local.look(|state| state.health_of("web")), Health::Passing);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_registered_is_there_after_a_restart_and_checks_say_what_they_said() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (local, _) = local(Some(dir.path()));
        local.register(web(json!([{ "TTL": "5s" }])), Source::Api, false).unwrap();
        local.report(&"service:web".into(), Health::Passing, "fine").unwrap();
        let file = definition::service(&json!({ "Name": "file" })).unwrap();
        local.register(file, Source::File, false).unwrap();
    }
    let (local, probes) = local(Some(dir.path()));
    let ids: Vec<Text> =
        local.look(|state| state.services().map(|it| it.service.id.clone()).collect());
    assert_eq!(ids, ["web".into()] as [Text; 1]);
    assert_eq!(local.look(|state| state.health_of("web")), Health::Passing);
    assert_eq!(running(&probes), ["service:web".into()] as [Text; 1]);
    assert!(local.look(State::next_tick).is_some(), "it goes on expiring");
    local.deregister(&"web".into()).unwrap();
    let (local, _) = self::local(Some(dir.path()));
    assert_eq!(local.look(|state| state.services().count() + state.checks().count()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_critical_for_too_long_goes() {
    let (local, _) = local(None);
    let check = json!([{ "TTL": "5s", "DeregisterCriticalServiceAfter": "2m" }]);
    local.register(web(check), Source::Api, false).unwrap();
    let now = Instant::now();
    assert!(local.look(|state| state.overdue(now + Duration::from_secs(120))).is_empty());
    let overdue = local.look(|state| state.overdue(now + Duration::from_secs(121)));
    assert_eq!(overdue.into_iter().collect::<Vec<_>>(), ["web".into()] as [Text; 1]);
}

#[tokio::test(start_paused = true)]
async fn maintenance_is_critical_and_ends() {
    let (local, _) = local(None);
    local.register(web(json!([])), Source::Api, false).unwrap();
    let web = Text::from("web");
    local.maintain(Some(&web), true, "upgrade").unwrap();
    assert_eq!(local.look(|state| state.health_of("web")), Health::Critical);
    local.maintain(Some(&web), false, "").unwrap();
    local.maintain(None, true, "").unwrap();
    assert_eq!(local.look(|state| state.health_of("web")), Health::Critical);
    local.maintain(None, false, "").unwrap();
    assert_eq!(local.look(|state| state.health_of("web")), Health::Passing);
    assert!(local.maintain(Some(&"db".into()), true, "").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reload_removes_what_files_no_longer_name_and_nothing_else() {
    let (local, probes) = local(None);
    let named = |name: &str| {
        definition::service(&json!({ "Name": name, "Check": { "TTL": "1m" } })).unwrap()
    };
    local.register(named("api"), Source::Api, false).unwrap();
    local.reload(vec![named("a"), named("b")], Vec::new()).unwrap();
    local.reload(vec![named("b")], Vec::new()).unwrap();
    assert_eq!(running(&probes), ["service:api".into(), "service:b".into()] as [Text; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_of_the_same_puts_nothing_off_and_one_of_something_else_keeps_what_a_check_said() {
    let (local, _) = local(None);
    let with_ttl = |ttl: &str| {
        definition::service(&json!({ "Name": "web", "Check": { "TTL": ttl } })).unwrap()
    };
    let id = Text::from("service:web");
    local.reload(vec![with_ttl("5s")], Vec::new()).unwrap();
    local.report(&id, Health::Passing, "fine").unwrap();
    let due = local.look(State::next_tick);
    tokio::time::advance(Duration::from_secs(3)).await;
    local.reload(vec![with_ttl("5s")], Vec::new()).unwrap();
    assert_eq!(local.look(State::next_tick), due, "who does not report is found out all the same");
    local.reload(vec![with_ttl("9s")], Vec::new()).unwrap();
    assert_eq!(local.look(State::next_tick), Some(Instant::now() + Duration::from_secs(9)));
    assert_eq!(local.look(|state| state.health_of("web")), Health::Passing);
}

proptest! {
    #[test]
    fn health_is_the_worst_of_all_checks(statuses in prop::collection::vec(0..3usize, 0..6)) {
        let (local, _) = local(None);
        let all = [Health::Passing, Health::Warning, Health::Critical];
        let checks: Vec<_> = statuses
            .iter()
            .map(|status| json!({ "TTL": "1m", "Status": all[*status].as_str() }))
            .collect();
        local.register(web(json!(checks)), Source::Api, false).unwrap();
        let worst = statuses.iter().max().map_or(Health::Passing, |status| all[*status]);
        prop_assert_eq!(local.look(|state| state.health_of("web")), worst);
    }
}
