//! The state against a model that is too simple to be wrong, and the rules one by one.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use lan_agent::{
    ask::{
        CatalogOp, CatalogRecord, CatalogVerb, KvOp, KvVerb, Question, RequestId, TxnOp,
        coordinate::Update,
        question::{TXN_OPS_MAX, WRITE_LEN_MAX},
    },
    catalog::{
        Check, Deregistration, Health, Node, Registration, Removed, Service, ServiceAddress,
        Weights,
    },
};
use proptest::prelude::*;
use topology::Coordinate;
use uuid::Uuid;

use super::{
    Applied, Command, Op, Refused, State, Touched, command,
    config_entries::{Entry, EntryRow},
    txn::{Failure, Outcome},
    watch::Topic,
    watch::Watches,
};
use crate::{config_entry::Definition, prepared_query, raft::COMMAND_LEN_MAX};

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    keys: BTreeMap<String, Row>,
    tombstones: BTreeMap<String, u64>,
    index: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    value: Bytes,
    flags: u64,
    create: u64,
    modify: u64,
}

impl Model {
    fn apply(&mut self, index: u64, op: &Op) -> bool {
        match op {
            Op::KvSet { key, value, flags, cas } => {
                let found = self.keys.get(&**key).cloned();
                if cas.is_some_and(|cas| cas != found.as_ref().map_or(0, |row| row.modify)) {
                    return false;
                }
                let same = found.as_ref().is_some_and(|r| r.value == *value && r.flags == *flags);
                if !same {
                    let create = found.map_or(index, |row| row.create);
                    let row = Row { value: value.clone(), flags: *flags, create, modify: index };
                    self.keys.insert(key.to_string(), row);
                    self.index = index;
                }
                true
            }
            Op::KvDelete { key, cas } => {
                let Some(row) = self.keys.get(&**key) else { return true };
                if cas.is_some_and(|cas| cas != row.modify) {
                    return false;
                }
                self.bury(index, key);
                true
            }
            Op::KvDeleteTree { prefix } => {
                let below = |key: &&String| key.starts_with(&**prefix);
                let keys: Vec<String> = self.keys.keys().filter(below).cloned().collect();
                keys.iter().for_each(|key| self.bury(index, key));
                true
            }
            Op::ReapTombstones { upto } => {
                self.tombstones.retain(|_, index| *index > *upto);
                true
            }
            Op::Txn { .. }
            | Op::Register(_)
            | Op::Deregister(_)
            | Op::ConfigSet { .. }
            | Op::ConfigDelete { .. }
            | Op::ConfigReplicate { .. }
            | Op::Coordinates { .. }
            | Op::QuerySet { .. }
            | Op::QueryDelete { .. }
            | Op::Found { .. } => unreachable!("not generated here"),
        }
    }

    fn bury(&mut self, index: u64, key: &str) {
        self.keys.remove(key);
        self.tombstones.insert(key.to_owned(), index);
        self.index = index;
    }

    fn index_below(&self, prefix: &str) -> u64 {
        let changed =
            self.keys.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(_, r)| r.modify);
        let deleted =
            self.tombstones.iter().filter(|(k, _)| k.starts_with(prefix)).map(|(_, i)| *i);
        let known = changed.chain(deleted).max().filter(|_| !prefix.is_empty());
        known.unwrap_or(self.index)
    }

    fn of(state: &State) -> Self {
        let rows = state.kv().below("").map(|(key, entry)| {
            let row = Row {
                value: entry.value.clone(),
                flags: entry.flags,
                create: entry.create_index,
                modify: entry.modify_index,
            };
            (key.to_string(), row)
        });
        let tombstones = state.kv().tombstones("").map(|(key, index)| (key.to_string(), index));
        Self { keys: rows.collect(), tombstones: tombstones.collect(), index: state.kv().index() }
    }
}

fn keys() -> impl Strategy<Value = String> {
    "[aäb/]{0,4}"
}

