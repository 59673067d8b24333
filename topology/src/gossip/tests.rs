//! Pools of engines in virtual time: join, kill, leave, partition, restart, loss, nonsense.

mod cluster;
mod network;
mod removal;
mod wire;

use std::net::SocketAddr;

use expect_test::expect;

use self::network::{Network, profile, secs};
use super::{
    Config, Engine, Event, Input, Output, Refusal,
    record::{Record, Stamp},
    state,
};
use crate::member::Status;

/// The address of the node with a number.
fn addr(number: u16) -> SocketAddr {
    profile("any", "dc1", number).addr
}

/// Waits until all nodes know each other.
fn settle(net: &mut Network, bound: f64) -> f64 {
    net.run_until_so(secs(bound), Network::agrees).as_secs_f64()
}

#[test]
fn three_nodes_know_each_other_within_two_seconds() {
    let mut net = Network::lan(1, 3, 0);
    settle(&mut net, 2.0);
    expect![[r#"
        0.0 s: joined the pool
        0.0 s: joined s0
        0.0 s: 10.0.0.0:8301 answered
        0.0 s: joined s2
    "#]]
    .assert_eq(&net.transcript(addr(1)));
}

#[test]
fn a_life_as_its_neighbour_is_told_of_it() {
    let mut net = Network::new(Config { reap_after: secs(200.0), ..Config::lan() }, 1);
    net.populate(2, 0);
    net.run(secs(5.0));
    let start = |net: &mut Network, version: &str| {
        let mut node = profile("c0", "dc1", 9);
        node.version = version.to_owned();
        net.boot(node);
        net.input(addr(9), Input::Join(vec![addr(0)]));
    };
    start(&mut net, "0.1.0");
    net.run_until(secs(10.0));
    net.kill(addr(9));
    net.run_until(secs(30.0));
    start(&mut net, "0.1.0");
    net.run_until(secs(40.0));
    net.kill(addr(9));
    start(&mut net, "0.2.0");
    net.run_until(secs(50.0));
    net.input(addr(9), Input::Leave);
    net.run_until(secs(52.0));
    net.kill(addr(9));
    net.run_until(secs(400.0));
    expect![[r#"
        0.0 s: joined s0
        0.0 s: joined the pool
        0.0 s: 10.0.0.0:8301 answered
        5.0 s: joined c0
        15.0 s: failed c0
        30.0 s: joined c0
        40.0 s: updated c0 (alive)
        50.0 s: left c0
        300.7 s: reaped c0
    "#]]
    .assert_eq(&net.transcript(addr(1)));
}

#[test]
fn profiles_come_without_pulls_too() {
    for seed in 0..5 {
        let mut net = Network::lan(seed, 3, 17);
        net.pulls = false;
        net.loss = 0.05;
        settle(&mut net, 30.0);
    }
}

#[test]
fn a_hundred_nodes_know_each_other_within_ten_seconds() {
    let mut net = Network::lan(2, 3, 97);
    net.loss = 0.01;
    settle(&mut net, 10.0);
}

#[test]
fn a_dead_node_is_failed_on_everyone_within_ten_seconds() {
    for (seed, clients) in [(0, 0), (1, 0), (2, 0), (3, 17), (4, 17), (5, 97)] {
        let mut net = Network::lan(seed, 3, clients);
        net.loss = 0.01;
        settle(&mut net, 10.0);
        net.run(secs(3.0));
        net.kill(addr(1));
        let took = net.run_until_so(secs(11.0), |net| net.all_hold("s1", Status::Failed));
        println!("{clients} clients: failed on everyone after {took:?}");
    }
}

#[test]
fn nobody_is_failed_wrongly_at_two_percent_loss() {
    let mut net = Network::lan(7, 3, 47);
    net.loss = 0.02;
    settle(&mut net, 15.0);
    net.events.clear();
    net.run(secs(120.0));
    let failed =
        net.events.iter().filter(|(_, _, event)| matches!(event, Event::Failed(_))).count();
    assert_eq!(failed, 0);
}

#[test]
fn nobody_is_failed_wrongly_across_oceans() {
    let mut net = Network::new(Config::wan(), 8);
    net.populate(15, 0);
    net.delay = secs(0.15);
    net.loss = 0.02;
    settle(&mut net, 15.0);
    net.events.clear();
    net.run(secs(300.0));
    assert!(net.events.is_empty(), "{:?}", net.events);
}

#[test]
fn two_that_can_not_reach_each_other_stay_alive_for_all() {
    for seed in 0..5 {
        let mut net = Network::new(Config::wan(), seed);
        net.populate(6, 0);
        settle(&mut net, 10.0);
        net.events.clear();
        net.severed.insert((addr(2), addr(3)));
        net.input(addr(2), Input::PathDown(addr(3)));
        net.input(addr(3), Input::PathDown(addr(2)));
        net.run(secs(60.0));
        assert!(net.events.is_empty(), "{:?}", net.events);
    }
}

#[test]
fn a_node_that_leaves_is_left_at_once_and_never_failed() {
    for seed in 0..5 {
        let mut net = Network::lan(seed, 3, 17);
        settle(&mut net, 10.0);
        net.input(addr(4), Input::Leave);
        net.run(secs(1.0));
        net.kill(addr(4));
        net.run_until_so(secs(4.0), |net| net.all_hold("c1", Status::Left));
        net.run(secs(20.0));
        assert!(net.all_hold("c1", Status::Left), "{}", net.table());
        assert!(!net.events.iter().any(|(_, _, event)| matches!(event, Event::Failed(_))));
    }
}

#[test]
fn a_node_that_left_comes_back() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.input(addr(4), Input::Leave);
    net.run(secs(2.0));
    net.kill(addr(4));
    net.run(secs(10.0));
    net.boot(profile("c1", "dc1", 4));
    net.input(addr(4), Input::Join(vec![addr(2)]));
    settle(&mut net, 5.0);
}

#[test]
fn a_partition_heals() {
    for seed in 0..3 {
        let mut net = Network::lan(seed, 3, 17);
        net.loss = 0.01;
        settle(&mut net, 10.0);
        net.cut((0..7).map(addr));
        net.run(secs(30.0));
        assert_eq!(net.engine(addr(0)).alive(), 7);
        assert_eq!(net.engine(addr(19)).alive(), 13);
        net.heal();
        let took = settle(&mut net, 20.0);
        println!("healed after {took} s");
    }
}

#[test]
fn a_node_that_was_cut_off_alone_comes_back() {
    for seed in 0..5 {
        let mut net = Network::lan(seed, 3, 0);
        settle(&mut net, 10.0);
        net.cut([addr(2)]);
        net.run(secs(30.0));
        assert_eq!(net.engine(addr(2)).alive(), 1, "{}", net.table());
        net.heal();
        settle(&mut net, 10.0);
    }
}

#[test]
fn a_restarted_node_supersedes_its_former_life() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.kill(addr(3));
    net.run(secs(0.5));
    let mut again = profile("c0", "dc1", 3);
    again.version = "0.2.0".to_owned();
    net.boot(again);
    net.input(addr(3), Input::Join(vec![addr(0)]));
    net.run_until_so(secs(5.0), |net| {
        net.agrees()
            && net.addrs().iter().all(|at| {
                net.member(*at, "c0").is_some_and(|member| member.profile.version == "0.2.0")
            })
    });
    assert!(!net.events.iter().any(|(_, _, event)| matches!(event, Event::Failed(_))));
}

#[test]
fn a_node_that_was_wiped_has_its_name_at_once_with_its_new_id() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.kill(addr(3));
    net.run(secs(0.5));
    let mut wiped = profile("c0", "dc1", 3);
    wiped.id = profile("c0", "dc1", 99).id;
    net.boot(wiped.clone());
    net.input(addr(3), Input::Join(vec![addr(0)]));
    net.run_until_so(secs(5.0), |net| {
        net.agrees()
            && net
                .addrs()
                .iter()
                .all(|at| net.member(*at, "c0").is_some_and(|member| member.profile.id == wiped.id))
    });
}

#[test]
fn a_node_whose_clock_went_back_comes_back() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.kill(addr(3));
    net.run(secs(15.0));
    net.boot_as(profile("c0", "dc1", 3), 5);
    net.input(addr(3), Input::Join(vec![addr(0)]));
    settle(&mut net, 10.0);
}

