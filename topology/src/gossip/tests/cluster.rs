//! Two clusters under one datacenter's name: who is kept, who is refused, and who inherits.

use std::{collections::BTreeSet, net::SocketAddr};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use uuid::Uuid;

use super::{
    addr,
    network::{Network, profile, secs},
};
use crate::{
    gossip::{Config, Event, Input, cluster::NAME_KEPT_FOR},
    member::{CLUSTER_TAG, Member, Profile, Status},
    name::NodeId,
};

const OLD: &str = "old";
const NEW: &str = "new";

/// Servers of dc1, who watch.
const WATCHERS: [u16; 2] = [0, 1];

fn server(number: u16, dc: &str, cluster: Option<&str>) -> Profile {
    let tags = cluster.map(|cluster| (CLUSTER_TAG.to_owned(), cluster.to_owned()));
    let tags = tags.into_iter().collect();
    Profile { tags, ..profile(&format!("s{number}"), dc, number) }
}

/// Starts a server, which joins by s0.
fn boot(net: &mut Network, profile: Profile) {
    let at = net.boot(profile);
    net.input(at, Input::Join(vec![addr(0), addr(1)]));
}

/// Two servers of dc1, and those with these numbers of the old cluster of dc2.
fn old(seed: u64, numbers: &[u16]) -> Network {
    let mut net = Network::new(Config::wan(), seed);
    WATCHERS.iter().for_each(|number| boot(&mut net, server(*number, "dc1", Some("one"))));
    numbers.iter().for_each(|number| boot(&mut net, server(*number, "dc2", Some(OLD))));
    net.run_until_so(secs(60.0), Network::agrees);
    net
}

/// Returns what members of dc2 that a node knows say of their cluster, whether they are alive or not.
fn holders(net: &Network, at: SocketAddr) -> BTreeSet<String> {
    let dc2 = |member: &&Member| member.profile.dc.as_str() == "dc2";
    let members = net.engine(at).members().filter(dc2);
    members.filter_map(|member| member.profile.cluster().map(str::to_owned)).collect()
}

fn holds(net: &Network, at: u16, cluster: &str) -> bool {
    holders(net, addr(at)) == BTreeSet::from([cluster.to_owned()])
}

fn rivals(net: &Network, at: u16) -> Vec<SocketAddr> {
    net.engine(addr(at)).rivals().map(|rival| rival.profile.addr).collect()
}

#[test]
fn a_second_cluster_is_refused_on_both_sides_and_told_once() {
    for seed in 1..6 {
        let mut net = old(seed, &[2, 3]);
        for number in [12, 13] {
            boot(&mut net, server(number, "dc2", Some(NEW)));
        }
        let refused = |net: &Network| {
            let sides = [([0, 1], [12, 13]), ([2, 3], [12, 13]), ([12, 13], [2, 3])];
            sides
                .into_iter()
                .all(|(at, who)| at.into_iter().all(|at| rivals(net, at) == who.map(addr).to_vec()))
        };
        net.run_until_so(secs(30.0), refused);
        net.run(secs(300.0));
        assert!(refused(&net), "seed {seed}");
        for at in [0, 1, 2, 3] {
            assert!(holds(&net, at, OLD), "seed {seed}");
        }
        for at in [12, 13] {
            assert!(holds(&net, at, NEW), "seed {seed}");
        }
        let told: Vec<_> =
            net.events.iter().filter(|(.., event)| matches!(event, Event::Rival(_))).collect();
        assert_eq!(told.len(), 2 * 6, "seed {seed}: {told:?}");
    }
}