fn ops() -> impl Strategy<Value = Op> {
    let cas = || proptest::option::weighted(0.4, 0u64..12);
    prop_oneof![
        6 => (keys(), 0u8..3, 0u64..2, cas()).prop_map(|(key, value, flags, cas)| Op::KvSet {
            key: key.into(),
            value: Bytes::from(vec![value; value as usize]),
            flags,
            cas,
        }),
        2 => (keys(), cas()).prop_map(|(key, cas)| Op::KvDelete { key: key.into(), cas }),
        1 => keys().prop_map(|prefix| Op::KvDeleteTree { prefix: prefix.into() }),
        1 => (0u64..12).prop_map(|upto| Op::ReapTombstones { upto }),
    ]
}

fn apply(state: &mut State, index: u64, op: &Op) -> (Applied, Vec<String>) {
    let mut touched = Touched::default();
    let applied = state.apply(index, &Command::new(None, op), &mut touched).unwrap();
    (applied, touched.keys.iter().map(|key| key.to_string()).collect())
}

fn set(key: &str, value: &'static str) -> Op {
    Op::KvSet { key: key.into(), value: value.into(), flags: 0, cas: None }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_does(ops in prop::collection::vec(ops(), 1..40)) {
        let mut state = State::default();
        let mut model = Model::default();
        for (index, op) in (1..).zip(&ops) {
            let before = model.clone();
            let expected = model.apply(index, op);
            let (applied, touched) = apply(&mut state, index, op);
            if !matches!(op, Op::ReapTombstones { .. }) {
                prop_assert_eq!(applied, Applied::Done(expected));
            }
            prop_assert_eq!(&Model::of(&state), &model);
            let changed: Vec<String> = before.keys.keys().chain(model.keys.keys())
                .filter(|key| before.keys.get(*key) != model.keys.get(*key))
                .cloned()
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect();
            prop_assert_eq!(touched, changed);
            for prefix in ["", "a", "a/", "ä", "b/b"] {
                prop_assert_eq!(state.kv().index_below(prefix), model.index_below(prefix));
            }
        }
    }

    #[test]
    fn only_those_are_woken_whose_key_or_prefix_it_is(
        topics in prop::collection::vec((any::<bool>(), keys()), 0..12),
        written in keys(),
    ) {
        let watches = Watches::default();
        let watchers: Vec<_> = topics.iter().map(|(prefix, text)| {
            let topic = if *prefix { Topic::Prefix(text.as_str().into()) } else { Topic::Key(text.as_str().into()) };
            let watch = watches.watch(vec![topic]);
            let changed = watch.changed();
            (watch, changed)
        }).collect();
        prop_assert_eq!(watches.len(), topics.len());
        watches.wake(&Touched { keys: vec![written.as_str().into()], ..Touched::default() });
        for ((prefix, text), (watch, changed)) in topics.iter().zip(watchers) {
            let concerned = if *prefix { written.starts_with(text) } else { written == *text };
            let mut changed = changed;
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let woken = std::future::Future::poll(changed.as_mut(), &mut context).is_ready();
            prop_assert_eq!(woken, concerned, "{} {:?}", prefix, text);
            drop(watch);
        }
        prop_assert!(watches.is_empty());
    }
}

#[test]
fn setting_what_is_there_changes_no_index() {
    let mut state = State::default();
    apply(&mut state, 5, &set("a", "1"));
    assert_eq!(apply(&mut state, 6, &set("a", "1")), (Applied::Done(true), vec![]));
    let entry = state.kv().get("a").unwrap();
    assert_eq!((entry.create_index, entry.modify_index, state.kv().index()), (5, 5, 5));
    assert_eq!(state.applied(), 6);
}

#[test]
fn a_deletion_below_a_prefix_raises_its_index_until_it_is_reaped() {
    let mut state = State::default();
    apply(&mut state, 1, &set("a/1", "1"));
    apply(&mut state, 2, &set("a/2", "1"));
    apply(&mut state, 3, &set("b", "1"));
    apply(&mut state, 4, &Op::KvDelete { key: "a/2".into(), cas: None });
    assert_eq!(state.kv().index_below("a/"), 4);
    assert_eq!(state.kv().index_below("b"), 3);
    apply(&mut state, 5, &Op::ReapTombstones { upto: 4 });
    assert_eq!(state.kv().index_below("a/"), 1);
    assert_eq!(state.kv().index(), 4);
}

