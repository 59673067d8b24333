//! The endpoints of the catalog: what is asked, what is refused, and what answers carry.

use std::sync::Arc;

use axum::http::HeaderName;

use super::{
    fake::{Fake, Rig, found},
    meta,
};
use crate::{
    ask::{Answer, AskError, Question},
    catalog::{
        Check, Deregistration, Form, Health, Lookup, Node, Registration, Removed, Selection,
        Service, ServiceAddress, Subject, Weights,
    },
};

fn answering(body: &str) -> Rig {
    Rig::start(Fake::answering(found(meta(7), body)))
}

fn lookup(subject: Subject) -> Question {
    Question::Lookup(Lookup { subject, selection: Selection::default(), form: Form::Json })
}

#[tokio::test]
async fn paths_say_what_is_looked_up() {
    let rig = answering("[]");
    let health = |service: &str, passing| Subject::Health { service: service.into(), passing };
    for (path, subject) in [
        ("catalog/nodes", Subject::Nodes),
        ("catalog/node/n1", Subject::Node("n1".into())),
        ("catalog/node-services/n1", Subject::NodeServices("n1".into())),
        ("catalog/services", Subject::Services),
        ("catalog/service/a%2Fb", Subject::Service("a/b".into())),
        ("catalog/connect/web", Subject::Service("".into())),
        ("health/node/n1", Subject::NodeChecks("n1".into())),
        ("health/checks/web", Subject::ServiceChecks("web".into())),
        ("health/state/any", Subject::State(None)),
        ("health/state/critical", Subject::State(Some(Health::Critical))),
        ("health/state/bogus", Subject::ServiceChecks("".into())),
        ("health/service/web", health("web", false)),
        ("health/service/web?passing", health("web", true)),
        ("health/service/web?passing=T", health("web", true)),
        ("health/service/web?passing=0", health("web", false)),
        ("health/connect/web?passing=1", health("", true)),
    ] {
        let got = rig.client.get(&format!("/v1/{path}")).await;
        assert_eq!((got.status, got.body.as_str()), (200, "[]"), "{path}");
        assert_eq!(got.header("x-consul-index"), "7", "{path}");
        assert_eq!(got.header("content-type"), "application/json", "{path}");
        assert_eq!(rig.fake.last().question, lookup(subject), "{path}");
    }
}

