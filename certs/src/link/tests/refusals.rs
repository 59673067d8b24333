//! Who is refused, why, and that both sides know the reason.

use std::time::Duration;

use bytes::Bytes;
use topology::Role;

use super::nodes::{
    DAYS, ECHO, Node, authority, bundle, bundle_at, fabric, identity, keys, server, start,
};
use crate::{
    ca::{Algorithm, Authority},
    error::{CallError, DialError},
    identity::Identity,
    link::{Accept, Expect, Target},
    store::Bundle,
};

/// What a node shows and whom it trusts, and what becomes of its call to server `b` of dc1.
struct Case {
    me: Identity,
    bundle: Bundle,
    expect: Expect,
    refused: fn(&DialError) -> Option<&str>,
    reason: &'static str,
}

fn here(error: &DialError) -> Option<&str> {
    match error {
        DialError::RefusedPeer { reason, .. } => Some(reason),
        _ => None,
    }
}

fn there(error: &DialError) -> Option<&str> {
    match error {
        DialError::RefusedByPeer { reason, .. } => Some(reason),
        _ => None,
    }
}

fn to_b() -> Expect {
    Expect::server_of(server("dc1", "b").dc)
}

fn cases(ca: &Authority) -> Vec<Case> {
    let foreign = authority();
    let year = Duration::from_secs(u64::from(DAYS) * 24 * 3600);
    let (a, other) = (server("dc1", "a"), server("dc2", "a"));
    let good = || bundle(ca, &a, &[ca]);
    vec![
        Case {
            me: a.clone(),
            bundle: bundle_at(ca, &a, &[ca], start() - year),
            expect: to_b(),
            refused: there,
            reason: "the certificate expired on 2027-01-15",
        },
        Case {
            me: a.clone(),
            bundle: bundle_at(ca, &a, &[ca], start() + year),
            expect: to_b(),
            refused: there,
            reason: "valid from 2028-01-15",
        },
        Case {
            me: a.clone(),
            bundle: bundle(&foreign, &a, &[ca, &foreign]),
            expect: to_b(),
            refused: there,
            reason: "issued by no authority that is trusted here",
        },
        Case {
            me: a.clone(),
            bundle: bundle(ca, &a, &[&foreign]),
            expect: to_b(),
            refused: here,
            reason: "issued by no authority that is trusted here",
        },
        Case {
            me: other.clone(),
            bundle: bundle(ca, &other, &[ca]),
            expect: to_b(),
            refused: there,
            reason: "the certificate is for server a of dc2, expected a node of dc1",
        },
        Case {
            me: a.clone(),
            bundle: good(),
            expect: Expect::server_of(other.dc.clone()),
            refused: here,
            reason: "the certificate is for server b of dc1, expected a server of dc2",
        },
        Case {
            me: a.clone(),
            bundle: good(),
            expect: to_b().named(other.node.clone().unwrap()),
            refused: here,
            reason: "the certificate is for server b of dc1, expected server a of dc1",
        },
    ]
}

