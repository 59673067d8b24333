//! The interface over real connections, with a caller that answers from a table.

pub(super) mod fake;

mod catalog;
mod config;
mod coordinates;
mod own;
mod places;

use std::time::Duration;

use fake::{Client, Fake, Rig, found, raw_exchange};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use topology::Datacenter;

use crate::{
    ask::{
        Answer, AskError, Blocking, Consistency, KvOp, KvVerb, Meta, Outcome, Question, TxnOp,
        Union,
        question::{FailoverExplain, Removing, Scope},
    },
    catalog::{Form, Lookup, Run, Selection, Subject},
};

fn meta(index: u64) -> Meta {
    Meta {
        index,
        known_leader: Some(true),
        last_contact: Duration::from_millis(4),
        consistency: Consistency::Default,
        path: Vec::new(),
        mirrored: false,
        served: Vec::new(),
        parts: Vec::new(),
    }
}

#[tokio::test]
async fn a_key_is_read_with_its_headers() {
    let rig = Rig::start(Fake::answering(found(meta(13), r#"[{"Key":"a"}]"#)));
    let got = rig.client.get("/v1/kv/web%2fport%20x?dc=DC2").await;
    assert_eq!(got.status, 200);
    assert_eq!(got.body, r#"[{"Key":"a"}]"#);
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("x-consul-index"), "13");
    assert_eq!(got.header("x-consul-knownleader"), "true");
    assert_eq!(got.header("x-consul-lastcontact"), "4");
    assert_eq!(got.header("x-consul-effective-consistency"), "leader");
    assert_eq!(got.header("vary"), "Accept-Encoding");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    let ask = rig.fake.last();
    assert_eq!(ask.question, Question::KvGet { key: "web/port x".to_owned(), raw: false });
    assert_eq!(ask.dc.unwrap().as_str(), "dc2");
}

#[tokio::test]
async fn the_way_to_another_datacenter_is_shown_for_reads_and_writes() {
    let path = || ["dc1", "dc3", "dc2"].map(|dc| Datacenter::new(dc).unwrap()).to_vec();
    let read = Meta { path: path(), ..meta(13) };
    let rig = Rig::start(Fake::answering(found(read, "[]")));
    let got = rig.client.get("/v1/kv/a?dc=dc2").await;
    assert_eq!(got.header("x-causeway-path"), "dc1, dc3, dc2");
    let written = Meta { path: path(), ..Meta::default() };
    let rig = Rig::start(Fake::answering(found(written, "true")));
    let got = rig.client.send("PUT", "/v1/kv/a?dc=dc2", &[], "b").await;
    assert_eq!(got.header("x-causeway-path"), "dc1, dc3, dc2");
    assert_eq!(got.header("x-consul-index"), "");
}

#[tokio::test]
async fn an_answer_from_a_mirror_says_so() {
    let mirrored = Meta { mirrored: true, ..meta(13) };
    let rig = Rig::start(Fake::answering(found(mirrored, "[]")));
    let got = rig.client.get("/v1/kv/a?dc=dc2&stale").await;
    assert_eq!(got.header("x-causeway-source"), "mirror");
    assert_eq!(rig.fake.last().max_stale, None);
    let rig = Rig::start(Fake::answering(found(meta(13), "[]")));
    assert_eq!(rig.client.get("/v1/kv/a").await.header("x-causeway-source"), "");
}

#[tokio::test]
async fn max_stale_bounds_the_age_and_makes_a_read_stale() {
    let rig = Rig::start(Fake::answering(found(meta(13), "[]")));
    rig.client.get("/v1/kv/a?max_stale=3s").await;
    let ask = rig.fake.last();
    assert_eq!(
        (ask.consistency, ask.max_stale),
        (Consistency::Stale, Some(Duration::from_secs(3)))
    );
    let refused = rig.client.get("/v1/kv/a?max_stale=x").await;
    assert_eq!((refused.status, &*refused.body), (400, "Invalid max_stale value \"x\""));
    let refused = rig.client.get("/v1/kv/a?max_stale=3s&consistent").await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn header_names_look_as_go_writes_them() {
    let rig = Rig::start(Fake::answering(found(meta(1), "[]")));
    let text =
        raw_exchange(rig.addr, b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = text.await;
    assert!(text.contains("\r\nX-Consul-Index: 1\r\n"), "{text}");
    assert!(text.contains("\r\nX-Consul-Knownleader: true\r\n"), "{text}");
}

#[tokio::test]
async fn questions_follow_path_method_and_parameters() {
    let text = |text: &str| text.to_owned();
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    let value = bytes::Bytes::from_static(b"v");
    let put = |flags, cas| Question::KvPut { key: text("a"), value: value.clone(), flags, cas };
    let timeline = |about: Option<&str>| Question::FederationTimeline {
        about: about.map(|dc| dc.parse().unwrap()),
        scope: Scope::Federation,
    };
    let remove = |removing| Question::FederationRemove { dc: "dc2".parse().unwrap(), removing };
    let table = [
        ("GET", "/v1/kv/a", Question::KvGet { key: text("a"), raw: false }),
        ("GET", "/v1/kv/a?raw", Question::KvGet { key: text("a"), raw: true }),
        ("GET", "/v1/kv/a+b", Question::KvGet { key: text("a+b"), raw: false }),
        ("GET", "/v1/kv/a/", Question::KvGet { key: text("a/"), raw: false }),
        ("GET", "/v1/kv/?recurse", Question::KvList { prefix: text("") }),
        ("GET", "/v1/kv/a?recurse=true", Question::KvList { prefix: text("a") }),
        (
            "GET",
            "/v1/kv/a?keys&recurse&separator=/",
            Question::KvKeys { prefix: text("a"), separator: text("/") },
        ),
        ("PUT", "/v1/kv/a", put(0, None)),
        ("PUT", "/v1/kv/a?flags=7&cas=0", put(7, Some(0))),
        ("DELETE", "/v1/kv/a", Question::KvDelete { key: text("a"), cas: None }),
        ("DELETE", "/v1/kv/a?cas=3", Question::KvDelete { key: text("a"), cas: Some(3) }),
        ("DELETE", "/v1/kv/?recurse", Question::KvDeleteTree { prefix: text("") }),
        ("GET", "/v1/status/leader", Question::StatusLeader),
        ("GET", "/v1/status/peers", Question::StatusPeers),
        ("GET", "/v1/catalog/datacenters", Question::Datacenters),
        ("GET", "/v1/operator/raft/configuration", Question::RaftConfiguration),
        ("GET", "/v1/federation/status", Question::FederationStatus),
        ("GET", "/v1/federation/timeline", timeline(None)),
        ("PUT", "/v1/federation/remove/dc2", remove(Removing::IfGone)),
        ("PUT", "/v1/federation/remove/dc2?force", remove(Removing::Anyway)),
        ("PUT", "/v1/federation/remove/dc2?undo", remove(Removing::Undo)),
        ("GET", "/v1/federation/timeline?dc=dc2", timeline(Some("dc2"))),
    ];
    for (method, path, question) in table {
        let got = rig.client.send(method, path, &[], "v").await;
        assert_eq!(got.status, 200, "{method} {path}: {}", got.body);
        assert_eq!(rig.fake.last().question, question, "{method} {path}");
    }
}

#[tokio::test]
async fn questions_that_several_datacenters_may_answer_follow_path_and_parameters() {
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    let query_id = "00000000-0000-0000-0000-00000000000a";
    let query_path = "/v1/query/00000000-0000-0000-0000-00000000000A";
    let run = |name: &str, limit, near: &str| {
        let subject = Subject::Query(Run { name: name.into(), limit, agent: "n1".into() });
        let selection = Selection { near: near.into(), ..Selection::default() };
        Question::Lookup(Lookup { subject, selection, form: Form::Json })
    };
    let union = |subject, of: &[&str], seen: &[(&str, u64)]| {
        let (selection, form) = (Selection::default(), Form::Json);
        Question::Union(Union {
            of: of.iter().map(|dc| dc.parse().unwrap()).collect(),
            lookup: Lookup { subject, selection, form },
            seen: seen.iter().map(|(dc, index)| (dc.parse().unwrap(), *index)).collect(),
        })
    };
    let explain = |service: Option<&str>, lost: &[&str], overload_percent| {
        let lost = lost.iter().map(|dc| dc.parse().unwrap()).collect();
        let (service, scope) = (service.map(Into::into), Scope::Federation);
        Question::FailoverExplain(FailoverExplain { service, lost, overload_percent, scope })
    };
    let table = [
        ("GET", "/v1/query", Question::QueryRead { id: None }),
        ("GET", query_path, Question::QueryRead { id: Some(query_id.into()) }),
        ("DELETE", query_path, Question::QueryDelete { id: query_id.into() }),
        ("GET", "/v1/query/a-b/explain", Question::QueryExplain { name: "a-b".into() }),
        ("GET", "/v1/query/web/execute?limit=3&near=_agent", run("web", 3, "n1")),
        ("GET", "/v1/query/web/execute?limit=-1", run("web", 0, "")),
        ("GET", "/v1/catalog/nodes?dc=*", union(Subject::Nodes, &[], &[])),
        (
            "GET",
            "/v1/health/service/web?dc=dc1,dc2&index=dc1:7,dc2:9",
            union(
                Subject::Health { service: "web".into(), passing: false },
                &["dc1", "dc2"],
                &[("dc1", 7), ("dc2", 9)],
            ),
        ),
        ("GET", "/v1/federation/failover", explain(None, &[], 200)),
        ("GET", "/v1/federation/failover?lose=dc2,dc3", explain(None, &["dc2", "dc3"], 200)),
        (
            "GET",
            "/v1/federation/failover?lose=dc2&lose=dc3&service=web&overload=1.5",
            explain(Some("web"), &["dc2", "dc3"], 150),
        ),
    ];
    for (method, path, question) in table {
        let got = rig.client.send(method, path, &[], "v").await;
        assert_eq!(got.status, 200, "{method} {path}: {}", got.body);
        assert_eq!(rig.fake.last().question, question, "{method} {path}");
    }
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_sentence_and_never_asked() {
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    let number = "is not a number from 0 to 18446744073709551615";
    let table = [
        ("GET", "/v1/kv/", "Missing key name".to_owned()),
        ("PUT", "/v1/kv/", "Missing key name".to_owned()),
        ("DELETE", "/v1/kv/", "Missing key name".to_owned()),
        ("GET", "/v1/kv/a?index=x", "Invalid index".to_owned()),
        ("GET", "/v1/kv/a?wait=5", "Invalid wait time".to_owned()),
        (
            "GET",
            "/v1/kv/a?stale&consistent",
            "Cannot specify ?stale with ?consistent, conflicting semantics.".to_owned(),
        ),
        ("PUT", "/v1/kv/a?flags=x", format!("Invalid flags: \"x\" {number}")),
        ("PUT", "/v1/kv/a?cas=", format!("Invalid cas: \"\" {number}")),
        ("PUT", "/v1/kv/a?cas=0&acquire=zz", "Conflicting flags: acquire=zz&cas=0".to_owned()),
        ("DELETE", "/v1/kv/a?cas=1&recurse", "Conflicting flags: cas=1&recurse=".to_owned()),
        ("PUT", "/v1/kv/a?acquire=", "missing session".to_owned()),
        ("GET", "/v1/kv/%ff", "The path is not UTF-8".to_owned()),
        ("PUT", "/v1/txn", "Failed to parse body: EOF".to_owned()),
    ];
    for (method, path, sentence) in table {
        let got = rig.client.send(method, path, &[], "").await;
        assert_eq!(got.status, 400, "{method} {path}");
        assert_eq!(got.body, sentence, "{method} {path}");
        assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
    }
    let got = rig.client.send("PUT", "/v1/kv/a?acquire=zz", &[], "").await;
    assert_eq!((got.status, got.body.contains("invalid session")), (400, true));
    assert_eq!(rig.fake.count(), 0);
}

#[tokio::test]
async fn other_methods_are_refused_with_those_allowed() {
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    for (method, path, allow) in [
        ("POST", "/v1/kv/a", "OPTIONS,GET,PUT,DELETE"),
        ("POST", "/v1/kv/", "OPTIONS,GET,PUT,DELETE"),
        ("GET", "/v1/txn", "OPTIONS,PUT"),
        ("PUT", "/v1/catalog/datacenters", "OPTIONS,GET"),
        ("GET", "/v1/agent/leave", "OPTIONS,PUT"),
        ("GET", "/v1/agent/join/x", "OPTIONS,PUT"),
    ] {
        let got = rig.client.send(method, path, &[], "").await;
        assert_eq!((got.status, got.header("allow")), (405, allow), "{method} {path}");
        assert_eq!(got.body, format!("method {method} not allowed"));
        let got = rig.client.send("OPTIONS", path, &[], "").await;
        assert_eq!((got.status, got.header("allow")), (200, allow), "{path}");
    }
    let got = rig.client.send("HEAD", "/v1/kv/a", &[], "").await;
    assert_eq!(got.status, 405);
}

#[tokio::test]
async fn unknown_paths_are_not_found_and_kv_without_a_slash_has_moved() {
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    for path in ["/v1/nothing", "/v1/agent/nothing", "/v1/kvx"] {
        let got = rig.client.get(path).await;
        assert_eq!((got.status, got.body.as_str()), (404, ""), "{path}");
    }
    let got = rig.client.get("/v1/kv").await;
    assert_eq!((got.status, got.header("location")), (301, "/v1/kv/"));
}

#[tokio::test]
async fn what_is_absent_is_404_with_its_index_and_no_body() {
    let absent = Answer { outcome: Outcome::Absent, meta: meta(0), body: "[]".into() };
    let rig = Rig::start(Fake::answering(Ok(absent)));
    let got = rig.client.get("/v1/kv/none").await;
    assert_eq!((got.status, got.body.as_str()), (404, ""));
    assert_eq!(got.header("x-consul-index"), "1");
    assert!(!got.headers.contains_key("content-type"));
}

#[tokio::test]
async fn raw_values_are_plain_text_in_a_sandbox() {
    let rig = Rig::start(Fake::answering(found(meta(5), "<script>")));
    let got = rig.client.get("/v1/kv/a?raw&pretty").await;
    assert_eq!(got.body, "<script>");
    assert_eq!(got.header("content-type"), "text/plain");
    assert_eq!(got.header("content-security-policy"), "sandbox");
    assert_eq!(got.header("x-consul-index"), "5");
}

#[tokio::test]
async fn errors_have_the_status_and_words_of_consul() {
    let dc = || "dc9".parse().unwrap();
    let table = [
        (AskError::Bad("no".to_owned()), 400, "no"),
        (AskError::TooLarge("big".to_owned()), 413, "big"),
        (AskError::Busy("later".to_owned()), 429, "later"),
        (AskError::NoLeader, 500, "No cluster leader"),
        (
            AskError::Lost,
            500,
            "No cluster leader any more: the write was sent and may have been applied",
        ),
        (AskError::NoPath { dc: dc() }, 500, "No path to datacenter"),
        (
            AskError::NoServer { dc: dc(), reason: "lost since 3 s".to_owned() },
            500,
            "Remote DC has no server currently reachable: lost since 3 s",
        ),
        (AskError::CutOff("none".to_owned()), 500, "No known Consul servers: none"),
        (AskError::Deadline("x".to_owned()), 500, "deadline exceeded: x"),
        (AskError::Failed("disk full".to_owned()), 500, "disk full"),
    ];
    for (error, status, text) in table {
        let rig = Rig::start(Fake::answering(Err(error)));
        let got = rig.client.get("/v1/kv/a").await;
        assert_eq!((got.status, got.body.as_str()), (status, text));
        assert!(!got.headers.contains_key("x-consul-index"));
        assert_eq!(got.headers.contains_key("x-causeway-trace"), status == 500);
    }
}

#[tokio::test]
async fn blocking_reads_carry_index_and_wait_and_their_deadline() {
    let rig = Rig::start(Fake::answering(found(meta(1), "[]")));
    let began = tokio::time::Instant::now();
    rig.client.get("/v1/kv/a?index=7&wait=16s&consistent").await;
    let ask = rig.fake.last();
    let wait = Duration::from_secs(16);
    assert_eq!(ask.blocking, Some(Blocking { index: 7, wait }));
    assert_eq!(ask.consistency, Consistency::Consistent);
    let time = ask.deadline - began;
    assert!(time >= Duration::from_secs(27) && time < Duration::from_secs(60), "{time:?}");
    rig.client.get("/v1/kv/a?stale").await;
    let ask = rig.fake.last();
    assert_eq!((ask.blocking, ask.consistency), (None, Consistency::Stale));
    rig.client.send("PUT", "/v1/kv/a?index=7", &[], "v").await;
    assert_eq!(rig.fake.last().blocking, None);
}

#[tokio::test]
async fn every_request_has_its_own_id_and_the_trace_of_its_client() {
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    let (given, trace) =
        ("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736");
    let headers = [("X-Causeway-Trace", given), ("X-Consul-Token", "t0")];
    let got = rig.client.send("PUT", "/v1/kv/a", &headers, "v").await;
    let first = rig.fake.last();
    assert_eq!(got.header("x-causeway-trace"), trace);
    assert_eq!((first.trace.to_string().as_str(), first.token.as_str()), (trace, "t0"));
    rig.client.send("PUT", "/v1/kv/a?token=t1", &headers, "v").await;
    let second = rig.fake.last();
    assert_eq!(second.token, "t1");
    assert_ne!(first.request, second.request);
    assert_ne!(second.request.0, second.trace.0);
}

#[tokio::test]
async fn bodies_over_their_bound_are_too_large() {
    let rig = Rig::start(Fake::answering(found(meta(1), "true")));
    let most = "x".repeat(512 * 1024);
    let got = rig.client.send("PUT", "/v1/kv/a", &[], &most).await;
    assert_eq!(got.status, 200);
    let more = "x".repeat(512 * 1024 + 1);
    let got = rig.client.send("PUT", "/v1/kv/a", &[], &more).await;
    assert_eq!(got.status, 413);
    let text = "Request body(524289 bytes) too large, max size: 524288 bytes.";
    assert!(got.body.starts_with(text), "{}", got.body);
    let got = rig.client.send_chunked("/v1/kv/a", &more).await;
    assert_eq!(got.status, 413);
    assert!(got.body.starts_with("Request body too large"), "{}", got.body);
    assert_eq!(rig.fake.count(), 1);
}

#[tokio::test]
async fn transactions_are_read_and_conflicts_are_409() {
    let conflict = Answer { outcome: Outcome::Conflict, meta: Meta::default(), body: "{}".into() };
    let rig = Rig::start(Fake::answering(Ok(conflict)));
    let body = r#"[{"KV":{"Verb":"cas","Key":"a","Value":"aGk=","Index":3}}]"#;
    let got = rig.client.send("PUT", "/v1/txn", &[], body).await;
    assert_eq!((got.status, got.body.as_str()), (409, "{}"));
    let value = b"hi".as_slice().into();
    let op = KvOp { verb: KvVerb::Cas, key: "a".to_owned(), value, flags: 0, index: 3 };
    assert_eq!(rig.fake.last().question, Question::Txn { ops: vec![TxnOp::Kv(op)] });
    let got = rig.client.send("PUT", "/v1/txn", &[], r#"[{"KV":{"Verb":"frob"}}]"#).await;
    assert_eq!(got.status, 409);
    let expected = r#"{"Results":null,"Errors":[{"OpIndex":0,"What":"unknown KV verb \"frob\""}]}"#;
    assert_eq!(got.body, expected);
    let got = rig.client.send("PUT", "/v1/txn", &[], "[]").await;
    assert_eq!((got.status, got.body.as_str()), (200, r#"{"Results":[],"Errors":null}"#));
    assert_eq!(rig.fake.count(), 1);
}

#[tokio::test]
async fn pretty_indents_and_gzip_is_used_for_large_bodies_on_request() {
    let body = format!("[\"{}\"]", "a".repeat(5000));
    let rig = Rig::start(Fake::answering(found(meta(1), &body)));
    let got = rig.client.get("/v1/kv/a?pretty").await;
    assert_eq!(got.body, format!("[\n    \"{}\"\n]\n", "a".repeat(5000)));
    let got = rig.client.send("GET", "/v1/kv/a", &[("Accept-Encoding", "gzip")], "").await;
    assert_eq!(got.header("content-encoding"), "gzip");
    assert_eq!(got.unzipped(), body);
    let rig = Rig::start(Fake::answering(found(meta(1), "[]")));
    let got = rig.client.send("GET", "/v1/kv/a", &[("Accept-Encoding", "gzip")], "").await;
    assert!(!got.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_ask() {
    let rig = Rig::start(Fake::never());
    let mut stream = TcpStream::connect(rig.addr).await.unwrap();
    stream.write_all(b"GET /v1/kv/a?index=5 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    rig.fake.asked().await;
    drop(stream);
    rig.fake.cancelled().await;
}

#[tokio::test]
async fn http2_without_tls_is_understood() {
    let rig = Rig::start(Fake::answering(found(meta(1), "[]")));
    let client = Client::http2(rig.addr);
    assert_eq!(client.get("/v1/kv/a").await.body, "[]");
}

#[tokio::test]
async fn connections_of_one_client_are_bounded() {
    let rig = Rig::with(Fake::answering(found(meta(1), "[]")), |config| {
        config.connections_per_client_max = crate::http::Most::new(1);
    });
    assert_eq!(rig.client.get("/v1/kv/a").await.status, 200);
    let mut second = TcpStream::connect(rig.addr).await.unwrap();
    let mut text = String::new();
    second.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
}

#[tokio::test]
async fn stopping_ends_blocking_reads_and_then_the_server() {
    let rig = Rig::start(Fake::never());
    let blocked =
        tokio::spawn(raw_exchange(rig.addr, b"GET /v1/kv/a?index=5 HTTP/1.1\r\nHost: x\r\n\r\n"));
    rig.fake.asked().await;
    rig.stop.cancel();
    let text = blocked.await.unwrap();
    assert!(text.contains("this agent is stopping"), "{text}");
    rig.server.await.unwrap();
    assert!(TcpStream::connect(rig.addr).await.is_err());
}

#[tokio::test]
async fn configured_headers_are_on_every_response() {
    let rig = Rig::with(Fake::answering(found(meta(1), "[]")), |config| {
        let name = axum::http::HeaderName::from_static("x-frame-options");
        config.headers = vec![(name, axum::http::HeaderValue::from_static("DENY"))];
    });
    for path in ["/v1/kv/a", "/v1/nothing"] {
        assert_eq!(rig.client.get(path).await.header("x-frame-options"), "DENY");
    }
}

#[tokio::test]
async fn what_the_operator_forbids_is_403_and_never_asked() {
    let rig = Rig::with(Fake::answering(found(meta(1), "true")), |config| {
        config.rules.blocked = vec!["/v1/agent/".to_owned()];
        config.rules.writers = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let got = rig.client.get("/v1/agent/self").await;
    assert_eq!(got.status, 403);
    assert_eq!(got.body, "Endpoint is blocked by agent configuration");
    let got = rig.client.send("PUT", "/v1/kv/a", &[], "v").await;
    assert_eq!((got.status, got.body.as_str()), (403, "Access is restricted"));
    assert_eq!(rig.fake.count(), 0);
    assert_eq!(rig.client.get("/v1/kv/a").await.status, 200);
}

#[tokio::test]
async fn who_is_in_a_network_that_may_write_writes() {
    let rig = Rig::with(Fake::answering(found(meta(1), "true")), |config| {
        config.rules.writers = vec!["127.0.0.0/8".parse().unwrap()];
    });
    assert_eq!(rig.client.send("PUT", "/v1/kv/a", &[], "v").await.status, 200);
}

#[tokio::test]
async fn bounds_of_bodies_and_waits_are_the_operators() {
    let rig = Rig::with(Fake::answering(found(meta(1), "true")), |config| {
        config.bounds.value_len_max = 3;
        config.bounds.txn_len_max = 5;
        config.bounds.wait_default = Duration::from_secs(7);
        config.bounds.wait_max = Duration::from_secs(9);
    });
    assert_eq!(rig.client.send("PUT", "/v1/kv/a", &[], "123").await.status, 200);
    let got = rig.client.send("PUT", "/v1/kv/a", &[], "1234").await;
    assert_eq!(got.status, 413);
    assert_eq!(
        got.body,
        "Request body(4 bytes) too large, max size: 3 bytes. It is set by limits.kv_max_value_size."
    );
    let got = rig.client.send("PUT", "/v1/txn", &[], "[    ]").await;
    assert_eq!(got.status, 413);
    assert!(got.body.ends_with("It is set by limits.txn_max_req_len."), "{}", got.body);
    for (wait, seconds) in [("", 7), ("&wait=8s", 8), ("&wait=1h", 9)] {
        rig.client.get(&format!("/v1/kv/a?index=3{wait}")).await;
        let wait = Duration::from_secs(seconds);
        assert_eq!(rig.fake.last().blocking, Some(Blocking { index: 3, wait }));
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_431() {
    let rig = Rig::with(Fake::answering(found(meta(1), "true")), |config| {
        config.bounds.head_len_max = 16 * 1024;
    });
    let short = format!("/v1/kv/{}", "k".repeat(15 * 1024));
    assert_eq!(rig.client.get(&short).await.status, 200);
    let long = format!("/v1/kv/{}", "k".repeat(17 * 1024));
    assert_eq!(rig.client.get(&long).await.status, 431);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_on_a_connection_stops_nothing(bytes: Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::start(Fake::answering(found(meta(1), "[]")));
            let mut stream = TcpStream::connect(rig.addr).await.unwrap();
            let _sent = stream.write_all(&bytes).await;
            drop(stream);
            assert_eq!(rig.client.get("/v1/kv/a").await.status, 200);
        });
    }
}
