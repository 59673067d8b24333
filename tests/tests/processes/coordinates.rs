//! Network coordinates: found by the agents, told to the servers, said by hand, and used to sort.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    until,
};

use crate::dc1;

/// How long agents may take to find a first coordinate and to tell it.
const TOLD_MAX: Duration = Duration::from_secs(60);

/// How long what waits for an election may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// After so many log entries a server takes a snapshot.
const SNAPSHOT_ENTRIES: u64 = 40;

/// The nodes in a list of coordinates.
fn nodes(list: &Value) -> Vec<String> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row["Node"].as_str().unwrap().to_owned()).collect()
}

async fn register(client: &Client, node: &str) {
    let body = json!({ "Node": node, "Address": "192.0.2.1", "Service": { "Service": "web" } });
    client.put("/v1/catalog/register", body.to_string()).await.unwrap().ok().unwrap();
}

fn at(node: &str, millis: f64) -> String {
    let vec = [millis / 1000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let coord = json!({ "Vec": vec, "Error": 0.5, "Adjustment": 0.0, "Height": 1e-5 });
    json!({ "Node": node, "Segment": "", "Coord": coord }).to_string()
}

async fn put(client: &Client, node: &str, millis: f64) {
    let path = "/v1/coordinate/update";
    let answer = client.put(path, at(node, millis)).await.unwrap();
    answer.ok().unwrap();
    assert_eq!(answer.text(), "");
}

/// The nodes of `web` in the order of an answer.
async fn order(client: &Client, query: &str) -> Result<String, String> {
    let path = format!("/v1/health/service/web?{query}");
    let found = client.json(&path).await.map_err(|error| format!("{error:#}"))?;
    let name = |row: &Value| row["Node"]["Node"].as_str().unwrap().to_owned();
    Ok(found.as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_find_their_coordinates_and_rtt_estimates_between_them() {
    let cluster = Cluster::start(&dc1(3, 1)).await;
    let (agent, client) = (&cluster.agents[3], cluster.agents[3].client());
    until(TOLD_MAX, "all agents told where they are", async || {
        let list = client.json("/v1/coordinate/nodes").await.unwrap();
        let found = nodes(&list);
        // None is at the origin any more: it was measured.
        let measured = list.as_array().unwrap().iter().all(|row| row["Coord"]["Error"] != 1.5);
        let all = found == ["dc1-c1", "dc1-s1", "dc1-s2", "dc1-s3"] && measured;
        if all { Ok(()) } else { Err(list.to_string()) }
    })
    .await;
    for name in ["dc1-c1", "DC1-S2"] {
        let one = client.json(&format!("/v1/coordinate/node/{name}")).await.unwrap();
        assert_eq!(one[0]["Coord"]["Vec"].as_array().unwrap().len(), 8, "{one}");
    }
    let none = client.get("/v1/coordinate/node/none").await.unwrap();
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert!(none.index() > 0);

    let (code, out, err) = agent.run(&["rtt", "dc1-s1"]);
    assert_eq!(code, Some(0), "{err}");
    let ms = out.strip_prefix("Estimated dc1-s1 <-> dc1-c1 rtt: ").unwrap();
    let ms = ms.strip_suffix(" ms (using LAN coordinates)\n").unwrap();
    assert!(ms.parse::<f64>().unwrap() > 0.0, "{out}");
    let (code, _, err) = agent.run(&["rtt", "dc1-s1", "none"]);
    assert_eq!((code, err.as_str()), (Some(1), "Could not find a coordinate for node \"none\"\n"));
    let first = order_of_nodes(&client, "near=_agent").await;
    assert_eq!(first[0], "dc1-c1");
}

async fn order_of_nodes(client: &Client, query: &str) -> Vec<String> {
    nodes(&client.json(&format!("/v1/catalog/nodes?{query}")).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_by_hand_sorts_lookups_wakes_who_waits_and_outlives_leaders_and_restarts() {
    let mut cluster = Cluster::plan(&dc1(3, 1));
    for agent in &mut cluster.agents {
        agent.configure(json!({
            "disable_coordinates": true,
            "raft_snapshot_threshold": SNAPSHOT_ENTRIES,
        }));
    }
    cluster.launch().await;
    let client = cluster.agents[3].client().patient(ANSWER_MAX);
    for (node, millis) in [("a", 9.0), ("b", 1.0), ("c", 3.0)] {
        register(&client, node).await;
        put(&client, node, millis).await;
    }
    register(&client, "d").await;
    put(&client, "unknown", 1.0).await;
    let list = client.get("/v1/coordinate/nodes").await.unwrap();
    let found: Value = serde_json::from_str(&list.text()).unwrap();
    assert_eq!(nodes(&found), ["a", "b", "c"], "agents were told to do without");
    assert_eq!(order(&client, "near=a").await.unwrap(), "a c b d");
    assert_eq!(order(&client, "near=b&stale").await.unwrap(), "b c a d");
    assert_eq!(order(&client, "").await.unwrap(), "a b c d");

    let waiting = |path: String| {
        let client = client.clone().patient(Duration::from_secs(90));
        tokio::spawn(async move { client.get(&path).await.unwrap().index() })
    };
    let of = async |path: &str| client.get(path).await.unwrap().index();
    let (all, one) = (of("/v1/coordinate/nodes").await, of("/v1/coordinate/node/b").await);
    let all = (all, waiting(format!("/v1/coordinate/nodes?index={all}&wait=60s")));
    let one = (one, waiting(format!("/v1/coordinate/node/b?index={one}&wait=60s")));
    put(&client, "b", 30.0).await;
    for (before, waited) in [all, one] {
        assert!(waited.await.unwrap() > before);
    }
    assert_eq!(order(&client, "near=a").await.unwrap(), "a c b d");
    assert_eq!(order(&client, "near=c").await.unwrap(), "c a b d");

    let leader = cluster.leader("dc1", None).await;
    cluster.agents[leader].kill();
    until(ANSWER_MAX, "another leader knows them, too", async || {
        let found = order(&client, "near=b").await?;
        if found == "b a c d" { Ok(()) } else { Err(found) }
    })
    .await;
    put(&client, "d", 29.0).await;

    for number in 0..2 * SNAPSHOT_ENTRIES {
        client.put(&format!("/v1/kv/k{number}"), "v").await.unwrap().ok().unwrap();
    }
    for place in 0..3 {
        cluster.agents[place].kill();
    }
    cluster.launch().await;
    for agent in &cluster.agents {
        let client = agent.client().patient(ANSWER_MAX);
        assert_eq!(order(&client, "near=b").await.unwrap(), "b d a c", "{}", agent.name);
    }
    let what = json!({ "Node": "d" }).to_string();
    client.put("/v1/catalog/deregister", what).await.unwrap().ok().unwrap();
    let gone = client.get("/v1/coordinate/node/d").await.unwrap();
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_all_datacenters_are_on_one_map() {
    let one = |dc| Shape { dc, servers: 1, clients: 0 };
    let cluster = Cluster::start(&[one("dc1"), one("dc2")]).await;
    let agent = &cluster.agents[0];
    until(TOLD_MAX, "both datacenters are on the map", async || {
        let areas = agent.client().json("/v1/coordinate/datacenters").await.unwrap();
        let shown = |place: usize, dc: &str| {
            let area = &areas[place];
            let node = format!("{dc}-s1");
            area["Datacenter"] == dc
                && area["AreaID"] == "wan"
                && area["Coordinates"][0]["Node"] == node
        };
        if shown(0, "dc1") && shown(1, "dc2") { Ok(()) } else { Err(areas.to_string()) }
    })
    .await;
    let (code, out, err) = agent.run(&["rtt", "-wan", "dc2-s1.dc2"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("Estimated dc2-s1.dc2 <-> dc1-s1.dc1 rtt: "), "{out}");
    assert!(out.ends_with(" ms (using WAN coordinates)\n"), "{out}");

    // By way of a server of the other datacenter.
    let body = json!({ "Node": "x", "Address": "192.0.2.1", "Datacenter": "dc2" }).to_string();
    agent.client().put("/v1/catalog/register", body).await.unwrap().ok().unwrap();
    let path = "/v1/coordinate/update?dc=dc2";
    agent.client().put(path, at("x", 1.0)).await.unwrap().ok().unwrap();
    let found = cluster.agents[1].client().json("/v1/coordinate/node/x").await.unwrap();
    assert_eq!(found[0]["Node"], "x");
}
