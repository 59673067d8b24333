//! Servers in one process over a wire and disks in memory, on a paused clock.

mod cluster;
mod coordinates;
mod disks;
mod members;

use std::time::Duration;

use bytes::Bytes;
use cluster::{Cluster, get, set};
use lan_agent::ask::RequestId;
use uuid::Uuid;

use super::{RaftError, Read, Role};
use crate::state::{Applied, Command, Op};

#[tokio::test(start_paused = true)]
async fn three_servers_elect_one_leader_and_apply_the_same_writes() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.bootstrap().await;
    for i in 0..20 {
        assert_eq!(cluster.write(leader, set(i)).await, Ok(Applied::Done(true)));
    }
    cluster.caught_up().await;
    let states = cluster.states();
    assert_eq!(states.len(), 3);
    assert!(states.iter().all(|state| state == &states[0]));
    assert_eq!(states[0].kv().len(), 20);
    let leaders = cluster.servers().filter(|raft| raft.is_leader()).count();
    assert_eq!(leaders, 1);
    for raft in cluster.servers() {
        assert_eq!(raft.leader().map(|leader| leader.id), Some(leader));
        assert!(raft.last_contact() < Duration::from_millis(300));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_follower_names_the_leader() {
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.bootstrap().await;
    let follower = cluster.other(leader);
    let addr = cluster.peer(leader).addr;
    let refused = RaftError::NotLeader { leader: Some((leader, addr)) };
    assert_eq!(cluster.write(follower, set(1)).await, Err(refused.clone()));
    assert_eq!(cluster.raft(follower).confirm(Read::Lease).await, Err(refused));
}

#[tokio::test(start_paused = true)]
async fn acknowledged_writes_survive_the_leader() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(3, seed);
        let first = cluster.bootstrap().await;
        for i in 0..10 {
            cluster.write(first, set(i)).await.unwrap();
        }
        cluster.crash(first);
        let second = cluster.leader().await;
        assert_ne!(second, first);
        cluster.raft(second).confirm(Read::Index).await.unwrap();
        for i in 0..10 {
            assert_eq!(get(&cluster.raft(second).state(), i), Some(i));
        }
        cluster.write(second, set(10)).await.unwrap();
        cluster.start(first).await;
        cluster.caught_up().await;
        assert_eq!(get(&cluster.raft(first).state(), 10), Some(10));
    }
}

