//! Whole federations on a simulated network: what is known when, and what callers see meanwhile.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tests::{
    fabric::{Link, simulate},
    globe::{Globe, Place, datacenter},
    seeds,
};
use tokio::{task::JoinSet, time::Instant};
use topology::Status;
use wan_federation::{
    Degradation, ForwardError, Health,
    removal::Wish,
    timeline::{Event, Kind, merge},
};

/// Promise P2: a lost datacenter is known everywhere.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Promise P3: a request for a lost datacenter ends, verdict or not.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Promise P3: the same when the verdict is in.
const ENDS_AT_ONCE: Duration = Duration::from_millis(50);

/// A verdict of one datacenter is known in the others: a heartbeat and a question later.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

/// A minute: more than enough to settle when nothing is in the way.
const SETTLED: Duration = Duration::from_secs(60);

const POOR: Link = Link {
    latency: Duration::from_millis(150),
    jitter: Duration::from_millis(5),
    loss: 0.02,
    bandwidth: None,
};

async fn world(seed: u64, dcs: u8, wan: Link) -> Globe {
    println!("seed {seed}");
    let mut globe = Globe::new(seed, 3, wan);
    globe.start_all(dcs);
    let took = globe.until(SETTLED, "all know all", Globe::is_well).await;
    println!("all knew all after {took:?}");
    globe
}

