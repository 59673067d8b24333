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

/// How long a catalog may be wrong about an agent that has no reason to look: until its next full
/// synchronisation, with its spread.
const REPAIRED_MAX: Duration = Duration::from_secs(140);

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

/// What an agent holds of itself in the catalog, as far as others may have spoilt it.
async fn shown(client: &Client, node: &str) -> Result<Value, String> {
    let path = format!("/v1/health/service/web?node-meta=rack:7&filter=Node.Node==%22{node}%22");
    client.json(&path).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_somebody_tampered_with_is_put_right() {
    let mut cluster = Cluster::plan(&crate::dc1(1, 1));
    cluster.agents[1].configure(json!({ "node_meta": { "rack": "7" } }));
    cluster.launch().await;
    let (server, node) = (cluster.agents[0].client(), cluster.agents[1].name.clone());
    register(&cluster.agents[1]).await;
    put(&cluster.agents[1].client(), "/v1/agent/service/register", json!({ "Name": "db" })).await;
    put(&cluster.agents[1].client(), "/v1/agent/check/pass/up", json!(null)).await;
    found(&server, PASSING, 1).await;
    found(&server, "/v1/health/service/db", 1).await;
    let content = |list: &Value| {
        let mut one = list[0].clone();
        let timeless = |record: &mut Value| {
            record["CreateIndex"] = Value::Null;
            record["ModifyIndex"] = Value::Null;
        };
        if one.is_object() {
            timeless(&mut one["Node"]);
            timeless(&mut one["Service"]);
            one["Checks"].as_array_mut().into_iter().flatten().for_each(timeless);
        }
        one
    };
    let before = content(&shown(&server, &node).await.unwrap());

    // What is not this agent's, what it says otherwise, what it has and the catalog has not.
    let strange = json!({
        "Node": node, "SkipNodeUpdate": true,
        "Service": { "ID": "ghost", "Service": "ghost", "Port": 1 },
        "Checks": [
            { "Node": node, "CheckID": "haunted", "Name": "haunted", "Status": "critical" },
            { "Node": node, "CheckID": "up", "Name": "up", "Status": "critical", "ServiceID": "web1" },
        ],
    });
    put(&server, "/v1/catalog/register", strange).await;
    let other = json!({
        "Node": node, "SkipNodeUpdate": true,
        "Service": { "ID": "web1", "Service": "web", "Port": 666, "Tags": ["evil"] },
    });
    put(&server, "/v1/catalog/register", other).await;
    let meta = json!({ "Node": node, "Address": "192.0.2.66", "NodeMeta": { "rack": "6" } });
    put(&server, "/v1/catalog/register", meta).await;
    let gone = json!({ "Node": node, "ServiceID": "db" });
    put(&server, "/v1/catalog/deregister", gone).await;

    let right = async || {
        let list = shown(&server, &node).await?;
        if list.as_array().is_none_or(|list| list.len() != 1) {
            return Err(list.to_string());
        }
        let names = server.json("/v1/catalog/services").await.map_err(|e| e.to_string())?;
        let all = json!({ "consul": [], "db": [], "web": ["v1"] });
        match content(&list) == before && names == all {
            true => Ok(()),
            false => Err(format!("{list}, {names}")),
        }
    };
    assert!(right().await.is_err());
    until(REPAIRED_MAX, "the catalog is as the agent says", right).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_damaged_or_wiped_costs_what_was_in_it() {
    let mut cluster = Cluster::start(&crate::dc1(1, 1)).await;
    let server = cluster.agents[0].client();
    let id = async |client: &Client| {
        client.json("/v1/catalog/node/dc1-c1").await.unwrap()["Node"]["ID"].clone()
    };
    register(&cluster.agents[1]).await;
    let db = json!({ "ID": "db1", "Name": "db" });
    put(&cluster.agents[1].client(), "/v1/agent/service/register", db).await;
    found(&server, "/v1/health/service/web", 1).await;
    found(&server, "/v1/health/service/db", 1).await;
    let before = id(&server).await;

    cluster.agents[1].kill();
    let services = cluster.agents[1].data_dir().join("services");
    let mut damaged = 0;
    for entry in std::fs::read_dir(&services).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        if text.contains("web1") {
            std::fs::write(&file, &text[..text.len() / 2]).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1, "{}", services.display());
    cluster.agents[1].start().await;
    found(&server, "/v1/health/service/web", 0).await;
    found(&server, "/v1/health/service/db", 1).await;
    assert_eq!(id(&server).await, before, "it is the same node");
    let log = cluster.agents[1].log();
    assert!(log.contains("services"), "it says which file: {log}");

    cluster.agents[1].kill();
    std::fs::remove_dir_all(cluster.agents[1].data_dir()).unwrap();
    cluster.agents[1].start().await;
    // A replaced machine: its name is taken over as soon as the old one is known to be dead.
    until(REPAIRED_MAX, "the new machine takes the name", async || {
        let now = id(&server).await;
        if now != before && now.is_string() { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    found(&server, "/v1/health/service/db", 0).await;
    register(&cluster.agents[1]).await;
    found(&server, "/v1/health/service/web", 1).await;
}
