//! Datacenters that are removed: dropped everywhere, kept out, let in again.

use super::{
    addr,
    network::{Network, profile, secs},
};
use crate::{
    gossip::{Config, Event, Input, Removal},
    member::Status,
};

/// Three datacenters of two servers: s0 and s1 in dc1, s2 and s3 in dc2, s4 and s5 in dc3.
fn three(seed: u64) -> Network {
    let mut net = Network::new(Config::wan(), seed);
    for number in 0..6 {
        boot(&mut net, number);
    }
    net.run_until_so(secs(60.0), Network::agrees);
    net
}

fn boot(net: &mut Network, number: u16) {
    let dc = format!("dc{}", number / 2 + 1);
    let at = net.boot(profile(&format!("s{number}"), &dc, number));
    net.input(at, Input::Join(vec![addr(0)]));
}

fn said(dc: &str, at_ms: u64, is_lifted: bool) -> Removal {
    Removal { dc: dc.parse().unwrap(), at_ms, is_lifted, by: "s0.dc1".to_owned() }
}

/// Tells whether none of these knows a member of dc3.
fn forgot(net: &Network, numbers: std::ops::Range<u16>) -> bool {
    numbers.into_iter().all(|number| {
        let mut members = net.engine(addr(number)).members();
        members.all(|member| member.profile.dc.as_str() != "dc3")
    })
}

#[test]
fn a_removed_datacenter_is_dropped_everywhere_within_seconds_and_stays_out() {
    for seed in 1..6 {
        let mut net = three(seed);
        net.kill(addr(4));
        net.kill(addr(5));
        net.run_until_so(secs(60.0), |net| {
            (0..4).all(|at| net.status(addr(at), "s4.dc3") == Some(Status::Failed))
        });
        net.input(addr(0), Input::Removal(said("dc3", 1000, false)));
        assert!(forgot(&net, 0..1));
        net.run_until_so(secs(5.0), |net| forgot(net, 0..4));
        net.run(secs(300.0));
        assert!(forgot(&net, 0..4), "seed {seed}");
    }
}

#[test]
fn one_that_is_alive_all_the_same_does_not_gossip_itself_back() {
    let mut net = three(1);
    net.input(addr(0), Input::Removal(said("dc3", 1000, false)));
    net.run_until_so(secs(5.0), |net| forgot(net, 0..4));
    // It starts again under new names and asks everyone to be let in.
    net.kill(addr(4));
    let at = net.boot(profile("s9", "dc3", 9));
    net.input(at, Input::Join((0..4).map(addr).collect()));
    for _ in 0..300 {
        net.run(secs(1.0));
        assert!(forgot(&net, 0..4));
    }
    assert!(net.all_hold("s0.dc1", Status::Alive), "the others are well");
}

#[test]
fn it_comes_back_once_the_removal_is_lifted_wherever_that_is_said() {
    let mut net = three(2);
    net.input(addr(0), Input::Removal(said("dc3", 1000, false)));
    net.run_until_so(secs(5.0), |net| forgot(net, 0..4));
    net.run(secs(60.0));
    net.input(addr(3), Input::Removal(said("dc3", 7, true)));
    net.run_until_so(secs(60.0), Network::agrees);
    assert!((0..6).all(|at| net.status(addr(at), "s4.dc3") == Some(Status::Alive)));
}

#[test]
fn who_was_away_learns_of_it_and_who_kept_it_over_a_restart_tells_it_on() {
    let mut net = three(3);
    net.kill(addr(2));
    net.input(addr(0), Input::Removal(said("dc3", 1000, false)));
    net.run_until_so(secs(5.0), |net| forgot(net, 0..2) && forgot(net, 3..4));
    boot(&mut net, 2);
    net.run_until_so(secs(60.0), |net| {
        net.engine(addr(2)).removals().count() == 1 && forgot(net, 0..4)
    });
    // Everyone forgets but one, who had written it down.
    for number in 0..4 {
        net.kill(addr(number));
        boot(&mut net, number);
    }
    net.input(addr(1), Input::Removals(vec![said("dc3", 1000, false)]));
    net.run_until_so(secs(60.0), |net| {
        (0..4).all(|at| net.engine(addr(at)).removals().count() == 1) && forgot(net, 0..4)
    });
}

#[test]
fn its_own_servers_know_of_it_and_stay_together() {
    let mut net = three(4);
    net.input(addr(4), Input::Removals(vec![said("dc3", 1000, false)]));
    net.run(secs(60.0));
    assert_eq!(net.status(addr(4), "s5.dc3"), Some(Status::Alive));
    assert_eq!(net.status(addr(5), "s4.dc3"), Some(Status::Alive));
}

#[test]
fn a_lan_pool_knows_no_removals() {
    let mut net = Network::lan(1, 2, 0);
    net.run(secs(5.0));
    net.input(addr(0), Input::Removal(said("dc1", 1000, false)));
    assert_eq!(net.engine(addr(0)).removals().count(), 0);
    assert_eq!(net.status(addr(0), "s1"), Some(Status::Alive));
}

#[test]
fn what_is_no_news_is_not_told_on() {
    let mut net = three(5);
    let removal = said("dc3", 1000, false);
    net.input(addr(0), Input::Removal(removal.clone()));
    net.run(secs(60.0));
    let told = |net: &Network| {
        net.events.iter().filter(|(.., event)| *event == Event::Removal(removal.clone())).count()
    };
    assert!(told(&net) <= 6, "once for each server");
    let before = told(&net);
    net.input(addr(1), Input::Removals(vec![removal.clone()]));
    net.run(secs(60.0));
    assert_eq!(told(&net), before);
}
