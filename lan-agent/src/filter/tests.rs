//! Filters: what is one and what is not, and which records they admit.

mod model;
mod texts;

use crate::catalog::{Check, Health, Node, Service, ServiceAddress, Text, Weights};

use super::{Filter, Record, Schema, ShownCheck, ShownNode};

/// An instance with its node and its checks.
#[derive(Debug)]
struct Row {
    node: Node,
    service: Service,
    checks: Vec<Check>,
}

impl Record for Row {
    fn node(&self) -> Option<ShownNode<'_>> {
        Some(ShownNode { datacenter: "dc1", node: &self.node })
    }

    fn service(&self) -> Option<&Service> {
        Some(&self.service)
    }

    fn checks(&self) -> impl Iterator<Item = ShownCheck<'_>> {
        self.checks.iter().map(|check| {
            let tags = match check.service_id == self.service.id {
                true => self.service.tags.as_slice(),
                false => &[],
            };
            ShownCheck { node: &self.node.name, check, tags }
        })
    }
}

fn row() -> Row {
    let text = |text: &str| Text::from(text);
    let lan = ServiceAddress { address: text("10.0.0.1"), port: 81 };
    Row {
        node: Node {
            name: text("n1"),
            id: text("0a0a"),
            address: text("10.0.0.1"),
            tagged_addresses: [(text("lan"), text("10.0.0.1"))].into(),
            meta: [(text("rack"), text("r1"))].into(),
        },
        service: Service {
            id: text("web-1"),
            name: text("web"),
            tags: vec![text("v1"), text("canary")],
            port: 80,
            tagged_addresses: [(text("my lan"), lan)].into(),
            meta: [(text("key with space"), text("x")), (text("no"), text(""))].into(),
            weights: Weights { passing: 5, warning: 1 },
            ..Service::default()
        },
        checks: vec![
            Check { id: text("alive"), status: Health::Passing, ..Check::default() },
            Check { id: text("ping"), service_id: text("web-1"), ..Check::default() },
        ],
    }
}

fn admits(text: &str, schema: Schema) -> bool {
    Filter::compile(text, schema).unwrap_or_else(|error| panic!("{text}: {error}")).admits(&row())
}

#[test]
fn a_filter_of_nothing_admits_everything() {
    assert!(admits("", Schema::Health));
    assert!(Filter::default().admits(&row()));
    assert!(Filter::compile(" ", Schema::Health).is_err(), "as in Consul");
}

#[test]
fn a_key_that_is_not_there_fails_every_test_but_negated_ones() {
    for (test, holds) in [
        ("== x", false),
        ("!= x", true),
        ("contains x", false),
        ("not contains x", true),
        ("matches x", false),
        ("not matches x", true),
    ] {
        assert_eq!(admits(&format!("Meta.none {test}"), Schema::Services), holds, "{test}");
        let address = format!("TaggedAddresses.none.Address {test}");
        assert_eq!(admits(&address, Schema::Services), holds, "{test}");
    }
    assert!(!admits("TaggedAddresses.none.Port == 0", Schema::Services));
    assert!(admits("Meta.no == \"\"", Schema::Services), "it is there, and empty");
}

#[test]
fn a_list_of_records_is_tested_one_by_one() {
    assert!(admits("Checks.Status == passing and Checks.Status == critical", Schema::Health));
    assert!(admits("Checks.Status != passing", Schema::Health));
    assert!(!admits("not Checks.Status != passing", Schema::Health));
    assert!(admits("Checks.ServiceTags is empty", Schema::Health));
    assert!(admits("Checks.ServiceTags contains canary", Schema::Health));
    let none = Row { checks: Vec::new(), ..row() };
    for (text, holds) in [("Checks is empty", true), ("Checks.Status != x", false)] {
        let filter = Filter::compile(text, Schema::Health).unwrap();
        assert_eq!(filter.admits(&none), holds, "{text}");
    }
}

#[test]
fn there_is_no_mesh_and_its_fields_are_empty() {
    for (text, holds) in [
        ("Proxy.DestinationServiceName == \"\"", true),
        ("Proxy.LocalServicePort != 0", false),
        ("Connect.Native == false", true),
        ("Proxy.Upstreams is empty", true),
        ("Proxy.Upstreams.DestinationName != x", false),
        ("Proxy.Expose.Paths.Path matches \".*\"", false),
    ] {
        assert_eq!(admits(text, Schema::Services), holds, "{text}");
        assert_eq!(admits(&format!("Service{text}"), Schema::ServiceNodes), holds, "{text}");
        assert_eq!(admits(&format!("Service.{text}"), Schema::Health), holds, "{text}");
    }
}

#[test]
fn a_record_without_what_is_asked_for_passes_no_test_of_it() {
    let filter = Filter::compile("Node == n1", Schema::Nodes).unwrap();
    assert!(!filter.admits(&row().service));
    let filter = Filter::compile("Node == n1", Schema::Checks).unwrap();
    assert!(!filter.admits(&row().service));
}
