//! `/v1/config`: what is asked, what is refused, and what answers carry.

use super::{
    fake::{Fake, Rig, found},
    meta,
};
use crate::ask::{Answer, Outcome, Question, question::CONFIG_ENTRY_LEN_MAX};

fn answering(body: &str) -> Rig {
    Rig::start(Fake::answering(found(meta(7), body)))
}

#[tokio::test]
async fn an_entry_is_set_as_it_was_given() {
    let rig = answering("true");
    let entry = r#"{ "kind": "x", "Name": "web" }"#;
    for (path, cas) in
        [("/v1/config", None), ("/v1/config?cas=0", Some(0)), ("/v1/config?cas=9", Some(9))]
    {
        let got = rig.client.send("PUT", path, &[], entry).await;
        assert_eq!((got.status, got.body.as_str()), (200, "true"), "{path}");
        assert!(got.headers.get("x-consul-index").is_none());
        assert_eq!(rig.fake.last().question, Question::ConfigSet { entry: entry.into(), cas });
    }
}

#[tokio::test]
async fn entries_are_read_by_kind_and_name() {
    let rig = answering("[]");
    let read = |kind: &str, name: Option<&str>| Question::ConfigRead {
        kind: Some(kind.into()),
        name: name.map(Into::into),
    };
    for (path, question) in [
        ("service-resolver", read("service-resolver", None)),
        ("service-resolver/", read("service-resolver", None)),
        ("service-resolver/web", read("service-resolver", Some("web"))),
        ("service-resolver/a%2Fb", read("service-resolver", Some("a/b"))),
    ] {
        let got = rig.client.get(&format!("/v1/config/{path}?index=5&wait=3s&stale&dc=dc2")).await;
        assert_eq!((got.status, got.body.as_str()), (200, "[]"), "{path}");
        assert_eq!(got.header("x-consul-index"), "7");
        let ask = rig.fake.last();
        assert_eq!(ask.question, question, "{path}");
        assert_eq!(ask.blocking.map(|blocking| blocking.index), Some(5));
        assert_eq!(ask.dc.unwrap().as_str(), "dc2");
    }
}

#[tokio::test]
async fn an_entry_that_is_not_there_is_not_found_in_a_sentence() {
    let absent = Answer { outcome: Outcome::Absent, meta: meta(7), body: Default::default() };
    let rig = Rig::start(Fake::answering(Ok(absent)));
    let got = rig.client.get("/v1/config/service-defaults/web").await;
    let sentence = "Config entry not found for \"service-defaults\" / \"web\"";
    assert_eq!((got.status, got.body.as_str()), (404, sentence));
    assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(got.header("x-consul-index"), "7");
}

#[tokio::test]
async fn a_deletion_says_whether_it_did_only_when_it_compares() {
    let rig = answering("true");
    for (path, cas, body) in [("", None, "{}"), ("?cas=4", Some(4), "true")] {
        let path = format!("/v1/config/service-defaults/web{path}");
        let got = rig.client.send("DELETE", &path, &[], "").await;
        assert_eq!((got.status, got.body.as_str()), (200, body));
        let (kind, name) = ("service-defaults".into(), "web".into());
        assert_eq!(rig.fake.last().question, Question::ConfigDelete { kind, name, cas });
    }
}

#[tokio::test]
async fn what_can_be_no_entry_is_refused_by_the_agent() {
    let rig = answering("true");
    let large = "x".repeat(CONFIG_ENTRY_LEN_MAX + 1);
    for (method, path, body, status, text) in [
        ("PUT", "/v1/config", "", 400, "Request decode failed: EOF"),
        ("PUT", "/v1/config?cas=x", "{}", 400, "Invalid cas: \"x\" is not a number"),
        ("PUT", "/v1/config", large.as_str(), 413, "Request body("),
        ("DELETE", "/v1/config/service-defaults", "", 400, "Must specify a kind and a name"),
        ("DELETE", "/v1/config/a/b?cas=-1", "", 400, "Invalid cas: \"-1\""),
        ("GET", "/v1/config", "", 405, "method GET not allowed"),
    ] {
        let got = rig.client.send(method, path, &[], body).await;
        assert_eq!(got.status, status, "{path}");
        assert!(got.body.starts_with(text), "{}", got.body);
    }
    assert_eq!(rig.fake.count(), 0);
}