#[test]
fn a_node_whose_clock_went_back_hears_it_from_whoever_remembers() {
    for seed in 0..20 {
        let mut net = Network::lan(seed, 3, 2);
        settle(&mut net, 10.0);
        // All servers are started anew, one with a clock that was set back: only clients remember.
        for server in 0..3 {
            net.kill(addr(server));
        }
        let before = net.packets;
        for server in 0..3 {
            let boot = if server == 1 { 5 } else { 2_000_000 };
            net.boot_as(profile(&format!("s{server}"), "dc1", server), boot);
            net.input(addr(server), Input::Join((0..3).map(addr).collect()));
        }
        settle(&mut net, 5.0);
        net.run(secs(10.0));
        assert!(net.agrees(), "{}", net.table());
        assert!(net.packets - before < 1_000, "{} packets", net.packets - before);
    }
}

#[test]
fn a_node_that_moved_is_found_at_its_new_address() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.kill(addr(3));
    net.run(secs(1.0));
    let mut moved = profile("c0", "dc1", 3);
    moved.addr = addr(77);
    net.boot(moved);
    net.input(addr(77), Input::Join(vec![addr(0)]));
    settle(&mut net, 20.0);
    net.run(secs(20.0));
    assert!(net.agrees(), "{}", net.table());
}

