//! Flows that begin, prove themselves, move, are flooded and forged. The ClientHellos are those of a real client.

use proptest::prelude::*;
use topology::{Datacenter, NodeName, gateway};

use super::*;

const CLASSIC: &[u8] = include_bytes!("../../../../tests/corpus/initial/classic");
const FIRST: &[u8] = include_bytes!("../../../../tests/corpus/initial/post_quantum_first");
const SECOND: &[u8] = include_bytes!("../../../../tests/corpus/initial/post_quantum_second");
const NAMELESS: &[u8] = include_bytes!("../../../../tests/corpus/initial/nameless");

const SERVER: &str = "10.0.0.1:8302";
const SECOND_OF_TIME: Duration = Duration::from_secs(1);

fn node() -> (Datacenter, NodeName) {
    ("dc2".parse().unwrap(), "dc2-s1".parse().unwrap())
}

fn flows_of(name: &str, bounds: Bounds) -> Flows {
    let mut map = Map::new(node().0, [NodeName::new(name).unwrap()]);
    for place in map.places() {
        map.move_to(place, SERVER.parse().unwrap());
    }
    Flows::new(map, bounds, Duration::ZERO)
}

fn flows() -> Flows {
    flows_of("dc2-s1", Bounds::default())
}

fn client(addr: &str) -> Client {
    Client { addr: addr.parse().unwrap(), asked: None }
}

fn one() -> Client {
    client("192.0.2.1:1000")
}

/// An id that the server drew, tagged as its ids are.
fn drawn(last: u8) -> [u8; ID_LEN] {
    let (dc, name) = node();
    let [first, second] = gateway::tag(&dc, &name);
    [first, second, 9, 9, 9, 9, last]
}

/// A packet of a handshake from the server, or to it, with an id that the server drew.
fn handshake(to: &[u8], from: &[u8], len: usize) -> Vec<u8> {
    let mut packet = vec![0xe0, 0, 0, 0, 1, to.len() as u8];
    packet.extend(to);
    packet.push(from.len() as u8);
    packet.extend(from);
    packet.resize(len, 0);
    packet
}

fn short(id: &[u8], len: usize) -> Vec<u8> {
    let mut packet = vec![0x40];
    packet.extend(id);
    packet.resize(len, 0);
    packet
}

fn opened(step: Step) -> FlowId {
    match step {
        Step::Open { flow, .. } => flow,
        other => panic!("{other:?}"),
    }
}

/// Begins a flow and proves the client's address.
fn verified(flows: &mut Flows, client: Client) -> FlowId {
    let flow = opened(flows.client(Duration::ZERO, client, CLASSIC));
    flows.server(flow, &handshake(&[1; 8], &drawn(1), 1200)).unwrap();
    let answer = handshake(&drawn(1), &[1; 8], 200);
    assert_eq!(flows.client(Duration::ZERO, client, &answer), Step::Forward(flow));
    assert_eq!(flows.unverified(), 0);
    flow
}

#[test]
fn a_handshake_opens_a_flow_to_the_server_that_it_names() {
    let mut flows = flows();
    let Step::Open { flow, server, first } = flows.client(Duration::ZERO, one(), CLASSIC) else {
        panic!("no flow");
    };
    assert_eq!((server.to_string().as_str(), first), (SERVER, vec![CLASSIC.to_vec()]));
    assert_eq!(flows.client(Duration::ZERO, one(), CLASSIC), Step::Forward(flow), "sent again");
    assert_eq!(flows.server(flow, &handshake(&[1; 8], &drawn(1), 1200)), Ok(one()));
    assert_eq!(flows.len(), 1);
}

#[test]
fn a_client_hello_in_two_packets_is_held_until_it_is_whole() {
    for (early, late) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let mut flows = flows();
        assert_eq!(flows.client(Duration::ZERO, one(), early), Step::Hold);
        let Step::Open { first, .. } = flows.client(Duration::ZERO, one(), late) else {
            panic!("no flow");
        };
        assert_eq!(first, [early.to_vec(), late.to_vec()]);
    }
}