#[tokio::test(start_paused = true)]
async fn all_servers_crash_and_nothing_acknowledged_is_lost() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(3, seed);
        let leader = cluster.bootstrap().await;
        for i in 0..50 {
            cluster.write(leader, set(i)).await.unwrap();
        }
        for id in cluster.ids() {
            cluster.crash(id);
        }
        for id in cluster.ids() {
            cluster.start(id).await;
        }
        let leader = cluster.leader().await;
        cluster.raft(leader).confirm(Read::Index).await.unwrap();
        let state = cluster.raft(leader).state();
        for i in 0..50 {
            assert_eq!(get(&state, i), Some(i));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_refuses_reads_and_writes() {
    let mut cluster = Cluster::new(3, 3);
    let old = cluster.bootstrap().await;
    cluster.write(old, set(1)).await.unwrap();
    cluster.isolate(old);
    let raft = cluster.raft(old).clone();
    tokio::time::sleep(raft.timing().silence_max() + Duration::from_millis(100)).await;
    assert_eq!(raft.confirm(Read::Lease).await, Err(RaftError::NotLeader { leader: None }));
    assert!(!raft.is_leader());
    assert_eq!(raft.leader(), None);
    let index = tokio::time::timeout(Duration::from_secs(2), raft.confirm(Read::Index)).await;
    assert!(!matches!(index, Ok(Ok(()))));
    let write = tokio::time::timeout(Duration::from_secs(2), raft.write(set(2))).await;
    assert!(!matches!(write, Ok(Ok(_))));
    let new = cluster.leader_but(old).await;
    cluster.write(new, set(3)).await.unwrap();
    cluster.heal();
    cluster.caught_up().await;
    assert_eq!(get(&cluster.raft(old).state(), 3), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeated_applies_once() {
    let mut cluster = Cluster::new(3, 4);
    let leader = cluster.bootstrap().await;
    let request = Some(RequestId(Uuid::from_u128(7)));
    let op = Op::KvSet { key: "once".into(), value: "v".into(), flags: 0, cas: Some(0) };
    let command = Command::new(request, &op);
    assert_eq!(cluster.write(leader, command.clone()).await, Ok(Applied::Done(true)));
    assert_eq!(cluster.write(leader, command.clone()).await, Ok(Applied::Done(true)));
    cluster.crash(leader);
    let leader = cluster.leader().await;
    assert_eq!(cluster.write(leader, command).await, Ok(Applied::Done(true)));
    let other = Command::new(None, &op);
    assert_eq!(cluster.write(leader, other).await, Ok(Applied::Done(false)));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_servers_goes_on_with_every_leader_whatever_its_clock_says() {
    for seed in 0..5 {
        println!("seed {seed}");
        let mut cluster = Cluster::new(3, seed);
        let mut leader = cluster.bootstrap().await;
        cluster.write(leader, set(0)).await.unwrap();
        let begin = tokio::time::Instant::now();
        let from = cluster.raft(leader).state().clock().now_ms();
        let mut counted = 0;
        for round in 1..=8 {
            for id in cluster.ids().into_iter().filter(|id| round % 2 == 0 || *id == leader) {
                cluster.crash(id);
            }
            for id in cluster.ids() {
                if !cluster.servers().any(|raft| raft.id() == id) {
                    cluster.start(id).await;
                }
            }
            leader = cluster.leader().await;
            cluster.write(leader, set(round)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            cluster.write(leader, set(round)).await.unwrap();
            counted += 2_000;
        }
        let passed = cluster.raft(leader).state().clock().now_ms() - from;
        let real = begin.elapsed().as_millis() as u64;
        assert!((counted..=real).contains(&passed), "{passed} of {real} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_acknowledging_and_says_so() {
    let mut cluster = Cluster::new(3, 5);
    let old = cluster.bootstrap().await;
    cluster.write(old, set(1)).await.unwrap();
    cluster.disk(old).set_full(true);
    let raft = cluster.raft(old).clone();
    let refused = raft.write(set(2)).await.unwrap_err();
    assert!(
        matches!(&refused, RaftError::Broken(why) if why.contains("no storage space")),
        "{refused:?}"
    );
    let mut leadership = raft.leadership();
    leadership.wait_for(|now| now.role == Role::Stopped).await.unwrap();
    assert!(raft.broken().is_some());
    assert_eq!(get(&raft.state(), 1), Some(1));
    let new = cluster.leader_but(old).await;
    cluster.write(new, set(3)).await.unwrap();
    cluster.disk(old).set_full(false);
    cluster.crash(old);
    cluster.start(old).await;
    cluster.caught_up().await;
    assert_eq!(get(&cluster.raft(old).state(), 3), Some(3));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_elects_the_same_leader_at_the_same_time() {
    async fn run(seed: u64) -> (u64, u64, Duration) {
        let start = tokio::time::Instant::now();
        let mut cluster = Cluster::new(5, seed);
        let first = cluster.bootstrap().await;
        cluster.crash(first);
        let second = cluster.leader().await;
        (second, cluster.raft(second).term(), start.elapsed())
    }
    assert_eq!(run(11).await, run(11).await);
}

#[tokio::test(start_paused = true)]
async fn a_leader_stays_one_while_nothing_is_written() {
    for servers in [1, 3] {
        let mut cluster = Cluster::new(servers, 12);
        let leader = cluster.bootstrap().await;
        let raft = cluster.raft(leader);
        let term = raft.term();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(130)).await;
            assert!(raft.is_leader());
            assert_eq!(raft.confirm(Read::Lease).await, Ok(()));
            for raft in cluster.servers() {
                assert_eq!(raft.leader().map(|leader| leader.id), Some(leader));
            }
        }
        cluster.write(leader, set(1)).await.unwrap();
        assert_eq!(raft.term(), term);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_of_a_newer_version_stops_the_server_with_a_sentence() {
    let mut cluster = Cluster::new(1, 13);
    let leader = cluster.bootstrap().await;
    cluster.write(leader, set(1)).await.unwrap();
    let raft = cluster.raft(leader);
    let newer = Command { kind: 99, ..set(2) };
    assert!(raft.write(newer).await.is_err());
    let broken = raft.broken().unwrap();
    assert!(broken.contains("kind 99") && broken.contains("upgrade this server"), "{broken}");
    assert_eq!(get(&raft.state(), 1), Some(1));
}

#[tokio::test(start_paused = true)]
async fn entries_that_do_not_fit_in_one_message_are_sent_in_several() {
    let mut cluster = Cluster::new(3, 14);
    let leader = cluster.bootstrap().await;
    let follower = cluster.other(leader);
    cluster.isolate(follower);
    let value = Bytes::from(vec![7; 512 * 1024]);
    for i in 0..40 {
        let key = format!("large/{i}").into();
        let op = Op::KvSet { key, value: value.clone(), flags: 0, cas: None };
        cluster.write(leader, Command::new(None, &op)).await.unwrap();
    }
    cluster.heal();
    cluster.caught_up().await;
    assert_eq!(cluster.raft(follower).state(), cluster.raft(leader).state());
}
