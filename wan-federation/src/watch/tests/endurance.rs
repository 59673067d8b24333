//! Days without a false verdict, and how long a true one takes, over a model of the paths.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    super::*,
    model::{TICK, Way, Weather, World, addr, dc},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Datacenters that are watched for a day.
const OTHERS: u8 = 2;

/// A bad connection between continents.
const FOUL: Weather =
    Weather { rtt: Duration::from_millis(300), jitter: Duration::from_millis(100), loss: 0.02 };

/// How soon a datacenter is held for lost, in 99 of 100 cases.
const NOTICED_MAX: Duration = Duration::from_secs(5);

/// How soon at all.
const NOTICED_EVER: Duration = Duration::from_secs(15);

/// Lets a day pass after something broke, and tells how many paths were held for dead.
fn a_day(seed: u64, breaks: impl FnOnce(&mut World)) -> u32 {
    let mut world = World::new(seed, OTHERS + 1, 3, FOUL);
    world.run(Duration::from_secs(60));
    breaks(&mut world);
    world.run(DAY);
    for (number, observer) in world.observers.iter().enumerate() {
        assert!(observer.lost.is_empty(), "a{}: {:?}", number + 1, observer.lost);
        for number in 2..=OTHERS + 1 {
            assert!(observer.held.contains_key(&dc(number)), "nothing is held of dc{number}");
        }
    }
    world.deaths()
}

#[test]
fn a_day_of_bad_weather_makes_no_datacenter_lost() {
    let deaths = a_day(1, |_| {});
    println!("{deaths} paths were held for dead");
}

#[test]
fn a_server_that_is_gone_for_a_day_makes_no_datacenter_lost() {
    let deaths = a_day(2, |world| world.silence(addr(2, 1), Way::Silent));
    assert!(deaths > 0, "nobody noticed");
}

#[test]
fn an_observer_that_is_cut_off_for_a_day_makes_no_datacenter_lost() {
    let deaths = a_day(3, |world| world.cut(0));
    assert!(deaths > 0, "nobody noticed");
}

/// How a datacenter goes.
#[derive(Debug, Clone, Copy)]
enum Going {
    /// All its servers are killed at one time.
    Killed,
    /// They are frozen one after the other within a third of a second.
    Frozen,
    /// It is cut off, so that what is on its way is lost, too.
    CutOff,
}

/// Loses a datacenter, and returns how long each server of another one took to hold it for lost.
fn detection(seed: u64, going: Going) -> Vec<Duration> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (dcs, servers) = (rng.random_range(2..=20), rng.random_range(3..=5));
    let weather = Weather {
        rtt: Duration::from_millis(rng.random_range(10..=300)),
        jitter: Duration::from_millis(rng.random_range(0..=100)),
        loss: rng.random_range(0.0..=0.02),
    };
    let mut world = World::new(seed, dcs, servers, weather);
    world.run(Duration::from_secs(2) + Duration::from_secs(1).mul_f64(rng.random()));
    for server in 1..=servers {
        let way = if let Going::CutOff = going { Way::Cut } else { Way::Silent };
        world.silence(addr(2, server), way);
        if let Going::Frozen = going {
            world.run(Duration::from_millis(rng.random_range(0..=100)));
        }
    }
    let gone = world.now;
    let lost = |observer: &super::model::Observer| match observer.held.get(&dc(2)) {
        Some((Health::Lost, at)) => Some(at.saturating_sub(gone)),
        _ => None,
    };
    while world.observers.iter().any(|observer| lost(observer).is_none()) {
        assert!(world.now - gone < NOTICED_EVER, "seed {seed}: {going:?} and nobody cares");
        world.tick();
    }
    for other in 3..=dcs {
        let wrong = world.observers.iter().any(|observer| observer.lost.contains(&dc(other)));
        assert!(!wrong, "seed {seed}: dc{other} is not lost");
    }
    world.observers.iter().filter_map(lost).collect()
}

#[test]
fn a_datacenter_is_lost_within_five_seconds_however_it_goes() {
    for going in [Going::Killed, Going::Frozen, Going::CutOff] {
        let mut all: Vec<_> = (0..25).flat_map(|seed| detection(seed, going)).collect();
        all.sort();
        let at = |part: usize| all[(all.len() - 1) * part / 100];
        let (p50, p99, most) = (at(50), at(99), all[all.len() - 1]);
        println!("{going:?}: {} verdicts, p50 {p50:?}, p99 {p99:?}, all {most:?}", all.len());
        assert!(p99 <= NOTICED_MAX, "{going:?}: {p99:?}");
        assert!(all[0] > TICK, "{going:?}: before anybody can know");
    }
}
