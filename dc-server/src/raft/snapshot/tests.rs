//! What goes in comes out, and no damaged byte goes unseen.

use std::sync::Arc;

use lan_agent::{
    ask::{KvOp, KvVerb, RequestId, TxnOp, coordinate::Update},
    catalog::{Check, Deregistration, Node, Registration, Removed, Service, Text},
};
use openraft::{LogId, Membership as Members, vote::RaftLeaderId};
use proptest::prelude::*;
use topology::Coordinate;
use uuid::Uuid;

use super::{
    Decoder, END, Encoder, FRAME_HEAD_LEN, FRAME_LEN_AIM, HEADER, MAGIC, Store, Sum, checksum,
    receive,
};
use crate::{
    prepared_query::Definition,
    raft::{
        disk::{Disk, Found, Memory},
        protocol::{LeaderId, Membership, Peer, SnapshotMeta, Vote},
    },
    state::{Command, Op, State, Touched, catalog::tests::commands},
};

fn meta(index: u64) -> SnapshotMeta {
    let id = |index| Some(LogId::new(LeaderId::new(3, 1), index));
    let peer = Peer { name: "s1".parse().unwrap(), addr: "10.0.0.1:8300".parse().unwrap() };
    let members = Members::new(
        vec![[1].into()],
        [(1, peer)].into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    );
    SnapshotMeta {
        last_log_id: id(index),
        last_membership: Membership::new(id(1), members.unwrap()),
    }
}

fn state(keys: u64, value_len: usize) -> State {
    let mut state = State::default();
    let mut apply = |index: u64, op: &Op| {
        let request = Some(RequestId(Uuid::from_u128(u128::from(index))));
        let stamp_ms = Some(1_000_000 + index * 40);
        let command = Command { stamp_ms, ..Command::new(request, op) };
        state.apply(index, &command, &mut Touched::default()).unwrap();
    };
    for index in 1..=keys {
        let key = format!("k/{:06}", index * 7919 % keys.max(1)).into();
        let value = vec![index as u8; value_len].into();
        apply(index, &Op::KvSet { key, value, flags: index % 3, cas: None });
    }
    apply(keys + 1, &Op::KvDelete { key: "k/000001".into(), cas: None });
    let get = KvOp {
        verb: KvVerb::GetTree,
        key: "k/00000".to_owned(),
        value: Default::default(),
        flags: 0,
        index: 0,
    };
    apply(keys + 2, &Op::Txn { ops: vec![TxnOp::Kv(get)] });
    apply(keys + 3, &Op::ReapTombstones { upto: keys / 2 });
    apply(keys + 4, &Op::Found { cluster: Uuid::from_u128(7) });
    let query = r#"{"Name":"q","Service":{"Service":"web"}}"#;
    let definition = Some(Box::new(Definition::read(query, true).unwrap()));
    apply(keys + 5, &Op::QuerySet { id: "i".into(), definition, new: true });
    state
}

