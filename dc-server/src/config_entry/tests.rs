//! What is read of entries, how it is given back, and that every mistake says where it is.

use std::time::Duration;

use lan_agent::ask::AskError;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Definition, Failover, MinHealthy, Target};
use crate::failover::policy::HOLD_DOWN;

fn read(value: &Value) -> Result<Definition, String> {
    Definition::of(value).map_err(|mistake| mistake.to_string())
}

/// A service-resolver `web` that says this besides.
fn resolver(said: &Value) -> Value {
    let mut entry = json!({ "Kind": "service-resolver", "Name": "web" });
    entry.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    entry
}

fn body(value: &Value) -> Value {
    serde_json::from_str(&read(value).unwrap().body).unwrap()
}

fn target(service: Option<&str>, subset: Option<&str>, dc: Option<&str>) -> Target {
    Target {
        service: service.map(Into::into),
        subset: subset.map(Into::into),
        datacenter: dc.map(|name| name.parse().unwrap()),
    }
}

#[test]
fn either_spelling_is_read_and_consuls_is_given_back() {
    let camel = json!({
        "Kind": "service-resolver",
        "Name": "web",
        "DefaultSubset": "v1",
        "Subsets": { "v1": { "Filter": "Service.Meta.version == v1", "OnlyPassing": true } },
        "Failover": { "*": {
            "Targets": [{ "Service": "web-alt", "Datacenter": "dc2" }],
            "MinHealthy": "50%",
            "Spill": true,
            "HoldDown": "1m30s",
        } },
        "ConnectTimeout": "15s",
        "LoadBalancer": {
            "Policy": "ring_hash",
            "HashPolicies": [{ "Field": "cookie", "CookieConfig": { "TTL": "10s" }, "SourceIP": true }],
        },
        "Meta": { "some_Key": "as it is" },
    });
    let snake = json!({
        "kind": "service-resolver",
        "name": "web",
        "modify_index": 7,
        "meta": { "some_Key": "as it is" },
        "namespace": "default",
        "load_balancer": [{
            "hash_policies": { "source_ip": true, "cookie_config": { "ttl": 10_000_000_000_u64 }, "field": "cookie" },
            "policy": "ring_hash",
        }],
        "connect_timeout": "15000ms",
        "failover": [{ "*": [{
            "hold_down": "90s",
            "spill": true,
            "min_healthy": "50%",
            "targets": [{ "datacenter": "dc2", "service": "web-alt", "peer": "" }],
            "policy": null,
        }] }],
        "subsets": { "v1": { "only_passing": true, "filter": "Service.Meta.version == v1" } },
        "default_subset": "v1",
    });
    assert_eq!(body(&camel), camel);
    assert_eq!(read(&snake).unwrap().body, read(&camel).unwrap().body);
}

#[test]
fn what_lookups_read_is_there() {
    let entry = resolver(&json!({
        "DefaultSubset": "v1",
        "Subsets": { "v1": { "Filter": "Service.ID == a" }, "v2": { "OnlyPassing": true } },
        "Failover": {
            "v1": { "ServiceSubset": "v2" },
            "*": { "Service": "alt", "Datacenters": ["dc2", "DC3"], "MinHealthy": 3, "HoldDown": "30s" },
        },
    }));
    let read = read(&entry).unwrap();
    let resolver = read.resolver().unwrap();
    assert_eq!(resolver.default_subset.as_deref(), Some("v1"));
    assert_eq!(&*resolver.subsets["v1"].filter_text, "Service.ID == a");
    assert!(!resolver.subsets["v1"].only_passing && resolver.subsets["v2"].only_passing);
    let other = Failover {
        targets: vec![target(None, Some("v2"), None)],
        hold_down: HOLD_DOWN,
        ..Failover::default()
    };
    assert_eq!(resolver.failover(Some("v1")), Some(&other));
    let any = Failover {
        targets: vec![
            target(Some("alt"), None, Some("dc2")),
            target(Some("alt"), None, Some("dc3")),
        ],
        min_healthy: MinHealthy::Instances(3),
        spill: false,
        hold_down: Duration::from_secs(30),
    };
    for subset in [None, Some("v2"), Some("none")] {
        assert_eq!(resolver.failover(subset), Some(&any));
    }
    assert!(resolver.redirect.is_none());
}