#[tokio::test(start_paused = true)]
async fn each_refusal_has_its_reason_on_the_side_that_called() {
    let fabric = fabric();
    let ca = authority();
    let b = server("dc1", "b");
    let peer = Node::start(&fabric, "10.0.0.2:8300", &b, keys(bundle(&ca, &b, &[&ca])), 2);
    for case in cases(&ca) {
        let node = Node::start(&fabric, "10.0.0.1:0", &case.me, keys(case.bundle), 1);
        let to = Target { addr: peer.endpoint.local_addr(), expect: case.expect };
        let error = node.ask_at(&to, ECHO, Bytes::new()).await.unwrap_err();
        assert!(error.had_no_effect());
        let CallError::Dial(error) = error else { panic!("{error}") };
        let reason = (case.refused)(&error).unwrap_or_else(|| panic!("{error:?}"));
        assert!(reason.contains(case.reason), "{reason:?} lacks {:?}", case.reason);
        node.endpoint.shutdown("next").await;
    }
    assert_eq!(peer.endpoint.paths().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_constrained_authority_is_held_to_its_names() {
    let fabric = fabric();
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let make = |name: &str| {
        let names = [name.to_owned()];
        Authority::constrained("test", Algorithm::Ed25519, start(), DAYS, &names).unwrap()
    };
    let ca = make("causeway");
    let one = Node::start(&fabric, "10.0.0.1:0", &a, keys(bundle(&ca, &a, &[&ca])), 1);
    let two = Node::start(&fabric, "10.0.0.2:8300", &b, keys(bundle(&ca, &b, &[&ca])), 2);
    assert_eq!(one.ask(&two, ECHO, b"x").await.unwrap(), "x");
    // Somebody took its key and issues what it may not.
    let ca = make("elsewhere").unchecked();
    let one = Node::start(&fabric, "10.0.0.1:0", &a, keys(bundle(&ca, &a, &[&ca])), 1);
    let two = Node::start(&fabric, "10.0.0.2:8300", &b, keys(bundle(&ca, &b, &[&ca])), 2);
    let error = one.ask(&two, ECHO, b"x").await.unwrap_err();
    let CallError::Dial(DialError::RefusedPeer { reason, .. }) = error else { panic!("{error}") };
    assert!(reason.contains("names that its authority is constrained from"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_client_can_not_act_as_a_server() {
    let fabric = fabric();
    let ca = authority();
    let (a, c) = (server("dc1", "a"), identity("dc1", Role::Client, "c"));
    let node = Node::start(&fabric, "10.0.0.1:8300", &a, keys(bundle(&ca, &a, &[&ca])), 1);
    let client = Node::start(&fabric, "10.0.0.2:8300", &c, keys(bundle(&ca, &c, &[&ca])), 2);
    let to = Target { addr: client.endpoint.local_addr(), expect: to_b() };
    let error = node.ask_at(&to, ECHO, Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("is for client c of dc1, expected a server"), "{error}");
    assert_eq!(client.ask(&node, ECHO, b"ask").await.unwrap(), "ask");
    // Nor by way of a connection that it dialled itself.
    let to = Target { addr: client.endpoint.local_addr(), expect: to_b() };
    let error = node.ask_at(&to, ECHO, Bytes::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Dial(DialError::OtherPeer { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn between_datacenters_servers_are_accepted_and_clients_are_not() {
    let fabric = fabric();
    let ca = authority();
    let open = |addr: &str, me: &Identity, seed| {
        let keys = keys(bundle(&ca, me, &[&ca]));
        Node::accepting(&fabric, addr, me, keys, seed, Accept::Servers)
    };
    let one = open("10.0.0.1:8302", &server("dc1", "a"), 1);
    let two = open("10.0.0.2:8302", &server("dc2", "b"), 2);
    let client = open("10.0.0.3:8302", &identity("dc1", Role::Client, "c"), 3);
    let anyone = Target { addr: one.endpoint.local_addr(), expect: Expect::any_server() };
    assert_eq!(two.ask_at(&anyone, ECHO, Bytes::from_static(b"x")).await.unwrap(), "x");
    let error = client.ask_at(&anyone, ECHO, Bytes::new()).await.unwrap_err();
    assert!(error.to_string().contains("client c of dc1, expected a server"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn callers_with_different_expectations_share_an_address() {
    let fabric = fabric();
    let (a, b) = super::nodes::pair(&fabric);
    let wrong = Target { expect: Expect::server_of(super::nodes::dc("dc9")), ..b.target() };
    let right = b.target();
    let first = a.ask_at(&wrong, ECHO, Bytes::new());
    let second = a.ask_at(&right, ECHO, Bytes::from_static(b"x"));
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(CallError::Dial(DialError::RefusedPeer { .. }))), "{first:?}");
    assert_eq!(second.unwrap(), "x");
}