#[test]
fn a_lost_announcement_is_repeated() {
    let mut net = Network::new(Config::lan(), 3);
    net.loss = 1.0;
    net.populate(3, 0);
    net.run(secs(10.0));
    assert_eq!(net.engine(addr(1)).alive(), 1);
    net.loss = 0.0;
    settle(&mut net, 3.0);
}

#[test]
fn a_node_reached_by_another_address_of_its_own_answers() {
    let mut net = Network::new(Config::lan(), 3);
    let server = net.boot(profile("s0", "dc1", 0));
    let client = net.boot(profile("c0", "dc1", 1));
    let alias = addr(500);
    let mut out = Vec::new();
    let mut joiner = Engine::new(Config::lan(), profile("c1", "dc1", 2), 1, 1);
    joiner.handle(secs(0.0), Input::Join(vec![alias]), &mut out);
    let Some(Output::Send { to, data }) = out.pop() else { panic!("nothing sent") };
    assert_eq!(to, alias);
    net.input(server, Input::Packet { from: addr(2), data });
    assert_eq!(net.status(server, "c1"), Some(Status::Alive));
    assert_ne!(net.status(client, "c1"), Some(Status::Alive));
}

#[test]
fn an_address_that_never_answers_is_given_up_when_another_does() {
    let mut net = Network::lan(3, 2, 0);
    settle(&mut net, 3.0);
    net.input(addr(1), Input::Join(vec![addr(0), addr(99)]));
    net.run(secs(30.0));
    assert!(net.engine(addr(1)).seeds.is_empty());
    let answers = |event: &Event| matches!(event, Event::Answered(_));
    let answered = net.events.iter().filter(|(_, at, event)| *at == addr(1) && answers(event));
    assert_eq!(answered.count(), 2, "{}", net.transcript(addr(1)));
}

#[test]
fn a_copy_of_a_node_elsewhere_does_not_outbid_it_for_ever() {
    let mut net = Network::lan(1, 3, 1);
    settle(&mut net, 10.0);
    let mut copy = profile("c0", "dc1", 3);
    copy.addr = addr(77);
    net.boot(copy);
    net.input(addr(77), Input::Join(vec![addr(0)]));
    net.run(secs(10.0));
    let before = net.packets;
    net.run(secs(10.0));
    assert!(net.packets - before < 500, "{} packets in 10 s", net.packets - before);
}