#[test]
fn a_redirect_is_read() {
    let redirect =
        json!({ "Redirect": { "Service": "alt", "ServiceSubset": "v1", "Datacenter": "dc2" } });
    let read = read(&resolver(&redirect)).unwrap();
    let expected = target(Some("alt"), Some("v1"), Some("dc2"));
    assert_eq!(read.resolver().unwrap().redirect, Some(expected));
}

#[test]
fn defaults_are_kept_as_they_are_given() {
    for entry in [
        json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http",
                "UpstreamConfig": { "Overrides": [{ "Name": "db", "Limits": { "MaxConnections": 3 } }] },
                "MaxInboundConnections": 0, "MeshGateway": {}, "Expose": { "Checks": false } }),
        json!({ "Kind": "proxy-defaults", "Name": "global",
                "Config": { "a": { "local_connect_timeout_ms": 1.5, "z": [null, true] }, "b_c": "D" },
                "AccessLogs": { "Enabled": true, "JSONFormat": "{}" } }),
    ] {
        assert_eq!(body(&entry), entry);
        assert!(read(&entry).unwrap().resolver().is_none());
    }
}

#[test]
fn what_says_nothing_is_left_out() {
    let entry = resolver(&json!({
        "Namespace": "", "Partition": "default", "DefaultSubset": "", "Subsets": {}, "Failover": null,
        "ConnectTimeout": "0s", "RequestTimeout": 0, "Meta": {}, "CreateIndex": 1, "ModifyIndex": 2, "Hash": 3,
    }));
    assert_eq!(body(&entry), resolver(&json!({})));
}

