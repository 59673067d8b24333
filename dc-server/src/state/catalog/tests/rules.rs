//! The rules one by one, as the real Consul 1.8 has them where nothing else is said.

use std::sync::Arc;

use lan_agent::catalog::{
    Check, Deregistration, Health, Node, Registration, Removed, SERF_HEALTH, Service,
};

use super::{Part, apply};
use crate::state::{
    Applied, Op, State,
    catalog::{Fault, Host, Refusal},
};

fn node(name: &str, id: &str) -> Registration {
    let node =
        Node { name: name.into(), id: id.into(), address: "10.0.0.1".into(), ..Node::default() };
    Registration { node, ..Registration::default() }
}

fn with(
    registration: Registration,
    service: &str,
    checks: &[(&str, &str, Health)],
) -> Registration {
    let service = Service { id: service.into(), name: service.into(), ..Service::default() };
    let check = |(id, about, status): &(&str, &str, Health)| Check {
        id: (*id).into(),
        service_id: (*about).into(),
        status: *status,
        ..Check::default()
    };
    let checks = checks.iter().map(check).collect();
    let service = Some(service).filter(|service| !service.id.is_empty());
    Registration { service, checks, ..registration }
}

struct Catalog {
    state: State,
    index: u64,
}

impl Catalog {
    fn new() -> Self {
        Self { state: State::default(), index: 0 }
    }

    fn register(&mut self, registration: Registration) -> Vec<Part> {
        let (applied, touched) = self.apply(Op::Register(Arc::new(registration)));
        assert_eq!(applied, Applied::Done(true));
        touched
    }

    fn refused(&mut self, registration: Registration) -> Refusal {
        let (applied, touched) = self.apply(Op::Register(Arc::new(registration)));
        let Applied::Refused(refusal) = applied else { panic!("{applied:?}") };
        assert!(touched.is_empty());
        refusal
    }

    fn deregister(&mut self, node: &str, what: Removed) -> Vec<Part> {
        let (applied, touched) =
            self.apply(Op::Deregister(Deregistration { node: node.into(), what }));
        assert_eq!(applied, Applied::Done(true));
        touched
    }

    fn apply(&mut self, op: Op) -> (Applied, Vec<Part>) {
        self.index += 10;
        apply(&mut self.state, self.index, &op)
    }

    fn host(&self, name: &str) -> Option<&Host> {
        self.state.catalog().host(&name.into())
    }

    fn services_on(&self, name: &str) -> Vec<String> {
        let host = self.host(name).unwrap();
        host.instances().map(|instance| instance.service().value.id.to_string()).collect()
    }

    fn index_of(&self, part: Part) -> u64 {
        self.state.catalog().index_of(&part)
    }
}

const ALIVE: (&str, &str, Health) = (SERF_HEALTH, "", Health::Passing);
const DEAD: (&str, &str, Health) = (SERF_HEALTH, "", Health::Critical);

#[test]
fn what_is_registered_again_as_it_is_changes_nothing() {
    let mut catalog = Catalog::new();
    let web = with(node("a", ""), "web", &[ALIVE, ("k", "web", Health::Warning)]);
    catalog.register(web.clone());
    let before = catalog.state.catalog().clone();
    assert_eq!(catalog.register(web), []);
    assert_eq!(catalog.state.catalog(), &before);
}

#[test]
fn a_registration_of_one_service_does_not_wake_the_watchers_of_another() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "db", &[]));
    let touched = catalog.register(with(node("b", ""), "web", &[("k", "web", Health::Passing)]));
    let web = || "web".into();
    for part in [Part::Service(web()), Part::Health(web()), Part::ServiceChecks(web())] {
        assert!(touched.contains(&part) && catalog.index_of(part) == 20);
    }
    for part in [Part::Service("db".into()), Part::Health("db".into()), Part::Node("a".into())] {
        assert!(!touched.contains(&part) && catalog.index_of(part) == 10);
    }
}

#[test]
fn another_instance_does_not_wake_the_watchers_of_the_names() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[]));
    assert!(!catalog.register(with(node("b", ""), "web", &[])).contains(&Part::Names));
    assert!(!catalog.deregister("a", Removed::Node).contains(&Part::Names));
    assert!(catalog.deregister("b", Removed::Node).contains(&Part::Names));
}

