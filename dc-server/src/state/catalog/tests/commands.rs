//! Random commands: few names, so that they meet.

use std::sync::Arc;

use lan_agent::catalog::{
    Check, Deregistration, Health, Node, Registration, Removed, SERF_HEALTH, Service, Text, Texts,
};
use proptest::{prelude::*, sample::select};

use crate::state::Op;

/// A registration or, less often, a deregistration.
pub(crate) fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => registrations().prop_map(|registration| Op::Register(Arc::new(registration))),
        1 => removals().prop_map(Op::Deregister),
    ]
}

fn registrations() -> impl Strategy<Value = Registration> {
    let service = proptest::option::weighted(0.6, services());
    (nodes(), any::<bool>(), service, prop::collection::vec(checks(), 0..3)).prop_map(
        |(node, skip_node_update, service, checks)| Registration {
            node,
            skip_node_update,
            service,
            checks,
        },
    )
}

fn removals() -> impl Strategy<Value = Deregistration> {
    let what = prop_oneof![
        Just(Removed::Node),
        service_ids().prop_map(Removed::Service),
        check_ids().prop_map(Removed::Check),
    ];
    (node_names(), what).prop_map(|(node, what)| Deregistration { node, what })
}

fn texts(all: &'static [&'static str]) -> impl Strategy<Value = Text> {
    select(all).prop_map(Text::from)
}

fn node_names() -> impl Strategy<Value = Text> {
    texts(&["a", "a", "A", "b", "b", "c", "none", ""])
}

fn service_ids() -> impl Strategy<Value = Text> {
    texts(&["s1", "s1", "S1", "s2", "none"])
}

fn check_ids() -> impl Strategy<Value = Text> {
    texts(&["k1", "k1", "K1", "k2", SERF_HEALTH])
}

fn pairs() -> impl Strategy<Value = Texts> {
    prop::collection::btree_map(texts(&["x", "y"]), texts(&["1", "2"]), 0..2)
}

fn nodes() -> impl Strategy<Value = Node> {
    let ids = texts(&["", "", "0a", "0A", "0b", "0c"]);
    (node_names(), ids, texts(&["1.1.1.1", "1.1.1.1", "2.2.2.2"]), pairs())
        .prop_map(|(name, id, address, meta)| Node { name, id, address, meta, ..Node::default() })
}

fn services() -> impl Strategy<Value = Service> {
    let tags = prop::collection::vec(texts(&["t", "T", "u"]), 0..3);
    (service_ids(), texts(&["web", "web", "Web", "db", ""]), tags, 0u16..2)
        .prop_map(|(id, name, tags, port)| Service { id, name, tags, port, ..Service::default() })
}

fn checks() -> impl Strategy<Value = Check> {
    let status = select(&[Health::Passing, Health::Passing, Health::Warning, Health::Critical][..]);
    let about = texts(&["", "", "s1", "s1", "S1", "s2", "missing"]);
    (check_ids(), status, about, texts(&["", "web", "liar"])).prop_map(
        |(id, status, service_id, service_name)| Check {
            id,
            status,
            service_id,
            service_name,
            ..Check::default()
        },
    )
}
