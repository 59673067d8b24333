//! Five datacenters of three servers: verdicts under loss, delay, cuts, and when one is lost.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tests::{
    credentials::Credentials,
    fabric::{Fabric, Link, Trace, simulate},
    seeds,
    wan::World,
};
use tokio::time::{Instant, sleep};
use wan_federation::{ForwardError, Health};

const DATACENTERS: usize = 5;
const SERVERS: usize = 3;

/// How long until everyone knows everyone and every path is up.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// The promise: a lost datacenter is known everywhere within this.
const VERDICT_MAX: Duration = Duration::from_secs(5);

/// The promise: a call into a datacenter that is lost, but not known to be, ends within this.
const UNKNOWN_LOSS_MAX: Duration = Duration::from_secs(2);

/// How long until a datacenter that came back is healthy everywhere: its paths are dialled again
/// within some seconds.
const RETURN_MAX: Duration = Duration::from_secs(30);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn credentials() -> Arc<Credentials> {
    static CREDENTIALS: OnceLock<Arc<Credentials>> = OnceLock::new();
    CREDENTIALS.get_or_init(Arc::default).clone()
}

async fn world(seed: u64, far: Link) -> World {
    let fabric = Fabric::new(seed, far);
    let world = World::start(fabric, credentials(), (DATACENTERS, SERVERS), far, seed);
    let took = world.until(SETTLE_MAX, "all know all", World::agreement).await;
    let more = world.until(SETTLE_MAX, "all are healthy", World::all_healthy).await;
    println!("seed {seed}: settled after {:?}", took + more);
    world
}

#[test]
fn a_lost_datacenter_is_known_everywhere_within_five_seconds() {
    seeds::spread(1..7, |seed| {
        simulate(async move {
            let mut world = world(seed, Link::WAN.with_loss(0.01)).await;
            sleep(Duration::from_millis(seed * 137)).await;
            (0..SERVERS).for_each(|number| world.kill((2, number)));

            let begin = Instant::now();
            let error = world.ask((0, 0), 2).await.expect_err("nobody is there");
            assert!(begin.elapsed() <= UNKNOWN_LOSS_MAX, "{error} after {:?}", begin.elapsed());

            let lost = |world: &World| world.held_for(2, Health::Lost);
            world.until(VERDICT_MAX, "all know of the loss", lost).await;
            let took = begin.elapsed();
            assert!(took <= VERDICT_MAX, "{took:?}");
            println!("seed {seed}: known everywhere after {took:?}");
            world.none_lost().unwrap();

            let begin = Instant::now();
            let error = world.ask((0, 1), 2).await.expect_err("nobody is there");
            assert!(matches!(error, ForwardError::Lost { .. }), "{error}");
            assert_eq!(begin.elapsed(), Duration::ZERO, "it is known, so nothing is waited for");
            assert_eq!(world.ask((0, 1), 3).await.unwrap(), "server-4-1.dc4");

            (0..SERVERS).for_each(|number| world.run((2, number)));
            world.until(RETURN_MAX, "it is back", World::all_healthy).await;
            world.until(RETURN_MAX, "all are alive again", World::agreement).await;
        });
    });
}

#[test]
fn a_datacenter_that_is_cut_off_is_lost_and_comes_back() {
    seeds::spread(1..4, |seed| {
        simulate(async move {
            let world = world(seed, Link::WAN.with_latency(Duration::from_millis(40))).await;
            let (inside, outside) = (world.hosts(4), world.others(4));
            world.fabric.cut(&inside, &outside);
            let lost = |world: &World| world.held_for(4, Health::Lost);
            world.until(VERDICT_MAX, "all know of the cut", lost).await;
            sleep(secs(20)).await;
            world.fabric.heal_all();
            world.until(RETURN_MAX, "it is back", World::all_healthy).await;
            world.until(secs(60), "the pools are one again", World::agreement).await;
        });
    });
}

#[test]
fn loss_and_long_ways_lose_no_datacenter() {
    seeds::spread(1..3, |seed| {
        simulate(async move {
            let far = Link::WAN.with_loss(0.02).with_latency(Duration::from_millis(150));
            let world = world(seed, far).await;
            let end = Instant::now() + secs(180);
            while Instant::now() < end {
                sleep(Duration::from_millis(200)).await;
                world.none_lost().unwrap_or_else(|why| panic!("a false verdict: {why}"));
            }
            world.until(secs(30), "all are alive", World::agreement).await;
        });
    });
}

#[test]
fn a_dead_server_and_a_one_way_cut_lose_no_datacenter() {
    simulate(async {
        let mut world = world(1, Link::WAN).await;
        world.kill((1, 0));
        let (inside, outside) = (world.hosts(3)[..1].to_vec(), world.others(3));
        world.fabric.cut_one_way(&inside, &outside);
        let end = Instant::now() + secs(20);
        while Instant::now() < end {
            sleep(Duration::from_millis(200)).await;
            world.none_lost().unwrap_or_else(|why| panic!("a false verdict: {why}"));
        }
        let answered = world.ask((0, 0), 1).await.unwrap();
        assert!(answered.ends_with(".dc2"), "another server of dc2 answers: {answered}");
    });
}

#[test]
fn the_same_seed_gives_the_same_federation() {
    let run = |seed| -> Trace {
        simulate(async move {
            let mut world = world(seed, Link::WAN.with_loss(0.02)).await;
            world.kill((2, 1));
            sleep(secs(5)).await;
            world.run((2, 1));
            sleep(secs(5)).await;
            world.fabric.trace()
        })
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).hash, run(2).hash);
}
