//! What crosses the wire: bytes that stay the same, and bytes that nobody in the pool wrote.

use bytes::Bytes;
use expect_test::expect;
use proptest::prelude::{any, prop, prop_assert, proptest};

use super::{
    addr,
    network::{Network, profile, secs},
};
use crate::gossip::{
    Config, Engine, Event, Input, Output,
    packet::{Draft, Note, Pool},
    record::{Record, Stamp, Word},
    state,
};

/// Writes bytes as text: letters as they are, all others in hexadecimal.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn packets_of_version_one_stay_as_they_are() {
    let profile = profile("s1", "dc1", 1);
    let pool = Pool::of(Config::lan().scope, &profile.dc);
    let stamp = Stamp { boot: 1_000, version: 2, word: Word::Stays };
    let record = Record { stamp, profile }.encode().unwrap();
    let mut draft = Draft::new(pool, Note::Hello(addr(0)), b"swim", 200);
    draft.push(&record);
    expect![[r#"\x01ak\xba\xbe\x01\x00\n\x00\x00\x00\xed@\x00\x04swim\x004\xe8\x07\x02\x00\x02s1\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x03dc1\x00\x00\n\x00\x00\x01\xed@\x01\x00\n\x00\x00\x01\xec@\x00\x050.1.0\x00"#]].assert_eq(&text(&draft.finish()));
}

#[test]
fn states_of_version_one_stay_as_they_are() {
    let engine = Engine::new(Config::lan(), profile("s1", "dc1", 1), 1_000, 1);
    expect![[r#"\x01\x91\x83\xa6record\x82\xa5stamp\x83\xa4boot\xcd\x03\xe8\xa7version\x00\xa4word\xa5stays\xa7profile\x89\xa4name\xa2s1\xa2id\xc4\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xa2dc\xa3dc1\xa4role\xa6server\xa4addr\x81\xa2V4\x92\x94\n\x00\x00\x01\xcd m\xa4link\x81\xa2V4\x92\x94\n\x00\x00\x01\xcd l\xa3wan\xc0\xa7version\xa50.1.0\xa4tags\x80\xa4life\x83\xa4boot\xcd\x03\xe8\xabincarnation\x00\xa5state\x00\xabsilent_secs\xc0"#]].assert_eq(&text(&engine.export()));
}

/// Replaces some bytes of the line or record that holds `mark`, which is the first one after it.
fn altered(bytes: &[u8], mark: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let find = |bytes: &[u8], what: &[u8]| {
        (0..bytes.len()).find(|at| bytes[*at..].starts_with(what)).expect("it is there")
    };
    let begin = find(bytes, mark);
    let at = begin + find(&bytes[begin..], from);
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// The full state of a pool of servers `s1`, `s2` and `s3`.
fn state_of_three(config: Config) -> Bytes {
    let mut engine = Engine::new(config, profile("s1", "dc1", 1), 1_000, 1);
    let others = ["s2", "s3"].into_iter().zip(2..).map(|(name, number)| Record {
        stamp: Stamp::first(1_000),
        profile: profile(name, "dc1", number),
    });
    engine.handle(secs(0.0), Input::Sync(state::of_alive(others)), &mut Vec::new());
    assert_eq!(engine.alive(), 3);
    engine.export()
}

/// Gives a state to an engine of a pool; returns the names that it knows then, and what it says of
/// records that it can't read.
fn told(config: Config, state: Vec<u8>) -> (Vec<String>, Option<(usize, String)>) {
    let mut engine = Engine::new(config, profile("s0", "dc1", 0), 9, 9);
    let mut out = Vec::new();
    engine.handle(secs(1.0), Input::Sync(state.into()), &mut out);
    let unreadable = out.into_iter().find_map(|output| match output {
        Output::Event(Event::Unreadable { records, why }) => Some((records, why)),
        _ => None,
    });
    let names = engine.members().map(|member| member.profile.name.to_string()).collect();
    assert_eq!(engine.nonsense(), 0);
    (names, unreadable)
}

#[test]
fn a_record_of_a_later_version_costs_only_itself() {
    for config in [Config::lan, Config::wan] {
        let state = state_of_three(config());
        let cases: [(&[u8], &[u8], &str); 4] = [
            (b"\xa4role\xa6server", b"\xa4role\xa6router", "unknown variant `router`"),
            (b"\xa4word\xa5stays", b"\xa4word\xa5naps!", "unknown variant `naps!`"),
            (b"\xa4name\xa2s2", b"\xa4name\xa2\xff\xfe", ""),
            (b"\xa4tags\x80", b"\xa4tags\x93\x01\xc0\x80", "invalid type: sequence"),
        ];
        for (from, to, expected) in cases {
            // Of all that is altered only the word stands before the name of its member.
            let before = from.starts_with(b"\xa4word");
            let mark: &[u8] = if before { b"\xa2s1" } else { b"\xa4name\xa2s2" };
            let (names, unreadable) = told(config(), altered(&state, mark, from, to));
            assert_eq!(names, ["s0", "s1", "s3"]);
            let (records, why) = unreadable.expect("it says so");
            assert!(records == 1 && why.contains(expected), "{why}");
        }
    }
}

#[test]
fn fields_and_standings_of_a_later_version_are_passed_over() {
    let state = state_of_three(Config::lan());
    let cases: [(&[u8], &[u8], &[u8]); 3] = [
        // A tenth field of a profile: a list.
        (b"\xa7profile", b"\x89", b"\x8a\xa8invented\x93\x01\xc0\x80"),
        // A fourth field of a line: a map.
        (b"", b"\x83\xa6record", b"\x84\xa8invented\x81\x01\x02\xa6record"),
        // What SWIM holds a member for.
        (b"s2", b"\xa5state\x00", b"\xa5state\x63"),
    ];
    for (mark, from, to) in cases {
        let (names, unreadable) = told(Config::lan(), altered(&state, mark, from, to));
        assert_eq!(
            (names.as_slice(), unreadable),
            (["s0", "s1", "s2", "s3"].map(str::to_owned).as_slice(), None)
        );
    }
}

#[test]
fn a_state_whose_frame_is_torn_is_refused_whole() {
    let state = state_of_three(Config::lan());
    let longer = [&state[..], b"\x00"].concat();
    let more = altered(&state, b"", b"\x93", b"\x94");
    for torn in [
        &state[..state.len() - 1],
        &longer,
        &more,
        b"\x01\x80",
        b"\x01\xdd\xff\xff\xff\xff",
        b"\x01",
    ] {
        let mut engine = Engine::new(Config::lan(), profile("s0", "dc1", 0), 9, 9);
        let mut out = Vec::new();
        engine.handle(secs(1.0), Input::Sync(Bytes::copy_from_slice(torn)), &mut out);
        assert_eq!((engine.alive(), engine.nonsense(), out.as_slice()), (1, 1, [].as_slice()));
    }
}

#[test]
fn a_record_of_a_later_version_costs_a_packet_only_itself() {
    let pool = Pool::of(Config::lan().scope, &profile("s1", "dc1", 1).dc);
    let record = |name: &str, number| {
        let profile = profile(name, "dc1", number);
        Record { stamp: Stamp::first(1_000), profile }.encode().unwrap()
    };
    let mut draft = Draft::new(pool, Note::Plain, b"", 400);
    // The role is the byte after the datacenter.
    let unknown = altered(&record("s2", 2), b"", b"\x03dc1\x00", b"\x03dc1\x07");
    let later = [record("s3", 3), b"a field of a later version".to_vec()].concat();
    for record in [record("s1", 1), unknown, later] {
        assert!(draft.push(&record));
    }
    let mut engine = Engine::new(Config::lan(), profile("s0", "dc1", 0), 9, 9);
    let data = draft.finish();
    engine.handle(secs(1.0), Input::Packet { from: addr(1), data }, &mut Vec::new());
    let known: Vec<_> = engine.roster.entries().map(|(key, _)| key.as_str()).collect();
    assert_eq!((known.as_slice(), engine.nonsense()), (["s0", "s1", "s3"].as_slice(), 1));
}

/// An engine that is in a pool of two.
fn paired() -> Engine {
    let mut net = Network::lan(1, 2, 0);
    net.run(secs(3.0));
    let state = net.engine(addr(1)).export();
    let mut engine = Engine::new(Config::lan(), profile("s0", "dc1", 0), 9, 9);
    engine.handle(secs(1.0), Input::Sync(state), &mut Vec::new());
    engine
}

proptest! {
    #[test]
    fn nonsense_is_ignored(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut engine = paired();
        let mut out = Vec::new();
        engine.handle(secs(2.0), Input::Packet { from: addr(9), data: data.clone().into() }, &mut out);
        engine.handle(secs(2.0), Input::Sync(data.into()), &mut out);
        prop_assert!(out.is_empty());
        prop_assert!(engine.nonsense() >= 1);
    }

    #[test]
    fn damaged_packets_and_states_never_panic(
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut out = Vec::new();
        let mut joiner = Engine::new(Config::lan(), profile("s1", "dc1", 1), 7, 7);
        joiner.handle(secs(1.0), Input::Join(vec![addr(0)]), &mut out);
        let state = joiner.export();
        let mut goods: Vec<Bytes> = vec![state];
        goods.extend(out.drain(..).filter_map(|output| match output {
            Output::Send { data, .. } => Some(data),
            _ => None,
        }));
        for good in goods {
            let mut bad = good.to_vec();
            bad[at.index(good.len())] ^= 1 << bit;
            for bad in [bad, good[..cut.index(good.len())].to_vec()] {
                let mut engine = paired();
                engine.handle(secs(2.0), Input::Packet { from: addr(1), data: bad.clone().into() }, &mut out);
                engine.handle(secs(2.0), Input::Sync(bad.into()), &mut out);
                engine.handle(secs(2.0), Input::Packet { from: addr(1), data: good.clone() }, &mut out);
            }
        }
    }
}