#[test]
fn the_rest_of_a_client_hello_is_not_waited_for_forever() {
    let mut flows = flows();
    assert_eq!(flows.client(Duration::ZERO, one(), FIRST), Step::Hold);
    flows.expire(SECOND_OF_TIME * 4);
    assert_eq!(flows.client(SECOND_OF_TIME * 4, one(), SECOND), Step::Hold, "a new beginning");
}

#[test]
fn what_asks_for_nobody_here_is_dropped() {
    let drop =
        |flows: &mut Flows, datagram: &[u8]| match flows.client(Duration::ZERO, one(), datagram) {
            Step::Drop(reason) => reason,
            other => panic!("{other:?}"),
        };
    let mut flows = flows_of("dc2-s2", Bounds::default());
    assert_eq!(drop(&mut flows, CLASSIC), Reason::UnknownName);
    assert_eq!(drop(&mut flows, NAMELESS), Reason::Unreadable);
    assert_eq!(drop(&mut flows, &[]), Reason::Garbage);
    assert_eq!(drop(&mut flows, &CLASSIC[..1199]), Reason::UnknownFlow);
    assert_eq!(drop(&mut flows, &short(&[7; 7], 60)), Reason::UnknownFlow);
    assert_eq!(drop(&mut flows, &short(&[7; 7], 20)), Reason::Garbage);
    assert_eq!(drop(&mut flows, &handshake(&drawn(1), &[], 60)), Reason::UnknownFlow);
    let mut changed = CLASSIC.to_vec();
    changed[700] ^= 1;
    assert_eq!(drop(&mut flows, &changed), Reason::Unreadable);
    assert!(flows.is_empty());
}

#[test]
fn a_client_that_proved_nothing_gets_three_times_what_it_sent() {
    let mut flows = flows();
    let flow = opened(flows.client(Duration::ZERO, one(), CLASSIC));
    let answer = handshake(&[1; 8], &drawn(1), CLASSIC.len());
    for _ in 0..3 {
        assert_eq!(flows.server(flow, &answer), Ok(one()));
    }
    assert_eq!(flows.server(flow, &answer), Err(Reason::Unverified));
    // A tagged id is no proof: anybody can compute the tag.
    let forged = flows.client(Duration::ZERO, one(), &short(&drawn(2), 60));
    assert_eq!(forged, Step::Forward(flow));
    assert_eq!(flows.server(flow, &answer), Err(Reason::Unverified));
    assert_eq!(flows.unverified(), 1);
    flows.client(Duration::ZERO, one(), &handshake(&drawn(1), &[1; 8], 60));
    assert_eq!(flows.unverified(), 0);
    for _ in 0..100 {
        assert_eq!(flows.server(flow, &answer), Ok(one()));
    }
}

#[test]
fn a_client_that_never_proves_anything_does_not_send_forever() {
    let mut flows = flows();
    let flow = opened(flows.client(Duration::ZERO, one(), CLASSIC));
    let passed = (0..1000)
        .filter(|_| flows.client(Duration::ZERO, one(), CLASSIC) == Step::Forward(flow))
        .count();
    assert!((10..100).contains(&passed), "{passed}");
}

#[test]
fn a_client_whose_address_changed_is_found_by_the_tag_and_proves_itself_anew() {
    let mut flows = flows();
    verified(&mut flows, one());
    let moved = client("198.51.100.7:2000");
    // An id that was told under seal: the gateway has never seen it.
    let packet = short(&drawn(77), 100);
    let Step::Open { flow, server, first } = flows.client(SECOND_OF_TIME, moved, &packet) else {
        panic!("no flow");
    };
    assert_eq!((server.to_string().as_str(), first.len()), (SERVER, 0));
    assert_eq!(flows.server(flow, &short(&[1; 8], 300)), Ok(moved));
    assert_eq!(flows.server(flow, &short(&[1; 8], 300)), Err(Reason::Unverified));
    assert_eq!(flows.client(SECOND_OF_TIME, moved, &packet), Step::Forward(flow));
    assert_eq!(flows.unverified(), 0);
    assert_eq!(flows.server(flow, &short(&[1; 8], 1200)), Ok(moved));
}

