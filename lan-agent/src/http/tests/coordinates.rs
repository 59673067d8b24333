//! `/v1/coordinate`: what is asked, and what is refused before anybody is asked.

use topology::Coordinate;

use super::{
    fake::{Fake, Rig, found},
    meta,
};
use crate::ask::{
    Answer, Outcome, Question,
    coordinate::{Read, Update},
};

const COORD: &str = r#"{"Vec":[0.5,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":1e-05}"#;

fn answering(body: &str) -> Rig {
    Rig::start(Fake::answering(found(meta(7), body)))
}

fn said(changes: &str) -> String {
    format!(r#"{{"Node":"n1","Coord":{COORD}{changes}}}"#)
}

#[tokio::test]
async fn places_are_asked_for_with_blocking_and_in_any_datacenter() {
    let rig = answering("[]");
    for (path, node) in [("nodes", None), ("node/a%20b", Some("a b"))] {
        let path = format!("/v1/coordinate/{path}?dc=dc2&index=5&wait=3s&stale");
        let got = rig.client.get(&path).await;
        assert_eq!((got.status, got.header("x-consul-index")), (200, "7"));
        let ask = rig.fake.last();
        assert_eq!(ask.question, Question::CoordinateRead(Read { node: node.map(Into::into) }));
        assert_eq!(ask.blocking.map(|blocking| blocking.index), Some(5));
        assert_eq!(ask.dc.unwrap().as_str(), "dc2");
    }
    rig.client.get("/v1/coordinate/datacenters?dc=dc2").await;
    let ask = rig.fake.last();
    assert_eq!((ask.question, ask.dc), (Question::CoordinateDatacenters, None));
}

#[tokio::test]
async fn a_node_without_a_coordinate_is_not_found() {
    let absent = Answer { outcome: Outcome::Absent, meta: meta(7), body: Default::default() };
    let rig = Rig::start(Fake::answering(Ok(absent)));
    let got = rig.client.get("/v1/coordinate/node/n9").await;
    assert_eq!((got.status, got.body.as_str(), got.header("x-consul-index")), (404, "", "7"));
}

#[tokio::test]
async fn an_update_is_handed_on_and_answered_with_nothing() {
    let rig = answering("true");
    let vec = std::array::from_fn(|i| if i == 0 { 0.5 } else { 0.0 });
    let coordinate = Coordinate { vec, ..Coordinate::ORIGIN };
    for (changes, dc) in [("", None), (r#","Segment":"","Datacenter":"dc2""#, Some("dc2"))] {
        let got = rig.client.send("PUT", "/v1/coordinate/update", &[], &said(changes)).await;
        assert_eq!((got.status, got.body.as_str()), (200, ""));
        let ask = rig.fake.last();
        let update = Update { node: "n1".into(), coordinate };
        assert_eq!(ask.question, Question::CoordinateUpdate(update));
        assert_eq!(ask.dc.map(|dc| dc.to_string()).as_deref(), dc);
    }
    let small = said("").to_lowercase();
    let got = rig.client.send("PUT", "/v1/coordinate/update", &[], &small).await;
    assert_eq!(got.status, 200, "{small}: {}", got.body);
}

#[tokio::test]
async fn what_can_be_no_coordinate_is_refused_by_the_agent() {
    let rig = answering("true");
    let far = said("").replace("0.5", "-10.5");
    let short = said("").replace("0.5,", "");
    let large = " ".repeat(20_000);
    for (method, path, body, status, text) in [
        ("PUT", "update", "", 400, "Request decode failed: EOF"),
        ("PUT", "update", "{}", 400, "Request decode failed: missing field `Coord`"),
        ("PUT", "update", short.as_str(), 400, "Request decode failed: invalid length 7"),
        ("PUT", "update", far.as_str(), 400, "invalid coordinate: no field may be beyond 10 s"),
        ("PUT", "update", &said(r#","Segment":"x""#), 400, "Network segments belong to"),
        ("PUT", "update", &said(r#","Datacenter":".""#), 400, ""),
        ("PUT", "update", &said("").replace("n1", ""), 400, "Missing node name"),
        ("PUT", "update", large.as_str(), 413, "Request body("),
        ("GET", "update", "", 405, "method GET not allowed"),
        ("GET", "node/", "", 400, "Missing node name"),
    ] {
        let got = rig.client.send(method, &format!("/v1/coordinate/{path}"), &[], body).await;
        assert_eq!(got.status, status, "{path} {body}: {}", got.body);
        assert!(got.body.starts_with(text), "{}", got.body);
    }
    assert_eq!(rig.fake.count(), 0);
}
