//! Rows there and back, and what they say of ways.

use proptest::prelude::*;

use super::*;
use crate::verdict::Degradation;

fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

const fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn row(cells: &[(&str, Health, u64)]) -> Row {
    let cell = |health, rtt| Cell { health: Some(health), rtt: Some(millis(rtt)) };
    Row(cells.iter().map(|(name, health, rtt)| (dc(name), cell(*health, *rtt))).collect())
}

fn matrix(current: bool) -> Matrix {
    let row = row(&[("dc3", Health::Healthy, 40), ("dc4", Health::Lost, 40)]);
    let told = Told { row, by: "b1".parse().unwrap(), at: Duration::ZERO, current };
    Matrix { rows: [(dc("dc2"), told)].into() }
}

#[test]
fn a_row_has_these_bytes() {
    let written = row(&[("dc2", Health::Degraded(Degradation::Partial), 1)]).encode();
    let expect = b"\x81\xa5cells\x91\x83\xa2dc\xa3dc2\xa6health\xa7partial\xa6rtt_us\xcd\x03\xe8";
    assert_eq!(written.bytes, expect.as_slice());
}

#[test]
fn a_health_that_is_not_known_here_is_no_way() {
    let newer = b"\x81\xa5cells\x91\x82\xa2dc\xa3dc2\xa6health\xa4grey";
    let row = Row::decode(newer).unwrap();
    assert_eq!(row.0[&dc("dc2")], Cell { health: None, rtt: None });
}

#[test]
fn ways_are_those_that_a_current_row_says_can_be_gone() {
    let (two, three, four) = (dc("dc2"), dc("dc3"), dc("dc4"));
    assert_eq!(matrix(true).reaches(&two, &three), Some(millis(40)));
    assert_eq!(matrix(true).reaches(&two, &four), None);
    assert_eq!(matrix(true).reaches(&three, &two), None);
    assert_eq!(matrix(false).reaches(&two, &three), None);
}

#[test]
fn a_way_that_was_not_measured_is_the_longest() {
    let mut matrix = matrix(true);
    matrix.rows.get_mut("dc2").unwrap().row.0.get_mut("dc3").unwrap().rtt = None;
    assert_eq!(matrix.reaches(&dc("dc2"), &dc("dc3")), Some(Duration::MAX));
}

#[test]
fn round_trips_are_told_anew_when_they_moved_by_a_fifth() {
    for (old, new, told) in [(100, 119, 100), (100, 121, 121), (100, 79, 79), (1, 3, 1)] {
        let mut now = row(&[("dc2", Health::Healthy, new)]);
        now.settle(&row(&[("dc2", Health::Healthy, old)]));
        assert_eq!(now.0[&dc("dc2")].rtt, Some(millis(told)), "{old} {new}");
    }
}

proptest! {
    #[test]
    fn any_row_comes_back(
        cells in proptest::collection::btree_map("[a-z]{1,8}", (0..6usize, any::<Option<u32>>()), 0..9),
    ) {
        let cell = |(health, rtt): (usize, Option<u32>)| Cell {
            health: Some(Health::ALL[health]),
            rtt: rtt.map(|rtt| Duration::from_micros(rtt.into())),
        };
        let row = Row(cells.into_iter().map(|(name, it)| (dc(&name), cell(it))).collect());
        let written = row.encode();
        prop_assert_eq!(Row::decode(&written.bytes), Some(row));
        prop_assert_ne!(written.mark, 0);
    }

    #[test]
    fn garbage_is_no_row_and_never_panics(bytes: Vec<u8>) {
        let _ = Row::decode(&bytes);
    }
}
