//! What operators read, field by field.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use topology::{NodeId, Role, member::CLUSTER_TAG};
use wan_federation::{
    Health, Verdict, Word,
    matrix::{Cell, Row, Told},
};

use super::*;

fn profile() -> Profile {
    Profile {
        name: "a1".parse().unwrap(),
        id: NodeId(uuid::Uuid::nil()),
        dc: "dc1".parse().unwrap(),
        role: Role::Server,
        addr: "10.0.0.1:8302".parse().unwrap(),
        link: None,
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    }
}

fn said(dc: &str, is_lifted: bool) -> Removal {
    Removal { dc: dc.parse().unwrap(), at_ms: 7, is_lifted, by: "a1.dc1".to_owned() }
}

fn rival() -> Rival {
    let tags = BTreeMap::from([(CLUSTER_TAG.to_owned(), "B".to_owned())]);
    let (name, dc) = ("b9".parse().unwrap(), "dc2".parse().unwrap());
    let profile = Profile { name, dc, addr: "10.0.1.9:8302".parse().unwrap(), tags, ..profile() };
    Rival { profile, holder: "A".to_owned(), since: Duration::ZERO }
}

fn report() -> Report {
    let seen = Seen {
        path: Path::Down,
        age: Duration::from_millis(1500),
        reason: "no packet for 1.9s".to_owned(),
        beats: 40,
        beats_lost: 3,
        ..Seen::NOTHING
    };
    let word = Word { is_leader: true, term: 7, applied: 300, load: 2, ..Word::default() };
    let server = Server {
        addr: "10.0.1.1:8302".parse().unwrap(),
        status: Status::Failed,
        rtt: Some(Duration::from_micros(50_250)),
        word: Some(word),
        seen: BTreeMap::from([("a1".parse().unwrap(), seen)]),
    };
    let evidence = "1 of 1 servers down".to_owned();
    let closed = Way { open: false, under_way: 0 };
    let site = Site {
        verdict: Verdict { health: Health::Lost, since: Duration::ZERO, evidence },
        held: Duration::from_millis(2500),
        rtt: Some(Duration::from_millis(50)),
        leader: Some("b1".parse().unwrap()),
        servers: BTreeMap::from([("b1".parse().unwrap(), server)]),
        direct: Way { open: true, under_way: 4 },
        detours: closed,
        relays: closed,
    };
    let cell = Cell { health: Some(Health::Lost), rtt: Some(Duration::from_millis(50)) };
    let row = Row(BTreeMap::from([("dc2".parse().unwrap(), cell)]));
    let told = Told { row, by: "a1".parse().unwrap(), at: Duration::from_secs(1), current: true };
    let dc1: Datacenter = "dc1".parse().unwrap();
    let addr = "10.0.0.1:8302".parse().unwrap();
    Report {
        index: 9,
        home: BTreeMap::from([("a1".parse().unwrap(), (addr, Status::Alive))]),
        sites: BTreeMap::from([("dc2".parse().unwrap(), site)]),
        removals: Arc::new(vec![said("dc8", false), said("dc9", true)]),
        refused: vec![(8, rival())],
        matrix: Arc::new(Matrix { rows: BTreeMap::from([(dc1.clone(), told)]) }),
        told: BTreeMap::from([(dc1, Duration::from_secs(3))]),
    }
}

fn mirrored() -> Mirrored {
    BTreeMap::from([("dc2".parse().unwrap(), Duration::from_millis(4250))])
}

#[test]
fn everything_that_is_known_is_shown() {
    let me: NodeName = "a1".parse().unwrap();
    let home = Home { me: me.clone(), leader: Some(me), term: 3, applied: 20 };
    let shown = serde_json::to_value(overview(&profile(), &home, &report(), &mirrored())).unwrap();
    let parts = ["/Datacenters/0", "/Datacenters/1", "/Matrix"];
    let parts = parts.map(|part| shown.pointer(part).unwrap().to_string().replace(",\"", ", \""));
    expect![[r#"
        {"Name":"dc1", "Own":true, "Health":"healthy", "Evidence":"a1 leads", "RTTMillis":null, "Leader":"a1", "Servers":[{"Name":"a1", "Address":"10.0.0.1:8302", "Status":"alive", "Path":"up", "RTTMillis":null, "LossPercent":null, "Leader":true, "Term":3, "Applied":20, "Load":null, "WatchedBy":[]}]}
        {"Name":"dc2", "Own":false, "Health":"lost", "HeldSeconds":2.5, "Evidence":"1 of 1 servers down", "RTTMillis":50.0, "Leader":"b1", "MirrorAgeSeconds":4.25, "Servers":[{"Name":"b1", "Address":"10.0.1.1:8302", "Status":"failed", "Path":"down", "RTTMillis":50.25, "LossPercent":7.5, "Leader":true, "Term":7, "Applied":300, "Load":2, "WatchedBy":[{"Server":"a1", "Path":"down", "ForSeconds":1.5, "Reason":"no packet for 1.9s"}]}], "Requests":{"Direct":{"Breaker":"open", "UnderWay":4}, "Detours":{"Breaker":"closed", "UnderWay":0}, "Relays":{"Breaker":"closed", "UnderWay":0}}}
        [{"From":"dc1", "ToldBy":"a1", "ToldSecondsAgo":3.0, "Current":true, "To":[{"Datacenter":"dc2", "Health":"lost", "RTTMillis":50.0}]}]"#]].assert_eq(&parts.join("\n"));
    let removed = serde_json::json!([{ "Name": "dc8", "TimeMs": 7, "By": "a1.dc1" }]);
    assert_eq!(shown["Removed"], removed);
    let refused = serde_json::json!([{
        "Name": "b9.dc2",
        "Address": "10.0.1.9:8302",
        "Cluster": "B",
        "Reason": "dc2 is the name of cluster A here, and b9 is of B",
        "TimeMs": 8,
    }]);
    assert_eq!(shown["Refused"], refused);
    assert_eq!((&shown["Datacenter"], &shown["Server"]), (&"dc1".into(), &"a1".into()));
}

#[test]
fn a_datacenter_without_a_leader_says_so_of_itself() {
    let home = Home { me: "a1".parse().unwrap(), leader: None, term: 3, applied: 20 };
    let shown = serde_json::to_value(overview(&profile(), &home, &report(), &mirrored())).unwrap();
    assert_eq!(shown["Datacenters"][0]["Health"], "leaderless");
    assert_eq!(shown["Datacenters"][0]["Evidence"], "a1 knows no leader");
}