#[test]
fn addresses_that_nobody_owned_are_forgotten_when_silent() {
    let mut net = Network::lan(1, 3, 1);
    settle(&mut net, 10.0);
    net.kill(addr(3));
    net.run(secs(1.0));
    let mut moved = profile("c0", "dc1", 3);
    moved.addr = addr(77);
    net.boot(moved);
    net.input(addr(77), Input::Join(vec![addr(0)]));
    net.run(secs(150.0));
    assert!(net.engines().all(|(_, engine)| engine.swim.standing(addr(3)).is_none()));
}

#[test]
fn a_forced_out_node_is_left_and_comes_back_when_it_answers() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.cut([addr(4)]);
    net.run_until_so(secs(15.0), |net| net.status(addr(0), "c1") == Some(Status::Failed));
    net.input(addr(0), Input::ForceLeave { name: "c1".to_owned(), prune: false });
    net.run(secs(5.0));
    for number in [0, 1, 2, 3, 5] {
        assert_eq!(net.status(addr(number), "c1"), Some(Status::Left));
    }
    net.heal();
    // It knocks at the others, who failed for it.
    settle(&mut net, 15.0);
}

#[test]
fn a_pruned_node_is_forgotten_by_all() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.kill(addr(4));
    net.run_until_so(secs(15.0), |net| net.all_hold("c1", Status::Failed));
    net.input(addr(0), Input::ForceLeave { name: "c1".to_owned(), prune: true });
    net.run(secs(40.0));
    assert!(net.engines().all(|(at, _)| net.status(*at, "c1").is_none()), "{}", net.table());
    net.boot(profile("c1", "dc1", 4));
    net.input(addr(4), Input::Join(vec![addr(0)]));
    settle(&mut net, 5.0);
}

#[test]
fn a_live_node_refutes_being_forced_out() {
    let mut net = Network::lan(1, 3, 3);
    settle(&mut net, 10.0);
    net.input(addr(0), Input::ForceLeave { name: "c1".to_owned(), prune: false });
    assert_eq!(net.status(addr(0), "c1"), Some(Status::Leaving));
    settle(&mut net, 5.0);
}

#[test]
fn the_first_of_two_nodes_with_one_name_keeps_it_while_it_lives() {
    let mut net = Network::lan(1, 3, 2);
    settle(&mut net, 10.0);
    net.events.clear();
    net.boot(profile("c0", "dc1", 60));
    net.input(addr(60), Input::Join(vec![addr(0)]));
    net.run(secs(5.0));
    for number in 0..5 {
        let holder = net.member(addr(number), "c0").unwrap();
        assert_eq!(holder.profile.addr, addr(3));
        assert_eq!(holder.status, Status::Alive);
    }
    let told = net.events.iter().any(|(_, at, event)| {
        *at == addr(60) && matches!(event, Event::Refused { reason: Refusal::NameTaken, .. })
    });
    assert!(told, "the newcomer is told: {}", net.transcript(addr(60)));
    net.kill(addr(3));
    net.run_until_so(secs(20.0), |net| {
        [0, 1, 2, 4].iter().all(|number| {
            net.member(addr(*number), "c0")
                .is_some_and(|member| member.is_alive() && member.profile.addr == addr(60))
        })
    });
}

#[test]
fn a_node_that_changes_its_name_leaves_the_old_one_failed() {
    let mut net = Network::lan(1, 3, 2);
    settle(&mut net, 10.0);
    net.kill(addr(3));
    net.run(secs(2.0));
    net.boot(profile("renamed", "dc1", 3));
    net.input(addr(3), Input::Join(vec![addr(0)]));
    net.run_until_so(secs(10.0), |net| net.all_hold("renamed", Status::Alive));
    net.run(secs(2.0));
    assert!(net.all_hold("c0", Status::Failed), "{}", net.table());
}