#[test]
fn a_request_that_was_applied_is_answered_as_it_was() {
    let mut state = State::default();
    let request = Some(RequestId(Uuid::from_u128(1)));
    let once = Command::new(
        request,
        &Op::KvSet { key: "a".into(), value: "1".into(), flags: 0, cas: Some(0) },
    );
    let mut touched = Touched::default();
    assert_eq!(state.apply(1, &once, &mut touched), Ok(Applied::Done(true)));
    touched = Touched::default();
    assert_eq!(state.apply(2, &once, &mut touched), Ok(Applied::Done(true)));
    assert!(touched.keys.is_empty());
    assert_eq!(state.kv().get("a").unwrap().modify_index, 1);
}

#[test]
fn a_request_is_remembered_for_a_minute_of_the_leaders_clocks() {
    let mut state = State::default();
    let id = |n: u64| Some(RequestId(Uuid::from_u128(u128::from(n))));
    let mut write = |index: u64, request: u64, stamp_ms: u64| {
        let value = index.to_string().into();
        let op = Op::KvSet { key: "a".into(), value, flags: 0, cas: None };
        let command = Command { stamp_ms: Some(stamp_ms), ..Command::new(id(request), &op) };
        state.apply(index, &command, &mut Touched::default()).unwrap();
        state.kv().get("a").unwrap().modify_index
    };
    let (one, other) = (1_800_000_000_000, 1_700_000_000_000);
    assert_eq!(write(1, 1, one), 1);
    // Twenty thousand writes a second, under another leader meanwhile, whose clock is far behind.
    for n in 2..=100_000 {
        let leader = if n < 50_000 { one } else { other };
        write(n, n, leader + n / 20);
    }
    assert_eq!(write(100_001, 1, other + 5_001), 100_000, "it was applied before");
    for second in 1..=70 {
        let n = 200_000 + second;
        write(n, n, other + 6_000 + second * 1_000);
    }
    assert_eq!(write(300_000, 1, other + 77_000), 300_000, "it is forgotten");
}

fn op(verb: KvVerb, key: &str, value: &'static str, index: u64) -> TxnOp {
    TxnOp::Kv(KvOp { verb, key: key.to_owned(), value: value.into(), flags: 0, index })
}

#[test]
fn a_transaction_changes_all_or_nothing() {
    let mut state = State::default();
    apply(&mut state, 1, &set("a", "1"));
    let before = Model::of(&state);
    let ops = vec![
        op(KvVerb::Set, "b", "2", 0),
        op(KvVerb::Get, "none", "", 0),
        op(KvVerb::Cas, "a", "3", 9),
    ];
    let (applied, touched) = apply(&mut state, 2, &Op::Txn { ops });
    let Applied::Txn(outcome) = applied else { panic!("not a transaction") };
    let failure = |op, what: &str| Failure { op, what: what.to_owned() };
    assert_eq!(
        outcome.failures,
        [
            failure(1, "key \"none\" doesn't exist"),
            failure(2, "failed to set key \"a\", index is stale"),
        ]
    );
    assert!(outcome.results.is_empty() && touched.is_empty());
    assert_eq!(Model::of(&state), before);
    let ops = vec![
        op(KvVerb::Set, "b", "2", 0),
        op(KvVerb::Get, "b", "", 0),
        op(KvVerb::Delete, "a", "", 0),
        op(KvVerb::CheckNotExists, "a", "", 0),
    ];
    let (_, touched) = apply(&mut state, 3, &Op::Txn { ops });
    assert_eq!(touched, ["b", "a"]);
}

