//! The services and checks of this node over HTTP: their life, their health, wrong requests.

use super::fake::{Fake, Rig, found};
use crate::ask::Meta;

fn rig() -> Rig {
    Rig::start(Fake::answering(found(Meta::default(), "true")))
}

async fn put(rig: &Rig, path: &str, body: &str) -> (u16, String) {
    let got = rig.client.send("PUT", &format!("/v1/agent/{path}"), &[], body).await;
    (got.status, got.body)
}

async fn get(rig: &Rig, path: &str) -> (u16, String) {
    let got = rig.client.get(&format!("/v1/agent/{path}")).await;
    (got.status, got.body)
}

const OK: (u16, String) = (200, String::new());

#[tokio::test]
async fn a_service_comes_passes_is_maintained_and_goes() {
    let rig = rig();
    let body = r#"{"ID": "web/1", "Name": "web", "Port": 80, "Tags": ["a"],
                   "Check": {"CheckID": "c", "TTL": "1m", "Notes": "n"}}"#;
    assert_eq!(put(&rig, "service/register", body).await, OK);
    let service = r#"{"ID":"web/1","Service":"web","Tags":["a"],"Meta":{},"Port":80,"Address":"","Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false}"#;
    assert_eq!(get(&rig, "services").await, (200, format!(r#"{{"web/1":{service}}}"#)));
    let check = r#"{"c":{"Node":"n1","CheckID":"c","Name":"Service 'web' check","Status":"critical","Notes":"n","Output":"","ServiceID":"web/1","ServiceName":"web","ServiceTags":["a"],"Type":"ttl","Definition":{},"CreateIndex":0,"ModifyIndex":0}}"#;
    assert_eq!(get(&rig, "checks").await, (200, check.to_owned()));
    for (report, status, word) in [
        ("check/pass/c?note=fine", 200, "passing"),
        ("check/warn/c", 429, "warning"),
        ("check/fail/c", 503, "critical"),
        ("check/pass/c", 200, "passing"),
        ("service/maintenance/web%2F1?enable=true&reason=why", 503, "maintenance"),
    ] {
        assert_eq!(put(&rig, report, "").await, OK, "{report}");
        for by in ["id/web%2F1", "name/web"] {
            let path = format!("health/service/{by}?format=text");
            assert_eq!(get(&rig, &path).await, (status, word.to_owned()), "{report}");
        }
    }
    assert_eq!(put(&rig, "service/deregister/web/1", "").await, OK);
    assert_eq!(get(&rig, "services").await, (200, "{}".to_owned()));
    assert_eq!(get(&rig, "checks").await, (200, "{}".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_consul() {
    let rig = rig();
    put(&rig, "service/register", r#"{"Name": "web", "Check": {"TTL": "1m"}}"#).await;
    for (path, body, status, text) in [
        ("service/register", "{}", 400, "Missing service name"),
        ("check/pass/nope", "", 500, r#"CheckID "nope" does not have associated TTL"#),
        ("check/update/service:web", r#"{"Status":"foo"}"#, 400, "Invalid check status: 'foo'"),
        ("service/maintenance/web", "", 400, "Missing value for enable"),
        ("service/maintenance/web?enable=x", "", 400, r#"Invalid value for enable: "x""#),
        (
            "service/maintenance/nope?enable=true",
            "",
            404,
            r#"No service registered with ID "nope""#,
        ),
        (
            "check/register",
            r#"{"Name": "c", "TTL": "1m", "ServiceID": "nope"}"#,
            500,
            r#"ServiceID "nope" does not exist"#,
        ),
        (
            "check/register",
            r#"{"Name": "c", "Args": ["x"], "Interval": "1s"}"#,
            500,
            "Scripts are disabled on this agent from remote calls; to enable, configure \
             'enable_script_checks' to true",
        ),
    ] {
        assert_eq!(put(&rig, path, body).await, (status, text.to_owned()), "{path} {body}");
    }
    let (status, text) = put(&rig, "service/register", "x").await;
    assert!(status == 400 && text.starts_with("Request decode failed: "), "{text}");
    for (path, text) in [
        ("services?filter=Port==x", "Failed to coerce value \"x\" for selector \"Port\""),
        ("checks?filter=Port==80", "Selector \"Port\" is not valid"),
        ("checks?filter=Status", "1:7 (6): no match found"),
    ] {
        let (status, told) = get(&rig, path).await;
        let text = format!("Failed to create boolean expression evaluator: {text}");
        assert!(status == 400 && told.starts_with(&text), "{path}: {told}");
    }
    // What is not there has gone already.
    assert_eq!(put(&rig, "service/deregister/nope", "").await, OK);
    assert_eq!(put(&rig, "check/deregister/nope", "").await, OK);
    let unknown = r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#;
    assert_eq!(get(&rig, "health/service/id/nope").await, (404, unknown.to_owned()));
    assert_eq!(get(&rig, "health/service/name/nope").await, (404, "[]".to_owned()));
    assert_eq!(get(&rig, "service/nope").await, (404, "unknown service ID: nope".to_owned()));
}

#[tokio::test]
async fn a_filter_says_which_services_and_checks() {
    let rig = rig();
    for body in [
        r#"{"Name": "web", "Port": 80, "Tags": ["a b"], "Check": {"CheckID": "c", "TTL": "1m"}}"#,
        r#"{"Name": "db", "Meta": {"version": "2"}, "Check": {"CheckID": "d", "TTL": "1m"}}"#,
    ] {
        assert_eq!(put(&rig, "service/register", body).await, OK);
    }
    assert_eq!(put(&rig, "check/pass/d", "").await, OK);
    for (path, ids) in [
        ("services?filter=", vec!["db", "web"]),
        ("services?filter=Port==80", vec!["web"]),
        (
            "services?filter=%22a%20b%22+in+Tags+or+Meta.version+matches+%60%5E2%60",
            vec!["db", "web"],
        ),
        ("services?filter=not+Service+contains+b", vec![]),
        ("checks?filter=Status==passing", vec!["d"]),
        ("checks?filter=ServiceTags+is+not+empty+and+Node==n1", vec!["c"]),
    ] {
        let (status, body) = get(&rig, path).await;
        let found: serde_json::Map<_, _> = serde_json::from_str(&body).unwrap();
        assert_eq!((status, found.keys().map(String::as_str).collect()), (200, ids), "{path}");
    }
}

#[tokio::test]
async fn a_service_is_waited_for_by_its_hash() {
    let rig = rig();
    put(&rig, "service/register", r#"{"Name": "web"}"#).await;
    let first = rig.client.get("/v1/agent/service/web").await;
    let hash = first.header("x-consul-contenthash").to_owned();
    assert!(first.body.contains(&format!(r#""ContentHash":"{hash}""#)), "{}", first.body);
    let path = format!("/v1/agent/service/web?hash={hash}&wait=5m");
    let (changed, ()) = tokio::join!(rig.client.get(&path), async {
        let body = r#"{"Name": "web", "Port": 1}"#;
        assert_eq!(put(&rig, "service/register", body).await, OK);
    });
    assert!(changed.body.contains(r#""Port":1"#), "{}", changed.body);
    assert_ne!(changed.header("x-consul-contenthash"), hash);
}
