//! Configuration entries: written in one datacenter, the same in all, whichever of them is lost.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    until,
};

/// How long a change may take until it is everywhere.
const EVERYWHERE_MAX: Duration = Duration::from_secs(60);

/// How long what waits for an election may take.
const ANSWER_MAX: Duration = Duration::from_secs(15);

const WEB: &str = "/v1/config/service-resolver/web";

async fn federation() -> Cluster {
    let mut cluster = Cluster::plan(&[
        Shape { dc: "dc1", servers: 1, clients: 0 },
        Shape { dc: "dc2", servers: 3, clients: 1 },
        Shape { dc: "dc3", servers: 1, clients: 0 },
    ]);
    for agent in &mut cluster.agents {
        agent.configure(json!({ "primary_datacenter": "dc1" }));
    }
    let wanted = json!({ "Kind": "proxy-defaults", "Name": "global", "Config": { "a": 1 } });
    cluster.agents[0].configure(json!({ "config_entries": { "bootstrap": [wanted] } }));
    cluster.launch().await;
    cluster
}

/// A service-resolver of `web`.
fn resolver(timeout: &str) -> String {
    json!({
        "Kind": "service-resolver",
        "Name": "web",
        "ConnectTimeout": timeout,
        "Failover": { "*": { "Datacenters": ["dc2", "dc3"], "MinHealthy": "50%" } },
    })
    .to_string()
}

async fn written(client: &Client, path: &str, body: String) -> String {
    let response = client.put(path, body).await.unwrap();
    response.ok().unwrap();
    response.text().trim().to_owned()
}

/// Waits until every agent that is asked finds this at a path; `None` for nothing.
async fn everywhere(cluster: &Cluster, places: &[usize], path: &str, timeout: Option<&str>) {
    for place in places {
        let client = cluster.agents[*place].client().patient(ANSWER_MAX);
        until(EVERYWHERE_MAX, "it is everywhere", async || {
            let read = client.get(path).await.map_err(|error| format!("{error:#}"))?;
            let found = match read.status {
                StatusCode::NOT_FOUND => None,
                StatusCode::OK => {
                    let entry: Value = serde_json::from_str(&read.text()).unwrap();
                    Some(entry["ConnectTimeout"].as_str().unwrap_or_default().to_owned())
                }
                other => return Err(format!("{other} {}", read.text())),
            };
            if found.as_deref() == timeout { Ok(()) } else { Err(format!("{place}: {found:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_anywhere_is_everywhere_and_outlives_the_primary() {
    let mut cluster = federation().await;
    let (all, others) = ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]);
    everywhere(&cluster, &all, "/v1/config/proxy-defaults/global", Some("")).await;

    // By a client agent of one that is not the primary, whatever datacenter it names.
    let agent = cluster.agents[4].client().patient(ANSWER_MAX);
    let response = agent.put("/v1/config?dc=dc3", resolver("1s")).await.unwrap();
    response.ok().unwrap();
    assert_eq!(response.header("x-causeway-path"), "dc2, dc1");
    everywhere(&cluster, &all, WEB, Some("1s")).await;
    let mistaken = resolver("1s").replace("dc3", "d c");
    let refused = agent.put("/v1/config", mistaken).await.unwrap();
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let place = "service-resolver/web: Failover[\"*\"].Datacenters[1]: ";
    assert!(refused.text().starts_with(place), "{}", refused.text());

    // What was read here can be compared there.
    let entry = agent.json(WEB).await.unwrap();
    let index = &entry["ModifyIndex"];
    assert_eq!(written(&agent, &format!("/v1/config?cas={index}"), resolver("2s")).await, "true");
    assert_eq!(written(&agent, &format!("/v1/config?cas={index}"), resolver("3s")).await, "false");
    everywhere(&cluster, &all, WEB, Some("2s")).await;

    // Another leads where it is replicated to.
    let leader = cluster.leader("dc2", None).await;
    cluster.agents[leader].kill();
    let dc3 = cluster.agents[5].client().patient(ANSWER_MAX);
    assert_eq!(written(&dc3, "/v1/config", resolver("4s")).await, "true");
    let left: Vec<usize> = all.into_iter().filter(|place| *place != leader).collect();
    everywhere(&cluster, &left, WEB, Some("4s")).await;
    cluster.run(leader).await;
    everywhere(&cluster, &all, WEB, Some("4s")).await;

    // The primary is gone: reads go on, writes say why they can't.
    cluster.agents[0].kill();
    for place in [4, 5] {
        let client = cluster.agents[place].client().patient(ANSWER_MAX);
        let refused = client.put("/v1/config", resolver("5s")).await.unwrap();
        assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(refused.text().contains("reads of them go on here"), "{}", refused.text());
    }
    everywhere(&cluster, &others, WEB, Some("4s")).await;

    // It is back.
    cluster.run(0).await;
    let deleted = until(EVERYWHERE_MAX, "writes go on", async || {
        let deleted = dc3.send(Method::DELETE, WEB, String::new()).await;
        let deleted = deleted.map_err(|error| format!("{error:#}"))?;
        deleted.ok().map_err(|error| format!("{error:#}"))?;
        Ok(deleted.text().trim().to_owned())
    })
    .await;
    assert_eq!(deleted, "{}");
    everywhere(&cluster, &all, WEB, None).await;
    everywhere(&cluster, &all, "/v1/config/proxy-defaults/global", Some("")).await;
}
