//! What goes in comes out, and no damaged byte goes unseen.

use std::sync::Arc;

use lan_agent::ask::{KvVerb, RequestId, TxnOp};
use openraft::{LogId, Membership as Members, vote::RaftLeaderId};
use uuid::Uuid;

use super::{Decoder, Encoder, MAGIC, Store, receive};
use crate::{
    raft::{
        disk::{Disk, Found, Memory},
        protocol::{LeaderId, Membership, Peer, SnapshotMeta, Vote},
    },
    state::{Command, Op, State, Touched},
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
        state.apply(index, &Command::new(request, op), &mut Touched::default()).unwrap();
    };
    for index in 1..=keys {
        let key = format!("k/{:06}", index * 7919 % keys.max(1)).into();
        let value = vec![index as u8; value_len].into();
        apply(index, &Op::KvSet { key, value, flags: index % 3, cas: None });
    }
    apply(keys + 1, &Op::KvDelete { key: "k/000001".into(), cas: None });
    let get = TxnOp {
        verb: KvVerb::GetTree,
        key: "k/00000".to_owned(),
        value: Default::default(),
        flags: 0,
        index: 0,
    };
    apply(keys + 2, &Op::Txn { ops: vec![get] });
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
