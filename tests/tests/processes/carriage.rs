//! What is carried between datacenters: large answers, long ones, and those that nobody waits for.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    until,
};
use tokio::{task::JoinSet, time::Instant};

/// How long a change may take until everybody concerned knows of it.
const KNOWN_MAX: Duration = Duration::from_secs(60);

/// How long an answer may take: far longer than it does.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Bytes of a value: as many as one may have.
const VALUE_LEN: usize = 512 * 1024;

/// Values that make a large answer, about 43 MiB of JSON.
const VALUES: usize = 64;

/// Blocking queries under way at one time, each with a connection: half of what a client may have.
const WAITING: usize = 100;

async fn three() -> Cluster {
    let one = |dc| Shape { dc, servers: 1, clients: 0 };
    let dc1 = Shape { dc: "dc1", servers: 1, clients: 1 };
    let mut cluster = Cluster::plan_relayed(&[dc1, one("dc2"), one("dc3")]).await;
    for agent in &mut cluster.agents {
        // What is under way is counted, and is to be that of clients.
        agent.configure(json!({ "federation": { "mirrors": false } }));
    }
    cluster.launch().await;
    cluster
}

/// Cuts dc1 from dc2, and waits until requests take a detour.
async fn detour(cluster: &Cluster) {
    let hosts = |place: usize| vec![cluster.agents[place].host];
    cluster.relay.as_ref().unwrap().cut(&hosts(0), &hosts(2));
    let client = cluster.agents[0].client();
    until(KNOWN_MAX, "requests take a detour", async || {
        let read = client.get("/v1/kv/any?dc=dc2").await.map_err(|error| error.to_string())?;
        match read.header("x-causeway-path") {
            "dc1, dc3, dc2" => Ok(()),
            path => Err(path.to_owned()),
        }
    })
    .await;
}

/// A number of the WAN as an agent says it.
async fn number(client: &Client, key: &str) -> Result<usize, String> {
    let own: Value = client.json("/v1/agent/self").await.map_err(|error| format!("{error:#}"))?;
    let text = own["Stats"]["wan"][key].as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("{key} is {text:?}"))
}

async fn becomes(client: &Client, key: &str, expected: usize) {
    until(KNOWN_MAX, key, async || match number(client, key).await? {
        found if found == expected => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_come_whole_by_both_ways() {
    let cluster = three().await;
    let there = cluster.agents[2].client();
    let value = "x".repeat(VALUE_LEN);
    for number in 0..VALUES {
        assert!(there.kv_put(&format!("large/{number:03}"), &value).await.unwrap());
    }
    let here = there.get("/v1/kv/large?recurse").await.unwrap();
    assert!(here.body.len() > VALUE_LEN * VALUES);
    let client = cluster.agents[1].client().patient(ANSWER_MAX);
    let straight = client.get("/v1/kv/large?recurse&dc=dc2").await.unwrap();
    assert!(straight.body == here.body, "{} bytes arrived", straight.body.len());
    detour(&cluster).await;
    let around = client.get("/v1/kv/large?recurse&dc=dc2").await.unwrap();
    assert_eq!(around.header("x-causeway-path"), "dc1, dc3, dc2");
    assert!(around.body == here.body, "{} bytes arrived", around.body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_ends_in_every_datacenter_on_the_way() {
    let cluster = three().await;
    let [server, agent, third] = [0, 1, 3].map(|place| cluster.agents[place].client());
    assert!(agent.kv_put("waited?dc=dc2", "for").await.unwrap());
    for round in ["straight", "around"] {
        if round == "around" {
            detour(&cluster).await;
        }
        let index = agent.get("/v1/kv/waited?dc=dc2").await.unwrap().index();
        let mut waiting = JoinSet::new();
        for number in 0..WAITING {
            // A connection of its own for each, which ends with it.
            let client = Client::new(cluster.agents[1].http_addr()).patient(10 * KNOWN_MAX);
            let path = format!("/v1/kv/waited?dc=dc2&index={index}&wait=10m&number={number}");
            waiting.spawn(async move { client.get(&path).await.map(|answer| answer.status) });
        }
        becomes(&server, "dc2_under_way", WAITING).await;
        let relays = if round == "around" { WAITING } else { 0 };
        becomes(&third, "dc2_relays_under_way", relays).await;
        waiting.shutdown().await;
        becomes(&server, "dc2_under_way", 0).await;
        becomes(&third, "dc2_relays_under_way", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_when_the_agent_has_waited_for_as_long_as_it_is_told_to() {
    let shapes =
        [Shape { dc: "dc1", servers: 1, clients: 1 }, Shape { dc: "dc2", servers: 3, clients: 0 }];
    let mut cluster = Cluster::plan(&shapes);
    for agent in &mut cluster.agents {
        agent.configure(json!({
            "limits": { "rpc_client_timeout": "2s" },
            "performance": { "rpc_hold_timeout": "120s" },
        }));
    }
    cluster.launch().await;
    let leader = cluster.leader("dc2", None).await;
    let follower = *cluster.servers("dc2").iter().find(|place| **place != leader).unwrap();
    [leader, follower].into_iter().for_each(|place| cluster.agents[place].kill());
    // The server that is left waits for a leader, longer than those who ask do.
    for place in [0, 1] {
        let client = cluster.agents[place].client().patient(ANSWER_MAX);
        let begin = Instant::now();
        let response = client.get("/v1/kv/any?dc=dc2").await.unwrap();
        let took = begin.elapsed();
        assert_eq!(response.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(took < Duration::from_secs(60), "{took:?}: {}", response.text());
        let write = client.put("/v1/kv/any?dc=dc2", "x").await.unwrap();
        assert!(write.text().contains("deadline exceeded"), "{}", write.text());
    }
}