#[tokio::test]
async fn parameters_say_which_records() {
    let rig = answering("[]");
    let path = "/v1/health/service/web?node-meta=rack:r1&node-meta=zone:a:b&node-meta=alone\
                &tag=V1&tag=x%20y&near=_agent&filter=Node.ID+%3D%3D+a&filter=x&ns=team&dc=dc2&index=5&wait=3s&stale";
    rig.client.get(path).await;
    let ask = rig.fake.last();
    let selection = Selection {
        node_meta: [("rack", "r1"), ("zone", "a:b"), ("alone", "")]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        tags: vec!["V1".into(), "x y".into()],
        filter: "Node.ID == a".into(),
        near: "n1".into(),
        wan: false,
        ..Selection::default()
    };
    let subject = Subject::Health { service: "web".into(), passing: false };
    assert_eq!(ask.question, Question::Lookup(Lookup { subject, selection, form: Form::Json }));
    assert_eq!(ask.blocking.map(|blocking| blocking.index), Some(5));
    assert_eq!(ask.dc.unwrap().as_str(), "dc2");
    rig.client.get("/v1/catalog/services?filter=x").await;
    assert_eq!(rig.fake.last().question, lookup(Subject::Services));
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_does_not_leave_a_client_agent() {
    let rig = answering("[]");
    for (path, schema) in [
        ("catalog/nodes", "there are ID, Node, "),
        ("catalog/node/n1", "there are Service, Kind, "),
        ("catalog/node-services/n1", "there are Service, Kind, "),
        ("catalog/service/web", "there are ID, Node, "),
        ("catalog/connect/web", "there are ID, Node, "),
        ("health/node/n1", "there are Node, CheckID, "),
        ("health/checks/web", "there are Node, CheckID, "),
        ("health/state/any", "there are Node, CheckID, "),
        ("health/service/web", "there are Node.ID, "),
        ("health/connect/web", "there are Node.ID, "),
    ] {
        let got = rig.client.get(&format!("/v1/{path}?filter=Zork==1&index=7&wait=5m")).await;
        let text =
            "Failed to create boolean expression evaluator: Selector \"Zork\" is not valid: ";
        assert_eq!(got.status, 400, "{path}");
        assert!(got.body.starts_with(&format!("{text}{schema}")), "{path}: {}", got.body);
    }
    assert_eq!(rig.fake.count(), 0);
    assert_eq!(rig.client.get("/v1/catalog/services?filter=Zork==1").await.status, 200);
    assert_eq!(rig.client.get("/v1/catalog/nodes?filter=Node==a").await.status, 200);
}

#[tokio::test]
async fn a_path_without_a_name_is_refused_and_one_without_its_slash_has_moved() {
    let rig = answering("[]");
    for (path, missing) in [
        ("catalog/node", "Missing node name"),
        ("catalog/node-services", "Missing node name"),
        ("catalog/service", "Missing service name"),
        ("catalog/connect", "Missing service name"),
        ("health/node", "Missing node name"),
        ("health/checks", "Missing service name"),
        ("health/state", "Missing check state"),
        ("health/service", "Missing service name"),
        ("health/connect", "Missing service name"),
    ] {
        let got = rig.client.get(&format!("/v1/{path}/")).await;
        assert_eq!((got.status, got.body.as_str()), (400, missing), "{path}");
        let got = rig.client.get(&format!("/v1/{path}?passing")).await;
        let there = format!("/v1/{path}/?passing");
        assert_eq!((got.status, got.header("location")), (301, there.as_str()));
    }
    let got = rig.client.get("/v1/health/service/web?passing=maybe").await;
    assert_eq!((got.status, got.body.as_str()), (400, "Invalid value for ?passing"));
    assert_eq!(rig.fake.count(), 0);
}

#[tokio::test]
async fn who_wishes_the_cache_would_answer_is_told_that_it_did_not() {
    let rig = answering("[]");
    for path in ["catalog/services", "catalog/service/a", "health/service/a", "health/connect/a"] {
        let got = rig.client.get(&format!("/v1/{path}?cached")).await;
        assert_eq!(got.header("x-cache"), "MISS", "{path}");
        let got = rig.client.get(&format!("/v1/{path}")).await;
        assert!(!got.headers.contains_key(HeaderName::from_static("x-cache")), "{path}");
    }
    assert_eq!(rig.client.get("/v1/catalog/datacenters?cached").await.header("x-cache"), "MISS");
    let asked = rig.fake.count();
    for path in ["health/service/a", "catalog/nodes", "kv/a"] {
        let got = rig.client.get(&format!("/v1/{path}?cached&consistent")).await;
        let text = "Cannot specify ?cached with ?consistent, conflicting semantics.";
        assert_eq!((got.status, got.body.as_str()), (400, text), "{path}");
    }
    assert_eq!(rig.fake.count(), asked);
}

#[tokio::test]
async fn a_registration_is_read_in_any_spelling() {
    let rig = answering("true");
    let node = Node {
        name: "n1".into(),
        id: "0a0a0a0a-0000-4000-8000-000000000000".into(),
        address: "10.0.0.1".into(),
        tagged_addresses: [("Lan".into(), "10.0.0.1".into())].into(),
        meta: [("Some_Key".into(), "v".into())].into(),
    };
    let wan = ServiceAddress { address: "1.2.3.4".into(), port: 81 };
    let service = Service {
        id: "web".into(),
        name: "web".into(),
        tagged_addresses: [("wan".into(), wan)].into(),
        port: 80,
        weights: Weights { passing: 5, warning: 0 },
        enable_tag_override: true,
        ..Service::default()
    };
    let check = Check {
        id: "ping".into(),
        name: "ping".into(),
        status: Health::Passing,
        service_id: "web".into(),
        kind: "http".into(),
        definition: r#"{"Interval":"1m0s","HTTP":"http://x/?a=1\u0026b"}"#.into(),
        ..Check::default()
    };
    let disk = Check { id: "disk".into(), ..Check::default() };
    let expected = Registration {
        node,
        skip_node_update: true,
        service: Some(service),
        checks: vec![disk, check],
    };
    for body in [
        r#"{"Node":"n1","ID":"0a0a0a0a-0000-4000-8000-000000000000","Address":"10.0.0.1",
            "TaggedAddresses":{"Lan":"10.0.0.1"},"NodeMeta":{"Some_Key":"v"},"SkipNodeUpdate":true,
            "Service":{"Service":"web","TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":81}},
                "Port":80,"Weights":{"Passing":5},"EnableTagOverride":true,"Proxy":{},"Invented":1},
            "Check":{"Name":"ping","Status":"passing","ServiceID":"web","ServiceName":"liar",
                "Definition":{"HTTP":"http://x/?a=1&b","Interval":"60s"}},
            "Checks":[{"CheckID":"disk","Node":"n1"}],"Partition":"default","Invented":null}"#,
        r#"{"node":"n1","id":"0a0a0a0a-0000-4000-8000-000000000000","address":"10.0.0.1",
            "tagged_addresses":{"Lan":"10.0.0.1"},"node_meta":{"Some_Key":"v"},"skip_node_update":true,
            "service":{"id":"web","service":"web","port":80,"weights":{"passing":5,"warning":0},
                "tagged_addresses":{"wan":{"address":"1.2.3.4","port":81}},"enable_tag_override":true},
            "check":{"name":"ping","status":"passing","service_id":"web","type":"http",
                "definition":{"http":"http://x/?a=1&b","interval":60000000000}},
            "checks":[{"check_id":"disk"}]}"#,
    ] {
        let got = rig.client.send("PUT", "/v1/catalog/register", &[], body).await;
        assert_eq!((got.status, got.body.as_str()), (200, "true"));
        assert!(!got.headers.contains_key("x-consul-index"));
        assert_eq!(rig.fake.last().question, Question::Register(Arc::new(expected.clone())));
    }
}

