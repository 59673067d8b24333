//! What the agent says of itself, its members and its host.

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use serde_json::Value;
use tokio::time::Instant;
use topology::NodeName;

use super::*;
use crate::{
    agent::fixture::profile,
    ask::AskError,
    caller::{Promise, ServerSide},
    http::tests::fake::{Fake, Got, Rig},
    pool::{Order, PoolError},
};

/// A server side that keeps what it is told.
#[derive(Default)]
struct FakeServer {
    log: std::sync::Arc<Mutex<Vec<String>>>,
}

impl FakeServer {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

impl ServerSide for FakeServer {
    fn wan_members(&self) -> Vec<Member> {
        vec![Member { profile: profile("n1", Role::Server), status: Status::Alive }]
    }

    fn wan_join(&self, addrs: Vec<SocketAddr>) -> Promise<Result<usize, String>> {
        self.note(format!("wan join {addrs:?}"));
        Box::pin(async move { Ok(addrs.len()) })
    }

    fn wan_force_leave(&self, name: &str, prune: bool) -> Promise<Result<(), String>> {
        let prune = if prune { " prune" } else { "" };
        self.note(format!("wan force-leave {name}{prune}"));
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> Promise<Result<(), String>> {
        self.note("leave".to_owned());
        Box::pin(async { Ok(()) })
    }

    fn force_leave(&self, name: &NodeName) -> Promise<Result<(), String>> {
        self.note(format!("force-leave {name}"));
        Box::pin(async { Ok(()) })
    }

    fn stats(&self) -> Vec<(&'static str, String, String)> {
        vec![("raft", "term".to_owned(), "3".to_owned())]
    }
}

fn client() -> Fake {
    Fake::answering(Err(AskError::NoLeader))
}

fn json(got: &Got) -> Value {
    serde_json::from_str(&got.body).unwrap()
}

#[tokio::test]
async fn members_look_as_in_consul() {
    let rig = Rig::start(client());
    rig.pool.publish(vec![
        Member { profile: profile("c1", Role::Client), status: Status::Failed },
        Member { profile: profile("n1", Role::Server), status: Status::Alive },
    ]);
    let members = json(&rig.client.get("/v1/agent/members").await);
    assert_eq!(members[0]["Status"], 4);
    assert_eq!(members[0]["Tags"]["role"], "node");
    expect_test::expect![[r#"{"Name":"n1","Addr":"127.0.0.1","Port":8301,"Tags":{"acls":"0","build":"0.1.0:","dc":"dc1","expect":"3","id":"00000000-0000-0000-0000-000000000007","port":"8300","raft_vsn":"3","role":"consul","segment":"","vsn":"2","vsn_max":"3","vsn_min":"2","wan_join_port":"8302"},"Status":1,"ProtocolMin":1,"ProtocolMax":5,"ProtocolCur":2,"DelegateMin":2,"DelegateMax":5,"DelegateCur":4}"#]].assert_eq(&members[1].to_string());
    let wan = json(&rig.client.get("/v1/agent/members?wan").await);
    assert_eq!(wan, json!([]));
}

#[tokio::test]
async fn members_of_the_wan_are_named_with_their_datacenter() {
    let rig = Rig::start(client().with_server(FakeServer::default()));
    let wan = json(&rig.client.get("/v1/agent/members?wan=1").await);
    assert_eq!(wan[0]["Name"], "n1.dc1");
}

#[tokio::test]
async fn self_has_configuration_member_and_stats() {
    let rig = Rig::start(client().with_server(FakeServer::default()));
    let own = json(&rig.client.get("/v1/agent/self").await);
    assert_eq!(own["Config"]["Datacenter"], "dc1");
    assert_eq!(own["Config"]["Server"], true);
    assert_eq!(own["Member"]["Name"], "n1");
    assert_eq!(own["Stats"]["raft"]["term"], "3");
    assert_eq!(own["Stats"]["agent"]["sync_last"], "never");
    assert_eq!(own["Stats"]["agent"]["sync_pending"], "1", "the node itself");
    assert_eq!(own["Stats"]["serf_lan"]["encrypted"], "false");
    assert_eq!(own["DebugConfig"]["NodeName"], "n1");
    let sections = own.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(sections, ["Config", "DebugConfig", "Coord", "Member", "Stats", "Meta"]);
}

#[tokio::test]
async fn host_metrics_and_version_answer() {
    let rig = Rig::start(client());
    let version = json(&rig.client.get("/v1/agent/version").await);
    let expected =
        r#"{"SHA":"abc","BuildDate":"2026-11-21T04:00:00Z","HumanVersion":"0.1.0","FIPS":""}"#;
    assert_eq!(version.to_string(), expected);
    let host = json(&rig.client.get("/v1/agent/host").await);
    assert!(host["Memory"]["total"].as_u64().unwrap() > 0, "{host}");
    let metrics = json(&rig.client.get("/v1/agent/metrics").await);
    assert!(metrics["Gauges"].is_array(), "{metrics}");
    let text = rig.client.get("/v1/agent/metrics?format=prometheus").await;
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn joining_goes_to_the_pool_and_its_failure_to_the_client() {
    let mut rig = Rig::start(client());
    let answer = async {
        let Some(Order::Join { addrs, done }) = rig.orders.recv().await else { panic!() };
        done.send(Err(PoolError::Join("Failed to join x".to_owned()))).unwrap();
        addrs
    };
    let (got, addrs) =
        tokio::join!(rig.client.send("PUT", "/v1/agent/join/10.0.0.1:9", &[], ""), answer);
    assert_eq!((got.status, got.body.as_str()), (500, "Failed to join x"));
    assert_eq!(addrs, ["10.0.0.1:9"]);
    let got = rig.client.send("PUT", "/v1/agent/join/10.0.0.1?wan=1", &[], "").await;
    assert_eq!(got.body, "Must be a server to join WAN cluster");
}

#[tokio::test]
async fn joining_the_wan_goes_to_the_server() {
    let server = FakeServer::default();
    let log = server.log.clone();
    let rig = Rig::start(client().with_server(server));
    let got = rig.client.send("PUT", "/v1/agent/join/10.0.0.1?wan=1", &[], "").await;
    assert_eq!((got.status, got.body.as_str()), (200, ""));
    let got = rig.client.send("PUT", "/v1/agent/force-leave/n2.dc2?wan", &[], "").await;
    assert_eq!(got.status, 200);
    let path = "/v1/agent/force-leave/n2.dc2?wan=1&prune";
    assert_eq!(rig.client.send("PUT", path, &[], "").await.status, 200);
    let told =
        ["wan join [10.0.0.1:8302]", "wan force-leave n2.dc2", "wan force-leave n2.dc2 prune"];
    assert_eq!(*log.lock().unwrap(), told);
}

#[tokio::test]
async fn forcing_out_tells_the_pool_and_raft() {
    let server = FakeServer::default();
    let log = server.log.clone();
    let mut rig = Rig::start(client().with_server(server));
    let answer = async {
        let Some(Order::ForceLeave { name, prune, done }) = rig.orders.recv().await else {
            panic!()
        };
        done.send(Ok(())).unwrap();
        (name, prune)
    };
    let path = "/v1/agent/force-leave/n2?prune";
    let (got, told) = tokio::join!(rig.client.send("PUT", path, &[], ""), answer);
    assert_eq!(got.status, 200);
    assert_eq!(told, ("n2".to_owned(), true));
    assert_eq!(*log.lock().unwrap(), ["force-leave n2"]);
}

#[tokio::test]
async fn leaving_tells_servers_then_the_pool_and_then_stops() {
    let server = FakeServer::default();
    let log = server.log.clone();
    let mut rig = Rig::start(client().with_server(server));
    let answer = async {
        let Some(Order::Leave { done }) = rig.orders.recv().await else { panic!() };
        assert_eq!(*log.lock().unwrap(), ["leave"]);
        done.send(()).unwrap();
    };
    let (got, ()) = tokio::join!(rig.client.send("PUT", "/v1/agent/leave", &[], ""), answer);
    assert_eq!(got.status, 200);
    rig.server.await.unwrap();
}

#[tokio::test]
async fn who_leaves_goes_on_answering_until_its_time_to_drain_is_over() {
    let drain = Duration::from_millis(300);
    let mut rig = Rig::draining(client().with_server(FakeServer::default()), drain);
    let began = Instant::now();
    let answer = async {
        let Some(Order::Leave { done }) = rig.orders.recv().await else { panic!() };
        done.send(()).unwrap();
        assert_eq!(rig.client.get("/v1/agent/version").await.status, 200);
    };
    let (got, ()) = tokio::join!(rig.client.send("PUT", "/v1/agent/leave", &[], ""), answer);
    assert_eq!(got.status, 200);
    assert!(began.elapsed() >= drain);
    rig.server.await.unwrap();
}