#[test]
fn a_server_without_tags_is_found_by_the_ids_of_its_handshakes() {
    let mut flows = flows();
    let untagged = [0xee; ID_LEN];
    let flow = opened(flows.client(Duration::ZERO, one(), CLASSIC));
    flows.server(flow, &handshake(&[1; 8], &untagged, 1200)).unwrap();
    let moved = client("198.51.100.7:2000");
    opened(flows.client(Duration::ZERO, moved, &short(&untagged, 100)));
    // An id that it drew later: the only flow of that address is meant.
    let later = flows.client(Duration::ZERO, one(), &short(&[0xdd; ID_LEN], 100));
    assert_eq!(later, Step::Forward(flow));
}

#[test]
fn a_client_that_moved_proves_itself_when_it_begins_a_connection() {
    let mut flows = flows();
    let flow = opened(flows.client(Duration::ZERO, one(), &short(&drawn(1), 60)));
    flows.server(flow, &short(&[1; 8], 60)).unwrap();
    flows.client(Duration::ZERO, one(), &short(&drawn(1), 60));
    assert_eq!(flows.unverified(), 0);
    assert_eq!(opened(flows.client(Duration::ZERO, one(), CLASSIC)), flow);
    assert_eq!(flows.unverified(), 1);
    let much = handshake(&[1; 8], &drawn(1), 4 * CLASSIC.len());
    assert_eq!(flows.server(flow, &much), Err(Reason::Unverified));
}

#[test]
fn a_flood_from_one_source_is_bounded_and_others_go_on() {
    let mut flows = flows();
    let before = verified(&mut flows, one());
    let flood =
        |port: u16| Client { addr: SocketAddr::from(([203, 0, 113, 9], port)), asked: None };
    for port in 1..20_000 {
        flows.client(SECOND_OF_TIME, flood(port), CLASSIC);
    }
    assert!(flows.len() <= 1 + Bounds::default().unverified_per_source, "{}", flows.len());
    let full = flows.client(SECOND_OF_TIME, flood(20_000), CLASSIC);
    assert!(matches!(full, Step::Drop(Reason::Rate | Reason::Source)), "{full:?}");
    let packet = short(&drawn(1), 60);
    assert_eq!(flows.client(SECOND_OF_TIME, one(), &packet), Step::Forward(before));
    opened(flows.client(SECOND_OF_TIME, client("192.0.2.2:1"), CLASSIC));
    // Those who had come in keep what they have, and the rest is forgotten.
    flows.expire(SECOND_OF_TIME * 11);
    assert_eq!(flows.len(), 1);
}

#[test]
fn a_flood_from_everywhere_leaves_room_for_who_answers() {
    let mut flows = flows();
    let before = verified(&mut flows, one());
    let mut newcomers = 0;
    for n in 0..30_000_u32 {
        // 3000 a second, which is below what is let in.
        let now = SECOND_OF_TIME * n / 3000;
        let spoofed = SocketAddr::from((std::net::Ipv4Addr::from_bits(0x0a00_0000 + n), 1));
        flows.client(now, Client { addr: spoofed, asked: None }, CLASSIC);
        assert!(flows.unverified() <= Bounds::default().unverified);
        if n % 1000 == 0 {
            // A round trip of 100 ms, in which 300 others come.
            let newcomer = client(&format!("192.0.2.77:{}", 1 + n / 1000));
            let flow = opened(flows.client(now, newcomer, CLASSIC));
            for other in 0..300_u32 {
                let addr = SocketAddr::from((std::net::Ipv4Addr::from_bits(!n - other), 1));
                flows.client(now, Client { addr, asked: None }, CLASSIC);
            }
            let id = drawn((n / 1000) as u8);
            flows.server(flow, &handshake(&[1; 8], &id, 1200)).unwrap();
            let proof = flows.client(now, newcomer, &handshake(&id, &[1; 8], 100));
            newcomers += usize::from(proof == Step::Forward(flow));
        }
    }
    assert_eq!(newcomers, 30);
    let packet = short(&drawn(1), 60);
    assert_eq!(flows.client(SECOND_OF_TIME * 10, one(), &packet), Step::Forward(before));
}