/// With everything in it that a registration can have.
fn registration() -> Registration {
    let texts = |key: &str, value: &str| [(key.into(), value.into())].into();
    let node = Node {
        name: "n1".into(),
        id: "0a".into(),
        address: "10.0.0.1".into(),
        tagged_addresses: texts("lan", "10.0.0.1"),
        meta: texts("rack", "r1"),
    };
    let wan = ServiceAddress { address: "1.2.3.4".into(), port: 81 };
    let service = Service {
        id: "web-1".into(),
        name: "web".into(),
        kind: "k".into(),
        address: "10.0.0.2".into(),
        tagged_addresses: [("wan".into(), wan)].into(),
        port: 80,
        tags: vec!["v1".into()],
        meta: texts("team", "a"),
        weights: Weights { passing: 5, warning: 2 },
        enable_tag_override: true,
    };
    let check = Check {
        id: "k1".into(),
        name: "ping".into(),
        status: Health::Warning,
        notes: "no".into(),
        output: "out".into(),
        service_id: "web-1".into(),
        service_name: "web".into(),
        kind: "ttl".into(),
        definition: "{\"TTL\":1}".into(),
    };
    Registration { node, skip_node_update: true, service: Some(service), checks: vec![check] }
}

fn deregistration(what: Removed) -> Deregistration {
    Deregistration { node: "n1".into(), what }
}

/// One on each kind of record.
fn catalog_ops() -> Vec<TxnOp> {
    let Registration { node, service, mut checks, .. } = registration();
    let service = service.unwrap();
    let records = [
        (CatalogVerb::Set, CatalogRecord::Node(node)),
        (CatalogVerb::Cas, CatalogRecord::Service("n1".into(), service)),
        (CatalogVerb::Set, CatalogRecord::Check("n1".into(), checks.remove(0))),
    ];
    let op = |(verb, record)| TxnOp::Catalog(Box::new(CatalogOp { verb, record, index: 0 }));
    records.map(op).into()
}

#[test]
fn a_transaction_changes_keys_and_the_catalog_together_or_neither() {
    let mut state = State::default();
    let set = op(KvVerb::Set, "a", "1", 0);
    let missing = op(KvVerb::Get, "none", "", 0);
    let all = [vec![set.clone()], catalog_ops()].concat();
    let mut touched = Touched::default();
    let failing = Command::new(None, &Op::Txn { ops: [all.clone(), vec![missing]].concat() });
    let Ok(Applied::Txn(outcome)) = state.apply(1, &failing, &mut touched) else { panic!() };
    assert_eq!(outcome.failures.len(), 1);
    assert_eq!(touched, Touched::default());
    assert!(state.kv().is_empty() && state.catalog().is_empty());

    let done = Command::new(None, &Op::Txn { ops: all });
    let Ok(Applied::Txn(outcome)) = state.apply(2, &done, &mut touched) else { panic!() };
    assert_eq!((outcome.failures.len(), outcome.results.len()), (0, 4));
    assert!(touched.keys.len() == 1 && !touched.parts.is_empty());
    let host = state.catalog().host(&"n1".into()).unwrap();
    assert_eq!((host.instances().count(), host.checks().count()), (1, 1));
    let bytes = rmp_serde::to_vec_named(&*outcome).unwrap();
    assert_eq!(rmp_serde::from_slice::<Outcome>(&bytes).unwrap(), *outcome);
}

fn entry() -> Definition {
    Definition::read(
        r#"{"Kind":"service-resolver","Name":"web","DefaultSubset":"a","Subsets":{"a":{}}}"#,
    )
    .unwrap()
}

fn config_delete(cas: Option<u64>) -> Op {
    Op::ConfigDelete { kind: "service-resolver".into(), name: "web".into(), cas }
}

fn config_replicate() -> Op {
    let (create_index, modify_index, changed_index) = (5, 7, 0);
    let entry = Entry { definition: entry(), create_index, modify_index, changed_index };
    let gone = vec![("service-defaults".into(), "db".into())];
    Op::ConfigReplicate { set: vec![EntryRow::replicated(&entry)], gone }
}

fn coordinates() -> Op {
    Op::Coordinates { updates: vec![Update { node: "n1".into(), coordinate: Coordinate::ORIGIN }] }
}

