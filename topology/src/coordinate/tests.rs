//! Nodes on synthetic maps find their places; nothing that others say makes a coordinate nonsense.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{embed::embed, *};

const MILLI: Duration = Duration::from_millis(1);

/// A point on a plane in milliseconds, with a link of its own.
type Point = (f64, f64, f64);

fn rtt(a: Point, b: Point) -> Duration {
    Duration::from_secs_f64(((a.0 - b.0).hypot(a.1 - b.1) + a.2 + b.2) / 1000.0)
}

fn point() -> impl Strategy<Value = Point> {
    (0.0..50.0, 0.0..50.0, 0.1..2.0)
}

fn at(x: f64, height: f64) -> Coordinate {
    let vec = std::array::from_fn(|i| if i == 0 { x } else { 0.0 });
    Coordinate { vec, error: 0.1, adjustment: 0.0, height }
}

/// Lets nodes at points measure each other at random, and returns by how much the estimates of all pairs are
/// off, as a part of the truth: the median of all pairs.
fn settle(points: &[Point], samples: usize, seed: u64) -> f64 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut nodes = vec![Vivaldi::default(); points.len()];
    for _ in 0..samples * points.len() {
        let (a, b) = (rng.random_range(0..points.len()), rng.random_range(0..points.len()));
        if a != b {
            let sample = Sample { peer: *nodes[b].own(), rtt: rtt(points[a], points[b]) };
            nodes[a].learn(&sample, &mut rng).unwrap();
        }
    }
    let mut off = Vec::new();
    for a in 0..points.len() {
        for b in 0..a {
            let truth = rtt(points[a], points[b]).as_secs_f64();
            let estimate = nodes[a].own().distance(nodes[b].own()).as_secs_f64();
            off.push((estimate - truth).abs() / truth);
        }
    }
    off.sort_by(f64::total_cmp);
    off[off.len() / 2]
}

/// Any bits at all, and often what is next to the bounds.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        -11.0..11.0,
        prop::sample::select(vec![
            0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            1e-300
        ]),
    ]
}

fn any_coordinate() -> impl Strategy<Value = Coordinate> {
    (prop::array::uniform8(number()), number(), number(), number())
        .prop_map(|(vec, error, adjustment, height)| Coordinate { vec, error, adjustment, height })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nodes_find_their_places_on_a_map(points in prop::collection::vec(point(), 5..30), seed: u64) {
        let off = settle(&points, 400, seed);
        prop_assert!(off < 0.1, "the estimates are off by {off} (seed {seed})");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_peers_say_makes_a_coordinate_nonsense(
        said in prop::collection::vec((any_coordinate(), 0_u64..20_000_000), 0..60),
        seed: u64,
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut node = Vivaldi::default();
        for (peer, micros) in said {
            let before = *node.own();
            let learned = node.learn(&Sample { peer, rtt: Duration::from_micros(micros) }, &mut rng);
            if peer.check().is_err() || micros > 10_000_000 {
                prop_assert!(learned.is_err());
                prop_assert_eq!(*node.own(), before);
            }
            prop_assert_eq!(node.own().check(), Ok(()));
        }
    }

    #[test]
    fn distances_are_the_same_both_ways_and_never_negative(a in any_coordinate(), b in any_coordinate()) {
        if a.check().is_ok() && b.check().is_ok() {
            prop_assert_eq!(a.distance(&b), b.distance(&a));
            prop_assert!(a.distance(&b) <= Duration::from_secs(100));
        }
    }
}

#[test]
fn a_distance_is_the_way_the_heights_and_the_adjustments() {
    let (a, b) = (at(0.010, 0.001), at(0.030, 0.002));
    assert_eq!(a.distance(&b), 23 * MILLI);
    let adjusted = Coordinate { adjustment: -0.002, ..a };
    assert_eq!(adjusted.distance(&b), 21 * MILLI);
    let absurd = Coordinate { adjustment: -5.0, ..a };
    assert_eq!(absurd.distance(&b), 23 * MILLI, "an adjustment below nothing does not count");
}

#[test]
fn what_no_honest_node_says_is_refused() {
    let good = at(0.01, 0.001);
    assert_eq!(good.check(), Ok(()));
    assert_eq!(Coordinate::ORIGIN.check(), Ok(()));
    for (bad, why) in [
        (Coordinate { error: f64::NAN, ..good }, CoordinateError::NotFinite),
        (Coordinate { vec: [f64::INFINITY; 8], ..good }, CoordinateError::NotFinite),
        (at(-10.5, 0.0), CoordinateError::TooFar),
        (Coordinate { height: -0.001, ..good }, CoordinateError::TooFar),
        (Coordinate { error: -0.001, ..good }, CoordinateError::TooFar),
        (Coordinate { adjustment: 11.0, ..good }, CoordinateError::TooFar),
    ] {
        assert_eq!(bad.check(), Err(why), "{bad:?}");
    }
}

#[test]
fn a_round_trip_beyond_ten_seconds_is_not_believed() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut node = Vivaldi::default();
    let rtt = Duration::from_millis(10_001);
    let refused = node.learn(&Sample { peer: at(0.0, 0.0), rtt }, &mut rng);
    assert_eq!(refused, Err(CoordinateError::NoRoundTrip(rtt)));
    assert_eq!(*node.own(), Coordinate::ORIGIN);
}

#[test]
fn the_surer_a_node_is_the_less_a_sample_moves_it() {
    let moved = |error: f64| {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut node = Vivaldi::default();
        let peer = Coordinate { error, ..at(0.0, 0.0) };
        node.learn(&Sample { peer, rtt: 20 * MILLI }, &mut rng).unwrap();
        node.own().distance(&peer)
    };
    assert!(moved(0.0) > moved(1.5), "an unsure peer is followed less");
}

#[test]
fn known_round_trips_make_a_map() {
    let ms = |n| MILLI * n;
    let pairs = BTreeMap::from([
        (("eu", "us"), ms(80)),
        (("eu", "asia"), ms(160)),
        (("us", "asia"), ms(120)),
        (("eu", "eu2"), ms(5)),
        (("us", "eu2"), ms(82)),
    ]);
    let map = embed(&pairs);
    assert_eq!(map, embed(&pairs));
    for ((a, b), rtt) in &pairs {
        let estimate = map[a].distance(&map[b]).as_secs_f64();
        let off = (estimate - rtt.as_secs_f64()).abs() / rtt.as_secs_f64();
        assert!(off < 0.15, "{a} {b}: {estimate} instead of {rtt:?}");
    }
    assert!(embed(&BTreeMap::<(u8, u8), Duration>::new()).is_empty());
}
