//! Raft's messages as bytes: servers of one datacenter are upgraded one at a time, so none of
//! these may change.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use expect_test::{Expect, expect};
use lan_agent::ask::RequestId;
use openraft::{EntryPayload, LogId as AnyLogId, Membership as Members, vote::RaftLeaderId};
use uuid::Uuid;

use super::*;
use crate::{
    raft::{
        disk::Memory,
        protocol::{Entry, LogId, Membership, SnapshotMeta},
    },
    state::{Command, Op},
};

/// Keeps what is sent; nobody answers.
#[derive(Default)]
struct Kept(Mutex<Vec<(u16, Bytes)>>);

impl Wire for Kept {
    fn call(
        &self,
        _id: u64,
        _peer: &Peer,
        kind: u16,
        body: Bytes,
        _deadline: Instant,
    ) -> Promise<Result<Bytes, WireError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((kind, body));
        let nobody = WireError::Unreachable("nobody is there".to_owned());
        Box::pin(std::future::ready(Err(nobody)))
    }
}

fn peer() -> Peer {
    Peer { name: "s1".parse().unwrap(), addr: "10.0.0.1:8300".parse().unwrap() }
}

fn id(index: u64) -> LogId {
    AnyLogId::new(LeaderId::new(3, 7), index)
}

fn members() -> Members<u64, Peer> {
    Members::new(vec![[1].into()], BTreeMap::from([(1, peer())])).unwrap()
}

/// Has a connection send something, and shows its kind and bytes.
async fn sent(send: impl AsyncFnOnce(&mut Connection)) -> (u16, Bytes) {
    let wire = Arc::new(Kept::default());
    let mut network =
        Network::new(wire.clone(), Store::new(Arc::new(Memory::default())), Myself::default());
    let mut connection = network.new_client(1, &peer()).await;
    send(&mut connection).await;
    let mut kept = wire.0.lock().unwrap_or_else(PoisonError::into_inner);
    kept.pop().expect("it was sent")
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(1))
}

/// Letters as they are, all other bytes in hexadecimal.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Checks an answer's bytes, and that they are read as they were written.
fn answer<T: Serialize + DeserializeOwned>(answer: &T, expected: Expect) {
    let bytes = rmp_serde::to_vec_named(answer).unwrap();
    expected.assert_eq(&text(&bytes));
    let read: T = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(rmp_serde::to_vec_named(&read).unwrap(), bytes);
}

/// The entries of a message: one of each kind.
fn entries() -> Vec<Entry> {
    let request = Some(RequestId(Uuid::from_u128(2)));
    let set = Op::KvSet { key: "k".into(), value: "v".into(), flags: 0, cas: None };
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Command::new(request, &set)),
        EntryPayload::Membership(members()),
    ];
    let entries = payloads.into_iter().zip(4..);
    entries.map(|(payload, index)| Entry { log_id: id(index), payload }).collect()
}

