//! Leaders and whole datacenters killed with SIGKILL or frozen with SIGSTOP, under load and at rest.

use std::time::Duration;

use tests::{
    harness::{cluster::Cluster, until},
    workload::Workload,
};

use crate::dc1;

/// How long until writes are accepted again: far longer than it takes on a busy machine.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// How many leaders are killed.
const ROUNDS: usize = 10;

/// How many leaders are frozen.
const FREEZES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_killed_leaders_lose_and_double_no_acknowledged_write() {
    let mut cluster = Cluster::start(&dc1(3, 1)).await;
    let workload = Workload::start(cluster.agents.iter().cycle().take(6), "load/", 4);
    for round in 0..ROUNDS {
        let leader = cluster.leader("dc1", None).await;
        cluster.agents[leader].kill();
        let next = cluster.leader("dc1", Some(leader)).await;
        let client = cluster.agents[next].client();
        until(AGAIN_MAX, "writes are accepted again", async || {
            let put = client.kv_put("rounds", &round.to_string()).await;
            put.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await;
        cluster.run(leader).await;
    }
    cluster.ready().await;
    let known = workload.known();
    assert!(known > 5 * ROUNDS, "only {known} operations were answered");
    workload.finish(&cluster.agents[3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_leader_holds_nobody_up_and_thaws_without_a_stale_answer() {
    let mut cluster = Cluster::start(&dc1(3, 1)).await;
    let workload = Workload::start(cluster.agents.iter(), "load/", 4);
    for round in 0..FREEZES {
        let leader = cluster.leader("dc1", None).await;
        let frozen = &cluster.agents[leader];
        assert!(frozen.client().kv_put("frozen", "before").await.unwrap());
        frozen.signal("STOP");
        // Through the client agent, whose server may be the frozen one.
        let client = cluster.agents[3].client();
        let value = round.to_string();
        assert!(client.kv_put("frozen", &value).await.unwrap(), "the write was not accepted");
        // Already there when it thaws: what it answers first must not be what it had.
        let reader = frozen.client();
        let reading = tokio::spawn(async move { reader.kv_get("frozen").await });
        tokio::task::yield_now().await;
        frozen.signal("CONT");
        let entry = reading.await.unwrap().unwrap();
        assert_eq!(entry.expect("it was acknowledged").value, value);
    }
    workload.finish(&cluster.agents[3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_is_killed_has_everything_when_it_is_back() {
    let mut cluster = Cluster::start(&dc1(3, 0)).await;
    let client = cluster.agents[1].client();
    for number in 0..50 {
        assert!(client.kv_put(&format!("k/{number}"), &number.to_string()).await.unwrap());
    }
    cluster.agents.iter_mut().for_each(|agent| agent.kill());
    cluster.launch().await;
    let client = cluster.agents[0].client();
    for number in 0..50 {
        let entry = client.kv_get(&format!("k/{number}")).await.unwrap();
        assert_eq!(entry.expect("it was acknowledged").value, number.to_string());
    }
}
