//! The catalog ends up saying what the node says, whatever happened on the way.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::{
    catalog::Health,
    definition::{CheckDefinition, Probe, Thresholds},
    local::state::Source,
};

/// What the servers hold of one node, by the rules that matter here.
#[derive(Debug, Default)]
struct Servers {
    node: Option<Node>,
    services: BTreeMap<Text, Service>,
    checks: BTreeMap<Text, Check>,
}

impl Servers {
    fn take(&mut self, question: &Question) {
        match question {
            Question::Register(it) => {
                if self.node.is_none() || !it.skip_node_update {
                    self.node = Some(it.node.clone());
                }
                let service =
                    it.service.iter().map(|service| (service.id.clone(), service.clone()));
                self.services.extend(service);
                self.checks.extend(it.checks.iter().map(|check| (check.id.clone(), check.clone())));
            }
            Question::Deregister(it) => match &it.what {
                Removed::Node => *self = Self::default(),
                Removed::Service(id) => {
                    self.services.remove(id);
                    self.checks.retain(|_, check| check.service_id != *id);
                }
                Removed::Check(id) => {
                    self.checks.remove(id);
                }
            },
            other => panic!("{other:?}"),
        }
    }

    fn inventory(&self) -> Option<Inventory> {
        let services = self.services.values().cloned().map(Arc::new).collect();
        Some(Inventory { node: Arc::new(self.node.clone()?), services })
    }

    fn checks(&self) -> Vec<Check> {
        self.checks.values().cloned().collect()
    }
}

fn me() -> Node {
    Node { name: "n1".into(), address: "10.0.0.1".into(), ..Node::default() }
}

fn service(id: &str, port: u16) -> Service {
    Service { id: id.into(), name: "web".into(), port, ..Service::default() }
}

fn check(id: &str, service: &str) -> CheckDefinition {
    CheckDefinition {
        id: id.into(),
        name: id.into(),
        notes: Text::default(),
        service_id: service.into(),
        status: Health::Critical,
        probe: Probe::Udp("a:1".into()),
        interval: Duration::from_secs(10),
        timeout: Duration::ZERO,
        thresholds: Thresholds::default(),
        deregister_after: Duration::ZERO,
        output_len_max: 0,
    }
}

fn state(output_delay: Duration) -> State {
    State::new(me(), output_delay)
}

fn tell(state: &mut State, servers: &mut Servers) -> usize {
    let changes = plan(state);
    for change in &changes {
        servers.take(&change.question);
        settle(state, change);
    }
    changes.len()
}

#[test]
fn a_service_goes_with_its_checks_in_one_registration() {
    let mut state = state(Duration::ZERO);
    let mut servers = Servers::default();
    state.register_service(service("a", 1), Source::Api);
    for id in ["c1", "c2"] {
        state.register_check(check(id, "a"), Source::Api, None, Instant::now()).unwrap();
    }
    assert_eq!(tell(&mut state, &mut servers), 1);
    assert_eq!(tell(&mut state, &mut servers), 0);
    assert_eq!(servers.checks.len(), 2);
    assert_eq!(&*servers.checks["c1"].service_name, "web");
}

#[test]
fn a_node_without_services_is_told_all_the_same() {
    let mut servers = Servers::default();
    assert_eq!(tell(&mut state(Duration::ZERO), &mut servers), 1);
    assert_eq!(servers.node, Some(me()));
}

#[test]
fn a_node_that_is_described_anew_while_it_is_told_is_told_again() {
    let mut state = state(Duration::ZERO);
    let changes = plan(&state);
    let meta = BTreeMap::from([("rack".into(), "7".into())]);
    assert!(state.describe(meta.clone()) && !state.describe(meta.clone()));
    settle(&mut state, &changes[0]);
    let mut servers = Servers::default();
    assert_eq!(tell(&mut state, &mut servers), 1);
    assert_eq!(servers.node, Some(Node { meta, ..me() }));
    assert_eq!(tell(&mut state, &mut servers), 0);
}

#[test]
fn what_changed_while_it_was_told_is_told_again() {
    let mut state = state(Duration::ZERO);
    state.register_service(service("a", 1), Source::Api);
    let changes = plan(&state);
    state.register_service(service("a", 2), Source::Api);
    changes.iter().for_each(|change| settle(&mut state, change));
    let mut servers = Servers::default();
    assert_eq!(tell(&mut state, &mut servers), 1);
    assert_eq!(servers.services["a"].port, 2);
}

#[test]
fn an_output_alone_waits_and_a_status_does_not() {
    let delay = Duration::from_secs(300);
    let mut state = state(delay);
    let mut servers = Servers::default();
    let now = Instant::now();
    state.register_check(check("c", ""), Source::Api, None, now).unwrap();
    state.report(&"c".into(), Health::Passing, "1", now).unwrap();
    assert_eq!(tell(&mut state, &mut servers), 1);
    state.report(&"c".into(), Health::Passing, "2", now).unwrap();
    assert_eq!(tell(&mut state, &mut servers), 0);
    // Nor does a comparison take it for a difference.
    compare(&mut state, servers.inventory().as_ref(), &servers.checks());
    assert_eq!(tell(&mut state, &mut servers), 0);
    assert_eq!(state.next_tick(), Some(now + delay));
    state.tick(now + delay);
    assert_eq!(tell(&mut state, &mut servers), 1);
    assert_eq!(&*servers.checks["c"].output, "2");
    state.report(&"c".into(), Health::Warning, "2", now).unwrap();
    assert_eq!(tell(&mut state, &mut servers), 1);
}