#[test]
fn texts_are_escaped_as_go_does() {
    let entry = resolver(&json!({ "Meta": { "a": "<&>\u{2028}" } }));
    let read = read(&entry).unwrap();
    assert!(read.body.contains(r#""a":"\u003c\u0026\u003e\u2028""#), "{}", read.body);
    assert_eq!(body(&entry), entry);
}

/// What is said of `web`, and the mistake.
const MISTAKES: &[(&str, &str)] = &[
    (
        r#"{"Nmae":"x"}"#,
        "service-resolver/web: Nmae: there is no such field here, but Kind, Name, ",
    ),
    (r#"{"DefaultSubset":1}"#, "DefaultSubset: expected a text, found 1"),
    (r#"{"Subsets":[1]}"#, "Subsets: expected names with objects, found a list"),
    (
        r#"{"Subsets":{"v1":{"OnlyPassing":"yes"}}}"#,
        r#"Subsets["v1"].OnlyPassing: expected true or false, found the text "yes""#,
    ),
    (
        r#"{"Subsets":{"v1":{"filter":"Nope == 1"}}}"#,
        r#"Subsets["v1"].Filter: Selector "Nope" is not valid"#,
    ),
    (r#"{"Subsets":{"v1":{"filter":"(("}}}"#, r#"Subsets["v1"].Filter: 1:"#),
    (
        r#"{"Subsets":{"v.1":{}}}"#,
        r#"Subsets["v.1"]: the name of a subset has to be a label of DNS"#,
    ),
    (
        r#"{"DefaultSubset":"v2","Subsets":{"v1":{}}}"#,
        r#"DefaultSubset: subset "v2" is not in Subsets, where there is v1"#,
    ),
    (
        r#"{"DefaultSubset":"v1","default_subset":"v1"}"#,
        "default_subset: it is given twice, in two spellings",
    ),
    (r#"{"ConnectTimeout":"5"}"#, "ConnectTimeout: time: missing unit in duration"),
    (r#"{"RequestTimeout":-5}"#, "RequestTimeout: -5 is no number of nanoseconds"),
    (r#"{"Redirect":{}}"#, "Redirect: it is empty"),
    (r#"{"Redirect":{"Service":""}}"#, "Redirect: it is empty"),
    (r#"{"Redirect":{"Service":"WEB"}}"#, "Redirect.Service: it leads back to the service itself"),
    (
        r#"{"Redirect":{"ServiceSubset":"v1","Datacenter":"dc2"}}"#,
        "Redirect.ServiceSubset: a service that is redirected has no subsets",
    ),
    (
        r#"{"Redirect":{"Datacenter":"d c"}}"#,
        "Redirect.Datacenter: datacenter name \"d c\" can't hold ' '",
    ),
    (
        r#"{"Redirect":{"Service":"a"},"DefaultSubset":"v1"}"#,
        "Redirect: DefaultSubset means nothing beside a redirect",
    ),
    (
        r#"{"Redirect":{"Service":"a"},"Subsets":{"v1":{}}}"#,
        "Redirect: Subsets means nothing beside a redirect",
    ),
    (
        r#"{"Redirect":{"Service":"a"},"Failover":{"*":{"Datacenters":["dc2"]}}}"#,
        "Redirect: Failover means nothing beside a redirect",
    ),
    (
        r#"{"Redirect":{"Service":"a","Peer":"p"}}"#,
        "Redirect.Peer: cluster peers are not supported here",
    ),
    (
        r#"{"Redirect":{"SamenessGroup":"g"}}"#,
        "Redirect.SamenessGroup: sameness groups are not supported here",
    ),
    (r#"{"Namespace":"n"}"#, "Namespace: namespaces are not supported here"),
    (r#"{"Partition":"p"}"#, "Partition: partitions are not supported here"),
    (
        r#"{"Failover":{"v1":{"Datacenters":["dc2"]}}}"#,
        r#"Failover["v1"]: subset "v1" is not in Subsets, where there is none"#,
    ),
    (r#"{"Failover":{"*":{}}}"#, r#"Failover["*"]: it leads nowhere"#),
    (r#"{"Failover":{"*":{"MinHealthy":2}}}"#, r#"Failover["*"]: it leads nowhere"#),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2",""]}}}"#,
        r#"Failover["*"].Datacenters[1]: a datacenter name can't be empty"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2",3]}}}"#,
        r#"Failover["*"].Datacenters[1]: expected a text, found 3"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2","dc3","dc2"]}}}"#,
        r#"Failover["*"].Datacenters[2]: it is the same as number 0"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":"dc2"}}}"#,
        r#"Failover["*"].Datacenters: expected a list, found the text "dc2""#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{"Datacenter":"dc2"}],"Service":"a"}}}"#,
        r#"Failover["*"].Service: Service means nothing beside Targets"#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{"Datacenter":"dc2"}],"Datacenters":["dc3"]}}}"#,
        r#"Failover["*"].Datacenters: Datacenters means nothing beside Targets"#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{"Datacenter":"dc2"},{"Service":"web"}]}}}"#,
        r#"Failover["*"].Targets[1]: it leads back to what failed"#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{}]}}}"#,
        r#"Failover["*"].Targets[0]: it leads back to what failed"#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{"Datacenter":"dc2"},{"Peer":"p"}]}}}"#,
        r#"Failover["*"].Targets[1].Peer: cluster peers are not supported here"#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{"ServiceSubset":"v1"}]}}}"#,
        r#"Failover["*"].Targets[0].ServiceSubset: subset "v1" is not in Subsets"#,
    ),
    (
        r#"{"Failover":{"*":{"Targets":[{"Datacentre":"dc2"}]}}}"#,
        r#"Failover["*"].Targets[0].Datacentre: there is no such field here, but Service, "#,
    ),
    (
        r#"{"Failover":{"*":{"ServiceSubset":"v1"}}}"#,
        r#"Failover["*"].ServiceSubset: subset "v1" is not in Subsets"#,
    ),
    (r#"{"Failover":{"*":{"Service":"web"}}}"#, r#"Failover["*"]: it leads back to what failed"#),
    (
        r#"{"Subsets":{"v1":{}},"Failover":{"v1":{"ServiceSubset":"v1"}}}"#,
        r#"Failover["v1"]: it leads back to what failed"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2"],"MinHealthy":0}}}"#,
        r#"Failover["*"].MinHealthy: 0 is neither a number from 1 on nor a part"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2"],"MinHealthy":"101%"}}}"#,
        r#"Failover["*"].MinHealthy: "101%" is"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2"],"MinHealthy":true}}}"#,
        r#"Failover["*"].MinHealthy: expected a number, or a part such as "50%", found true"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2"],"HoldDown":"soon"}}}"#,
        r#"Failover["*"].HoldDown: time: invalid duration"#,
    ),
    (
        r#"{"Failover":{"*":{"Datacenters":["dc2"],"Namespace":"n"}}}"#,
        r#"Failover["*"].Namespace: namespaces are not supported here"#,
    ),
    (
        r#"{"LoadBalancer":{"HashPolicies":[{"Terminal":1}]}}"#,
        "LoadBalancer.HashPolicies[0].Terminal: expected true or false, found 1",
    ),
    (r#"{"Meta":{"a":1}}"#, r#"Meta["a"]: expected a text, found 1"#),
];

#[test]
fn every_mistake_says_where_it_is() {
    for (said, expected) in MISTAKES {
        let mistake = read(&resolver(&serde_json::from_str(said).unwrap())).unwrap_err();
        let entry = "service-resolver/web: ";
        let expected = format!("{entry}{}", expected.trim_start_matches(entry));
        assert!(mistake.starts_with(&expected), "\n{said}\n{mistake}\n{expected}");
    }
}

#[test]
fn kinds_and_names_that_there_are_not_are_refused() {
    for (entry, expected) in [
        (json!([]), "a config entry is an object, not a list"),
        (json!({ "Name": "x" }), "Kind: a config entry needs a kind"),
        (json!({ "kind": 5 }), "Kind: expected a text, found 5"),
        (
            json!({ "Kind": "mesh", "Name": "x" }),
            "config entry kind \"mesh\" is not supported here: service-resolver, service-defaults and proxy-defaults are",
        ),
        (
            json!({ "Kind": "service-defaults" }),
            "service-defaults: Name: a config entry needs a name",
        ),
        (
            json!({ "Kind": "service-defaults", "Name": "a\n" }),
            "service-defaults/a\n: Name: it has characters that can't be seen",
        ),
        (
            json!({ "Kind": "proxy-defaults", "Name": "web" }),
            "proxy-defaults/web: Name: there is one entry of this kind, and its name is \"global\"",
        ),
    ] {
        assert_eq!(read(&entry).unwrap_err(), expected);
    }
    let refused = Definition::read("{").unwrap_err();
    assert!(
        matches!(&refused, AskError::Bad(text) if text.starts_with("Request decode failed: EOF"))
    );
}

#[test]
fn what_a_later_version_wrote_is_kept_and_read_as_far_as_it_can_be() {
    let body = r#"{"Kind":"service-resolver","Name":"web","Invented":[1],"Redirect":{"Service":"a","New":2}}"#;
    let kept = Definition::kept("service-resolver".into(), "web".into(), body.into());
    assert_eq!(&*kept.body, body);
    assert_eq!(kept.resolver().unwrap().redirect, Some(target(Some("a"), None, None)));
    let other = r#"{"Redirect":"an other form"}"#;
    let kept = Definition::kept("service-resolver".into(), "web".into(), other.into());
    assert!(kept.resolver().is_none() && &*kept.body == other);
}

/// Objects that are nearly right.
fn nearly() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(
        &["web", "v1", "v2", "*", "dc2", "dc3", "", "50%", "10s", "ID == a"][..],
    );
    let leaf = prop_oneof![
        4 => name.clone().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => (0..4_u32).prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(5, 60, 5, move |inner| {
        let field = prop::sample::select(
            &[
                "Subsets",
                "Failover",
                "Redirect",
                "Targets",
                "Datacenters",
                "Service",
                "ServiceSubset",
                "Datacenter",
                "DefaultSubset",
                "Filter",
                "MinHealthy",
                "HoldDown",
                "Spill",
                "v1",
                "v2",
                "*",
                "Meta",
            ][..],
        );
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => prop::collection::vec((field, inner), 0..4).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is accepted is accepted again as it is given back, with the same outcome, and read back from
    /// where it is kept; whatever is refused has its place said.
    #[test]
    fn what_is_accepted_is_given_back_for_good(said in nearly()) {
        let Some(said) = said.as_object() else { return Ok(()) };
        let entry = resolver(&Value::Object(said.clone()));
        match read(&entry) {
            Ok(first) => {
                let again = read(&serde_json::from_str(&first.body).unwrap()).unwrap();
                prop_assert_eq!(&again, &first);
                let kept = Definition::kept(first.kind.clone(), first.name.clone(), first.body.clone());
                prop_assert_eq!(
                    format!("{:?}", kept.resolver()),
                    format!("{:?}", first.resolver())
                );
                let resolver = first.resolver().unwrap();
                prop_assert!(resolver.redirect.is_none() || resolver.failovers().next().is_none());
                prop_assert!(resolver.failovers().all(|(_, failover)| !failover.targets.is_empty()));
            }
            Err(mistake) => prop_assert!(mistake.matches(": ").count() >= 2, "{}", mistake),
        }
    }
}
