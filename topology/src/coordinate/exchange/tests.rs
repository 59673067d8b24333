//! What is asked, what is answered, and what is not believed.

use proptest::prelude::*;

use super::*;

const MILLI: Duration = Duration::from_millis(1);

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 8301))
}

/// Has `a` ping `b` and hear the pong after a round trip.
fn round(a: &mut Exchange, b: &mut Exchange, now: Duration, rtt: Duration) -> Heard {
    let (to, ping) = a.ping(now, &[addr(2)]).unwrap();
    assert_eq!(to, addr(2));
    let Heard::Answer(pong) = b.packet(now, addr(1), &ping, || true) else { panic!("no answer") };
    a.packet(now + rtt, addr(2), &pong, || true)
}

#[test]
fn two_nodes_find_out_how_far_apart_they_are() {
    let (mut a, mut b) = (Exchange::new(1), Exchange::new(2));
    for second in 0..60 {
        let now = Duration::from_secs(second);
        assert_eq!(round(&mut a, &mut b, now, 3 * MILLI), Heard::Moved);
    }
    let off = a.own().distance(b.own()).as_secs_f64() - 0.003;
    assert!(off.abs() < 0.0003, "off by {off}");
}

#[test]
fn a_pong_counts_once_and_from_whom_it_was_asked() {
    let (mut a, mut b) = (Exchange::new(1), Exchange::new(2));
    let now = Duration::ZERO;
    let (_, ping) = a.ping(now, &[addr(2)]).unwrap();
    let Heard::Answer(pong) = b.packet(now, addr(1), &ping, || true) else { panic!("no answer") };
    let mut other = pong.to_vec();
    other[5] ^= 1;
    assert_eq!(a.packet(MILLI, addr(2), &other, || true), Heard::Nothing, "another nonce");
    assert_eq!(a.packet(MILLI, addr(3), &pong, || true), Heard::Nothing, "somebody else");
    assert_eq!(a.packet(MILLI, addr(2), &pong, || true), Heard::Moved);
    assert_eq!(a.packet(MILLI, addr(2), &pong, || true), Heard::Nothing, "once more");
}

#[test]
fn a_pong_that_can_not_be_moves_nobody() {
    let (mut a, mut b) = (Exchange::new(1), Exchange::new(2));
    for hostile in [f64::NAN, f64::INFINITY, -1e300, 11.0] {
        let (_, ping) = a.ping(Duration::ZERO, &[addr(2)]).unwrap();
        let heard = b.packet(Duration::ZERO, addr(1), &ping, || true);
        let Heard::Answer(pong) = heard else { panic!("no answer") };
        let mut pong = pong.to_vec();
        pong[PING_LEN..PING_LEN + 8].copy_from_slice(&hostile.to_be_bytes());
        assert_eq!(a.packet(MILLI, addr(2), &pong, || true), Heard::Nothing);
        assert_eq!(*a.own(), Coordinate::ORIGIN);
    }
}

#[test]
fn strangers_are_not_answered() {
    let (mut a, mut b) = (Exchange::new(1), Exchange::new(2));
    let (_, ping) = a.ping(Duration::ZERO, &[addr(2)]).unwrap();
    assert_eq!(b.packet(Duration::ZERO, addr(9), &ping, || false), Heard::Nothing);
}

#[test]
fn one_odd_round_trip_moves_nobody_far() {
    let (mut a, mut b) = (Exchange::new(1), Exchange::new(2));
    for second in 0..60 {
        round(&mut a, &mut b, Duration::from_secs(second), 3 * MILLI);
    }
    let before = *a.own();
    round(&mut a, &mut b, Duration::from_secs(60), 900 * MILLI);
    assert!(a.own().moved_from(&before) < 0.0005);
}

#[test]
fn a_node_has_a_few_dozen_neighbours_and_loses_those_that_are_gone() {
    let mut node = Exchange::new(1);
    let all = |from: u8, to: u8| (from..to).map(addr).collect::<Vec<_>>();
    assert_eq!(node.ping(Duration::ZERO, &[]), None);
    for _ in 0..500 {
        node.ping(Duration::ZERO, &all(1, 250)).unwrap();
        assert!(node.neighbours.len() <= NEIGHBOURS_MAX);
    }
    assert_eq!(node.neighbours.len(), NEIGHBOURS_MAX);
    for _ in 0..500 {
        let (to, _) = node.ping(Duration::ZERO, &all(1, 20)).unwrap();
        assert!(all(1, 20).contains(&to), "{to} is gone");
    }
    assert_eq!(node.neighbours.len(), 19);
}

#[test]
fn pings_become_rarer_when_the_place_is_found() {
    let mut node = Exchange::new(1);
    assert!(node.pause() < 2 * PERIOD_FIRST);
    for _ in 0..PINGS_FIRST {
        node.ping(Duration::ZERO, &[addr(2)]).unwrap();
    }
    assert!(node.pause() >= PERIOD);
}

#[test]
fn the_packets_look_as_they_always_did() {
    let mut node = Exchange::new(1);
    let (_, ping) = node.ping(Duration::ZERO, &[addr(2)]).unwrap();
    assert_eq!((ping.len(), &ping[..2]), (10, &[0xc0, 1][..]));
    let Heard::Answer(pong) = node.packet(Duration::ZERO, addr(2), &ping, || true) else {
        panic!("no answer")
    };
    assert_eq!((pong.len(), &pong[..2], &pong[2..10]), (98, &[0xc0, 2][..], &ping[2..]));
    let longer = [&ping[..], b"of a later version"].concat();
    assert!(matches!(node.packet(Duration::ZERO, addr(2), &longer, || true), Heard::Answer(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic_or_move(mut bytes: Vec<u8>, marked: bool) {
        let mut node = Exchange::new(1);
        node.ping(Duration::ZERO, &[addr(2)]).unwrap();
        if let Some(first) = bytes.first_mut().filter(|_| marked) {
            *first = MARK;
        }
        let heard = node.packet(MILLI, addr(2), &bytes, || true);
        prop_assert_ne!(heard, Heard::Moved);
    }
}
