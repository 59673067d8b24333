//! A short history in order, for the tests of what reads histories.

use std::{sync::Arc, time::Duration};

use topology::{Datacenter, Role};

use crate::drill::{
    history::{Entry, History, Kind, Marks, Operation, Outcome, Probe, Seen, Stored},
    workload::COUNTER,
};

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

pub(super) fn operation(
    from: &str,
    to: &str,
    kind: Kind,
    (start, end): (u64, u64),
    outcome: Outcome,
) -> Operation {
    let label = format!("server-1.{from}");
    let key: Arc<str> = match kind {
        Kind::Increment => COUNTER.into(),
        _ => format!("drill/{from}-0/{start}").into(),
    };
    Operation {
        via: Arc::new(Entry { dc: dc(from), label, role: Role::Server }),
        to: dc(to),
        kind,
        key,
        start: ms(start),
        end: ms(end),
        outcome,
    }
}

/// dc2 is killed at 10 s and started again at 20 s; dc1 watches.
pub(super) fn history() -> History {
    let refused = |text: &str| Outcome::Error { status: 500, text: text.to_owned() };
    let unreachable = "Remote DC has no server currently reachable";
    let operations = vec![
        operation("dc1", "dc2", Kind::Create, (9_000, 9_010), Outcome::Done),
        operation("dc1", "dc2", Kind::Put, (11_000, 11_900), refused(unreachable)),
        operation("dc1", "dc2", Kind::Put, (15_000, 15_010), refused(unreachable)),
        operation("dc1", "dc1", Kind::Increment, (15_000, 15_005), Outcome::Done),
        operation("dc2", "dc2", Kind::Put, (15_000, 15_001), refused("No cluster leader")),
        operation("dc1", "dc2", Kind::Put, (20_100, 20_200), Outcome::Done),
    ];
    let stored = |key: &str, value: &str| Stored {
        key: key.to_owned(),
        value: value.to_owned(),
        create_index: 7,
        modify_index: 7,
    };
    let probe = |start, end, seen| Probe {
        server: "server-1.dc1".to_owned(),
        start: ms(start),
        end: ms(end),
        seen,
    };
    History {
        datacenters: vec![dc("dc1"), dc("dc2")],
        lost: dc("dc2"),
        surviving_servers: vec!["server-1.dc1".to_owned()],
        marks: Marks {
            killing: ms(9_990),
            killed: ms(10_000),
            restarted: ms(20_000),
            ended: ms(23_000),
        },
        operations,
        probes: vec![
            probe(9_900, 9_905, Seen::Answer),
            probe(10_100, 12_100, Seen::Unreachable),
            probe(11_950, 11_952, Seen::Unreachable),
            probe(13_000, 13_002, Seen::Lost),
        ],
        leader_back: Some(ms(20_050)),
        whole: Some(ms(21_000)),
        stored: [
            (dc("dc1"), vec![stored(COUNTER, "1")]),
            (
                dc("dc2"),
                vec![
                    stored("drill/dc1-0/9000", "drill/dc1-0/9000"),
                    stored("drill/dc1-0/20100", "drill/dc1-0/20100"),
                ],
            ),
        ]
        .into(),
    }
}
