//! Servers cut off from each other by the relay between them.

use std::time::Duration;

use tests::harness::{cluster::Cluster, until};

use crate::dc1;

/// How long until the majority has a leader, and until the minority is back.
const AGAIN_MAX: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_accepts_no_write_and_the_majority_goes_on() {
    let mut cluster = Cluster::plan_relayed(&dc1(3, 0)).await;
    cluster.launch().await;
    let minority = cluster.leader("dc1", None).await;
    assert!(cluster.agents[minority].client().kv_put("before", "1").await.unwrap());
    let host = cluster.agents[minority].host;
    cluster.relay.as_ref().unwrap().isolate(&[host]);

    // What the old leader is asked from now on can't be acknowledged: it has no quorum.
    let alone = cluster.agents[minority].client().patient(Duration::from_secs(3));
    for number in 0..5 {
        let put = alone.kv_put(&format!("alone/{number}"), "no").await;
        assert!(put.is_err(), "a minority accepted a write: {put:?}");
    }
    let majority = cluster.leader("dc1", Some(minority)).await;
    let client = cluster.agents[majority].client();
    until(AGAIN_MAX, "the majority accepts writes", async || {
        client.kv_put("majority", "yes").await.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await;
    until(AGAIN_MAX, "the minority refuses reads that have to be fresh", async || {
        match alone.kv_get("majority").await {
            Err(_) => Ok(()),
            Ok(entry) => Err(format!("it answered {entry:?}")),
        }
    })
    .await;
    let stale = alone.kv_get("before?stale").await.unwrap();
    assert_eq!(stale.expect("stale reads go on").value, "1");

    cluster.relay.as_ref().unwrap().heal();
    let back = cluster.agents[minority].client();
    let entry = until(AGAIN_MAX, "the minority is back", async || {
        back.kv_get("majority").await.map_err(|error| format!("{error:#}"))
    })
    .await;
    assert_eq!(entry.expect("the majority acknowledged it").value, "yes");
}