#[tokio::test]
async fn the_datacenter_of_a_write_is_that_of_its_body_before_that_of_its_parameters() {
    let rig = answering("true");
    let node = r#""Node":"n1","Address":"10.0.0.1""#;
    for (path, body, dc) in [
        ("register", format!("{{{node}}}"), None),
        ("register?dc=dc2", format!("{{{node}}}"), Some("dc2")),
        ("register?dc=dc2", format!(r#"{{{node},"Datacenter":"dc3"}}"#), Some("dc3")),
        ("register?dc=dc2", format!(r#"{{{node},"Datacenter":"dc1"}}"#), None),
        ("deregister", r#"{"Node":"n1","Datacenter":"dc3"}"#.to_owned(), Some("dc3")),
    ] {
        rig.client.send("PUT", &format!("/v1/catalog/{path}"), &[], &body).await;
        let asked = rig.fake.last().dc;
        assert_eq!(asked.as_ref().map(|dc| dc.as_str()), dc, "{path} {body}");
    }
    let body = format!(r#"{{{node},"Datacenter":"a/b"}}"#);
    assert_eq!(rig.client.send("PUT", "/v1/catalog/register", &[], &body).await.status, 400);
}

#[tokio::test]
async fn a_removal_says_what_of_a_node_goes() {
    let rig = answering("true");
    for (body, what) in [
        (r#"{"Node":"n1"}"#, Removed::Node),
        (r#"{"Node":"n1","Address":"10.0.0.1","Namespace":""}"#, Removed::Node),
        (r#"{"Node":"n1","ServiceID":"web","CheckID":"k"}"#, Removed::Service("web".into())),
        (r#"{"node":"n1","service_id":"web"}"#, Removed::Service("web".into())),
        (r#"{"Node":"n1","CheckID":"k"}"#, Removed::Check("k".into())),
    ] {
        let got = rig.client.send("PUT", "/v1/catalog/deregister", &[], body).await;
        assert_eq!((got.status, got.body.as_str()), (200, "true"));
        let expected = Deregistration { node: "n1".into(), what };
        assert_eq!(rig.fake.last().question, Question::Deregister(expected), "{body}");
    }
}

#[tokio::test]
async fn what_can_not_be_taken_in_is_refused_as_consul_does_and_never_asked() {
    let rig = answering("true");
    let with = |what: &str| format!(r#"{{"Node":"n1","Address":"10.0.0.1",{what}}}"#);
    for (body, status, text) in [
        (String::new(), 400, "Request decode failed: EOF"),
        ("{".to_owned(), 400, "Request decode failed: "),
        ("[]".to_owned(), 400, "Request decode failed: "),
        ("{}".to_owned(), 500, "Must provide node"),
        (r#"{"Node":1}"#.to_owned(), 400, "Request decode failed: Node: expected a text"),
        (r#"{"Node":"n1"}"#.to_owned(), 500, "Must provide address if SkipNodeUpdate is not set"),
        (with(r#""ID":"bad""#), 500, "Bad node ID: "),
        (with(r#""ID":"0a0a0a0a000040008000000000000000""#), 500, "Bad node ID: "),
        (with(r#""Service":{"ID":"x"}"#), 500, "Must provide service name with ID"),
        (with(r#""Service":{"Service":"x","Address":"0.0.0.0"}"#), 500, "Invalid service address"),
        (with(r#""Service":{"Service":"x","Address":"::"}"#), 500, "Invalid service address"),
        (with(r#""Service":{"Service":"x","Port":65536}"#), 400, "Request decode failed: Port"),
        (with(r#""Check":{}"#), 400, "Request decode failed: a check needs"),
        (with(r#""Check":{"Name":"k","Status":"fine"}"#), 400, "Request decode failed: Status"),
        (with(r#""Check":{"Name":"k","Node":"n2"}"#), 500, "check node \"n2\" does not match"),
        (with(r#""Check":{"Name":"k","Definition":{"TTL":"x"}}"#), 400, "Request decode failed: "),
    ] {
        let got = rig.client.send("PUT", "/v1/catalog/register", &[], &body).await;
        assert_eq!(got.status, status, "{body}: {}", got.body);
        assert!(got.body.starts_with(text), "{body}: {}", got.body);
    }
    for (body, status, text) in [
        ("", 400, "Request decode failed: EOF"),
        ("{}", 500, "Must provide node"),
        (r#"{"Node":"n1","Servce":"web"}"#, 400, "Request decode failed: json: unknown field"),
    ] {
        let got = rig.client.send("PUT", "/v1/catalog/deregister", &[], body).await;
        assert!(got.status == status && got.body.starts_with(text), "{body}: {}", got.body);
    }
    let long = with(&format!(r#""NodeMeta":{{"a":"{}"}}"#, "x".repeat(512 * 1024)));
    assert_eq!(rig.client.send("PUT", "/v1/catalog/register", &[], &long).await.status, 413);
    assert_eq!(rig.fake.count(), 0);
}

#[tokio::test]
async fn a_registration_that_the_catalog_refuses_has_its_status() {
    let body = r#"{"Node":"n1","Address":"10.0.0.1"}"#;
    for (error, status) in [(AskError::Bad("no".into()), 400), (AskError::Failed("no".into()), 500)]
    {
        let rig = Rig::start(Fake::answering(Err::<Answer, _>(error)));
        let got = rig.client.send("PUT", "/v1/catalog/register", &[], body).await;
        assert_eq!((got.status, got.body.as_str()), (status, "no"));
    }
}
