//! Definitions as people and programs write them, and what Consul says of wrong ones.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CheckDefinition, DefinitionError, Probe, ServiceDefinition, Thresholds};
use crate::catalog::Health;

fn service(value: Value) -> ServiceDefinition {
    super::service(&value).unwrap()
}

fn check(value: Value) -> CheckDefinition {
    super::check(&value).unwrap()
}

#[test]
fn both_spellings_say_the_same() {
    let camel = service(json!({
        "ID": "web1", "Name": "web", "Port": 80, "EnableTagOverride": true, "Meta": {"v": "1"},
        "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 5}},
        "Weights": {"Passing": 3, "Warning": 2},
        "Check": {"HTTP": "http://a/", "Interval": "10s", "TLSSkipVerify": true,
                  "DeregisterCriticalServiceAfter": "90m", "Header": {"Host": ["a"]}},
    }));
    let snake = service(json!({
        "id": "web1", "name": "web", "port": 80, "enable_tag_override": true, "meta": [{"v": "1"}],
        "tagged_addresses": {"lan": {"address": "10.0.0.1", "port": 5}},
        "weights": {"passing": 3, "warning": 2},
        "check": {"http": "http://a/", "interval": 10_000_000_000_u64, "tls_skip_verify": true,
                  "deregister_critical_service_after": "90m", "header": {"Host": ["a"]}},
    }));
    assert_eq!(camel, snake);
    assert_eq!(camel.checks[0].deregister_after, Duration::from_secs(5400));
}

#[test]
fn what_is_left_out_has_the_defaults_of_consul() {
    let it = service(json!({ "Name": "web", "Check": { "TTL": "10s" } }));
    assert_eq!((&*it.service.id, it.service.weights.passing), ("web", 1));
    let check = &it.checks[0];
    assert_eq!((&*check.id, &*check.name), ("service:web", "Service 'web' check"));
    assert_eq!((check.status, &*check.service_id), (Health::Critical, "web"));
    assert_eq!(check.probe, Probe::Ttl(Duration::from_secs(10)));
}

#[test]
fn several_checks_are_numbered_unless_they_have_an_id() {
    let it = service(json!({
        "Name": "a", "Check": {},
        "Checks": [{"TTL": "1s"}, {"TTL": "2s", "Name": "n"}, {"CheckID": "c3", "TTL": "3s"}],
    }));
    let ids: Vec<&str> = it.checks.iter().map(|check| &*check.id).collect();
    assert_eq!(ids, ["service:a:1", "service:a:2", "c3"]);
    assert_eq!(&*it.checks[1].name, "n");
}

#[test]
fn every_probe_is_read() {
    for (mut value, kind) in [
        (json!({ "Args": ["a", "b"] }), "script"),
        (json!({ "ScriptArgs": ["a"] }), "script"),
        (json!({ "HTTP": "http://a" }), "http"),
        (json!({ "TCP": "a:1" }), "tcp"),
        (json!({ "UDP": "a:1" }), "udp"),
        (json!({ "GRPC": "a:1/s", "GRPCUseTLS": true }), "grpc"),
        (json!({ "H2PING": "a:1", "H2PingUseTLS": true }), "h2ping"),
        (json!({ "DockerContainerID": "c", "Shell": "/bin/sh", "Args": ["a"] }), "docker"),
        (json!({ "AliasService": "web" }), "alias"),
        (json!({ "OSService": "ssh" }), "os_service"),
    ] {
        value["Name"] = json!("c");
        value["Interval"] = json!("10s");
        assert_eq!(check(value.clone()).probe.kind(), kind, "{value}");
    }
}

#[test]
fn tls_is_spoken_where_that_is_said_and_with_pings_unless_it_is_denied() {
    for (value, expected) in [
        (json!({ "TCP": "a:1" }), false),
        (json!({ "TCP": "a:1", "tcp_use_tls": true }), true),
        (json!({ "GRPC": "a:1" }), false),
        (json!({ "GRPC": "a:1", "GRPCUseTLS": true }), true),
        (json!({ "H2PING": "a:1" }), true),
        (json!({ "H2PING": "a:1", "h2ping_use_tls": false }), false),
    ] {
        let mut named = value.clone();
        (named["Name"], named["Interval"]) = (json!("c"), json!("10s"));
        let (Probe::Tcp { use_tls, .. }
        | Probe::Grpc { use_tls, .. }
        | Probe::H2Ping { use_tls, .. }) = check(named).probe
        else {
            panic!("{value} is read as something else");
        };
        assert_eq!(use_tls, expected, "{value}");
    }
}

#[test]
fn a_check_keeps_less_of_its_output_than_its_agent_would_but_not_more() {
    let of = |own: Value| {
        let mut value = json!({ "Name": "c", "TTL": "1s" });
        value["OutputMaxSize"] = own;
        check(value).kept_output(100)
    };
    assert_eq!(
        [of(json!(null)), of(json!(0)), of(json!(10)), of(json!(1000))],
        [100, 100, 10, 100]
    );
}

