//! What a thousand agents say of where they are costs a command each five seconds, and is written when it is answered.

use std::{sync::Arc, time::Duration};

use lan_agent::{
    ask::{AskError, coordinate::Update},
    catalog::{Node, Registration, Text},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use topology::Coordinate;

use super::cluster::Cluster;
use crate::{
    coordinates::{Inbox, Undone, inbox},
    raft::RaftError,
    state::{Command, Op},
};

const AGENTS: u64 = 1000;

fn name(number: u64) -> Text {
    format!("node-{number}").into()
}

fn update(number: u64, millis: u64) -> Update {
    let coordinate = Coordinate { height: millis as f64 / 1000.0, ..Coordinate::ORIGIN };
    Update { node: name(number), coordinate }
}

/// A cluster whose leader takes updates of some nodes, beside its number.
async fn taking(seed: u64, nodes: u64) -> (Cluster, u64, Inbox) {
    let mut cluster = Cluster::new(3, seed);
    let leader = cluster.bootstrap().await;
    for number in 0..nodes {
        let node = Node { name: name(number), ..Node::default() };
        let op = Op::Register(Arc::new(Registration { node, ..Registration::default() }));
        cluster.write(leader, Command::new(None, &op)).await.unwrap();
    }
    let (inbox, run) = inbox(cluster.raft(leader));
    tokio::spawn(run);
    (cluster, leader, inbox)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_agents_cost_one_command_each_five_seconds() {
    let (cluster, leader, inbox) = taking(31, AGENTS).await;
    let raft = cluster.raft(leader);
    let (before, began) = (raft.status().last_index, Instant::now());
    let mut asks = JoinSet::new();
    for number in 0..AGENTS {
        let (inbox, raft) = (inbox.clone(), raft.clone());
        asks.spawn(async move {
            sleep(Duration::from_millis(number * 15)).await;
            let answer = inbox.put(update(number, number)).await.unwrap();
            assert_eq!(&*answer.body, b"true");
            let found = raft.state().coordinates().get(&name(number)).map(|it| it.coordinate);
            assert_eq!(found, Some(update(number, number).coordinate), "{number}");
        });
    }
    asks.join_all().await;
    let commands = raft.status().last_index - before;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(21), "{took:?}");
    assert!(commands <= 5, "{commands} commands in {took:?}");
    cluster.caught_up().await;
    let states = cluster.states();
    assert!(states.iter().all(|state| state == &states[0]));
    assert_eq!(states[0].coordinates().all().count() as u64, AGENTS);
}

#[tokio::test(start_paused = true)]
async fn the_first_word_after_a_while_is_written_at_once() {
    let (_cluster, _, inbox) = taking(32, 1).await;
    for seconds in [0, 6, 60] {
        sleep(Duration::from_secs(seconds)).await;
        let began = Instant::now();
        inbox.put(update(0, seconds)).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_the_catalog_does_not_know_nothing_is_written() {
    let (_cluster, _, inbox) = taking(33, 1).await;
    assert_eq!(&*inbox.put(update(7, 1)).await.unwrap().body, b"false");
    let nowhere = Coordinate { height: f64::NAN, ..Coordinate::ORIGIN };
    let refused = inbox.put(Update { node: name(0), coordinate: nowhere }).await;
    assert!(matches!(refused, Err(Undone::Refused(AskError::Bad(_)))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_server_that_does_not_lead_hears_of_it() {
    let (cluster, leader, _) = taking(34, 1).await;
    let (inbox, run) = inbox(cluster.raft(cluster.other(leader)));
    tokio::spawn(run);
    let refused = inbox.put(update(0, 1)).await;
    assert!(matches!(refused, Err(Undone::Raft(RaftError::NotLeader { .. }))), "{refused:?}");
}
