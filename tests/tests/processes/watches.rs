//! Blocking queries.

use std::time::Duration;

use tests::harness::{client::Client, cluster::Cluster};
use tokio::task::JoinSet;

use crate::dc1;

/// How many wait.
const WATCHERS: usize = 1000;

/// Those that share a connection, so that the usual bound on open files is enough for all.
const PER_CONNECTION: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_wakes_a_thousand_blocked_queries() {
    let cluster = Cluster::start(&dc1(3, 1)).await;
    let client = cluster.agents[0].client();
    assert!(client.kv_put("watched", "old").await.unwrap());
    let index = client.get("/v1/kv/watched").await.unwrap().index();
    assert!(index > 0);

    let mut waiting = JoinSet::new();
    for connection in 0..WATCHERS / PER_CONNECTION {
        let addr = cluster.agents[connection % cluster.agents.len()].http_addr();
        let client = Client::multiplexed(addr).patient(Duration::from_secs(90));
        for _ in 0..PER_CONNECTION {
            let client = client.clone();
            waiting.spawn(async move {
                client.kv_get(&format!("watched?index={index}&wait=60s")).await
            });
        }
    }
    // Nobody comes back before the write: nothing has changed. How many are at the servers
    // already does not matter; those that come later find the change.
    assert!(tokio::time::timeout(Duration::from_secs(2), waiting.join_next()).await.is_err());
    assert!(client.kv_put("unrelated", "1").await.unwrap());
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting.join_next()).await.is_err());
    assert!(client.kv_put("watched", "new").await.unwrap());
    let mut woken = 0;
    while let Some(answer) = waiting.join_next().await {
        let entry = answer.unwrap().unwrap().expect("the key is there");
        assert_eq!(entry.value, "new");
        woken += 1;
    }
    assert_eq!(woken, WATCHERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_query_sees_a_deletion_below_its_prefix() {
    let cluster = Cluster::start(&dc1(1, 1)).await;
    let client = cluster.agents[1].client();
    assert!(client.kv_put("tree/a", "1").await.unwrap());
    assert!(client.kv_put("tree/b", "2").await.unwrap());
    let index = client.get("/v1/kv/tree/?recurse").await.unwrap().index();
    let watcher = client.patient(Duration::from_secs(90));
    let path = format!("/v1/kv/tree/?recurse&index={index}&wait=60s");
    let waiting = tokio::spawn(async move { watcher.get(&path).await });
    let deleted = client.send(hyper::Method::DELETE, "/v1/kv/tree/b", "").await.unwrap();
    deleted.ok().unwrap();
    let response = waiting.await.unwrap().unwrap();
    assert!(response.index() > index);
    let left: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
}