#[test]
fn times_that_are_too_short_are_lengthened() {
    let it = check(json!({ "Name": "c", "TCP": "a:1", "Interval": "1ms",
                           "DeregisterCriticalServiceAfter": "1s" }));
    assert_eq!(it.interval, Duration::from_secs(1));
    assert_eq!(it.deregister_after, Duration::from_secs(60));
}

#[test]
fn warnings_come_with_criticals_unless_said_otherwise() {
    let base = json!({ "Name": "c", "TCP": "a:1", "Interval": "1s", "FailuresBeforeCritical": 3 });
    let mut earlier = base.clone();
    earlier["failures_before_warning"] = json!(1);
    let all = Thresholds { passing: 0, warning: 3, critical: 3 };
    assert_eq!(check(base).thresholds, all);
    assert_eq!(check(earlier).thresholds, Thresholds { warning: 1, ..all });
}

#[test]
fn wrong_services_are_refused_in_the_words_of_consul() {
    let check = |check: Value| json!({ "Name": "a", "Check": check });
    for (value, sentence) in [
        (json!({}), "Missing service name"),
        (json!({ "Name": "a", "Foo": 1 }), r#"Request decode failed: json: unknown field "Foo""#),
        (json!([1]), "Request decode failed: expected an object, found a list"),
        (
            json!({ "Name": "a", "Port": "80" }),
            r#"Request decode failed: Port: expected a whole number from 0 to 65535, found the text "80""#,
        ),
        (
            check(json!({ "HTTP": "http://x" })),
            "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            check(json!({ "HTTP": "http://x", "TTL": "10s", "Interval": "10s" })),
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        (check(json!({ "TTL": "bad" })), r#"Request decode failed: time: invalid duration "bad""#),
        (
            check(json!({ "TTL": "1s", "Status": "foo" })),
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        (
            json!({ "Name": "a", "Weights": { "Passing": 0, "Warning": 1 } }),
            "Invalid Weights: Passing must be greater than 0",
        ),
        (json!({ "Name": "a", "Address": "0.0.0.0" }), "Invalid service address"),
        (json!({ "Name": "a", "Address": "[::]" }), "Invalid service address"),
        (
            json!({ "Name": "a", "Meta": { "a b": "1" } }),
            "Invalid Service Meta: Couldn't load metadata pair ('a b', '1'): Key contains invalid characters",
        ),
    ] {
        let error = super::service(&value).unwrap_err();
        assert_eq!(error.to_string(), sentence, "{value}");
    }
}

#[test]
fn wrong_checks_are_refused_in_the_words_of_consul() {
    for (value, sentence) in [
        (json!({ "TTL": "10s" }), "Missing check name"),
        (json!({ "Name": "c" }), "Invalid check: TTL must be > 0 for TTL checks"),
    ] {
        let error = super::check(&value).unwrap_err();
        assert_eq!(error, DefinitionError::Invalid(sentence.to_owned()), "{value}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.:]{0,8}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("name"),
        Just("Check"),
        Just("checks"),
        Just("interval"),
        Just("ttl"),
        Just("tags"),
        Just("meta"),
        Just("weights"),
        Just("header"),
        Just("port"),
        Just("tcp"),
        Just("args"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_that_is_written_panics(value in any_json()) {
        let _ = super::service(&value);
        let _ = super::check(&value);
    }

    #[test]
    fn no_registration_panics_and_what_is_shown_of_its_definitions_is_json(value in any_json()) {
        let _ = super::registration(&value);
        let _ = super::deregistration(&value);
        let check = json!({ "CheckID": "k", "Definition": value });
        let named = json!({ "Node": "n", "Address": "a", "Check": check, "Service": value });
        if let Ok((_, registration)) = super::registration(&named) {
            let shown = &registration.checks[0].definition;
            prop_assert!(shown.is_empty() || serde_json::from_str::<Value>(shown).is_ok());
        }
    }
}

#[test]
fn the_kind_of_a_check_follows_from_what_is_said_of_it() {
    for (definition, kind) in [
        (json!({ "GRPC": "x", "HTTP": "x", "Interval": "1s" }), "grpc"),
        (json!({ "HTTP": "x", "TTL": "1s", "Interval": "1s" }), "http"),
        (json!({ "HTTP": "x", "TTL": "1s" }), "ttl"),
        (json!({ "TCP": "x", "AliasNode": "x", "Interval": "1s" }), "tcp"),
        (json!({ "AliasNode": "x", "ScriptArgs": ["x"] }), "alias"),
        (json!({ "DockerContainerID": "x", "ScriptArgs": ["x"], "Interval": "1s" }), "docker"),
        (json!({ "DockerContainerID": "x", "ScriptArgs": ["x"] }), "script"),
        (json!({ "HTTP": "x" }), ""),
    ] {
        let check = json!({ "CheckID": "k", "Definition": definition });
        let value = json!({ "Node": "n", "Address": "a", "Check": check });
        let (_, registration) = super::registration(&value).unwrap();
        assert_eq!(&*registration.checks[0].kind, kind, "{value}");
    }
}