/// Returns the bytes of a command as digits.
fn hex(command: &Command) -> String {
    let bytes = rmp_serde::to_vec_named(command).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn commands_look_on_disk_as_they_always_did() {
    let request = Some(RequestId(Uuid::from_u128(0x1122_3344)));
    let set =
        Op::KvSet { key: "k".into(), value: Bytes::from_static(b"v\0"), flags: 7, cas: Some(9) };
    let golden = [
        (
            Command { stamp_ms: Some(1_800_000_000_000), ..Command::new(request, &set) },
            "84a172c41000000000000000000000000011223344a174cf000001a3185c5000a16b01a162c41d84a36b6579a16ba576616c7565c4027600a5666c61677307a363617309",
        ),
        (
            Command::new(request, &set),
            "83a172c41000000000000000000000000011223344a16b01a162c41d84a36b6579a16ba576616c7565c4027600a5666c61677307a363617309",
        ),
        (
            Command::new(None, &Op::KvDelete { key: "k".into(), cas: None }),
            "82a16b02a162c40781a36b6579a16b",
        ),
        (
            Command::new(None, &Op::KvDeleteTree { prefix: "p/".into() }),
            "82a16b03a162c40b81a6707265666978a2702f",
        ),
        (
            Command::new(None, &Op::ReapTombstones { upto: 300 }),
            "82a16b05a162c40981a47570746fcd012c",
        ),
        (
            Command::new(None, &Op::Register(Arc::new(registration()))),
            "82a16b06a162c4de84a16e85a16ea26e31a26964a23061a161a831302e302e302e31a2746181a36c616ea831302e302e302e31a16d81a47261636ba27231a4736b6970c3a1738aa26964a57765622d31a16ea3776562a16ba16ba161a831302e302e302e32a2746181a377616e82a161a7312e322e332e34a17051a17050a17491a27631a16d81a47465616da161a17782a17005a17702a16fc3a1639189a26964a26b31a16ea470696e67a173a77761726e696e67a26e6fa26e6fa36f7574a36f7574a3736964a57765622d31a2736ea3776562a16ba374746ca164a97b2254544c223a317d",
        ),
        (
            Command::new(None, &Op::Deregister(deregistration(Removed::Service("web-1".into())))),
            "82a16b07a162c41782a16ea26e31a17781a773657276696365a57765622d31",
        ),
        (
            Command::new(None, &Op::Deregister(deregistration(Removed::Node))),
            "82a16b07a162c40d82a16ea26e31a177a46e6f6465",
        ),
        (
            Command::new(None, &Op::ConfigSet { definition: entry(), cas: Some(3) }),
            "82a16b08a162c47284a16bb0736572766963652d7265736f6c766572a16ea3776562a162d94f7b224b696e64223a22736572766963652d7265736f6c766572222c224e616d65223a22776562222c2244656661756c74537562736574223a2261222c2253756273657473223a7b2261223a7b7d7d7da363617303",
        ),
        (
            Command::new(None, &config_delete(None)),
            "82a16b09a162c41a82a16bb0736572766963652d7265736f6c766572a16ea3776562",
        ),
        (
            Command::new(None, &config_replicate()),
            "82a16b0aa162c49482a37365749185a16bb0736572766963652d7265736f6c766572a16ea3776562a162d94f7b224b696e64223a22736572766963652d7265736f6c766572222c224e616d65223a22776562222c2244656661756c74537562736574223a2261222c2253756273657473223a7b2261223a7b7d7d7da16305a16d07a4676f6e659192b0736572766963652d64656661756c7473a26462",
        ),
        (
            Command::new(None, &Op::Found { cluster: Uuid::from_u128(0x1122_3344) }),
            "82a16b0ba162c41b81a7636c7573746572c41000000000000000000000000011223344",
        ),
        (
            Command::new(None, &coordinates()),
            "82a16bcd8014a162c49381a7757064617465739182a16ea26e31a16384a356656398cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000cb0000000000000000a54572726f72cb3ff8000000000000aa41646a7573746d656e74cb0000000000000000a6486569676874cb3ee4f8b588e368f1",
        ),
    ];
    for (command, expected) in golden {
        assert_eq!(hex(&command), expected);
        let bytes = rmp_serde::to_vec_named(&command).unwrap();
        let read: Command = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!((read.op(), read.stamp_ms), (command.op(), command.stamp_ms));
    }
}

#[test]
fn commands_about_prepared_queries_look_on_disk_as_they_always_did() {
    let set = "82a16b0ca162c5013c83a26964a169a162da012c7b224e616d65223a2271222c2253657373696f6e223a22222c22546f6b656e223a22222c2254656d706c617465223a7b2254797065223a22222c22526567657870223a22222c2252656d6f7665456d70747954616773223a66616c73657d2c2253657276696365223a7b2253657276696365223a22776562222c224661696c6f766572223a7b224e6561726573744e223a302c224461746163656e74657273223a6e756c6c7d2c224f6e6c7950617373696e67223a66616c73652c2249676e6f7265436865636b494473223a6e756c6c2c224e656172223a22222c2254616773223a6e756c6c2c224e6f64654d657461223a6e756c6c2c22536572766963654d657461223a6e756c6c2c22436f6e6e656374223a66616c73657d2c22444e53223a7b2254544c223a22227d7da36e6577c3";
    assert_eq!(hex(&Command::new(None, &query_set(true))), set);
    let delete = Command::new(None, &Op::QueryDelete { id: "i".into() });
    assert_eq!(hex(&delete), "82a16b0da162c40681a26964a169");
}

fn query_set(new: bool) -> Op {
    let query = r#"{"Name":"q","Service":{"Service":"web"}}"#;
    let definition = prepared_query::Definition::read(query, new).unwrap();
    Op::QuerySet { id: "i".into(), definition: Some(Box::new(definition)), new }
}

#[test]
fn every_command_reads_back() {
    let ops = [
        set("k", "v"),
        Op::KvDelete { key: "k".into(), cas: Some(3) },
        Op::KvDeleteTree { prefix: "".into() },
        Op::Txn { ops: vec![op(KvVerb::DeleteCas, "k", "", 4), op(KvVerb::GetTree, "", "", 0)] },
        Op::Txn { ops: catalog_ops() },
        Op::ReapTombstones { upto: 1 },
        Op::Register(Arc::new(registration())),
        Op::Register(Arc::default()),
        Op::Deregister(deregistration(Removed::Node)),
        Op::Deregister(deregistration(Removed::Service("web-1".into()))),
        Op::Deregister(deregistration(Removed::Check("k".into()))),
        Op::ConfigSet { definition: entry(), cas: None },
        config_delete(Some(4)),
        config_replicate(),
        Op::ConfigReplicate { set: Vec::new(), gone: Vec::new() },
        query_set(false),
        Op::QueryDelete { id: "i".into() },
        Op::Found { cluster: Uuid::from_u128(u128::MAX) },
    ];
    for op in ops {
        assert_eq!(Command::new(None, &op).op(), Ok(op));
    }
}

#[test]
fn the_largest_transaction_is_far_below_what_the_log_takes() {
    let value = Bytes::from(vec![0xff; WRITE_LEN_MAX / TXN_OPS_MAX - 1]);
    let numbers = u64::MAX;
    let set = KvOp {
        verb: KvVerb::CheckNotExists,
        key: "k".to_owned(),
        value,
        flags: numbers,
        index: numbers,
    };
    let ops = vec![TxnOp::Kv(set); TXN_OPS_MAX];
    assert_eq!(Question::Txn { ops: ops.clone() }.written_len(), WRITE_LEN_MAX);
    let request = Some(RequestId(Uuid::from_u128(u128::MAX)));
    let command = Command::new(request, &Op::Txn { ops });
    assert!(command.body.len() < COMMAND_LEN_MAX * 6 / 10, "{command}");
}

#[test]
fn an_unknown_command_stops_the_server_unless_it_may_be_passed_over() {
    let mut state = State::default();
    let mut command = Command::new(None, &set("a", "1"));
    command.kind = 99;
    let refused = state.apply(1, &command, &mut Touched::default());
    assert_eq!(refused, Err(Refused::UnknownKind { kind: 99 }));
    command.kind = 99 | command::OPTIONAL;
    assert_eq!(state.apply(1, &command, &mut Touched::default()), Ok(Applied::Nothing));
    assert_eq!((state.applied(), state.kv().len()), (1, 0));
}

#[test]
fn a_cluster_is_given_its_identity_once() {
    let mut state = State::default();
    let [first, second] = [1, 2].map(Uuid::from_u128);
    for (index, cluster) in (1..).zip([first, second]) {
        apply(&mut state, index, &Op::Found { cluster });
        assert_eq!(state.cluster(), Some(first));
    }
}
