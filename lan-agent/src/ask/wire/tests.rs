//! Asks and answers as bytes: golden ones, round trips, garbage.

use expect_test::expect;
use proptest::prelude::*;
use topology::Coordinate;
use uuid::Uuid;

use super::{failure::ErrorHead, reply::ReplyHead, *};
use crate::{
    ask::{
        Answer, CatalogOp, CatalogRecord, CatalogVerb, Feed, KvOp, KvVerb, Meta, Outcome, Part,
        Union,
        coordinate::{Read, Update},
        feed::Page,
    },
    catalog::{
        Check, Deregistration, Form, Lookup, Node, Registration, Removed, Selection, Service,
        Subject,
    },
};

fn now() -> Instant {
    Instant::now()
}

fn ask(question: Question) -> Ask {
    Ask {
        dc: None,
        consistency: Consistency::Default,
        max_stale: None,
        blocking: None,
        token: String::new(),
        trace: TraceId(Uuid::from_u128(1)),
        request: RequestId(Uuid::from_u128(2)),
        deadline: now() + Duration::from_secs(10),
        question,
    }
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| {
        let text = line.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' });
        let text: String = text.collect();
        let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex:64} {text}\n")
    });
    lines.collect()
}

/// Encodes at a moment that makes the time left exact.
fn golden(ask: &Ask) -> String {
    hex(&encode_ask(ask, ask.deadline - Duration::from_secs(10)))
}

