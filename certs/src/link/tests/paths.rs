//! Heartbeats, reconnects, duplicates, restarts and garbage.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use super::nodes::{ECHO, HANG, Node, authority, bundle, fabric, keys, pair, server};
use crate::{
    error::CallError,
    link::{Path, PathState, heartbeat::ANSWER_MAX},
};

fn is_down(path: &Path) -> bool {
    matches!(path.state, PathState::Down { .. } | PathState::Dialing { after: Some(_) })
}

fn why(path: &Path) -> String {
    match &path.state {
        PathState::Down { reason, .. } | PathState::Dialing { after: Some((_, reason)) } => {
            reason.to_string()
        }
        state => panic!("{state:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_path_is_noticed_by_both_sides_within_three_seconds() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.endpoint.connect(&b.target());
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    a.path_when(at_b, Path::is_up).await;
    b.path_when(at_a, Path::is_up).await;
    let target = b.target();
    let hanging = a.ask_at(&target, HANG, Bytes::new());
    let cut = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fabric.cut(at_a, at_b);
        fabric.cut(at_b, at_a);
        Instant::now()
    };
    let (lost, cut) = tokio::join!(hanging, cut);
    let lost = lost.unwrap_err();
    assert!(matches!(lost, CallError::Lost { sent: true, .. }), "{lost}");
    assert!(lost.to_string().contains("no packet for"), "{lost}");
    let noticed = cut.elapsed();
    assert!(noticed > ANSWER_MAX && noticed < Duration::from_secs(3), "{noticed:?}");
    let path = a.path_when(at_b, is_down).await;
    assert!(why(&path).contains("no packet for") || why(&path).contains("no answer"), "{path:?}");
    while b.path_to(at_a).is_some_and(|path| path.is_up()) {
        b.endpoint.changes().changed().await.unwrap();
    }
    assert!(cut.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_cut_one_way_is_closed() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.endpoint.connect(&b.target());
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    a.path_when(at_b, Path::is_up).await;
    fabric.cut(at_b, at_a);
    let cut = Instant::now();
    a.path_when(at_b, is_down).await;
    assert!(cut.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_comes_back_after_the_cut() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.endpoint.connect(&b.target());
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    a.path_when(at_b, Path::is_up).await;
    fabric.cut(at_a, at_b);
    a.path_when(at_b, is_down).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    fabric.heal();
    let healed = Instant::now();
    a.path_when(at_b, Path::is_up).await;
    assert!(healed.elapsed() < Duration::from_secs(4), "{:?}", healed.elapsed());
    assert_eq!(a.ask(&b, ECHO, b"again").await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn the_word_of_each_side_reaches_the_other() {
    let (a, b) = pair(&fabric());
    *a.service.word.lock().unwrap() = Bytes::from_static(b"i am a");
    a.endpoint.connect(&b.target());
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    b.path_when(at_a, |path| path.word == "i am a").await;
    *b.service.word.lock().unwrap() = Bytes::from_static(b"leader, term 3");
    let path = a.path_when(at_b, |path| path.word == "leader, term 3").await;
    assert_eq!(path.peer.unwrap().to_string(), "server b of dc1");
    assert!(path.rtt.unwrap() < Duration::from_millis(50), "{:?}", path.rtt);
    assert!(path.beats > 0 && path.beats_lost <= 1, "{} {}", path.beats, path.beats_lost);
}

#[tokio::test(start_paused = true)]
async fn two_that_dial_each_other_end_with_one_connection() {
    let (a, b) = pair(&fabric());
    let (to_a, to_b) = (a.target(), b.target());
    let ask_a = b.ask_at(&to_a, ECHO, Bytes::from_static(b"x"));
    let ask_b = a.ask_at(&to_b, ECHO, Bytes::from_static(b"y"));
    let (one, two) = tokio::join!(ask_a, ask_b);
    assert_eq!((one.unwrap(), two.unwrap()), ("x".into(), "y".into()));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        a.ask(&b, ECHO, b"y").await.unwrap();
        b.ask(&a, ECHO, b"x").await.unwrap();
    }
    assert_eq!(a.endpoint.open_connections(), 1);
    assert_eq!(b.endpoint.open_connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_peer_is_reached_at_once() {
    let fabric = fabric();
    let ca = authority();
    let (me, peer) = (server("dc1", "a"), server("dc1", "b"));
    let a = Node::start(&fabric, "10.0.0.1:8300", &me, keys(bundle(&ca, &me, &[&ca])), 1);
    let peer_keys = keys(bundle(&ca, &peer, &[&ca]));
    let b = Node::start(&fabric, "10.0.0.2:8300", &peer, peer_keys.clone(), 2);
    a.endpoint.connect(&b.target());
    a.path_when(b.endpoint.local_addr(), Path::is_up).await;
    // It dies without a word, and its successor begins with the same address and key.
    let again = Node::start(&fabric, "10.0.0.2:8300", &peer, peer_keys, 2);
    let restarted = Instant::now();
    let addr = again.endpoint.local_addr();
    let path = a.path_when(addr, is_down).await;
    assert!(why(&path).contains("restarted"), "{path:?}");
    a.path_when(addr, Path::is_up).await;
    assert!(restarted.elapsed() < Duration::from_secs(1), "{:?}", restarted.elapsed());
    assert_eq!(a.ask(&again, ECHO, b"hello").await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_peer_that_dials_replaces_its_old_connection() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.ask(&b, ECHO, b"").await.unwrap();
    let me = b.me.clone();
    let again = Node::start(&fabric, "10.0.0.2:8300", &me, b.keys.clone(), 77);
    again.ask(&a, ECHO, b"back").await.unwrap();
    assert_eq!(a.ask(&again, ECHO, b"hello").await.unwrap(), "hello");
    assert_eq!(again.service.answered.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_known_to_the_peers_at_once() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.endpoint.connect(&b.target());
    let at_b = b.endpoint.local_addr();
    a.path_when(at_b, Path::is_up).await;
    let began = Instant::now();
    let (path, ()) = tokio::join!(a.path_when(at_b, is_down), b.endpoint.shutdown("leaving"));
    assert!(why(&path).contains("leaving"), "{path:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    b.run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stopped_endpoint_closes_its_connections() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.ask(&b, ECHO, b"").await.unwrap();
    b.run.abort();
    let at_b = b.endpoint.local_addr();
    let path = a.path_when(at_b, is_down).await;
    assert!(why(&path).contains("stopped"), "{path:?}");
}

#[tokio::test(start_paused = true)]
async fn disconnect_ends_a_kept_connection_for_good() {
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.endpoint.connect(&b.target());
    let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
    b.path_when(at_a, Path::is_up).await;
    a.path_when(at_b, Path::is_up).await;
    a.endpoint.disconnect(&b.target());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((a.endpoint.open_connections(), b.endpoint.open_connections()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn garbage_disturbs_nobody() {
    let seed = 3;
    println!("seed {seed}");
    let fabric = fabric();
    let (a, b) = pair(&fabric);
    a.ask(&b, ECHO, b"").await.unwrap();
    let mut random = SmallRng::seed_from_u64(seed);
    let at_b = b.endpoint.local_addr();
    for n in 0..5_000_u32 {
        let mut packet = vec![0; random.random_range(1..1400)];
        random.fill_bytes(&mut packet);
        if n % 3 == 0 {
            // Looks like the first packet of a connection.
            packet[0] = 0xc0;
            packet.truncate(1200);
            packet.resize(1200, 0);
            packet[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        let from = if n % 2 == 0 { a.endpoint.local_addr() } else { "10.9.9.9:1".parse().unwrap() };
        fabric.send(from, at_b, packet);
    }
    assert_eq!(a.ask(&b, ECHO, b"still").await.unwrap(), "still");
    assert_eq!(b.endpoint.paths().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_run() {
    async fn run(seed: u64) -> Vec<(Duration, u32, bool)> {
        let fabric = fabric();
        let (a, b) = pair(&fabric);
        a.endpoint.connect(&b.target());
        let (at_a, at_b) = (a.endpoint.local_addr(), b.endpoint.local_addr());
        let began = Instant::now();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut seen = Vec::new();
        for _ in 0..20 {
            if random.random_bool(0.3) {
                fabric.cut(at_a, at_b);
            } else {
                fabric.heal();
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(100..2000))).await;
            let path = a.path_to(at_b).unwrap();
            seen.push((began.elapsed(), path.beats, path.is_up()));
        }
        seen
    }
    assert_eq!(run(5).await, run(5).await);
}