#[test]
fn a_check_wakes_the_watchers_of_its_service_and_one_of_a_node_those_of_all_on_it() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[ALIVE, ("k", "web", Health::Passing)]));
    catalog.register(with(node("a", ""), "db", &[]));
    let health = |service: &str| Part::Health(service.into());
    let touched = catalog.register(with(node("a", ""), "", &[("k", "web", Health::Critical)]));
    assert!(touched.contains(&health("web")) && !touched.contains(&health("db")));
    assert!(!touched.contains(&Part::Service("web".into())), "it does not show checks");
    assert!(!touched.contains(&Part::Checks(Some(Health::Warning))));
    let touched = catalog.register(with(node("a", ""), "", &[DEAD]));
    assert!(touched.contains(&health("web")) && touched.contains(&health("db")));
    assert!(!touched.contains(&Part::ServiceChecks("web".into())));
}

#[test]
fn a_changed_node_wakes_the_watchers_of_its_services() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[]));
    let mut moved = node("a", "");
    moved.node.address = "10.0.0.2".into();
    assert!(catalog.register(moved.clone()).contains(&Part::Service("web".into())));
    let skipped = Registration { skip_node_update: true, ..node("a", "") };
    assert_eq!(catalog.register(skipped), []);
    assert_eq!(catalog.host("a").unwrap().node().value, moved.node);
}

#[test]
fn what_is_gone_has_the_index_of_its_going() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[ALIVE]));
    catalog.register(with(node("b", ""), "web", &[]));
    catalog.deregister("a", Removed::Node);
    assert_eq!(catalog.index_of(Part::Service("web".into())), 30);
    assert_eq!(catalog.index_of(Part::Service("none".into())), 0);
    catalog.deregister("b", Removed::Service("web".into()));
    catalog.register(with(node("b", ""), "db", &[]));
    assert_eq!(catalog.index_of(Part::Service("web".into())), 40);
    assert_eq!(catalog.index_of(Part::NodeChecks("a".into())), 30);
}

#[test]
fn a_node_goes_with_its_services_and_a_service_with_its_checks() {
    let mut catalog = Catalog::new();
    let checks = [ALIVE, ("k", "WEB", Health::Critical), ("db", "", Health::Warning)];
    catalog.register(with(node("A", ""), "web", &checks));
    catalog.deregister("a", Removed::Service("Web".into()));
    let ids = |catalog: &Catalog| -> Vec<_> {
        catalog.host("a").unwrap().checks().map(|check| check.value.id.to_string()).collect()
    };
    assert_eq!(ids(&catalog), ["db", SERF_HEALTH]);
    catalog.deregister("a", Removed::Check("DB".into()));
    assert_eq!(ids(&catalog), [SERF_HEALTH]);
    catalog.deregister("a", Removed::Node);
    assert!(catalog.state.catalog().is_empty());
    for what in [Removed::Node, Removed::Service("x".into()), Removed::Check("x".into())] {
        assert_eq!(catalog.deregister("a", what), []);
    }
}

#[test]
fn a_check_shows_the_name_of_its_service_whatever_it_was_registered_with() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[("k", "web", Health::Passing)]));
    let name = |catalog: &Catalog| {
        let check = catalog.host("a").unwrap().check("k").unwrap().clone();
        (check.value.service_name.to_string(), check.create_index, check.modify_index)
    };
    assert_eq!(name(&catalog), ("web".to_owned(), 10, 10));
    // Unlike in Consul, which leaves the check at the old name until it is registered again.
    let mut renamed = with(node("a", ""), "web", &[]);
    renamed.service.as_mut().unwrap().name = "www".into();
    let touched = catalog.register(renamed);
    assert_eq!(name(&catalog), ("www".to_owned(), 10, 20));
    for service in ["web", "www"] {
        assert!(touched.contains(&Part::ServiceChecks(service.into())));
    }
}

#[test]
fn a_check_of_an_unknown_service_is_refused_with_all_that_came_with_it() {
    let mut catalog = Catalog::new();
    let refusal = catalog.refused(with(node("a", ""), "web", &[("k", "db", Health::Passing)]));
    assert_eq!(refusal.fault, Fault::Catalog);
    assert!(refusal.sentence.starts_with("Missing service registration"), "{refusal:?}");
    assert!(catalog.state.catalog().is_empty());
}

#[test]
fn what_lacks_a_name_is_refused() {
    let mut catalog = Catalog::new();
    let nameless = Service { id: "web".into(), ..Service::default() };
    for registration in [
        node("", ""),
        Registration { service: Some(nameless), ..node("a", "") },
        with(node("a", ""), "", &[("", "", Health::Passing)]),
    ] {
        assert_eq!(catalog.refused(registration).fault, Fault::Registration);
    }
}