#[test]
fn tags_that_others_set_stay_where_the_service_allows_it() {
    let mut state = state(Duration::ZERO);
    let mut servers = Servers::default();
    for (id, allows) in [("a", true), ("b", false)] {
        let it = Service { enable_tag_override: allows, ..service(id, 1) };
        state.register_service(it, Source::Api);
    }
    tell(&mut state, &mut servers);
    for id in ["a", "b"] {
        servers.services.get_mut(id).unwrap().tags = vec!["theirs".into()];
    }
    compare(&mut state, servers.inventory().as_ref(), &servers.checks());
    assert_eq!(tell(&mut state, &mut servers), 1);
    assert_eq!(servers.services["a"].tags, ["theirs".into()] as [Text; 1]);
    assert!(servers.services["b"].tags.is_empty());
}

#[test]
fn what_belongs_to_the_leader_is_left_alone() {
    let mut state = state(Duration::ZERO);
    let mut servers = Servers { node: Some(me()), ..Servers::default() };
    servers.services.insert(SERVERS.into(), service(SERVERS, 8300));
    let serf = Check { id: SERF_HEALTH.into(), ..Check::default() };
    servers.checks.insert(SERF_HEALTH.into(), serf);
    compare(&mut state, servers.inventory().as_ref(), &servers.checks());
    assert_eq!(tell(&mut state, &mut servers), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Register(u8, u16),
    RegisterCheck(u8, u8),
    Deregister(u8),
    DeregisterCheck(u8),
    Report(u8, u8),
    Maintain(u8, bool),
    /// Some of what is planned arrives; of that, some answers are lost.
    Tell(u8, u8),
    Compare,
    /// Somebody changes the catalog by hand.
    Vandalise(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8, 0..3u16).prop_map(|(id, port)| Step::Register(id, port)),
        (0..5u8, 0..5u8).prop_map(|(id, service)| Step::RegisterCheck(id, service)),
        (0..4u8).prop_map(Step::Deregister),
        (0..5u8).prop_map(Step::DeregisterCheck),
        (0..5u8, 0..3u8).prop_map(|(id, status)| Step::Report(id, status)),
        (0..5u8, any::<bool>()).prop_map(|(id, enable)| Step::Maintain(id, enable)),
        (any::<u8>(), any::<u8>()).prop_map(|(arrive, answered)| Step::Tell(arrive, answered)),
        Just(Step::Compare),
        (0..8u8).prop_map(Step::Vandalise),
    ];
    prop::collection::vec(step, 0..40)
}

fn text(prefix: &str, number: u8) -> Text {
    format!("{prefix}{number}").into()
}

fn take(step: Step, state: &mut State, servers: &mut Servers) {
    let now = Instant::now();
    match step {
        Step::Register(id, port) => {
            state.register_service(service(&text("s", id), port), Source::Api);
        }
        Step::RegisterCheck(id, owner) => {
            // 4 is the node itself; a service that is not there is refused.
            let owner = if owner == 4 { Text::default() } else { text("s", owner) };
            let _ = state.register_check(check(&text("c", id), &owner), Source::Api, None, now);
        }
        Step::Deregister(id) => drop(state.deregister_service(&text("s", id))),
        Step::DeregisterCheck(id) => drop(state.deregister_check(&text("c", id))),
        Step::Report(id, status) => {
            let status = [Health::Passing, Health::Warning, Health::Critical][usize::from(status)];
            drop(state.report(&text("c", id), status, "out", now));
        }
        Step::Maintain(4, enable) => drop(state.maintain(None, enable, "")),
        Step::Maintain(id, enable) => drop(state.maintain(Some(&text("s", id)), enable, "why")),
        Step::Tell(arrive, answered) => {
            for (position, change) in plan(state).iter().enumerate() {
                let bit = 1 << (position % 8);
                if arrive & bit != 0 {
                    servers.take(&change.question);
                    if answered & bit != 0 {
                        settle(state, change);
                    }
                }
            }
        }
        Step::Compare => compare(state, servers.inventory().as_ref(), &servers.checks()),
        Step::Vandalise(what) => match what {
            0 => *servers = Servers::default(),
            1 => {
                servers.services.clear();
                servers.checks.retain(|_, check| check.service_id.is_empty());
            }
            2 => servers.checks.clear(),
            3 => servers.node = Some(Node { name: "n1".into(), ..Node::default() }),
            4 => {
                servers.node.get_or_insert_with(me);
                servers.services.insert("alien".into(), service("alien", 9));
            }
            5 => {
                let alien = Check { id: "alien".into(), ..Check::default() };
                servers.node.get_or_insert_with(me);
                servers.checks.insert("alien".into(), alien);
            }
            6 => servers.services.values_mut().for_each(|it| it.port = 99),
            _ => servers.checks.values_mut().for_each(|it| it.status = Health::Passing),
        },
    }
}

proptest! {
    #[test]
    fn the_catalog_converges_to_what_the_node_says(steps in steps()) {
        let mut state = state(Duration::ZERO);
        let mut servers = Servers::default();
        for step in steps {
            take(step, &mut state, &mut servers);
        }
        compare(&mut state, servers.inventory().as_ref(), &servers.checks());
        tell(&mut state, &mut servers);
        prop_assert_eq!(tell(&mut state, &mut servers), 0);
        let services: Vec<_> = state.services().map(|it| it.service.clone()).collect();
        prop_assert_eq!(servers.services.values().cloned().collect::<Vec<_>>(), services);
        let checks: Vec<_> = state.checks().map(|it| it.check.clone()).collect();
        prop_assert_eq!(servers.checks(), checks);
        prop_assert_eq!(servers.node, Some(me()));
    }
}
