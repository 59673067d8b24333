//! What crosses the wire: bytes that stay the same, and bytes that nobody in the pool wrote.

use bytes::Bytes;
use expect_test::expect;
use proptest::prelude::{any, prop, prop_assert, proptest};

use super::{
    addr,
    network::{Network, profile, secs},
};
use crate::gossip::{
    Config, Engine, Input, Output,
    packet::{Draft, Note, Pool},
    record::{Record, Stamp, Word},
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
