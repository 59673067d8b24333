//! Envelopes on the wire: golden bytes, other versions, and the way they may take.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

fn sample(deadline: Instant) -> Envelope {
    Envelope {
        dc: dc("dc2"),
        path: vec![dc("dc1")],
        deadline,
        request: Uuid::from_u128(1),
        read: true,
        waits: false,
        consistency: Consistency::Any,
        trace: Uuid::from_u128(2),
        payload: Bytes::from_static(b"opaque"),
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// A map entry by hand: a short name, then the value's bytes.
fn entry(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(0xa0 | name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value);
}

fn golden(size: u8, version: u8, needs: u8, consistency: u8) -> Vec<u8> {
    let mut one = vec![0xc4, 16];
    one.extend_from_slice(&1u128.to_be_bytes());
    let mut two = vec![0xc4, 16];
    two.extend_from_slice(&2u128.to_be_bytes());
    let mut out = vec![0x80 | size];
    entry(&mut out, "version", &[version]);
    entry(&mut out, "needs", &[needs]);
    entry(&mut out, "dc", b"\xa3dc2");
    entry(&mut out, "path", b"\x91\xa3dc1");
    entry(&mut out, "request", &one);
    entry(&mut out, "read", &[0xc3]);
    entry(&mut out, "consistency", &[consistency]);
    entry(&mut out, "trace", &two);
    entry(&mut out, "payload", b"\xc4\x06opaque");
    out
}

#[test]
fn golden_bytes_stay() {
    assert_eq!(sample(deadline()).encode().unwrap(), golden(9, 1, 1, 0));
}

#[test]
fn golden_bytes_of_a_detour_stay() {
    let mut bytes = golden(9, 1, 1, 0);
    let path = b"\x91\xa3dc1";
    let at = bytes.windows(path.len()).position(|window| window == path).unwrap();
    bytes.splice(at..at + path.len(), *b"\x92\xa3dc1\xa3dc3");
    let mut detour = sample(deadline());
    detour.path.push(dc("dc3"));
    assert_eq!(detour.encode().unwrap(), bytes);
}

#[test]
fn golden_bytes_are_read() {
    let deadline = deadline();
    assert_eq!(Envelope::decode(&golden(9, 1, 1, 0), deadline), Ok(sample(deadline)));
}

#[test]
fn a_newer_version_that_old_readers_can_read_is_read() {
    let deadline = deadline();
    let mut bytes = golden(10, 9, 1, 0);
    entry(&mut bytes, "colour", b"\xa4blue");
    assert_eq!(Envelope::decode(&bytes, deadline), Ok(sample(deadline)));
}

#[test]
fn a_version_that_old_readers_cannot_read_is_refused_with_its_number() {
    let error = Envelope::decode(&golden(9, 9, 3, 0), deadline()).unwrap_err();
    assert_eq!(error, EnvelopeError::TooNew { needs: 3 });
    let only_needs = b"\x81\xa5needs\x02";
    let error = Envelope::decode(only_needs, deadline()).unwrap_err();
    assert_eq!(error, EnvelopeError::TooNew { needs: 2 });
}

#[test]
fn an_unknown_consistency_goes_to_the_leader() {
    let envelope = Envelope::decode(&golden(9, 1, 1, 77), deadline()).unwrap();
    assert_eq!(envelope.consistency, Consistency::Leader);
}

#[test]
fn a_payload_over_its_bound_is_not_sent() {
    let mut envelope = sample(deadline());
    envelope.payload = Bytes::from(vec![0; PAYLOAD_LEN_MAX + 1]);
    assert!(matches!(envelope.encode(), Err(EnvelopeError::TooLarge { .. })));
}

#[test]
fn leaving_adds_the_datacenter_to_the_path() {
    let mut envelope = sample(deadline());
    envelope.path.clear();
    let left = envelope.leaving(&dc("dc1")).unwrap();
    assert_eq!(left.path, [dc("dc1")]);
    assert_eq!(left.leaving(&dc("dc3")).unwrap().path, [dc("dc1"), dc("dc3")]);
}

#[test]
fn loops_are_refused() {
    let error = sample(deadline()).leaving(&dc("dc1")).unwrap_err();
    assert_eq!(error, EnvelopeError::Loop { dc: dc("dc2"), at: dc("dc1") });
    let mut been_there = sample(deadline());
    been_there.path.push(dc("dc2"));
    assert!(matches!(been_there.leaving(&dc("dc3")), Err(EnvelopeError::Loop { .. })));
}

#[test]
fn home_is_reached_by_way_of_one_other_datacenter() {
    let mut envelope = sample(deadline());
    envelope.dc = dc("dc1");
    assert!(envelope.goes_home());
    assert!(matches!(envelope.check_path(&dc("dc1")), Err(EnvelopeError::Loop { .. })));
    assert_eq!(envelope.check_path(&dc("dc3")), Ok(()));
    let passed_on = envelope.leaving(&dc("dc3")).unwrap();
    assert_eq!(passed_on.check_path(&dc("dc1")), Ok(()));
    assert!(matches!(passed_on.check_path(&dc("dc3")), Err(EnvelopeError::Loop { .. })));
    assert!(matches!(passed_on.leaving(&dc("dc4")), Err(EnvelopeError::TooFar { .. })));
}

#[test]
fn a_third_hop_is_refused() {
    let mut envelope = sample(deadline());
    envelope.path.push(dc("dc3"));
    assert_eq!(envelope.check_path(&dc("dc2")), Ok(()));
    let error = envelope.leaving(&dc("dc4")).unwrap_err();
    assert_eq!(error, EnvelopeError::TooFar { dc: dc("dc2"), hops: 3 });
}

proptest! {
    #[test]
    fn any_envelope_comes_back(
        to in "[a-z0-9]{1,8}",
        path in proptest::collection::vec("[a-z0-9]{1,8}", 0..3),
        request: u128,
        trace: u128,
        read: bool,
        waits: bool,
        leader: bool,
        payload: Vec<u8>,
    ) {
        let envelope = Envelope {
            dc: dc(&to),
            path: path.iter().map(|name| dc(name)).collect(),
            deadline: deadline(),
            request: Uuid::from_u128(request),
            read,
            waits,
            consistency: if leader { Consistency::Leader } else { Consistency::Any },
            trace: Uuid::from_u128(trace),
            payload: payload.into(),
        };
        let bytes = envelope.encode().unwrap();
        prop_assert_eq!(Envelope::decode(&bytes, envelope.deadline), Ok(envelope));
    }

    #[test]
    fn no_way_is_longer_than_two_hops_or_comes_twice_through_a_place(
        to in 0usize..5,
        through in proptest::collection::vec(0usize..5, 1..8),
    ) {
        let mut envelope = sample(deadline());
        envelope.dc = dc(&format!("dc{to}"));
        envelope.path.clear();
        let mut way = Vec::new();
        for place in &through {
            let at = dc(&format!("dc{place}"));
            if envelope.check_path(&at).is_err() || (at == envelope.dc && !way.is_empty()) {
                break;
            }
            let Ok(on) = envelope.clone().leaving(&at) else { break };
            way.push(*place);
            envelope = on;
        }
        prop_assert!(way.len() <= HOPS_MAX);
        let mut once = way.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), way.len());
        prop_assert!(!way.iter().skip(1).any(|place| *place == to));
    }

    #[test]
    fn garbage_is_refused_and_never_panics(bytes: Vec<u8>) {
        prop_assert!(Envelope::decode(&bytes, deadline()).is_err());
    }
}
