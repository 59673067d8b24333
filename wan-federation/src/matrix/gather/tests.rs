//! Whom the rows are asked of, and when.

use super::*;
use crate::{matrix::Cell, verdict::Health};

const SECOND: Duration = Duration::from_secs(1);

fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

fn row(others: &[&str], health: Health) -> Row {
    let cell = Cell { health: Some(health), rtt: None };
    Row(others.iter().map(|name| (dc(name), cell)).collect())
}

fn own() -> Row {
    row(&["dc2"], Health::Healthy)
}

/// A server of dc2 that has this row.
fn source(number: u8, row: &Row) -> Source {
    Source {
        dc: dc("dc2"),
        node: format!("b{number}").parse().unwrap(),
        addr: addr(number),
        rtt: Some(SECOND / 100 * u32::from(number)),
        mark: row.encode().mark,
    }
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, number], 8302))
}

fn gather() -> Gather {
    Gather::new(dc("dc1"), "a1".parse().unwrap())
}

fn answer(gather: &mut Gather, now: Duration, number: u8, row: &Row) {
    let by = format!("b{number}").parse().unwrap();
    gather.told(now, dc("dc2"), by, &row.encode().bytes);
}

#[test]
fn the_nearest_is_asked_once_and_again_when_its_row_changed() {
    let mut gather = gather();
    let (first, second) = (row(&["dc1"], Health::Healthy), row(&["dc1"], Health::Lost));
    let all = [source(2, &first), source(1, &first)];
    assert_eq!(gather.step(SECOND, own(), &all), [(dc("dc2"), addr(1))]);
    answer(&mut gather, SECOND, 1, &first);
    assert_eq!(gather.step(SECOND * 9, own(), &all), []);
    let all = [source(2, &first), source(1, &second)];
    assert_eq!(gather.step(SECOND * 9, own(), &all), [(dc("dc2"), addr(1))]);
}

#[test]
fn a_row_that_does_not_come_is_asked_for_again_but_not_at_once() {
    let mut gather = gather();
    let all = [source(1, &row(&["dc1"], Health::Healthy))];
    assert_eq!(gather.step(SECOND, own(), &all).len(), 1);
    assert_eq!(gather.step(SECOND + ASK_INTERVAL / 2, own(), &all), []);
    assert_eq!(gather.step(SECOND + ASK_INTERVAL, own(), &all).len(), 1);
}

#[test]
fn another_server_is_asked_only_if_it_says_something_else() {
    let mut gather = gather();
    let (first, second) = (row(&["dc1"], Health::Healthy), row(&["dc1"], Health::Lost));
    gather.step(SECOND, own(), &[source(1, &first)]);
    answer(&mut gather, SECOND, 1, &first);
    assert_eq!(gather.step(SECOND * 9, own(), &[source(2, &first)]), []);
    assert_eq!(gather.step(SECOND * 9, own(), &[source(2, &second)]).len(), 1);
}

#[test]
fn a_row_counts_while_its_datacenter_can_be_asked() {
    let mut gather = gather();
    let theirs = row(&["dc1", "dc3"], Health::Healthy);
    let all = [source(1, &theirs)];
    gather.step(SECOND, own(), &all);
    answer(&mut gather, SECOND, 1, &theirs);
    let reaches = |gather: &Gather| gather.matrix().reaches(&dc("dc2"), &dc("dc3"));
    assert!(reaches(&gather).is_some());
    gather.step(SECOND * 2, row(&["dc2"], Health::Lost), &all);
    assert_eq!(reaches(&gather), None);
    assert!(gather.matrix().rows.contains_key("dc2"), "it is still shown");
    gather.step(SECOND * 3, own(), &all);
    assert!(reaches(&gather).is_some());
}

#[test]
fn a_datacenter_that_nobody_belongs_to_any_more_is_forgotten() {
    let mut gather = gather();
    let theirs = row(&["dc1"], Health::Healthy);
    gather.step(SECOND, own(), &[source(1, &theirs)]);
    answer(&mut gather, SECOND, 1, &theirs);
    gather.step(SECOND * 2, Row::default(), &[]);
    assert!(gather.matrix().rows.keys().eq([&dc("dc1")]));
}

#[test]
fn nobody_tells_the_own_row_and_an_unreadable_one_changes_nothing() {
    let mut gather = gather();
    gather.step(SECOND, own(), &[]);
    let by: NodeName = "b1".parse().unwrap();
    gather.told(SECOND, dc("dc1"), by.clone(), &Row::default().encode().bytes);
    gather.told(SECOND, dc("dc2"), by, b"garbage");
    assert_eq!(gather.matrix().rows[&dc("dc1")].row, own());
    assert_eq!(gather.matrix().rows.len(), 1);
}
