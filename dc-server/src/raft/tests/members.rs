//! Servers that join, catch up, hand over and go.

use std::collections::BTreeMap;

use super::cluster::{Cluster, get, set};
use crate::raft::{RaftError, Role};

#[tokio::test(start_paused = true)]
async fn a_server_that_joins_late_catches_up_by_a_snapshot_and_votes() {
    let mut cluster = Cluster::new(3, 21);
    cluster.snapshot_entries = 16;
    let leader = cluster.bootstrap().await;
    for i in 0..200 {
        cluster.write(leader, set(i)).await.unwrap();
    }
    let raft = cluster.raft(leader);
    cluster.until(|| (raft.status().snapshot_index > 150).then_some(())).await;
    cluster.start(4).await;
    raft.add_learner(4, cluster.peer(4)).await.unwrap();
    cluster.until(|| (get(&cluster.raft(4).state(), 199) == Some(199)).then_some(())).await;
    assert!(cluster.raft(4).status().snapshot_index > 150, "no snapshot arrived");
    assert_eq!(cluster.raft(4).status().role, Role::Learner);
    raft.promote([4].into()).await.unwrap();
    let voters = raft.servers().into_iter().filter(|server| server.voter).count();
    assert_eq!(voters, 4);
    cluster.crash(4);
    cluster.start(4).await;
    cluster.caught_up().await;
    assert_eq!(cluster.raft(4).state(), raft.state());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_removed_takes_no_part() {
    let mut cluster = Cluster::new(3, 22);
    let leader = cluster.bootstrap().await;
    let gone = cluster.other(leader);
    let raft = cluster.raft(leader);
    raft.remove([gone].into()).await.unwrap();
    let ids: Vec<u64> = raft.servers().into_iter().map(|server| server.id).collect();
    assert!(!ids.contains(&gone) && ids.len() == 2, "{ids:?}");
    cluster.write(leader, set(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_voter_can_not_be_removed() {
    let mut cluster = Cluster::new(1, 23);
    let leader = cluster.bootstrap().await;
    let refused = cluster.raft(leader).remove([leader].into()).await;
    assert!(matches!(refused, Err(RaftError::Refused(_))), "{refused:?}");
    cluster.write(leader, set(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_hands_over() {
    let mut cluster = Cluster::new(3, 24);
    let old = cluster.bootstrap().await;
    cluster.write(old, set(1)).await.unwrap();
    cluster.raft(old).transfer_leadership().await.unwrap();
    let new = cluster.leader_but(old).await;
    cluster.write(new, set(2)).await.unwrap();
    cluster.raft(new).remove([old].into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_bootstrapped_once() {
    let mut cluster = Cluster::new(3, 25);
    let leader = cluster.bootstrap().await;
    assert!(cluster.raft(leader).is_bootstrapped().await.unwrap());
    let servers = BTreeMap::from([(leader, cluster.peer(leader))]);
    let again = cluster.raft(leader).bootstrap(servers).await;
    assert!(matches!(again, Err(RaftError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_changed_its_address_is_known_by_the_new_one() {
    let mut cluster = Cluster::new(3, 26);
    let leader = cluster.bootstrap().await;
    let moved = cluster.other(leader);
    let mut peer = cluster.peer(moved);
    peer.addr.set_port(9300);
    cluster.raft(leader).add_learner(moved, peer.clone()).await.unwrap();
    let servers = cluster.raft(leader).servers();
    let server = servers.iter().find(|server| server.id == moved).unwrap();
    assert_eq!((server.addr, server.voter), (peer.addr, true));
}
