//! Answers as dig shows them.

use std::{collections::BTreeMap, time::Duration};

use expect_test::{Expect, expect};
use rand::SeedableRng;

use super::*;
use crate::{
    catalog::{self, Health, ServiceAddress, Weights},
    dns::records::tests::{node, read, read_node, residents, row, service},
};

/// What is asked, with what is set and known.
struct Case {
    name: &'static str,
    kind: RecordType,
    settings: Settings,
}

fn case(name: &'static str, kind: RecordType) -> Case {
    Case { name, kind, settings: Settings::default() }
}

impl Case {
    fn answer(&self, answer: impl FnOnce(&Scene<'_>, &mut SmallRng) -> Reply) -> Reply {
        let name = Name::from_labels(self.name.split('.').map(str::as_bytes)).unwrap();
        let query = Query::query(name, self.kind);
        let scene = Scene {
            query: &query,
            zone: &self.settings.domain,
            dc: &"dc1".parse().unwrap(),
            settings: &self.settings,
            room: 1232,
            now: 1000,
        };
        answer(&scene, &mut SmallRng::seed_from_u64(7))
    }

    fn of_service(&self, rows: &[catalog::Instance]) -> Reply {
        self.answer(|scene, random| scene.service(&"web".into(), &read(rows), random))
    }

    fn of_node(&self, node: Option<catalog::Node>) -> Reply {
        self.answer(|scene, _| scene.node(node.map(read_node).as_ref()))
    }
}

fn shown(reply: &Reply) -> String {
    let mut lines = vec![format!("{:?}", reply.code)];
    lines.extend(reply.answers.iter().map(|record| record.to_string()));
    lines.extend(reply.authorities.iter().map(|record| format!("authority {record}")));
    let extra = |(number, record): &(usize, Record)| format!("with {number}: {record}");
    lines.extend(reply.extras.iter().map(extra));
    lines.join("\n") + "\n"
}

fn assert_shown(reply: Reply, expected: Expect) {
    expected.assert_eq(&shown(&reply));
}

/// Three instances: at its own address, at its node's, at an IPv6 address.
fn three() -> Vec<catalog::Instance> {
    let weights = Weights { passing: 3, warning: 1 };
    let heavy = catalog::Service { weights, ..service("10.9.0.1", 8001) };
    vec![
        row(node("n1", "10.0.0.1"), heavy, &[Health::Passing]),
        row(node("n2", "10.0.0.2"), service("", 8002), &[Health::Warning]),
        row(node("n3", "10.0.0.3"), service("fd00::3", 8003), &[]),
        row(node("n4", "10.0.0.4"), service("", 8004), &[Health::Critical]),
    ]
}

fn described() -> catalog::Node {
    let mut node = node("n1", "10.0.0.1");
    node.meta.insert("env".into(), "prod".into());
    node.meta.insert("rfc1035-spf".into(), "v=spf1 all".into());
    node
}

#[test]
fn addresses_are_of_the_type_that_is_asked_for() {
    let a = case("web.service.consul", RecordType::A);
    assert_shown(
        a.of_service(&three()),
        expect![[r#"
        NoError
        web.service.consul. 0 IN A 10.9.0.1
        web.service.consul. 0 IN A 10.0.0.2
    "#]],
    );
    let aaaa = case("web.service.consul", RecordType::AAAA);
    assert_shown(
        aaaa.of_service(&three()),
        expect![[r#"
        NoError
        web.service.consul. 0 IN AAAA fd00::3
    "#]],
    );
    let any = case("web.service.consul", RecordType::ANY);
    assert_shown(
        any.of_service(&three()),
        expect![[r#"
        NoError
        web.service.consul. 0 IN AAAA fd00::3
        web.service.consul. 0 IN A 10.9.0.1
        web.service.consul. 0 IN A 10.0.0.2
    "#]],
    );
}

#[test]
fn an_address_of_several_instances_is_named_once() {
    let both = [1, 2].map(|port| row(node("n1", "10.0.0.1"), service("", port), &[]));
    let a = case("web.service.consul", RecordType::A);
    assert_shown(
        a.of_service(&both),
        expect![[r#"
        NoError
        web.service.consul. 0 IN A 10.0.0.1
    "#]],
    );
    let srv = case("web.service.consul", RecordType::SRV);
    assert_shown(
        srv.of_service(&both),
        expect![[r#"
        NoError
        web.service.consul. 0 IN SRV 1 1 1 n1.node.dc1.consul.
        web.service.consul. 0 IN SRV 1 1 2 n1.node.dc1.consul.
        with 0: n1.node.dc1.consul. 0 IN A 10.0.0.1
    "#]],
    );
}

#[test]
fn srv_has_the_addresses_of_its_targets_beside_it() {
    let srv = case("_web._tcp.service.consul", RecordType::SRV);
    assert_shown(
        srv.of_service(&three()),
        expect![[r#"
        NoError
        _web._tcp.service.consul. 0 IN SRV 1 1 8003 fd000000000000000000000000000003.addr.dc1.consul.
        _web._tcp.service.consul. 0 IN SRV 1 3 8001 0a090001.addr.dc1.consul.
        _web._tcp.service.consul. 0 IN SRV 1 1 8002 n2.node.dc1.consul.
        with 0: fd000000000000000000000000000003.addr.dc1.consul. 0 IN AAAA fd00::3
        with 1: 0a090001.addr.dc1.consul. 0 IN A 10.9.0.1
        with 2: n2.node.dc1.consul. 0 IN A 10.0.0.2
    "#]],
    );
}

#[test]
fn meta_of_nodes_goes_along_once_unless_it_is_not_wanted() {
    let rows = [1, 2].map(|port| row(described(), service("", port), &[]));
    let mut srv = case("web.service.consul", RecordType::SRV);
    assert_shown(
        srv.of_service(&rows),
        expect![[r#"
        NoError
        web.service.consul. 0 IN SRV 1 1 1 n1.node.dc1.consul.
        web.service.consul. 0 IN SRV 1 1 2 n1.node.dc1.consul.
        with 0: n1.node.dc1.consul. 0 IN A 10.0.0.1
        with 0: n1.node.dc1.consul. 0 IN TXT env=prod
        with 0: n1.node.dc1.consul. 0 IN TXT v=spf1 all
    "#]],
    );
    srv.settings.node_meta_txt = false;
    assert!(srv.of_service(&rows).extras.iter().all(|(_, r)| r.record_type() == RecordType::A));
}

#[test]
fn hosts_are_other_names_where_there_is_no_address() {
    let host = row(node("n1", "10.0.0.1"), service("www.example.com", 80), &[]);
    let a = case("web.service.consul", RecordType::A);
    assert_shown(
        a.of_service(std::slice::from_ref(&host)),
        expect![[r#"
        NoError
        web.service.consul. 0 IN CNAME www.example.com.
    "#]],
    );
    let srv = case("web.service.consul", RecordType::SRV);
    assert_shown(
        srv.of_service(std::slice::from_ref(&host)),
        expect![[r#"
        NoError
        web.service.consul. 0 IN SRV 1 1 80 www.example.com.
    "#]],
    );
    let beside = [host, row(node("n2", "10.0.0.2"), service("", 80), &[])];
    assert_shown(
        a.of_service(&beside),
        expect![[r#"
        NoError
        web.service.consul. 0 IN A 10.0.0.2
    "#]],
    );
    let itself = row(node("n1", "10.0.0.1"), service("web.service.consul", 80), &[]);
    assert_shown(
        a.of_service(&[itself]),
        expect![[r#"
        NoError
        web.service.consul. 0 IN A 10.0.0.1
    "#]],
    );
}

#[test]
fn a_node_has_an_address_and_meta() {
    let a = case("n1.node.consul", RecordType::A);
    assert_shown(
        a.of_node(Some(described())),
        expect![[r#"
        NoError
        n1.node.consul. 0 IN A 10.0.0.1
        with 0: n1.node.consul. 0 IN TXT env=prod
        with 0: n1.node.consul. 0 IN TXT v=spf1 all
    "#]],
    );
    let txt = case("n1.node.consul", RecordType::TXT);
    assert_shown(
        txt.of_node(Some(described())),
        expect![[r#"
        NoError
        n1.node.consul. 0 IN TXT env=prod
        n1.node.consul. 0 IN TXT v=spf1 all
    "#]],
    );
    let any = case("n1.node.consul", RecordType::ANY);
    assert_shown(
        any.of_node(Some(described())),
        expect![[r#"
        NoError
        n1.node.consul. 0 IN A 10.0.0.1
        n1.node.consul. 0 IN TXT env=prod
        n1.node.consul. 0 IN TXT v=spf1 all
    "#]],
    );
    let named = node("n1", "host.example.com");
    assert_shown(
        a.of_node(Some(named)),
        expect![[r#"
        NoError
        n1.node.consul. 0 IN CNAME host.example.com.
    "#]],
    );
}

#[test]
fn what_is_not_there_and_what_has_nothing_of_the_type_are_told_apart() {
    let a = case("n1.node.consul", RecordType::A);
    assert_shown(
        a.of_node(None),
        expect![[r#"
        NXDomain
        authority consul. 0 IN SOA ns.consul. hostmaster.consul. 1000 3600 600 86400 0
    "#]],
    );
    let mx = case("n1.node.consul", RecordType::MX);
    assert_shown(
        mx.of_node(Some(described())),
        expect![[r#"
        NoError
        authority consul. 0 IN SOA ns.consul. hostmaster.consul. 1000 3600 600 86400 0
    "#]],
    );
    let web = case("web.service.consul", RecordType::A);
    let dead = row(node("n1", "10.0.0.1"), service("", 1), &[Health::Critical]);
    assert_eq!(web.of_service(&[dead]).code, ResponseCode::NXDomain);
    let txt = case("web.service.consul", RecordType::TXT);
    assert_eq!(shown(&txt.of_service(&three())), shown(&mx.of_node(Some(described()))));
}

#[test]
fn an_address_is_what_its_name_spells() {
    let a = case("0a090001.addr.consul", RecordType::A);
    let v4 = "10.9.0.1".parse().unwrap();
    assert_shown(
        a.answer(|scene, _| scene.address(v4)),
        expect![[r#"
        NoError
        0a090001.addr.consul. 0 IN A 10.9.0.1
    "#]],
    );
    let aaaa = case("0a090001.addr.consul", RecordType::AAAA);
    let none = aaaa.answer(|scene, _| scene.address(v4));
    assert_eq!((none.code, none.answers.len()), (ResponseCode::NoError, 0));
}

#[test]
fn the_zone_names_its_servers() {
    let server = |name: &str, addr: &str| row(node(name, addr), service("", 8300), &[]);
    let servers = [server("s1", "10.0.0.1"), server("s_2", "10.0.0.2"), server("s3", "fd00::3")];
    let zone = |case: Case| case.answer(|scene, random| scene.zone(&read(&servers), random));
    assert_shown(
        zone(case("consul", RecordType::SOA)),
        expect![[r#"
        NoError
        consul. 0 IN SOA ns.consul. hostmaster.consul. 1000 3600 600 86400 0
        authority consul. 0 IN NS s1.node.dc1.consul.
        authority consul. 0 IN NS s3.node.dc1.consul.
        with 0: s1.node.dc1.consul. 0 IN A 10.0.0.1
        with 0: s3.node.dc1.consul. 0 IN AAAA fd00::3
    "#]],
    );
    assert_shown(
        zone(case("consul", RecordType::NS)),
        expect![[r#"
        NoError
        consul. 0 IN NS s1.node.dc1.consul.
        consul. 0 IN NS s3.node.dc1.consul.
        with 0: s1.node.dc1.consul. 0 IN A 10.0.0.1
        with 1: s3.node.dc1.consul. 0 IN AAAA fd00::3
    "#]],
    );
}

#[test]
fn times_to_live_are_as_configured() {
    let mut a = case("web.service.consul", RecordType::A);
    a.settings.service_ttl.put("we*", Duration::from_secs(5));
    a.settings.node_ttl = Duration::from_secs(7);
    a.settings.soa.min_ttl = 9;
    assert!(a.of_service(&three()).answers.iter().all(|record| record.ttl == 5));
    assert_eq!(a.of_node(Some(described())).answers[0].ttl, 7);
    assert_eq!(a.of_node(None).authorities[0].ttl, 9);
}

#[test]
fn addresses_are_bounded_by_the_limit_and_by_what_fits() {
    let many: Vec<catalog::Instance> = (0..300u16)
        .map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1))
        .map(|address| row(node("n1", "10.0.0.1"), service(&address, 80), &[]))
        .collect();
    let mut a = case("web.service.consul", RecordType::A);
    let count = a.of_service(&many).answers.len();
    assert!((70..=80).contains(&count), "{count} are chosen for 1232 bytes");
    a.settings.a_record_limit = 2;
    assert_eq!(a.of_service(&many).answers.len(), 2);
    let srv = case("web.service.consul", RecordType::SRV);
    assert!(srv.of_service(&many).answers.len() < 80);
}

#[test]
fn tagged_addresses_serve_those_who_want_the_other_kind() {
    let tagged = catalog::Service {
        tagged_addresses: BTreeMap::from([(
            "lan_ipv6".into(),
            ServiceAddress { address: "fd00::9".into(), port: 99 },
        )]),
        ..service("10.9.0.1", 80)
    };
    let rows = [row(node("n1", "10.0.0.1"), tagged, &[])];
    let aaaa = case("web.service.consul", RecordType::AAAA);
    assert_shown(
        aaaa.of_service(&rows),
        expect![[r#"
        NoError
        web.service.consul. 0 IN AAAA fd00::9
    "#]],
    );
}

#[test]
fn an_address_belongs_to_nodes_or_else_to_services() {
    let ptr = case("1.0.9.10.in-addr.arpa", RecordType::PTR);
    let owners = |nodes: &[&str], services: &[&str]| {
        ptr.answer(|scene, _| scene.owners(&residents(nodes, services)))
    };
    assert_shown(
        owners(&["n1", "n2.rack"], &["web"]),
        expect![[r#"
            NoError
            1.0.9.10.in-addr.arpa. 0 IN PTR n1.node.dc1.consul.
            1.0.9.10.in-addr.arpa. 0 IN PTR n2.rack.node.dc1.consul.
        "#]],
    );
    assert_shown(
        owners(&[], &["web"]),
        expect![[r#"
            NoError
            1.0.9.10.in-addr.arpa. 0 IN PTR web.service.dc1.consul.
        "#]],
    );
    assert_eq!(owners(&[], &[]).code, ResponseCode::NXDomain);
}