#[test]
fn a_server_that_does_not_know_its_cluster_yet_is_let_in_until_it_does() {
    let mut net = old(1, &[2]);
    boot(&mut net, server(12, "dc2", None));
    net.run_until_so(secs(30.0), Network::agrees);
    net.input(addr(12), Input::Update(server(12, "dc2", Some(NEW))));
    net.run_until_so(secs(10.0), |net| {
        [0, 1, 2].into_iter().all(|at| rivals(net, at) == [addr(12)])
    });
    assert_eq!(net.status(addr(0), "s12.dc2"), None);
    net.run_until_so(secs(10.0), |net| rivals(net, 12) == [addr(2)]);
    net.run(secs(60.0));
    assert_eq!(net.status(addr(0), "s12.dc2"), None);
    assert_eq!(net.status(addr(12), "s2.dc2"), None);
    // It was a mistake: the server is of the old cluster.
    net.input(addr(12), Input::Update(server(12, "dc2", Some(OLD))));
    net.run_until_so(secs(30.0), Network::agrees);
    assert!([0, 1, 2, 12].into_iter().all(|at| rivals(&net, at).is_empty()));
}

#[test]
fn those_who_are_met_at_once_do_not_change_places() {
    for seed in 1..20 {
        let mut net = Network::new(Config::wan(), seed);
        WATCHERS.iter().for_each(|number| boot(&mut net, server(*number, "dc1", Some("one"))));
        for (number, cluster) in [(2, OLD), (12, NEW), (3, OLD), (13, NEW)] {
            boot(&mut net, server(number, "dc2", Some(cluster)));
        }
        net.run(secs(20.0));
        let first = WATCHERS.map(|at| holders(&net, addr(at)));
        assert!(first.iter().all(|holders| holders.len() == 1), "seed {seed}: {first:?}");
        for _ in 0..100 {
            net.run(secs(1.0));
            assert_eq!(WATCHERS.map(|at| holders(&net, addr(at))), first, "seed {seed}");
            assert!(WATCHERS.into_iter().all(|at| rivals(&net, at).len() == 2), "seed {seed}");
        }
    }
}

#[test]
fn two_federations_that_meet_keep_what_each_of_them_knew() {
    let mut net = old(3, &[2, 3]);
    for number in [12, 13] {
        let at = net.boot(server(number, "dc2", Some(NEW)));
        net.input(at, Input::Join(vec![addr(20)]));
    }
    let at = net.boot(server(20, "dc3", Some("three")));
    net.run(secs(20.0));
    assert!(holds(&net, 20, NEW));
    net.input(at, Input::Join(vec![addr(0)]));
    for _ in 0..120 {
        net.run(secs(1.0));
        assert!(WATCHERS.into_iter().all(|at| holds(&net, at, OLD)) && holds(&net, 20, NEW));
    }
    assert_eq!((rivals(&net, 0).len(), rivals(&net, 20).len()), (2, 2));
    assert!(net.all_hold("s20.dc3", Status::Alive) && net.all_hold("s0.dc1", Status::Alive));
}

#[test]
fn the_name_never_changes_hands_while_a_server_of_the_first_cluster_lives() {
    for seed in 1..16 {
        let numbers: &[u16] = if seed % 2 == 0 { &[2] } else { &[2, 3] };
        let mut net = old(seed, numbers);
        net.loss = 0.1;
        let mut rng = SmallRng::seed_from_u64(seed);
        // Some have the same node names as those of the first cluster, and some don't say what they are of at first.
        let rival = |number: u16, cluster| Profile {
            name: format!("s{}", number - 10).parse().unwrap(),
            ..server(number, "dc2", cluster)
        };
        for _ in 0..60 {
            let number = numbers[rng.random_range(0..numbers.len())];
            match rng.random_range(0..5) {
                // It is suspected for nothing by all.
                0 => WATCHERS
                    .iter()
                    .for_each(|at| net.input(addr(*at), Input::PathDown(addr(number)))),
                // It is cut off until it is held for failed, and a little longer.
                1 => {
                    net.cut([addr(number)]);
                    net.input(addr(0), Input::PathDown(addr(number)));
                    net.run(secs(rng.random_range(1.0..7.0)));
                    net.heal();
                }
                // It is started again as what it was.
                2 => boot(&mut net, server(number, "dc2", Some(OLD))),
                3 => boot(&mut net, rival(number + 10, Some(NEW))),
                _ => {
                    boot(&mut net, rival(number + 10, None));
                    net.run(secs(rng.random_range(0.0..5.0)));
                    net.input(addr(number + 10), Input::Update(rival(number + 10, Some(NEW))));
                }
            }
            let until = net.now + secs(rng.random_range(0.0..8.0));
            while net.now < until {
                net.run(secs(0.1));
                for at in WATCHERS {
                    let new = holders(&net, addr(at)).contains(NEW);
                    assert!(!new, "seed {seed}: at {:?}\n{}", net.now, net.table());
                }
            }
        }
        net.loss = 0.0;
        net.run_until_so(secs(60.0), |net| {
            numbers.iter().all(|number| {
                let name = format!("s{number}.dc2");
                let member = |at: u16| net.member(addr(at), &name);
                let is_old = |it: Member| it.is_alive() && it.profile.cluster() == Some(OLD);
                WATCHERS.into_iter().all(|at| member(at).is_some_and(is_old))
            })
        });
    }
}