/// Asks from everywhere ten times a second while time passes.
async fn under_load(globe: &Globe, lost: u8, within: Duration) -> Duration {
    let begin = Instant::now();
    let mut asked = JoinSet::new();
    let mut known = None;
    while begin.elapsed() < within + ENDS_WITHIN {
        for from in globe.outside(lost) {
            let verdict = globe.held(from, lost) == Some(Health::Lost);
            let ask = globe.ask(from, lost);
            asked.spawn(async move {
                let at = Instant::now();
                let result = ask.await;
                let error = result.expect_err("nobody is left to answer");
                let (took, bound) =
                    (at.elapsed(), if verdict { ENDS_AT_ONCE } else { ENDS_WITHIN });
                assert!(took <= bound, "{from:?} waited {took:?} with verdict {verdict}: {error}");
                assert!(!matches!(error, ForwardError::UnknownDatacenter { .. }), "{error}");
            });
            let other = (1..).find(|dc| *dc != lost && *dc != from.dc).unwrap();
            let ask = globe.ask(from, other);
            asked.spawn(async move {
                ask.await.expect("a datacenter that is well answers");
            });
        }
        if known.is_none() && globe.all_hold(lost, Health::Lost) {
            known = Some(begin.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Some(done) = asked.join_next().await {
        done.unwrap();
    }
    known.expect("the loss is known everywhere")
}

#[test]
fn a_lost_datacenter_is_known_in_time_costs_its_callers_little_and_others_nothing() {
    seeds::spread(1..6, |seed| {
        simulate(async move {
            let mut globe = world(seed, 3, Link::WAN).await;
            tokio::time::sleep(Duration::from_millis(seed * 137)).await;
            globe.kill_datacenter(2);
            let known = under_load(&globe, 2, KNOWN_WITHIN).await;
            println!("loss known after {known:?}");
            assert!(known <= KNOWN_WITHIN, "{known:?}");
            globe.start_datacenter(2);
            let back = globe.until(SETTLED, "dc2 is back", Globe::is_well).await;
            println!("back after {back:?}");
        });
    });
}

#[test]
fn loss_and_long_ways_make_no_false_verdict_and_hide_no_true_one() {
    simulate(async {
        let mut globe = world(1, 5, POOR).await;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            for from in globe.outside(0) {
                for dc in 1..=5 {
                    assert_ne!(globe.held(from, dc), Some(Health::Lost), "{from:?} on dc{dc}");
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        globe.kill_datacenter(3);
        let lost = |globe: &Globe| globe.all_hold(3, Health::Lost);
        let known = globe.until(KNOWN_WITHIN, "dc3 is lost", lost).await;
        println!("loss known after {known:?}");
    });
}

#[test]
fn one_servers_lost_links_lose_no_datacenter() {
    simulate(async {
        let globe = world(1, 3, Link::WAN).await;
        let one = Place { dc: 1, server: 1 };
        globe.fabric.cut(&[one.addr().ip()], &globe.hosts(2));
        let begin = Instant::now();
        let mut partial = false;
        while begin.elapsed() < Duration::from_secs(30) {
            for from in globe.outside(0) {
                for dc in 1..=3 {
                    assert_ne!(globe.held(from, dc), Some(Health::Lost), "{from:?} on dc{dc}");
                }
            }
            partial |= globe.held(one, 2) == Some(Health::Degraded(Degradation::Partial));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(partial, "what a1 sees is held against dc2 a little");
        globe.fabric.heal_all();
        globe.until(SETTLED, "all is well again", Globe::is_well).await;
    });
}

/// Says whose pool does not hold exactly the servers that run for alive.
fn agreement(globe: &Globe) -> Result<(), String> {
    let running = globe.outside(0);
    let truth: BTreeSet<_> = running.iter().map(|place| place.addr()).collect();
    for place in running {
        let members = globe.at(place).members();
        let alive = members.iter().filter(|member| member.status == Status::Alive);
        let held: BTreeSet<_> = alive.map(|member| member.profile.addr).collect();
        if held != truth {
            return Err(format!("{place:?} holds {held:?} for alive"));
        }
    }
    Ok(())
}

#[test]
fn five_datacenters_agree_on_who_is_alive_soon_after_faults_stop() {
    seeds::spread(1..5, |seed| {
        simulate(async move {
            let link = Link::WAN.with_latency(Duration::from_millis(40)).with_loss(0.02);
            let mut globe = world(seed, 5, link).await;
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..4 {
                let place = Place { dc: rng.random_range(1..=5), server: rng.random_range(2..=3) };
                let (one, other) = (rng.random_range(1..=5), rng.random_range(1..=5));
                globe.kill(place);
                match rng.random_bool(0.5) {
                    true => globe.fabric.cut(&globe.hosts(one), &globe.hosts(other)),
                    false => globe.fabric.cut_one_way(&globe.hosts(one), &globe.hosts(other)),
                }
                tokio::time::sleep(Duration::from_secs(rng.random_range(2..12))).await;
                globe.start(place);
            }
            globe.fabric.heal_all();
            let took = globe.until(SETTLED, "all agree", |globe| agreement(globe).is_ok()).await;
            println!("seed {seed}: all agreed {took:?} after the faults stopped");
            globe.until(SETTLED, "all is well", Globe::is_well).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(agreement(&globe), Ok(()), "no live member stays failed");
        });
    });
}

#[test]
fn one_dead_server_is_no_lost_datacenter_and_its_peers_answer() {
    simulate(async {
        let mut globe = world(1, 2, Link::WAN).await;
        globe.kill(Place { dc: 2, server: 1 });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            let from = Place { dc: 1, server: 2 };
            let at = Instant::now();
            globe.ask(from, 2).await.expect("dc2 still has two servers");
            assert!(at.elapsed() <= ENDS_WITHIN, "{:?}", at.elapsed());
            assert_ne!(globe.held(from, 2), Some(Health::Lost));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// The pace of dc2 is known, and its leader falls silent without anybody knowing yet.
#[test]
fn a_read_does_not_wait_until_a_dead_server_is_known_to_be_dead() {
    simulate(async {
        let mut globe = world(1, 2, Link::WAN).await;
        let from = Place { dc: 1, server: 2 };
        for _ in 0..600 {
            globe.ask(from, 2).await.expect("dc2 is well");
        }
        globe.kill(Place { dc: 2, server: 1 });
        for _ in 0..5 {
            let at = Instant::now();
            globe.ask(from, 2).await.expect("dc2 still has two servers");
            let took = at.elapsed();
            assert!(took <= Link::WAN.latency * 6, "two round trips and a little, not {took:?}");
        }
    });
}

#[test]
fn a_partition_between_two_datacenters_is_seen_on_both_sides_and_heals() {
    simulate(async {
        let globe = world(3, 3, Link::WAN).await;
        globe.fabric.cut(&globe.hosts(1), &globe.hosts(2));
        let split = |globe: &Globe| {
            let holds = |dc, other| {
                (1..=3).all(|server| globe.held(Place { dc, server }, other) == Some(Health::Lost))
            };
            holds(1, 2) && holds(2, 1)
        };
        globe.until(KNOWN_WITHIN, "both sides know", split).await;
        assert_eq!(globe.held(Place { dc: 3, server: 1 }, 1), Some(Health::Healthy));
        let told = |globe: &Globe| {
            (1..=3).all(|server| {
                let matrix = globe.at(Place { dc: 3, server }).matrix();
                let reaches = |from, to| matrix.reaches(&datacenter(from), &datacenter(to));
                reaches(1, 2).is_none() && reaches(2, 1).is_none() && reaches(1, 3).is_some()
            })
        };
        globe.until(TOLD_WITHIN, "dc3 knows that the other two can't reach each other", told).await;
        let matrix = globe.at(Place { dc: 1, server: 2 }).matrix();
        let by_way_of_three = matrix.reaches(&datacenter(3), &datacenter(2));
        assert!(by_way_of_three.is_some_and(|rtt| rtt < Duration::from_millis(60)));
        assert_eq!(matrix.reaches(&datacenter(2), &datacenter(3)), None, "nobody can ask dc2");
        globe.fabric.heal_all();
        globe.until(SETTLED, "all is well again", Globe::is_well).await;
    });
}

#[test]
fn two_datacenters_that_are_cut_from_each_other_go_on_by_way_of_a_third() {
    seeds::spread(1..4, |seed| {
        simulate(async move {
            let globe = world(seed, 4, Link::WAN).await;
            globe.fabric.cut(&globe.hosts(1), &globe.hosts(2));
            let begin = Instant::now();
            let mut asked = JoinSet::new();
            while begin.elapsed() < Duration::from_secs(20) {
                for (from, to) in [(1, 2), (2, 1)] {
                    for server in 1..=3 {
                        let ask = globe.ask(Place { dc: from, server }, to);
                        asked.spawn(async move {
                            let at = Instant::now();
                            let way = ask.await.expect("there is a way").path;
                            assert!(at.elapsed() <= ENDS_WITHIN, "{:?}", at.elapsed());
                            let [one, third, other] = &way[..] else {
                                panic!("{way:?} is no detour");
                            };
                            assert_eq!((one, other), (&datacenter(from), &datacenter(to)));
                            assert!([datacenter(3), datacenter(4)].contains(third));
                        });
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            while let Some(done) = asked.join_next().await {
                done.unwrap();
            }
            globe.fabric.heal_all();
            globe.until(SETTLED, "all is well again", Globe::is_well).await;
            let straight = globe.ask(Place { dc: 1, server: 1 }, 2).await.unwrap();
            assert!(!straight.is_detour());
        });
    });
}

#[test]
fn a_server_that_is_cut_from_its_fellows_finds_them_by_way_of_another_datacenter() {
    simulate(async {
        let globe = world(1, 3, Link::WAN).await;
        let alone = Place { dc: 1, server: 3 };
        let fellows = [1, 2].map(|server| Place { dc: 1, server }.addr().ip());
        globe.fabric.cut(&[alone.addr().ip()], &fellows);
        let forwarded = globe.ask(alone, 1).await.unwrap();
        assert_eq!(forwarded.answer, "a1", "the leader answers");
        assert_eq!((&forwarded.path[0], &forwarded.path[2]), (&datacenter(1), &datacenter(1)));
    });
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let run = |seed| {
        simulate(async move {
            let mut globe = world(seed, 2, POOR).await;
            globe.kill(Place { dc: 2, server: 2 });
            tokio::time::sleep(Duration::from_secs(10)).await;
            globe.start(Place { dc: 2, server: 2 });
            tokio::time::sleep(Duration::from_secs(10)).await;
            globe.fabric.trace()
        })
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).hash, run(8).hash);
}

#[test]
fn timelines_of_all_servers_tell_of_a_loss_and_a_return_in_one_order() {
    simulate(async {
        let mut globe = world(3, 3, Link::WAN).await;
        let about = datacenter(2);
        let told = async |globe: &Globe, kind: Kind, text: &str| {
            let mut all = Vec::new();
            for place in globe.outside(2) {
                all.extend(globe.at(place).events().await.expect("it runs"));
            }
            let merged = merge(all);
            assert!(merged.is_sorted_by_key(|event| event.time_ms), "clocks are one here");
            let says = |event: &&Event| event.kind == kind.as_str() && event.text.contains(text);
            let of = merged.iter().filter(|event| event.about == about).filter(says);
            of.map(|event| (event.server.clone(), event.time_ms)).collect::<Vec<_>>()
        };
        let killed = globe.wall_ms();
        globe.kill_datacenter(2);
        globe.until(KNOWN_WITHIN, "the loss is known", |it| it.all_hold(2, Health::Lost)).await;
        let outside: BTreeSet<_> = globe.outside(2).into_iter().map(Place::name).collect();
        for (kind, text) in
            [(Kind::Verdict, "-> lost: "), (Kind::Effect, "requests are no longer sent")]
        {
            let told = told(&globe, kind, text).await;
            let by: BTreeSet<_> = told.iter().map(|(server, _)| server.clone()).collect();
            assert_eq!((by, told.len()), (outside.clone(), outside.len()), "{told:?}");
            let known = u64::try_from(KNOWN_WITHIN.as_millis()).unwrap();
            assert!(told.iter().all(|(_, at)| (killed..=killed + known).contains(at)), "{told:?}");
        }
        globe.start_datacenter(2);
        globe.until(SETTLED, "dc2 is back", Globe::is_well).await;
        let told = told(&globe, Kind::Recovery, "").await;
        let by: BTreeSet<_> = told.iter().map(|(server, _)| server.clone()).collect();
        assert_eq!(by, outside, "{told:?}");
    });
}

#[test]
fn a_removed_datacenter_is_gone_everywhere_within_seconds_and_does_not_come_back_by_itself() {
    seeds::spread(1..4, |seed| {
        simulate(async move {
            let mut globe = world(seed, 5, POOR).await;
            globe.kill_datacenter(2);
            globe.until(SETTLED, "the loss is known", |it| it.all_hold(2, Health::Lost)).await;
            let from = globe.at(Place { dc: 1, server: 1 });
            from.remove(datacenter(2), Wish::Remove).await.expect("it is lost");
            let gone = |globe: &Globe| {
                globe.outside(2).into_iter().all(|place| globe.held(place, 2).is_none())
            };
            let took = globe.until(TOLD_WITHIN, "dc2 is gone everywhere", gone).await;
            println!("removed everywhere after {took:?}");
            globe.start_datacenter(2);
            let begin = Instant::now();
            while begin.elapsed() < 2 * SETTLED {
                assert!(gone(&globe), "it came back");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let from = globe.at(Place { dc: 5, server: 3 });
            from.remove(datacenter(2), Wish::Restore).await.expect("it is removed");
            globe.until(SETTLED, "dc2 is back", Globe::is_well).await;
        });
    });
}