#[test]
fn a_node_is_known_by_its_id_and_leaves_what_it_had_under_its_old_name() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", "0a"), "web", &[ALIVE]));
    catalog.register(with(node("b", "0A"), "db", &[]));
    assert!(catalog.host("a").is_none());
    let host = catalog.host("b").unwrap();
    assert_eq!((host.node().create_index, host.node().modify_index), (10, 20));
    assert_eq!(catalog.services_on("b"), ["db"]);
    assert_eq!(host.checks().count(), 0);
}

#[test]
fn only_the_capitals_of_a_name_change_and_nothing_else() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", "0a"), "web", &[]));
    catalog.register(node("A", "0a"));
    assert_eq!(catalog.services_on("a"), ["web"]);
    assert_eq!(&*catalog.host("a").unwrap().node().value.name, "A");
}

#[test]
fn the_name_of_a_living_node_is_not_given_to_another() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", "0a"), "web", &[ALIVE]));
    catalog.register(with(node("b", "0b"), "db", &[]));
    for id in ["0b", "0c"] {
        let refusal = catalog.refused(node("A", id));
        assert_eq!(refusal.fault, Fault::Catalog);
        assert!(refusal.sentence.contains("0a") && refusal.sentence.contains("alive"));
    }
    // Without a change of the node itself nobody takes a name.
    catalog.register(Registration { skip_node_update: true, ..node("a", "0c") });
    assert_eq!(&*catalog.host("a").unwrap().node().value.id, "0a");
}

#[test]
fn a_dead_node_gives_its_name_up_with_what_runs_there() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", "0a"), "web", &[DEAD]));
    catalog.register(with(node("b", "0b"), "db", &[]));
    catalog.register(node("a", "0c"));
    assert_eq!(catalog.host("a").unwrap().node().create_index, 10);
    catalog.register(node("a", "0b"));
    assert!(catalog.host("b").is_none());
    assert_eq!(catalog.host("a").unwrap().node().create_index, 20);
    assert_eq!(catalog.services_on("a"), ["web"]);
}

#[test]
fn an_id_is_added_to_a_node_without_one_but_not_by_a_node_that_has_another_name() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[ALIVE]));
    catalog.register(node("b", "0b"));
    catalog.refused(node("a", "0b"));
    catalog.register(node("a", "0a"));
    assert_eq!(catalog.services_on("a"), ["web"]);
}

#[test]
fn a_node_is_found_by_the_start_of_its_id_if_no_other_has_it() {
    let mut catalog = Catalog::new();
    catalog.register(node("a", "0a11"));
    catalog.register(node("b", "0A22"));
    let by_id = |id: &str| {
        let host = catalog.state.catalog().host_by_id(&id.into());
        host.map(|host| host.node().value.name.to_string())
    };
    assert_eq!(by_id("0a"), None);
    assert_eq!(by_id("0A2").as_deref(), Some("b"));
    assert_eq!(by_id("0b"), None);
}

#[test]
fn texts_that_many_instances_have_are_kept_once() {
    let mut catalog = Catalog::new();
    for name in ["a", "b"] {
        let mut registration = with(node(name, ""), "web", &[]);
        registration.service.as_mut().unwrap().tags = vec!["primary".into()];
        catalog.register(registration);
    }
    let instances: Vec<_> = catalog.state.catalog().instances(&"web".into()).collect();
    let [(_, first), (_, second)] = &instances[..] else { panic!("two instances") };
    let (first, second) = (&first.service().value, &second.service().value);
    assert!(Arc::ptr_eq(&first.name, &second.name));
    assert!(Arc::ptr_eq(&first.tags[0], &second.tags[0]));
}

#[test]
fn what_is_on_a_node_is_not_restored_without_the_node() {
    let mut catalog = Catalog::new();
    catalog.register(with(node("a", ""), "web", &[ALIVE]));
    let catalog = catalog.state.catalog();
    let (_, service) = catalog.services_after(None).next().unwrap();
    let service = rmp_serde::to_vec_named(&service).unwrap();
    let (_, check) = catalog.checks_after(None).next().unwrap();
    let check = rmp_serde::to_vec_named(&check).unwrap();
    let mut empty = crate::state::catalog::Catalog::default();
    let orphan = empty.restore_service(rmp_serde::from_slice(&service).unwrap()).unwrap_err();
    assert_eq!(orphan.to_string(), "it has something on node \"a\", but not the node");
    assert!(empty.restore_check(rmp_serde::from_slice(&check).unwrap()).is_err());
}