#[test]
fn bytes_of_a_get_stay_as_they_are() {
    let get = ask(Question::KvGet { key: "web/port".to_owned(), raw: true });
    expect![[r#"
        0000005c85a46b696e6401ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a36b6579a87765622f706f7274a3726177c3                           ..key.web/port.raw.
    "#]].assert_eq(&golden(&get));
}

#[test]
fn bytes_of_a_put_with_everything_stay_as_they_are() {
    let value = Bytes::from_static(b"8080");
    let put = Ask {
        dc: Some(Datacenter::new("dc2").unwrap()),
        consistency: Consistency::Stale,
        max_stale: None,
        blocking: Some(Blocking { index: 7, wait: Duration::from_secs(300) }),
        token: "secret".to_owned(),
        ..ask(Question::KvPut { key: "web/port".to_owned(), value, flags: 42, cas: Some(9) })
    };
    expect![[r#"
        0000008289a46b696e6404a26463a3646332ab636f6e73697374656e6379a573 ......kind..dc.dc2.consistency.s
        74616c65a5696e64657807a7776169745f6d73ce000493e0a5746f6b656ea673 tale.index..wait_ms......token.s
        6563726574a57472616365c41000000000000000000000000000000001a77265 ecret.trace...................re
        7175657374c41000000000000000000000000000000002ab646561646c696e65 quest...................deadline
        5f6d73cd271084a36b6579a87765622f706f7274a576616c7565c40438303830 _ms.'...key.web/port.value..8080
        a5666c6167732aa363617309                                         .flags*.cas.
    "#]].assert_eq(&golden(&put));
}

#[test]
fn bytes_of_a_transaction_stay_as_they_are() {
    let value = Bytes::from_static(b"v");
    let op = KvOp { verb: KvVerb::DeleteCas, key: "k".to_owned(), value, flags: 1, index: 2 };
    expect![[r#"
        0000005c85a46b696e6407ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        81a36f70739185a476657262aa64656c6574652d636173a36b6579a16ba57661 ..ops...verb.delete-cas.key.k.va
        6c7565c40176a5666c61677301a5696e64657802                         lue..v.flags..index.
    "#]].assert_eq(&golden(&ask(Question::Txn { ops: vec![TxnOp::Kv(op)] })));
}

#[test]
fn bytes_of_a_transaction_on_the_catalog_stay_as_they_are() {
    let node = Node { name: "n1".into(), ..Node::default() };
    let service = Service { id: "web".into(), name: "web".into(), ..Service::default() };
    let check = Check { id: "k".into(), ..Check::default() };
    let ops = [
        (CatalogVerb::Get, CatalogRecord::Node(node)),
        (CatalogVerb::DeleteCas, CatalogRecord::Service("n1".into(), service)),
        (CatalogVerb::Set, CatalogRecord::Check("n1".into(), check)),
    ];
    let op = |(verb, record)| TxnOp::Catalog(Box::new(CatalogOp { verb, record, index: 7 }));
    expect![[r#"
        0000005c85a46b696e6407ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        81a36f70739383a2646fa3676574a47769746881a46e6f646582a16ea26e31a1 ..ops...do.get.with..node..n.n1.
        61a0a1690783a2646faa64656c6574652d636173a47769746881a77365727669 a..i...do.delete-cas.with..servi
        636592a26e3184a26964a3776562a16ea3776562a17000a17782a17001a17701 ce..n1..id.web.n.web.p..w..p..w.
        a1690783a2646fa3736574a47769746881a5636865636b92a26e3183a26964a1 .i...do.set.with..check..n1..id.
        6ba16ea0a173a8637269746963616ca16907                             k.n..s.critical.i.
    "#]].assert_eq(&golden(&ask(Question::Txn { ops: ops.map(op).into() })));
}

#[test]
fn bytes_of_a_lookup_stay_as_they_are() {
    let lookup = Lookup {
        subject: Subject::Health { service: "web".into(), passing: true },
        selection: Selection {
            node_meta: [("rack".into(), "r1".into())].into(),
            tags: vec!["v1".into()],
            filter: "ID == a".into(),
            near: "n1".into(),
            wan: true,
            ..Selection::default()
        },
        form: Form::Records,
    };
    expect![[r#"
        0000005c85a46b696e640eab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        83a17381a66865616c746882a773657276696365a3776562a770617373696e67 ..s..health..service.web.passing
        c3a17785a26e6d81a47261636ba27231a17491a27631a166a74944203d3d2061 ..w..nm..rack.r1.t..v1.f.ID.==.a
        a46e656172a26e31a377616ec3a4666f726da77265636f726473             .near.n1.wan..form.records
    "#]].assert_eq(&golden(&ask(Question::Lookup(lookup))));
    let subject = Subject::State(None);
    let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
    expect![[r#"
        0000005c85a46b696e640eab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        83a17381a57374617465c0a17780a4666f726da46a736f6e                 ..s..state..w..form.json
    "#]].assert_eq(&golden(&ask(Question::Lookup(lookup))));
}

#[test]
fn bytes_of_a_deregistration_stay_as_they_are() {
    let what = Removed::Check("k".into());
    let gone = Question::Deregister(Deregistration { node: "n1".into(), what });
    expect![[r#"
        0000005c85a46b696e640dab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a16ea26e31a17781a5636865636ba16b                               ..n.n1.w..check.k
    "#]].assert_eq(&golden(&ask(gone)));
}

#[test]
fn bytes_of_a_feed_stay_as_they_are() {
    let page = Some(Page { version: 9, after: "n1".into() });
    let prefixes = vec!["config/".to_owned()];
    let feed = Feed { born_ms: 5, catalog: 7, page, prefixes, kv_index: 8, kv_reaped: 3 };
    let feed = Ask { max_stale: Some(Duration::from_secs(2)), ..ask(Question::Feed(feed)) };
    expect![[r#"
        0000006c86a46b696e640fab636f6e73697374656e6379a764656661756c74ac ...l..kind..consistency.default.
        6d61785f7374616c655f6d73cd07d0a57472616365c410000000000000000000 max_stale_ms....trace...........
        00000000000001a772657175657374c410000000000000000000000000000000 ........request.................
        02ab646561646c696e655f6d73cd271086a16205a16307a17082a17609a161a2 ..deadline_ms.'...b..c..p..v..a.
        6e31a16b91a7636f6e6669672fa16908a17203                           n1.k..config/.i..r.
    "#]].assert_eq(&golden(&feed));
}

#[test]
fn bytes_of_questions_about_the_federation_stay_as_they_are() {
    let dc = Datacenter::new("dc2").unwrap();
    let about = Some(dc.clone());
    let timeline = Question::FederationTimeline { about, scope: question::Scope::Datacenter };
    let remove = Question::FederationRemove { dc, removing: question::Removing::IfGone };
    let all = [Question::FederationStatus, timeline, remove, Question::Refuges];
    let bytes: Vec<String> = all.into_iter().map(|question| golden(&ask(question))).collect();
    expect![[r#"
        0000005c85a46b696e6414ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        80                                                               .

        0000005c85a46b696e6415ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a561626f7574a3646332a573636f7065aa6461746163656e746572         ..about.dc2.scope.datacenter

        0000005c85a46b696e6416ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a26463a3646332a872656d6f76696e67a769665f676f6e65               ..dc.dc2.removing.if_gone

        0000005c85a46b696e6410ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        80                                                               .
    "#]].assert_eq(&bytes.join("\n"));
}

#[test]
fn bytes_of_questions_about_prepared_queries_stay_as_they_are() {
    let set = Question::QuerySet { id: "i".into(), query: "{}".into(), new: true };
    let delete = Question::QueryDelete { id: "i".into() };
    let one = Question::QueryRead { id: Some("i".into()) };
    let all = Question::QueryRead { id: None };
    let explain = Question::QueryExplain { name: "q".into() };
    let run = crate::catalog::Run { name: "q".into(), limit: 3, agent: "n1".into() };
    let selection = Selection {
        without_tags: vec!["a".into()],
        service_meta: [("v".into(), "1".into())].into(),
        worst: Some(crate::catalog::Health::Warning),
        ignored_checks: vec!["c".into()],
        ..Selection::default()
    };
    let lookup = Lookup { subject: Subject::Query(run), selection, form: Form::Json };
    let all = [set, delete, one, all, explain, Question::Lookup(lookup)];
    let bytes = all.map(|question| golden(&ask(question)));
    expect![[r#"
        0000005c85a46b696e6419ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        83a26964a169a57175657279a27b7da36e6577c3                         ..id.i.query.{}.new.

        0000005c85a46b696e641aab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        81a26964a169                                                     ..id.i

        0000005c85a46b696e641bab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        81a26964a169                                                     ..id.i

        0000005c85a46b696e641bab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        80                                                               .

        0000005c85a46b696e641cab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        81a46e616d65a171                                                 ..name.q

        0000005c85a46b696e640eab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        83a17381a5717565727983a16ea171a16c03a161a26e31a17784a2736d81a176 ..s..query..n.q.l..a.n1.w..sm..v
        a131a26e7491a161a168a77761726e696e67a2696391a163a4666f726da46a73 .1.nt..a.h.warning.ic..c.form.js
        6f6e                                                             on
    "#]].assert_eq(&bytes.join("\n"));
}

#[test]
fn bytes_of_questions_about_several_datacenters_stay_as_they_are() {
    let dc = Datacenter::new("dc2").unwrap();
    let (selection, form) = (Selection::default(), Form::Json);
    let lookup = Lookup { subject: Subject::Nodes, selection, form };
    let union = Union { of: vec![dc.clone()], lookup, seen: [(dc.clone(), 7)].into() };
    let explain = question::FailoverExplain {
        service: Some("web".into()),
        lost: vec![dc],
        overload_percent: 200,
        scope: question::Scope::Federation,
    };
    let all = [Question::Union(union), Question::FailoverExplain(explain)];
    let bytes = all.map(|question| golden(&ask(question)));
    expect![[r#"
        0000005c85a46b696e6418ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        83a26f6691a3646332a66c6f6f6b757083a173a56e6f646573a17780a4666f72 ..of..dc2.lookup..s.nodes.w..for
        6da46a736f6ea47365656e81a364633207                               m.json.seen..dc2.

        0000005c85a46b696e6417ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        84a773657276696365a3776562a46c6f737491a3646332b06f7665726c6f6164 ..service.web.lost..dc2.overload
        5f70657263656e74ccc8a573636f7065aa66656465726174696f6e           _percent...scope.federation
    "#]].assert_eq(&bytes.join("\n"));
}

#[test]
fn bytes_of_questions_about_coordinates_stay_as_they_are() {
    let update = Update { node: "n1".into(), coordinate: Coordinate::ORIGIN };
    let questions = [
        Question::CoordinateUpdate(update),
        Question::CoordinateRead(Read { node: Some("n1".into()) }),
        Question::CoordinateRead(Read { node: None }),
        Question::CoordinateDatacenters,
    ];
    let bytes = questions.map(|question| golden(&ask(question)));
    expect![[r#"
        0000005c85a46b696e6428ab636f6e73697374656e6379a764656661756c74a5 ...\..kind(.consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a16ea26e31a16384a356656398cb0000000000000000cb0000000000000000 ..n.n1.c..Vec...................
        cb0000000000000000cb0000000000000000cb0000000000000000cb00000000 ................................
        00000000cb0000000000000000cb0000000000000000a54572726f72cb3ff800 .......................Error.?..
        0000000000aa41646a7573746d656e74cb0000000000000000a6486569676874 ......Adjustment..........Height
        cb3ee4f8b588e368f1                                               .>.....h.

        0000005c85a46b696e6429ab636f6e73697374656e6379a764656661756c74a5 ...\..kind).consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        81a16ea26e31                                                     ..n.n1

        0000005c85a46b696e6429ab636f6e73697374656e6379a764656661756c74a5 ...\..kind).consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        80                                                               .

        0000005c85a46b696e642aab636f6e73697374656e6379a764656661756c74a5 ...\..kind*.consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        80                                                               .
    "#]].assert_eq(&bytes.join("\n"));
}

#[test]
fn bytes_of_questions_about_config_entries_stay_as_they_are() {
    let set = Question::ConfigSet { entry: "{}".into(), cas: Some(7) };
    let kind = || "proxy-defaults".into();
    let delete = Question::ConfigDelete { kind: kind(), name: "global".into(), cas: None };
    let one = Question::ConfigRead { kind: Some(kind()), name: Some("global".into()) };
    let all = Question::ConfigRead { kind: None, name: None };
    let bytes = [set, delete, one, all].map(|question| golden(&ask(question)));
    expect![[r#"
        0000005c85a46b696e6411ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a5656e747279a27b7da363617307                                   ..entry.{}.cas.

        0000005c85a46b696e6412ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a46b696e64ae70726f78792d64656661756c7473a46e616d65a6676c6f6261 ..kind.proxy-defaults.name.globa
        6c                                                               l

        0000005c85a46b696e6413ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        82a46b696e64ae70726f78792d64656661756c7473a46e616d65a6676c6f6261 ..kind.proxy-defaults.name.globa
        6c                                                               l

        0000005c85a46b696e6413ab636f6e73697374656e6379a764656661756c74a5 ...\..kind..consistency.default.
        7472616365c41000000000000000000000000000000001a772657175657374c4 trace...................request.
        1000000000000000000000000000000002ab646561646c696e655f6d73cd2710 ..................deadline_ms.'.
        80                                                               .
    "#]].assert_eq(&bytes.join("\n"));
}

#[test]
fn a_config_entry_that_is_too_large_is_refused() {
    let entry = "x".repeat(question::CONFIG_ENTRY_LEN_MAX + 1).into();
    let ask = ask(Question::ConfigSet { entry, cas: None });
    let refused = decode_ask(&encode_ask(&ask, now()), now());
    assert!(matches!(refused, Err(AskError::TooLarge(_))), "{refused:?}");
}

#[test]
fn a_feed_of_too_many_prefixes_is_refused() {
    let prefixes = vec![String::new(); PREFIXES_MAX + 1];
    let ask = ask(Question::Feed(Feed { prefixes, ..Feed::default() }));
    let refused = decode_ask(&encode_ask(&ask, now()), now());
    assert!(matches!(refused, Err(AskError::TooLarge(_))), "{refused:?}");
}

#[test]
fn bytes_of_an_answer_stay_as_they_are() {
    let meta = Meta {
        index: 12,
        known_leader: Some(true),
        last_contact: Duration::from_millis(3),
        consistency: Consistency::Stale,
        path: Vec::new(),
        mirrored: false,
        served: Vec::new(),
        parts: Vec::new(),
    };
    let found = Answer { outcome: Outcome::Found, meta, body: Bytes::from_static(b"[]") };
    expect![[r#"
        0000005181a6616e7377657285a76f7574636f6d65a5666f756e64a5696e6465 ...Q..answer..outcome.found.inde
        780cac6b6e6f776e5f6c6561646572c3af6c6173745f636f6e746163745f7573 x..known_leader..last_contact_us
        cd0bb8ab636f6e73697374656e6379a57374616c655b5d                   ....consistency.stale[]
    "#]].assert_eq(&hex(&encode_reply(&Ok(found))));
}

#[test]
fn bytes_of_an_answer_from_elsewhere_stay_as_they_are() {
    let path = ["dc1", "dc3", "dc2"].map(|dc| Datacenter::new(dc).unwrap()).to_vec();
    let meta = Meta { path, mirrored: true, ..Meta::default() };
    let found = Answer { outcome: Outcome::Found, meta, body: Bytes::from_static(b"[]") };
    expect![[r#"
        0000005f81a6616e7377657286a76f7574636f6d65a5666f756e64a5696e6465 ..._..answer..outcome.found.inde
        7800af6c6173745f636f6e746163745f757300ab636f6e73697374656e6379a7 x..last_contact_us..consistency.
        64656661756c74a47061746893a3646331a3646333a3646332a86d6972726f72 default.path..dc1.dc3.dc2.mirror
        6564c35b5d                                                       ed.[]
    "#]].assert_eq(&hex(&encode_reply(&Ok(found))));
}

#[test]
fn bytes_of_an_error_stay_as_they_are() {
    let dc = Datacenter::new("dc2").unwrap();
    let lost = AskError::NoServer { dc, reason: "lost since 3 s".to_owned() };
    expect![[r#"
        0000003481a56572726f7284a46b696e6406a474657874ae6c6f73742073696e ...4..error..kind..text.lost.sin
        636520332073a26463a3646332a96e6f5f656666656374c3                 ce.3.s.dc.dc2.no_effect.
    "#]].assert_eq(&hex(&encode_reply(&Err(lost))));
}

#[derive(Serialize)]
struct LaterHead {
    kind: u16,
    trace: TraceId,
    request: RequestId,
    deadline_ms: u64,
    invented_later: Vec<u8>,
}

#[derive(Serialize)]
struct LaterKvGet {
    key: &'static str,
    invented_later: bool,
}

fn later(kind: u16) -> Bytes {
    let (trace, request) = (TraceId(Uuid::nil()), RequestId(Uuid::nil()));
    let invented_later = vec![1, 2, 3];
    let head = LaterHead { kind, trace, request, deadline_ms: 5, invented_later };
    let mut out = head_first(&head, 0);
    write(&mut out, &LaterKvGet { key: "k", invented_later: true });
    out.freeze()
}

#[test]
fn fields_of_a_later_version_are_ignored_and_missing_ones_have_their_default() {
    let read = decode_ask(&later(kind::KV_GET), now()).unwrap();
    assert_eq!(read.question, Question::KvGet { key: "k".to_owned(), raw: false });
    assert_eq!(read.consistency, Consistency::Default);
    assert_eq!(read.dc, None);
}

#[test]
fn questions_of_a_later_version_are_refused_with_a_sentence() {
    let error = decode_ask(&later(999), now()).unwrap_err();
    let text = "this server does not know question kind 999: upgrade it";
    assert_eq!(error, AskError::Bad(text.to_owned()));
}

#[test]
fn errors_of_a_later_version_keep_their_sentence_and_whether_they_had_an_effect() {
    for (no_effect, expected) in [
        (true, AskError::Busy("moon phase".to_owned())),
        (false, AskError::Failed("moon phase".to_owned())),
    ] {
        let error = ErrorHead { kind: 999, text: "moon phase".into(), dc: None, no_effect };
        let bytes = head_first(&ReplyHead { answer: None, error: Some(error) }, 0).freeze();
        assert_eq!(decode_reply(bytes), Err(expected));
    }
}

#[test]
fn questions_over_their_bounds_are_too_large() {
    let value = Bytes::from(vec![0; question::WRITE_LEN_MAX]);
    let half = value.slice(..question::WRITE_LEN_MAX / 2);
    let (key, empty) = ("k".to_owned(), Bytes::new());
    let op = KvOp { verb: KvVerb::Get, key: key.clone(), value: empty, flags: 0, index: 0 };
    let set = KvOp { verb: KvVerb::Set, value: half, ..op.clone() };
    let output = "x".repeat(question::WRITE_LEN_MAX + 1).into();
    let long = Registration {
        checks: vec![Check { output, ..Check::default() }],
        ..Registration::default()
    };
    for question in [
        Question::KvPut { key, value, flags: 0, cas: None },
        Question::Txn { ops: vec![TxnOp::Kv(set); 2] },
        Question::Txn { ops: vec![TxnOp::Kv(op); question::TXN_OPS_MAX + 1] },
        Question::Register(Arc::new(long)),
    ] {
        let bytes = encode_ask(&ask(question), now());
        let error = decode_ask(&bytes, now()).unwrap_err();
        assert!(matches!(error, AskError::TooLarge(_)), "{error}");
    }
}

#[test]
fn a_deadline_is_never_further_away_than_the_longest_answer() {
    let began = now();
    let deadline = began + Duration::from_secs(1_000_000);
    let far = Ask { deadline, ..ask(Question::StatusPeers) };
    let read = decode_ask(&encode_ask(&far, began), began).unwrap();
    assert_eq!(read.deadline, began + DEADLINE_MAX);
}

#[test]
fn the_body_of_a_reply_is_not_copied() {
    let bytes = encode_reply(&Ok(Answer::plain(vec![7; 1000])));
    let body = decode_reply(bytes.clone()).unwrap().body;
    assert_eq!(body.as_ptr(), bytes[bytes.len() - 1000..].as_ptr());
}

fn questions() -> impl Strategy<Value = Question> {
    let value = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let verb = prop_oneof![
        Just(KvVerb::Set),
        Just(KvVerb::Cas),
        Just(KvVerb::Get),
        Just(KvVerb::GetOrEmpty),
        Just(KvVerb::GetTree),
        Just(KvVerb::CheckIndex),
        Just(KvVerb::CheckNotExists),
        Just(KvVerb::Delete),
        Just(KvVerb::DeleteTree),
        Just(KvVerb::DeleteCas),
    ];
    let op = (verb, any::<String>(), value.clone(), any::<u64>(), any::<u64>()).prop_map(
        |(verb, key, value, flags, index)| TxnOp::Kv(KvOp { verb, key, value, flags, index }),
    );
    prop_oneof![
        any::<(String, bool)>().prop_map(|(key, raw)| Question::KvGet { key, raw }),
        any::<String>().prop_map(|prefix| Question::KvList { prefix }),
        any::<(String, String)>()
            .prop_map(|(prefix, separator)| Question::KvKeys { prefix, separator }),
        (any::<String>(), value, any::<u64>(), any::<Option<u64>>())
            .prop_map(|(key, value, flags, cas)| Question::KvPut { key, value, flags, cas }),
        any::<(String, Option<u64>)>().prop_map(|(key, cas)| Question::KvDelete { key, cas }),
        any::<String>().prop_map(|prefix| Question::KvDeleteTree { prefix }),
        proptest::collection::vec(op, 0..5).prop_map(|ops| Question::Txn { ops }),
        any::<String>().prop_map(|name| {
            let subject = Subject::Node(name.into());
            Question::Lookup(Lookup { subject, selection: Selection::default(), form: Form::Json })
        }),
        any::<(u64, u64, Vec<String>)>().prop_map(|(born_ms, catalog, prefixes)| {
            let prefixes = prefixes.into_iter().take(PREFIXES_MAX).collect();
            Question::Feed(Feed { born_ms, catalog, prefixes, ..Feed::default() })
        }),
        any::<(String, u64)>().prop_map(|(name, index)| {
            let record = CatalogRecord::Node(Node { name: name.into(), ..Node::default() });
            let op = CatalogOp { verb: CatalogVerb::Cas, record, index };
            Question::Txn { ops: vec![TxnOp::Catalog(Box::new(op))] }
        }),
        config_questions(),
        any::<(String, String)>().prop_map(|(node, id)| {
            let what = Removed::Service(id.into());
            Question::Deregister(Deregistration { node: node.into(), what })
        }),
        any::<(String, String)>().prop_map(|(name, output)| {
            let mut registration = Registration::default();
            registration.node.name = name.into();
            registration.checks.push(Check { output: output.into(), ..Check::default() });
            Question::Register(Arc::new(registration))
        }),
        Just(Question::StatusLeader),
        coordinate_questions(),
        Just(Question::StatusPeers),
        Just(Question::Datacenters),
        Just(Question::RaftConfiguration),
        Just(Question::FederationStatus),
        federation_questions(),
    ]
}

fn federation_questions() -> impl Strategy<Value = Question> {
    prop_oneof![
        proptest::option::of("[a-z]{1,9}").prop_map(|about| Question::FederationTimeline {
            about: about.map(|dc| Datacenter::new(dc).unwrap()),
            scope: question::Scope::Datacenter,
        }),
        (proptest::option::of("[a-z]{1,9}"), 100..1000_u32).prop_map(|(name, overload_percent)| {
            Question::FailoverExplain(question::FailoverExplain {
                service: name.as_deref().map(Into::into),
                lost: name.iter().map(|dc| Datacenter::new(dc).unwrap()).collect(),
                overload_percent,
                scope: question::Scope::Datacenter,
            })
        }),
        "[a-z]{1,9}".prop_map(|dc| Question::FederationRemove {
            dc: Datacenter::new(dc).unwrap(),
            removing: question::Removing::Anyway,
        }),
    ]
}

fn coordinate_questions() -> impl Strategy<Value = Question> {
    prop_oneof![
        (any::<String>(), -9.0..9.0).prop_map(|(node, height): (String, f64)| {
            let coordinate = Coordinate { height, ..Coordinate::ORIGIN };
            Question::CoordinateUpdate(Update { node: node.into(), coordinate })
        }),
        any::<Option<String>>()
            .prop_map(|node| { Question::CoordinateRead(Read { node: node.map(Into::into) }) }),
        Just(Question::CoordinateDatacenters),
    ]
}

fn config_questions() -> impl Strategy<Value = Question> {
    prop_oneof![
        any::<(String, String, bool)>().prop_map(|(id, query, new)| Question::QuerySet {
            id: id.into(),
            query: query.into(),
            new
        }),
        any::<String>().prop_map(|id| Question::QueryDelete { id: id.into() }),
        any::<Option<String>>().prop_map(|id| Question::QueryRead { id: id.map(Into::into) }),
        any::<String>().prop_map(|name| Question::QueryExplain { name: name.into() }),
        any::<(String, Option<u64>)>()
            .prop_map(|(entry, cas)| Question::ConfigSet { entry: entry.into(), cas }),
        any::<(String, String, Option<u64>)>().prop_map(|(kind, name, cas)| {
            Question::ConfigDelete { kind: kind.into(), name: name.into(), cas }
        }),
        any::<(Option<String>, Option<String>)>().prop_map(|(kind, name)| {
            Question::ConfigRead { kind: kind.map(Into::into), name: name.map(Into::into) }
        }),
    ]
}

fn errors() -> impl Strategy<Value = AskError> {
    let dc = || Datacenter::new("dc7").unwrap();
    prop_oneof![
        any::<String>().prop_map(AskError::Bad),
        any::<String>().prop_map(AskError::TooLarge),
        any::<String>().prop_map(AskError::Busy),
        Just(AskError::NoLeader),
        Just(AskError::Lost),
        Just(AskError::NoPath { dc: dc() }),
        any::<String>().prop_map(move |reason| AskError::NoServer { dc: dc(), reason }),
        any::<String>().prop_map(AskError::CutOff),
        any::<String>().prop_map(AskError::Deadline),
        any::<String>().prop_map(AskError::Failed),
    ]
}

proptest! {
    #[test]
    fn asks_come_out_as_they_went_in(
        question in questions(),
        dc in proptest::option::of("[a-z0-9]{1,20}"),
        token: String,
        index in proptest::option::of(1u64..),
        wait_ms in 0u64..600_000,
        left_ms in 0u64..900_000,
        ids: (u128, u128),
    ) {
        let began = now();
        let wait = Duration::from_millis(wait_ms);
        let sent = Ask {
            dc: dc.map(|dc| Datacenter::new(dc).unwrap()),
            consistency: Consistency::Consistent,
            max_stale: None,
            blocking: index.map(|index| Blocking { index, wait }),
            token,
            trace: TraceId(Uuid::from_u128(ids.0)),
            request: RequestId(Uuid::from_u128(ids.1)),
            deadline: began + Duration::from_millis(left_ms),
            question,
        };
        let read = decode_ask(&encode_ask(&sent, began), began).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{sent:?}"));
    }

    #[test]
    fn replies_come_out_as_they_went_in(
        body: Vec<u8>,
        index: u64,
        known_leader: Option<bool>,
        contact_us in 0u64..1_000_000_000,
        path in proptest::collection::vec("[a-z0-9_-]{1,8}", 0..4),
        mirrored: bool,
        served in proptest::collection::vec("[a-z0-9_-]{1,8}", 0..3),
        error in errors(),
    ) {
        let last_contact = Duration::from_micros(contact_us);
        let dcs = |names: &[String]| names.iter().map(|dc| Datacenter::new(dc).unwrap()).collect();
        let (path, served): (Vec<Datacenter>, Vec<Datacenter>) = (dcs(&path), dcs(&served));
        let consistency = Consistency::Stale;
        let part = |dc: &Datacenter| Part {
            dc: dc.clone(),
            index,
            age: last_contact,
            rows: path.len(),
            status: "lost".to_owned(),
            mirrored,
            error: known_leader.map(|_| "it is lost".to_owned()),
        };
        let parts = served.iter().map(part).collect();
        let meta =
            Meta { index, known_leader, last_contact, consistency, path, mirrored, served, parts };
        let answer = Answer { outcome: Outcome::Absent, meta, body: body.into() };
        prop_assert_eq!(decode_reply(encode_reply(&Ok(answer.clone()))), Ok(answer));
        prop_assert_eq!(decode_reply(encode_reply(&Err(error.clone()))), Err(error));
    }

    #[test]
    fn garbage_is_refused(bytes: Vec<u8>) {
        let refused = matches!(decode_ask(&bytes, now()), Err(AskError::Bad(_)));
        prop_assert!(refused);
        prop_assert!(decode_reply(bytes.into()).is_err());
    }

    #[test]
    fn asks_cut_or_flipped_do_not_panic(question in questions(), at: usize, flip: u8) {
        let bytes = encode_ask(&ask(question), now());
        let at = at % bytes.len();
        let _cut = decode_ask(&bytes[..at], now());
        let mut flipped = bytes.to_vec();
        flipped[at] ^= flip;
        let _flipped = decode_ask(&flipped, now());
    }
}
