//! The LAN pool: a thousand engines under loss, delay, partitions and restarts.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IteratorRandom};
use tests::{
    crowd::{Crowd, Weather, profile},
    seeds,
};
use topology::gossip::{Config, Engine, Input, Output};

const SERVERS: usize = 3;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Starts nodes over some seconds; all join through the servers.
fn gather(seed: u64, nodes: usize) -> Crowd {
    let profiles = (0..nodes).map(|index| profile(index, SERVERS)).collect();
    let mut crowd = Crowd::new(Config::lan(), profiles, seed);
    for node in 0..nodes {
        crowd.start(node, &[0, 1, 2]);
        if node % 50 == 49 {
            crowd.run(Duration::from_millis(250));
        }
    }
    crowd
}

/// Gossip tells nearly everyone within seconds; whom it missed learns it from its next pull of the
/// full state, which comes within 30 s of a storm of changes.
const AGREED_MAX: Duration = secs(60);

#[test]
fn a_thousand_nodes_agree_soon_after_faults_stop() {
    seeds::each(1..2, |seed| {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut crowd = gather(seed, 1000);
        let took = crowd.run_until(secs(60), "all know all", Crowd::agreement);
        println!("seed {seed}: 1,000 nodes knew each other after {took:?}");

        // 14 s of foul weather: 20 nodes die, 10 of them come back, a tenth is cut off.
        crowd.weather(Weather::FOUL);
        let dead: BTreeSet<usize> = (SERVERS..1000).sample(&mut rng, 20).into_iter().collect();
        dead.iter().for_each(|node| crowd.kill(*node));
        for node in (0..1000).sample(&mut rng, 100) {
            crowd.side(node, 1);
        }
        crowd.run(secs(8));
        for node in dead.iter().take(10) {
            crowd.start(*node, &[rng.random_range(0..SERVERS)]);
        }
        crowd.run(secs(6));

        (0..1000).for_each(|node| crowd.side(node, 0));
        crowd.weather(Weather::FAIR);
        let took = crowd.run_until(AGREED_MAX, "all agree after the faults", Crowd::agreement);
        println!("seed {seed}: all agreed {took:?} after the faults stopped");
        crowd.run(secs(5));
        assert_eq!(crowd.agreement(), Ok(()), "it stays so");
    });
}

#[test]
fn nobody_is_held_for_failed_for_long_in_foul_weather() {
    seeds::each(1..3, |seed| {
        let mut crowd = gather(seed, 100);
        crowd.run_until(secs(30), "all know all", Crowd::agreement);
        crowd.weather(Weather::FOUL);
        crowd.run(secs(60));
        crowd.run_until(secs(10), "a live node stays failed", Crowd::agreement);
    });
}

#[test]
fn lost_join_packets_strand_nobody() {
    seeds::each(1..6, |seed| {
        let profiles = (0..50).map(|index| profile(index, SERVERS)).collect();
        let mut crowd = Crowd::new(Config::lan(), profiles, seed);
        crowd.weather(Weather { loss: 0.7, ..Weather::FOUL });
        (0..50).for_each(|node| crowd.start(node, &[0]));
        crowd.run(secs(5));
        crowd.weather(Weather::FAIR);
        crowd.run_until(secs(30), "all found in", Crowd::agreement);
    });
}

#[test]
fn a_dead_node_is_known_to_all_within_fifteen_seconds() {
    seeds::each(1..4, |seed| {
        let mut crowd = gather(seed, 200);
        crowd.run_until(secs(30), "all know all", Crowd::agreement);
        crowd.kill(150);
        let took = crowd.run_until(secs(15), "all know of the death", Crowd::agreement);
        println!("seed {seed}: {took:?}");
    });
}

#[test]
fn a_server_that_restarts_at_once_is_taken_for_alive() {
    seeds::each(1..4, |seed| {
        let mut crowd = gather(seed, 60);
        crowd.run_until(secs(30), "all know all", Crowd::agreement);
        crowd.kill(1);
        crowd.run(secs(1));
        crowd.start(1, &[0, 2]);
        crowd.run_until(secs(20), "all take it back", Crowd::agreement);
        crowd.run(secs(20));
        assert_eq!(crowd.agreement(), Ok(()), "it stays so");
    });
}

#[test]
fn a_joiner_knows_five_thousand_from_one_roster() {
    let mut out = Vec::new();
    let mut server = Engine::new(Config::lan(), profile(0, 1), 1, 1);
    server.handle(Duration::ZERO, Input::Start, &mut out);
    for index in 1..5000 {
        let mut other = Engine::new(Config::lan(), profile(index, 1), 1, index as u64);
        other.handle(Duration::ZERO, Input::Start, &mut out);
        out.clear();
        server.handle(Duration::ZERO, Input::Sync(other.export()), &mut out);
    }
    assert_eq!(server.alive(), 5000);

    let mut joiner = Engine::new(Config::lan(), profile(5000, 1), 1, 5000);
    out.clear();
    joiner.handle(Duration::ZERO, Input::Start, &mut out);
    joiner.handle(Duration::ZERO, Input::Join(vec![profile(0, 1).addr]), &mut out);
    let hello = out.drain(..).find_map(|output| match output {
        Output::Send { data, .. } => Some(data),
        _ => None,
    });
    let from = profile(5000, 1).addr;
    let hello = hello.expect("it announces itself");
    server.handle(Duration::ZERO, Input::Packet { from, data: hello }, &mut out);
    let replies: Vec<_> = out
        .drain(..)
        .filter_map(|output| match output {
            Output::Send { to, data } if to == from => Some(data),
            _ => None,
        })
        .collect();
    for data in replies {
        let from = profile(0, 1).addr;
        joiner.handle(Duration::ZERO, Input::Packet { from, data }, &mut out);
    }
    let pulls = out.iter().filter(|output| matches!(output, Output::Pull { .. })).count();
    assert!(pulls > 0, "it asks for the full state as soon as it has a contact");
    joiner.handle(Duration::ZERO, Input::Sync(server.export()), &mut out);
    assert_eq!(joiner.alive(), 5001);
}

#[test]
fn the_same_seed_gives_the_same_gossip() {
    let run = |seed| {
        let mut crowd = gather(seed, 60);
        crowd.weather(Weather::FOUL);
        crowd.kill(7);
        crowd.run(secs(20));
        crowd.start(7, &[1]);
        crowd.run(secs(10));
        crowd.trace()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