#[test]
fn flows_end_when_nobody_is_heard() {
    let mut flows = flows();
    let flow = verified(&mut flows, one());
    flows.client(SECOND_OF_TIME * 40, one(), &short(&drawn(1), 60));
    flows.expire(SECOND_OF_TIME * 80);
    assert_eq!(flows.len(), 1);
    // What the server sends keeps nothing.
    flows.server(flow, &short(&[1; 8], 60)).unwrap();
    flows.expire(SECOND_OF_TIME * 86);
    assert!(flows.is_empty());
    assert_eq!(flows.take_ended(), [flow]);
    assert_eq!(flows.server(flow, &short(&[1; 8], 60)), Err(Reason::UnknownFlow));
    assert!(flows.by_id.is_empty() && flows.drawn.is_empty() && flows.by_server.is_empty());
}

#[test]
fn no_more_flows_than_may_be() {
    let bounds = Bounds { flows: 4, unverified: 2, ..Bounds::default() };
    let mut flows = flows_of("dc2-s1", bounds);
    for n in 1..=9 {
        let client = client(&format!("192.0.2.{n}:1"));
        let step = flows.client(Duration::ZERO, client, CLASSIC);
        if n > 4 {
            assert_eq!(step, Step::Drop(Reason::Full));
            continue;
        }
        let flow = opened(step);
        flows.server(flow, &handshake(&[1; 8], &drawn(n), 1200)).unwrap();
        flows.client(Duration::ZERO, client, &handshake(&drawn(n), &[1; 8], 60));
    }
    assert_eq!((flows.len(), flows.unverified()), (4, 0));
}

/// Something that happens to a gateway.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody who does not get what is sent to this address sends in its name.
    Spoofed(u8, Forgery),
    /// The server sends as much as it can into all flows.
    Answers(u16),
    Passes(u8),
}

#[derive(Debug, Clone)]
enum Forgery {
    Classic,
    First,
    Second,
    Garbage(Vec<u8>),
    Handshake(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let forgery = prop_oneof![
        Just(Forgery::Classic),
        Just(Forgery::First),
        Just(Forgery::Second),
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Forgery::Garbage),
        any::<u8>().prop_map(Forgery::Handshake),
    ];
    prop_oneof![
        4 => (0..4_u8, forgery).prop_map(|(who, what)| Event::Spoofed(who, what)),
        2 => (1..1500_u16).prop_map(Event::Answers),
        1 => (0..4_u8).prop_map(Event::Passes),
    ]
}

proptest! {
    #[test]
    fn nobody_gets_more_than_three_times_what_was_sent_in_his_name(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let bounds = Bounds { flows: 3, unverified: 2, ..Bounds::default() };
        let mut flows = flows_of("dc2-s1", bounds);
        let (mut now, mut open) = (Duration::ZERO, Vec::new());
        let mut lens: BTreeMap<SocketAddr, (usize, usize)> = BTreeMap::new();
        for event in events {
            match event {
                Event::Spoofed(who, what) => {
                    let client = client(&format!("192.0.2.{who}:1"));
                    let datagram = match what {
                        Forgery::Classic => CLASSIC.to_vec(),
                        Forgery::First => FIRST.to_vec(),
                        Forgery::Second => SECOND.to_vec(),
                        Forgery::Garbage(bytes) => bytes,
                        // The ids of the server can't be guessed: this one it never draws.
                        Forgery::Handshake(last) => handshake(&drawn(last), &[1; 8], 100),
                    };
                    lens.entry(client.addr).or_default().0 += datagram.len();
                    if let Step::Open { flow, .. } = flows.client(now, client, &datagram) {
                        open.push(flow);
                    }
                }
                Event::Answers(len) => {
                    for flow in &open {
                        let answer = handshake(&[1; 8], &[0xaa; ID_LEN], len.into());
                        if let Ok(client) = flows.server(*flow, &answer) {
                            lens.entry(client.addr).or_default().1 += answer.len();
                        }
                    }
                }
                Event::Passes(seconds) => {
                    now += SECOND_OF_TIME * seconds.into();
                    flows.expire(now);
                }
            }
            prop_assert!(flows.len() <= 3 && flows.unverified() <= 2);
            prop_assert_eq!(flows.by_server.len(), flows.len());
            for (addr, (received, sent)) in &lens {
                prop_assert!(*sent <= 3 * received, "{}: {} for {}", addr, sent, received);
            }
        }
    }
}
