//! Datacenters and servers that go: removed, let in again, leaving in order, forced out.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    until,
};

/// How long until a loss, a removal or a return is known to all.
const KNOWN_MAX: Duration = Duration::from_secs(60);

fn three() -> [Shape; 3] {
    let one = |dc| Shape { dc, servers: 1, clients: 0 };
    [Shape { clients: 1, ..one("dc1") }, one("dc2"), one("dc3")]
}

/// The places of the agents of [`three`]: dc1's server and client, then the other servers.
const A1: usize = 0;
const CLIENT: usize = 1;
const B1: usize = 2;
const C1: usize = 3;

/// Waits until an agent's servers know these datacenters and no others.
async fn knows(client: &Client, names: &[&str]) {
    until(KNOWN_MAX, &format!("{names:?} are known"), async || {
        let found = client.json("/v1/catalog/datacenters").await;
        let found = found.map_err(|error| format!("{error:#}"))?;
        let mut all: Vec<&str> = found.as_array().unwrap().iter().flat_map(Value::as_str).collect();
        all.sort();
        if all == names { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Waits until an agent's servers hold a datacenter for something.
async fn holds(client: &Client, dc: &str, health: &str) {
    until(KNOWN_MAX, &format!("{dc} is {health}"), async || {
        let status = client.json("/v1/federation/status").await;
        let status = status.map_err(|error| format!("{error:#}"))?;
        let all = status["Datacenters"].as_array().unwrap();
        let is_so = all.iter().any(|it| it["Name"] == dc && it["Health"] == health);
        if is_so { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// Waits until a server has a member of the WAN pool with a status, or none of that name.
async fn member(client: &Client, name: &str, status: Option<u64>) {
    until(KNOWN_MAX, &format!("{name} is {status:?}"), async || {
        let found = client.json("/v1/agent/members?wan=1").await;
        let found = found.map_err(|error| format!("{error:#}"))?;
        let member = found.as_array().unwrap().iter().find(|member| member["Name"] == name);
        let held = member.map(|member| member["Status"].as_u64().unwrap());
        if held == status { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

async fn refused(client: &Client, path: &str, why: &str) {
    let response = client.put(path, "").await.unwrap();
    assert_eq!(response.status, StatusCode::BAD_REQUEST, "{path}: {}", response.text());
    assert!(response.text().contains(why), "{path}: {}", response.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_datacenter_is_forgotten_everywhere_and_stays_out_until_that_is_undone() {
    let mut cluster = Cluster::start(&three()).await;
    let client = |cluster: &Cluster, place: usize| cluster.agents[place].client();
    let asker = client(&cluster, CLIENT);
    holds(&asker, "dc2", "healthy").await;
    refused(&asker, "/v1/federation/remove/dc2", "dc2 is healthy").await;
    refused(&asker, "/v1/federation/remove/dc1?force", "the datacenter of this server").await;
    refused(&asker, "/v1/federation/remove/dc9", "no datacenter dc9 is known").await;
    refused(&asker, "/v1/federation/remove/dc2?undo", "dc2 is not removed").await;

    cluster.agents[B1].kill();
    holds(&asker, "dc2", "lost").await;
    let removed = asker.put("/v1/federation/remove/dc2", "").await.unwrap();
    assert_eq!((removed.status, &*removed.text()), (StatusCode::OK, "true"));
    for place in [CLIENT, C1] {
        knows(&client(&cluster, place), &["dc1", "dc3"]).await;
    }

    // Neither its return nor a restart of those who keep it out changes that.
    cluster.agents[A1].kill();
    cluster.run(A1).await;
    cluster.run(B1).await;
    let outcast = client(&cluster, B1);
    until(KNOWN_MAX, "dc2 is told that it was removed", async || {
        let path = format!("/v1/agent/join/{}?wan=1", cluster.agents[A1].host);
        let response = outcast.put(&path, "").await.map_err(|error| format!("{error:#}"))?;
        let text = response.text();
        let why = "dc2 was removed from the federation, says dc1-s1.dc1";
        if text.contains(why) { Ok(()) } else { Err(text) }
    })
    .await;
    for place in [A1, C1] {
        knows(&client(&cluster, place), &["dc1", "dc3"]).await;
        let status = client(&cluster, place).json("/v1/federation/status").await.unwrap();
        assert_eq!(status["Removed"][0]["Name"], "dc2", "{status}");
    }

    let undone = client(&cluster, C1).put("/v1/federation/remove/dc2?undo=1", "").await.unwrap();
    assert_eq!(undone.status, StatusCode::OK, "{}", undone.text());
    for place in [CLIENT, B1, C1] {
        knows(&client(&cluster, place), &["dc1", "dc2", "dc3"]).await;
        let own = cluster.dc(place);
        if own != "dc2" {
            holds(&client(&cluster, place), "dc2", "healthy").await;
        }
    }
    let timeline = asker.json("/v1/federation/timeline?dc=dc2").await.unwrap();
    let told = timeline["Events"].as_array().unwrap().iter().filter(|it| it["Kind"] == "removal");
    let texts: Vec<_> = told.map(|event| &event["Text"]).collect();
    assert!(texts.contains(&&json!("dc2 may come back, says dc3-s1.dc3")), "{timeline}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_leave_or_are_forced_out_are_left_in_all_datacenters() {
    let mut cluster = Cluster::start(&three()).await;
    let others = [cluster.agents[A1].client(), cluster.agents[C1].client()];
    let left = cluster.agents[B1].client().put("/v1/agent/leave", "").await.unwrap();
    assert_eq!(left.status, StatusCode::OK, "{}", left.text());
    for client in &others {
        member(client, "dc2-s1.dc2", Some(3)).await;
        holds(client, "dc2", "left").await;
        knows(client, &["dc1", "dc3"]).await;
    }

    cluster.agents[A1].kill();
    member(&others[1], "dc1-s1.dc1", Some(4)).await;
    let alive = others[1].put("/v1/agent/force-leave/dc3-s1.dc3?wan=1", "").await.unwrap();
    assert!(alive.text().contains("is alive"), "{}", alive.text());
    let (code, _, err) = cluster.agents[C1].run(&["force-leave", "-wan", "dc1-s1.dc1"]);
    assert_eq!(code, Some(0), "{err}");
    member(&others[1], "dc1-s1.dc1", Some(3)).await;
    holds(&others[1], "dc1", "left").await;
    let (code, _, err) = cluster.agents[C1].run(&["force-leave", "-wan", "-prune", "dc1-s1.dc1"]);
    assert_eq!(code, Some(0), "{err}");
    member(&others[1], "dc1-s1.dc1", None).await;

    cluster.run(A1).await;
    member(&others[1], "dc1-s1.dc1", Some(1)).await;
    holds(&others[1], "dc1", "healthy").await;
}