#[tokio::test]
async fn bytes_of_entries_to_append_stay_as_they_are() {
    let (kind, bytes) = sent(async |connection| {
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(3, 7),
            prev_log_id: Some(id(3)),
            entries: entries(),
            leader_commit: Some(id(2)),
        };
        assert!(connection.append_entries(request, option()).await.is_err());
    })
    .await;
    assert_eq!(kind, 16);
    expect![[r#"\x85\xa4vote\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa9committed\xc3\xabprev_log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x03\xa7entries\x93\x82\xa6log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x04\xa7payload\xa5Blank\x82\xa6log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x05\xa7payload\x81\xa6Normal\x83\xa1r\xc4\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xa1k\x01\xa1b\xc4\x10\x82\xa3key\xa1k\xa5value\xc4\x01v\x82\xa6log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x06\xa7payload\x81\xaaMembership\x82\xa7configs\x91\x91\x01\xa5nodes\x81\x01\x82\xa4name\xa2s1\xa4addr\x81\xa2V4\x92\x94\n\x00\x00\x01\xcd l\xadleader_commit\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x02\xa7sent_us\x01"#]].assert_eq(&text(&bytes));
    let read: AppendEntriesRequest<TypeConfig> = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(read.entries, entries());
}

#[test]
fn bytes_of_answers_to_entries_stay_as_they_are() {
    type Answer = AppendEntriesResponse<TypeConfig>;
    answer(&Answer::Success, expect![[r#"\xa7Success"#]]);
    answer(
        &Answer::PartialSuccess(Some(id(5))),
        expect![[
            r#"\x81\xaePartialSuccess\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x05"#
        ]],
    );
    answer(&Answer::Conflict, expect![[r#"\xa8Conflict"#]]);
    answer(
        &Answer::HigherVote(Vote::new(4, 8)),
        expect![[
            r#"\x81\xaaHigherVote\x82\xa9leader_id\x82\xa4term\x04\xa7node_id\x08\xa9committed\xc2"#
        ]],
    );
}

#[tokio::test]
async fn bytes_of_a_vote_stay_as_they_are() {
    let request = || VoteRequest::new(Vote::new(4, 8), Some(id(5)));
    let (kind, bytes) =
        sent(async |connection| drop(connection.vote(request(), option()).await)).await;
    assert_eq!(kind, 17);
    expect![[r#"\x83\xa4vote\x82\xa9leader_id\x82\xa4term\x04\xa7node_id\x08\xa9committed\xc2\xablast_log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x05\xb3leadership_transfer\xc2"#]].assert_eq(&text(&bytes));
    let (kind, before) =
        sent(async |connection| drop(connection.pre_vote(request(), option()).await)).await;
    assert_eq!((kind, before), (18, bytes.clone()));
    assert_eq!(rmp_serde::from_slice::<VoteRequest<TypeConfig>>(&bytes).unwrap(), request());
    let granted = VoteResponse::<TypeConfig> {
        vote: Vote::new(4, 8),
        vote_granted: true,
        last_log_id: Some(id(5)),
    };
    answer(
        &granted,
        expect![[
            r#"\x83\xa4vote\x82\xa9leader_id\x82\xa4term\x04\xa7node_id\x08\xa9committed\xc2\xacvote_granted\xc3\xablast_log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x05"#
        ]],
    );
}

#[tokio::test]
async fn bytes_of_a_transfer_stay_as_they_are() {
    let (kind, bytes) = sent(async |connection| {
        let request = TransferLeaderRequest::new(Vote::new_committed(3, 7), 8, Some(id(5)));
        drop(connection.transfer_leader(request, option()).await);
    })
    .await;
    assert_eq!(kind, 20);
    expect![[r#"\x83\xabfrom_leader\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa9committed\xc3\xaato_node_id\x08\xablast_log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x05"#]].assert_eq(&text(&bytes));
}

#[tokio::test]
async fn bytes_of_a_piece_of_a_snapshot_stay_as_they_are() {
    let piece = || Piece {
        vote: Vote::new_committed(3, 7),
        meta: SnapshotMeta {
            last_log_id: Some(id(9)),
            last_membership: Membership::new(Some(id(1)), members()),
        },
        len: 300,
        offset: 40,
        data: "data".into(),
        crc: 5,
    };
    let (kind, bytes) = sent(async |connection| {
        let within = Duration::from_secs(1);
        assert!(connection.call::<_, Taken>(SNAPSHOT, &piece(), within).await.is_err());
    })
    .await;
    assert_eq!(kind, 19);
    expect![[r#"\x86\xa4vote\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa9committed\xc3\xa4meta\x83\xablast_log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\t\xaflast_membership\x82\xa6log_id\x82\xa9leader_id\x82\xa4term\x03\xa7node_id\x07\xa5index\x01\xaamembership\x82\xa7configs\x91\x91\x01\xa5nodes\x81\x01\x82\xa4name\xa2s1\xa4addr\x81\xa2V4\x92\x94\n\x00\x00\x01\xcd l\xabsnapshot_id\xa0\xa3len\xcd\x01,\xa6offset(\xa4data\xc4\x04data\xa3crc\x05"#]].assert_eq(&text(&bytes));
    let read: Piece = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!((read.meta, read.offset), (piece().meta, 40));
    answer(&Taken::GoOn(44), expect![[r#"\x81\xa5go_on,"#]]);
    answer(
        &Taken::Done(Vote::new(4, 8)),
        expect![[
            r#"\x81\xa4done\x82\xa9leader_id\x82\xa4term\x04\xa7node_id\x08\xa9committed\xc2"#
        ]],
    );
    answer(&Taken::Busy, expect![[r#"\xa4busy"#]]);
}