fn encoded(state: &State) -> Vec<u8> {
    let mut encoder = Encoder::new(state.clone(), meta(state.applied()));
    let mut bytes = Vec::new();
    while let Some(piece) = encoder.next_piece().unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

fn decoded(bytes: &[u8], piece_len: usize) -> Result<(State, SnapshotMeta), super::FormatError> {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(piece_len) {
        decoder.feed(piece)?;
    }
    decoder.finish()
}

#[test]
fn a_state_reads_back_as_it_was_written() {
    for (keys, value_len) in [(0, 0), (1, 10), (5000, 100), (10, 300_000)] {
        let state = state(keys, value_len);
        let bytes = encoded(&state);
        for piece_len in [37, 4096, 1 << 20] {
            let read = decoded(&bytes, piece_len).unwrap();
            assert_eq!(read, (state.clone(), meta(state.applied())));
        }
    }
}

/// A state of random commands.
fn catalog(ops: &[Op]) -> State {
    let mut state = State::default();
    for (index, op) in (1..).zip(ops) {
        state.apply(index, &Command::new(None, op), &mut Touched::default()).unwrap();
    }
    state
}

#[test]
fn coordinates_read_back_in_several_frames_and_with_the_index_of_the_last_change() {
    let node = |number: u64| Text::from(format!("node-{number:04}"));
    let registrations = (0..2_000).map(|number| {
        let node = Node { name: node(number), ..Node::default() };
        Op::Register(Arc::new(Registration { node, ..Registration::default() }))
    });
    let coordinate = |number: u64| Coordinate { height: number as f64 / 1e6, ..Coordinate::ORIGIN };
    let updates = (0..2_000)
        .map(|number| Update { node: node(number), coordinate: coordinate(number) })
        .collect();
    let gone = Deregistration { node: node(7), what: Removed::Node };
    let ops: Vec<Op> =
        registrations.chain([Op::Coordinates { updates }, Op::Deregister(gone)]).collect();
    let state = catalog(&ops);
    assert_eq!(state.coordinates().all().count(), 1_999);
    let (read, _) = decoded(&encoded(&state), 4096).unwrap();
    assert_eq!(read.coordinates(), state.coordinates());
    assert_eq!(read.coordinates().index(), 2_002);
    assert_eq!(read, state);
}

proptest! {
    #[test]
    fn a_catalog_reads_back_as_it_was_written(ops in prop::collection::vec(commands::ops(), 0..60)) {
        let state = catalog(&ops);
        let read = decoded(&encoded(&state), 1000).unwrap();
        prop_assert_eq!(read, (state.clone(), meta(state.applied())));
    }
}

#[test]
fn a_node_with_very_many_services_takes_several_frames() {
    let mut state = State::default();
    for number in 1..=2000 {
        let name = lan_agent::catalog::Text::from(format!("web-{number}"));
        let mut registration = Registration::default();
        registration.node.name = "sync".into();
        registration.checks = vec![Check {
            id: name.clone(),
            service_id: name.clone(),
            output: "x".repeat(100).into(),
            ..Check::default()
        }];
        registration.service = Some(Service { id: name.clone(), name, ..Service::default() });
        let op = Op::Register(Arc::new(registration));
        state.apply(number, &Command::new(None, &op), &mut Touched::default()).unwrap();
    }
    let mut encoder = Encoder::new(state.clone(), meta(2000));
    let mut pieces = Vec::new();
    while let Some(piece) = encoder.next_piece().unwrap() {
        pieces.push(piece);
    }
    assert!(pieces.iter().all(|piece| piece.len() < 3 * FRAME_LEN_AIM), "one frame is too large");
    assert!(pieces.len() > 10);
    assert_eq!(decoded(&pieces.concat(), 1 << 20).unwrap().0, state);
}

#[test]
fn a_state_read_back_forgets_the_same_requests_from_then_on() {
    let mut state = state(3000, 1);
    let mut read = decoded(&encoded(&state), 4096).unwrap().0;
    for index in 4000..8000 {
        let request = Some(RequestId(Uuid::from_u128(u128::from(index * 31 % 8000))));
        let set = Op::KvSet { key: "k".into(), value: "v".into(), flags: index, cas: None };
        let stamp_ms = Some(1_000_000 + index * 40);
        let command = Command { stamp_ms, ..Command::new(request, &set) };
        let [applied, again] = [&mut state, &mut read]
            .map(|state| state.apply(index, &command, &mut Touched::default()).unwrap());
        assert_eq!(applied, again);
    }
    assert_eq!(state, read);
    assert!(state.requests().len() < 3000, "{} are remembered", state.requests().len());
}

#[test]
fn a_header_with_fewer_and_other_fields_is_read() {
    #[derive(serde::Serialize)]
    struct Other {
        invented: Vec<u8>,
        meta: SnapshotMeta,
        applied: u64,
        kv_index: u64,
    }
    let header = Other { invented: vec![1, 2], meta: meta(7), applied: 7, kv_index: 5 };
    let mut bytes = MAGIC.to_vec();
    let mut sum = Sum::default();
    let mut push = |kind: u8, payload: Vec<u8>| {
        let crc = checksum(kind, &payload);
        let head = [&[kind][..], &(payload.len() as u32).to_be_bytes(), &crc.to_be_bytes()];
        bytes.extend([head.concat(), payload.clone()].concat());
        (payload.len(), crc)
    };
    let (len, crc) = push(HEADER, rmp_serde::to_vec_named(&header).unwrap());
    sum.add(FRAME_HEAD_LEN + len, crc);
    push(END, rmp_serde::to_vec_named(&sum).unwrap());
    let (state, read) = decoded(&bytes, 100).unwrap();
    assert_eq!((state.applied(), state.kv().index(), read), (7, 5, meta(7)));
    assert_eq!(state.clock(), Default::default());
    assert!(state.catalog().is_empty());
}

#[test]
fn the_same_state_gives_the_same_bytes() {
    assert_eq!(encoded(&state(500, 20)), encoded(&state(500, 20)));
}

#[test]
fn every_damaged_byte_and_every_missing_end_is_noticed() {
    let good = encoded(&state(20, 10));
    assert_eq!(&good[..8], MAGIC);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x04;
        assert!(decoded(&bytes, 512).is_err(), "damage at {at} went unseen");
        assert!(decoded(&good[..at], 512).is_err(), "an end at {at} went unseen");
    }
}

