//! Servers that come later, servers that stay away.

use std::time::Duration;

use serde_json::Value;
use tests::harness::{client::Client, cluster::Cluster, until};
use topology::Role;

use crate::dc1;

/// How long until a server that joined votes, or one that died is taken out: stabilisation and
/// failure detection take ten seconds or so each.
const CHANGE_MAX: Duration = Duration::from_secs(90);

/// Returns the names of the voters.
async fn voters(client: &Client) -> Result<Vec<String>, String> {
    let found = client.json("/v1/operator/raft/configuration").await;
    let found = found.map_err(|error| format!("{error:#}"))?;
    let servers = found["Servers"].as_array().ok_or_else(|| found.to_string())?;
    let votes = servers.iter().filter(|server| server["Voter"] == true);
    let mut names: Vec<String> =
        votes.filter_map(|server| server["Node"].as_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

async fn until_voters(client: &Client, wanted: &[&str]) {
    until(CHANGE_MAX, &format!("{wanted:?} vote"), async || match voters(client).await? {
        found if found == wanted => Ok(()),
        found => Err(format!("{found:?} do")),
    })
    .await;
}

fn kinds(members: &Value, name: &str) -> Option<u64> {
    let all = members.as_array()?;
    all.iter().find(|member| member["Name"] == name)?["Status"].as_u64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_joins_later_votes_and_a_dead_one_goes_while_quorum_stays() {
    let mut cluster = Cluster::start(&dc1(3, 0)).await;
    let client = cluster.agents[0].client();
    for number in 0..20 {
        assert!(client.kv_put(&format!("k/{number}"), "v").await.unwrap());
    }
    let fourth = cluster.add("dc1", Role::Server);
    cluster.run(fourth).await;
    until_voters(&client, &["dc1-s1", "dc1-s2", "dc1-s3", "dc1-s4"]).await;
    let stale = cluster.agents[fourth].client();
    until(CHANGE_MAX, "the newcomer has everything", async || {
        match stale.kv_get("k/19?stale").await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    cluster.agents[fourth].kill();
    until_voters(&client, &["dc1-s1", "dc1-s2", "dc1-s3"]).await;
    assert!(client.kv_put("after", "v").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nobody_is_removed_and_nothing_is_lost() {
    let mut cluster = Cluster::start(&dc1(3, 0)).await;
    assert!(cluster.agents[0].client().kv_put("kept", "1").await.unwrap());
    cluster.agents[1].kill();
    cluster.agents[2].kill();
    let alone = cluster.agents[0].client();
    until(CHANGE_MAX, "the survivor knows that it is alone", async || {
        let members = alone.json("/v1/agent/members").await.map_err(|error| error.to_string())?;
        match (kinds(&members, "dc1-s2"), kinds(&members, "dc1-s3")) {
            (Some(4), Some(4)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(alone.kv_put("kept", "2").await.is_err(), "there is no quorum");
    cluster.launch().await;
    until_voters(&alone, &["dc1-s1", "dc1-s2", "dc1-s3"]).await;
    let kept = cluster.agents[2].client().kv_get("kept").await.unwrap();
    assert!(kept.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_has_left_and_one_that_dies_has_failed() {
    let mut cluster = Cluster::start(&dc1(1, 2)).await;
    let client = cluster.agents[0].client();
    let left = cluster.agents[1].client().put("/v1/agent/leave", "").await.unwrap();
    left.ok().unwrap();
    cluster.agents[1].wait_for_exit(Duration::from_secs(20)).await;
    cluster.agents[2].kill();
    until(CHANGE_MAX, "one has left, one has failed", async || {
        let members = client.json("/v1/agent/members").await.map_err(|error| error.to_string())?;
        match (kinds(&members, "dc1-c1"), kinds(&members, "dc1-c2")) {
            (Some(3), Some(4)) => Ok(()),
            other => Err(format!("{other:?}: {members}")),
        }
    })
    .await;
}