#[test]
fn a_datacenter_that_is_wiped_and_started_again_at_once_does_not_wait_for_itself() {
    for (seed, renamed) in (1..9).zip([true, false].into_iter().cycle()) {
        let mut net = old(seed, &[2, 3]);
        let anew = |number: u16, cluster| {
            let name = if renamed { format!("s9{number}") } else { format!("s{number}") };
            let id = NodeId(Uuid::from_u128(900 + u128::from(number)));
            Profile { id, name: name.parse().unwrap(), ..server(number, "dc2", cluster) }
        };
        for number in [2, 3] {
            net.kill(addr(number));
            net.run(secs(0.5));
            boot(&mut net, anew(number, None));
        }
        net.run(secs(1.0));
        for number in [2, 3] {
            net.input(addr(number), Input::Update(anew(number, Some(NEW))));
        }
        let settled = |net: &Network| {
            let alike =
                WATCHERS.into_iter().all(|at| holds(net, at, NEW) && rivals(net, at).is_empty());
            alike && net.agrees()
        };
        let took = net.run_until_so(secs(30.0), settled);
        assert!(took < NAME_KEPT_FOR, "seed {seed}: {took:?}");
        net.run(secs(60.0));
        assert!(settled(&net), "seed {seed}");
    }
}

#[test]
fn new_servers_are_welcome_under_the_name_once_the_old_ones_are_gone_for_a_while() {
    for seed in 1..6 {
        let mut net = old(seed, &[2, 3]);
        for number in [2, 3] {
            net.kill(addr(number));
            net.input(addr(0), Input::PathDown(addr(number)));
            net.input(addr(1), Input::PathDown(addr(number)));
        }
        boot(&mut net, server(12, "dc2", Some(NEW)));
        net.run(secs(12.0));
        assert!(WATCHERS.into_iter().all(|at| rivals(&net, at) == [addr(12)]), "seed {seed}");
        let came = |net: &Network| WATCHERS.into_iter().all(|at| holds(net, at, NEW));
        let took = net.run_until_so(secs(20.0), came);
        assert!(took > secs(1.0), "seed {seed}: {took:?}");
        net.run_until_so(secs(10.0), Network::agrees);
        assert!(WATCHERS.into_iter().all(|at| rivals(&net, at).is_empty()), "seed {seed}");
        // The next ones come when everybody has forgotten who they follow: at once.
        net.kill(addr(12));
        net.run(secs(60.0));
        boot(&mut net, server(22, "dc2", Some("third")));
        net.run_until_so(secs(3.0), |net| WATCHERS.into_iter().all(|at| holds(net, at, "third")));
        // Those who were there before don't come back.
        boot(&mut net, server(2, "dc2", Some(OLD)));
        net.run(secs(60.0));
        assert!(WATCHERS.into_iter().all(|at| holds(&net, at, "third")), "seed {seed}");
        assert!(WATCHERS.into_iter().all(|at| rivals(&net, at) == [addr(2)]), "seed {seed}");
    }
}