fn found(purged: Option<u64>, last: u64) -> Found {
    let id = |index| LogId::new(LeaderId::new(3, 1), index);
    Found { vote: None, committed: None, purged: purged.map(id), last: Some(id(last)) }
}

async fn damage(disk: &Memory, name: &str) {
    let mut bytes = disk.read(name, 0, usize::MAX / 2).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.append(name, 0, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn the_one_before_is_taken_when_the_newest_is_damaged_and_the_log_goes_on_from_it() {
    let disk = Memory::default();
    let store = Store::new(Arc::new(disk.clone()));
    let older = state(10, 10);
    store.build(older.clone(), meta(12)).await.unwrap();
    let newest = store.build(state(20, 10), meta(22)).await.unwrap();
    damage(&disk, &newest.name).await;
    let (read, state) = store.restore(&found(Some(5), 30)).await.unwrap().unwrap();
    assert_eq!((read, &*state), (meta(12), &older));
    let refused = store.restore(&found(Some(15), 30)).await.unwrap_err().to_string();
    assert!(refused.contains(&newest.name) && refused.contains("damaged at offset"), "{refused}");
}

#[tokio::test]
async fn a_log_without_its_snapshot_is_refused() {
    let store = Store::new(Arc::new(Memory::default()));
    assert!(store.restore(&found(None, 9)).await.unwrap().is_none());
    let refused = store.restore(&found(Some(5), 9)).await.unwrap_err();
    assert!(refused.to_string().contains("compacted up to entry 5"), "{refused}");
}

#[tokio::test]
async fn a_transfer_goes_on_where_it_was_and_takes_no_bad_piece() {
    let source = Store::new(Arc::new(Memory::default()));
    let sent = state(100, 100);
    let image = source.build(sent.clone(), meta(102)).await.unwrap();
    let bytes = source.disk().read(&image.name, 0, usize::MAX / 2).await.unwrap();
    let receiver = receive::Receiver::new(Store::new(Arc::new(Memory::default())));
    let piece = |from: usize, to: usize, spoil: bool| receive::Piece {
        vote: Vote::new_committed(3, 1),
        meta: meta(102),
        len: image.len,
        offset: from as u64,
        data: bytes.slice(from..to),
        crc: crc32fast::hash(&bytes[from..to]) ^ u32::from(spoil),
    };
    for (from, to, spoil, then) in [
        (0, 0, false, 0),
        (0, 50, false, 50),
        (0, 50, false, 50),
        (70, 90, false, 50),
        (50, 80, true, 50),
        (50, 80, false, 80),
    ] {
        let progress = receiver.take(piece(from, to, spoil)).await.unwrap();
        assert!(matches!(progress, receive::Progress::GoOn(offset) if offset == then));
    }
    let last = receiver.take(piece(80, bytes.len(), false)).await.unwrap();
    let receive::Progress::Complete(read, image) = last else { panic!("not complete") };
    assert_eq!((read, image.state.as_deref()), (meta(102), Some(&sent)));
}
