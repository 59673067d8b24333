//! `?dc=`: from a client agent, a follower and the leader; unknown and lost datacenters.

use std::time::Duration;

use hyper::StatusCode;
use tests::harness::{
    cluster::{Cluster, Shape},
    until,
};

/// How long until a lost datacenter is known to be lost, and one that is back to be back.
const VERDICT_MAX: Duration = Duration::from_secs(60);

fn two() -> [Shape; 2] {
    [Shape { dc: "dc1", servers: 3, clients: 1 }, Shape { dc: "dc2", servers: 3, clients: 0 }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_written_in_one_datacenter_is_read_from_another() {
    let mut cluster = Cluster::start(&two()).await;
    let leader = cluster.leader("dc1", None).await;
    for (number, agent) in cluster.agents.iter().take(4).enumerate() {
        let path = format!("from/{number}?dc=dc2");
        assert!(agent.client().kv_put(&path, &agent.name).await.unwrap(), "{}", agent.name);
    }
    for (number, agent) in cluster.agents.iter().take(4).enumerate() {
        let there = cluster.agents[4].client().kv_get(&format!("from/{number}")).await.unwrap();
        assert_eq!(there.expect("it was acknowledged").value, agent.name);
        let path = format!("from/{number}?dc=dc2");
        let read = cluster.agents[leader].client().kv_get(&path).await.unwrap();
        assert_eq!(read.expect("it was acknowledged").value, agent.name);
        let here = agent.client().kv_get(&format!("from/{number}")).await.unwrap();
        assert_eq!(here, None, "dc1 has no such key");
    }
    let known = cluster.agents[3].client().json("/v1/catalog/datacenters").await.unwrap();
    assert_eq!(known, serde_json::json!(["dc1", "dc2"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_datacenter_is_named_as_such() {
    let cluster = Cluster::start(&[Shape { dc: "dc1", servers: 1, clients: 1 }]).await;
    for agent in &cluster.agents {
        let response = agent.client().get("/v1/kv/a?dc=nowhere").await.unwrap();
        assert_eq!(response.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.text().contains("No path to datacenter"), "{}", response.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_datacenter_is_an_error_for_those_who_name_it_alone() {
    let mut cluster = Cluster::start(&two()).await;
    let lost = cluster.servers("dc2");
    assert!(cluster.agents[3].client().kv_put("kept?dc=dc2", "safe").await.unwrap());
    lost.iter().for_each(|place| cluster.agents[*place].kill());

    for place in 0..4 {
        let agent = &cluster.agents[place];
        let client = agent.client();
        until(VERDICT_MAX, "the loss is known", async || {
            let response = client.get("/v1/kv/kept?dc=dc2").await.map_err(|e| e.to_string())?;
            assert!(response.status.is_server_error(), "{}: {}", agent.name, response.text());
            match response.text().contains("Remote DC has no server currently reachable") {
                true => Ok(()),
                false => Err(response.text()),
            }
        })
        .await;
        assert!(client.kv_put("local", &agent.name).await.unwrap());
    }

    for place in &lost {
        cluster.spawn(*place);
    }
    for place in &lost {
        cluster.agents[*place].wait_for_http().await;
    }
    let client = cluster.agents[3].client();
    let kept = until(VERDICT_MAX, "it is back", async || {
        client.kv_get("kept?dc=dc2").await.map_err(|error| format!("{error:#}"))
    })
    .await;
    assert_eq!(kept.expect("it was acknowledged").value, "safe");
}
