//! The life of services: registered, passing, found in both datacenters, their agent dead and back.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tests::harness::{
    agent::Agent,
    client::Client,
    cluster::{Cluster, Shape},
    until,
};

/// How long a change may take until the whole datacenter shows it.
const SHOWN_MAX: Duration = Duration::from_secs(30);

async fn put(client: &Client, path: &str, body: Value) {
    let answer = client.send(Method::PUT, path, body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
}

async fn register(agent: &Agent) {
    let service = json!({
        "ID": "web1", "Name": "web", "Port": 80, "Tags": ["v1"], "Meta": {"rack": "7"},
        "Checks": [{"CheckID": "up", "TTL": "1h"}],
    });
    put(&agent.client(), "/v1/agent/service/register", service).await;
}

/// Waits until an agent finds as many instances as expected, and returns them.
async fn found(client: &Client, path: &str, count: usize) -> Value {
    until(SHOWN_MAX, &format!("{count} at {path}"), async || {
        let list = client.json(path).await.map_err(|error| format!("{error:#}"))?;
        match list.as_array().is_some_and(|list| list.len() == count) {
            true => Ok(list),
            false => Err(list.to_string()),
        }
    })
    .await
}

const PASSING: &str = "/v1/health/service/web?passing";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_found_while_it_passes_and_its_agent_lives() {
    let mut cluster = Cluster::start(&crate::dc1(1, 1)).await;
    let server = cluster.agents[0].client();
    register(&cluster.agents[1]).await;
    let all = found(&server, "/v1/health/service/web", 1).await;
    assert_eq!(all[0]["Service"]["Meta"], json!({ "rack": "7" }));
    found(&server, PASSING, 0).await;
    put(&cluster.agents[1].client(), "/v1/agent/check/pass/up", json!(null)).await;
    found(&server, PASSING, 1).await;

    cluster.agents[1].kill();
    found(&server, PASSING, 0).await;
    cluster.agents[1].start().await;
    // Registered and passing, by what it kept.
    found(&server, PASSING, 1).await;

    put(&cluster.agents[1].client(), "/v1/agent/service/deregister/web1", json!(null)).await;
    found(&server, "/v1/health/service/web", 0).await;
    assert_eq!(server.json("/v1/catalog/services").await.unwrap(), json!({ "consul": [] }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_found_from_another_datacenter() {
    let shape = |dc| Shape { dc, servers: 1, clients: 1 };
    let cluster = Cluster::start(&[shape("dc1"), shape("dc2")]).await;
    register(&cluster.agents[1]).await;
    put(&cluster.agents[1].client(), "/v1/agent/check/pass/up", json!(null)).await;
    for agent in [2, 3] {
        let client = cluster.agents[agent].client();
        let instances = found(&client, "/v1/health/service/web?passing&dc=dc1", 1).await;
        assert_eq!(instances[0]["Node"]["Datacenter"], "dc1");
        found(&client, PASSING, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_of_files_are_registered_at_the_start() {
    let mut cluster = Cluster::plan(&crate::dc1(1, 0));
    let service =
        json!({ "name": "web", "port": 80, "check": { "ttl": "1h", "status": "passing" } });
    cluster.agents[0].configure(json!({ "service": service }));
    cluster.launch().await;
    let instances = found(&cluster.agents[0].client(), PASSING, 1).await;
    assert_eq!(instances[0]["Service"]["Port"], 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_of_a_service_hears_of_it_alone() {
    let cluster = Cluster::start(&crate::dc1(1, 0)).await;
    let client = cluster.agents[0].client();
    register(&cluster.agents[0]).await;
    found(&client, "/v1/health/service/web", 1).await;
    let index = |answer: &tests::harness::client::Response| -> u64 {
        answer.headers["x-consul-index"].to_str().unwrap().parse().unwrap()
    };
    let first = client.get("/v1/health/service/web").await.unwrap();
    let path = format!("/v1/health/service/web?index={}&wait=1m", index(&first));
    let watcher = cluster.agents[0].client().patient(Duration::from_secs(70));
    let watching = tokio::spawn(async move { watcher.get(&path).await.unwrap() });
    put(&client, "/v1/agent/service/register", json!({ "Name": "db" })).await;
    found(&client, "/v1/health/service/db", 1).await;
    assert!(!watching.is_finished(), "db is none of its business");
    put(&client, "/v1/agent/check/pass/up", json!(null)).await;
    let woken = watching.await.unwrap();
    assert!(index(&woken) > index(&first));
    let list: Value = serde_json::from_slice(&woken.body).unwrap();
    let up = list[0]["Checks"].as_array().unwrap().iter().find(|it| it["CheckID"] == "up").unwrap();
    assert_eq!(up["Status"], "passing");
}