#[test]
fn another_datacenter_is_refused_and_told() {
    let mut net = Network::lan(1, 3, 0);
    settle(&mut net, 10.0);
    net.events.clear();
    net.boot(profile("s9", "dc2", 60));
    net.input(addr(60), Input::Join(vec![addr(0)]));
    net.run(secs(5.0));
    for at in [addr(0), addr(60)] {
        let refused = net.events.iter().filter(|(_, who, event)| {
            *who == at && matches!(event, Event::Refused { reason: Refusal::ForeignDatacenter, .. })
        });
        assert_eq!(refused.count(), 1, "told once: {}", net.transcript(at));
    }
    assert_eq!(net.engine(addr(0)).members().count(), 3);
    assert_eq!(net.engine(addr(60)).alive(), 1);
}

#[test]
fn a_new_profile_reaches_everyone() {
    let mut net = Network::lan(1, 3, 47);
    settle(&mut net, 10.0);
    let mut new = profile("c5", "dc1", 8);
    new.tags.insert("rack".to_owned(), "7".to_owned());
    net.input(addr(8), Input::Update(new.clone()));
    net.run_until_so(secs(5.0), |net| {
        net.addrs()
            .iter()
            .all(|at| net.member(*at, "c5").is_some_and(|member| member.profile == new))
    });
}

#[test]
fn a_closed_path_fails_a_dead_member_sooner() {
    let mut net = Network::new(Config::wan(), 4);
    net.populate(6, 0);
    settle(&mut net, 10.0);
    net.kill(addr(5));
    for number in 0..5 {
        net.input(addr(number), Input::PathDown(addr(5)));
    }
    net.run_until_so(secs(7.0), |net| net.all_hold("s5.dc1", Status::Failed));
}

#[test]
fn a_closed_path_to_a_live_member_fails_nobody() {
    for seed in 0..5 {
        let mut net = Network::new(Config::wan(), seed);
        net.populate(6, 0);
        settle(&mut net, 10.0);
        net.events.clear();
        net.input(addr(0), Input::PathDown(addr(5)));
        net.run(secs(15.0));
        assert!(net.agrees(), "{}", net.table());
        assert!(net.events.is_empty(), "{:?}", net.events);
    }
}

#[test]
fn clients_are_refused_in_the_wan_pool() {
    let mut net = Network::new(Config::wan(), 4);
    net.populate(2, 1);
    net.run(secs(5.0));
    assert_eq!(net.engine(addr(0)).members().count(), 2);
}

#[test]
fn silent_members_are_reaped_and_stay_so() {
    let mut net = Network::new(Config { reap_after: secs(300.0), ..Config::lan() }, 4);
    net.populate(3, 3);
    settle(&mut net, 10.0);
    net.kill(addr(5));
    net.run_until_so(secs(15.0), |net| net.all_hold("c2", Status::Failed));
    net.run_until_so(secs(400.0), |net| {
        net.engines().all(|(at, _)| net.status(*at, "c2").is_none())
    });
    net.run(secs(120.0));
    assert!(net.engines().all(|(at, _)| net.status(*at, "c2").is_none()), "{}", net.table());
}

#[test]
fn the_same_seed_gives_the_same_outputs() {
    let run = |seed| {
        let mut net = Network::lan(seed, 3, 9);
        net.loss = 0.05;
        net.run(secs(8.0));
        net.kill(addr(4));
        net.run(secs(20.0));
        net.fingerprint()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn a_roster_of_five_thousand_merges_at_once() {
    let records = (1..=5_000)
        .map(|n| Record { stamp: Stamp::first(1), profile: profile(&format!("c{n}"), "dc1", n) });
    let state = state::of_alive(records);
    let mut joiner = Engine::new(Config::lan(), profile("s0", "dc1", 0), 1, 1);
    let mut out = Vec::new();
    joiner.handle(secs(1.0), Input::Sync(state.clone()), &mut out);
    assert_eq!(joiner.alive(), 5_001);
    out.clear();
    joiner.handle(secs(2.0), Input::Sync(state), &mut out);
    assert!(out.is_empty(), "nothing new the second time");
}
