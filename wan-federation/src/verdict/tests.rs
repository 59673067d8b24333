//! Verdicts: transcripts of what three observers see of a datacenter of three servers, and what
//! is held of it; then properties over random sequences.
//!
//! A transcript's line is a moment: milliseconds, then what each observer (a1, a2, a3) sees of
//! the servers b1, b2 and b3: `U` up, `D` down, `?` unknown, `-` not observing; a lower-case `u`
//! is a server that is up and knows no leader, `l` one whose path loses every eighth heartbeat, `k` one that is
//! down and tries to connect. The answer shows the verdict when it changes.

use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{judge::Judge, *};

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// Keeps since when each observer has seen each server as it does.
#[derive(Default)]
struct Film {
    since: BTreeMap<(usize, usize), (Path, Duration)>,
}

impl Film {
    fn view(&mut self, now: Duration, rows: &[&str]) -> View {
        let mut view = View::default();
        for server in 0..3 {
            view.servers.insert(node(&format!("b{}", server + 1)), Server::default());
        }
        for (observer, row) in rows.iter().enumerate().filter(|(_, row)| **row != "-") {
            view.observers += 1;
            for (server, sign) in row.chars().enumerate() {
                let path = match sign {
                    'U' | 'u' | 'l' => Path::Up,
                    'D' | 'k' => Path::Down,
                    _ => Path::Unknown,
                };
                let slot = self.since.entry((observer, server)).or_insert((path, now));
                if slot.0 != path {
                    *slot = (path, now);
                }
                let word = Word { leader_known: sign != 'u', ..Word::default() };
                let seen = Seen {
                    path,
                    age: now - slot.1,
                    reason: if path == Path::Down { "no heartbeat".into() } else { String::new() },
                    knocks: sign == 'k',
                    beats: 64,
                    beats_lost: if sign == 'l' { 8 } else { 2 },
                    word: (path == Path::Up).then_some(word),
                    ..Seen::NOTHING
                };
                let name = node(&format!("b{}", server + 1));
                let observer = node(&format!("a{}", observer + 1));
                view.servers.entry(name).or_default().seen.insert(observer, seen);
            }
        }
        view
    }
}

/// Plays a transcript; between two lines, what was seen stays and is judged each 100 ms.
fn play(script: &str, expect: Expect) {
    let mut film = Film::default();
    let mut judge = Judge::new(Duration::ZERO);
    let mut out = String::new();
    let mut rows: Vec<&str> = Vec::new();
    let mut clock = 0;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let at: u64 = words.next().unwrap().parse().unwrap();
        while clock < at {
            step(&mut film, &mut judge, clock, &rows, &mut out);
            clock += 100;
        }
        rows = words.collect();
    }
    step(&mut film, &mut judge, clock, &rows, &mut out);
    expect.assert_eq(&out);
}

fn step(film: &mut Film, judge: &mut Judge, clock: u64, rows: &[&str], out: &mut String) {
    let now = Duration::from_millis(clock);
    let view = film.view(now, rows);
    if judge.judge(now, &view).is_some() {
        let verdict = judge.verdict();
        writeln!(out, "{clock} {}: {}", verdict.health, verdict.evidence).unwrap();
    }
}

#[test]
fn a_killed_datacenter_is_lost_once_two_observers_agree() {
    play(
        "0     ??? ??? ???
         300   UUU UUU UUU
         5000  DDD UUU UUU
         5200  DDD DDD UUU
         5400  DDD DDD DDD
         9000  DDD DDD DDD",
        expect![[r#"
            300 healthy: 3 of 3 servers up
            5600 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
        "#]],
    );
}

#[test]
fn one_observers_link_is_not_a_lost_datacenter() {
    play(
        "0     UUU UUU UUU
         3000  DDD UUU UUU
         9000  UUU UUU UUU
         12000 UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            4400 partial: 3 of 3 servers down: b1 (no heartbeat; seen by a1, not by all); b2 (no heartbeat; seen by a1, not by all); b3 (no heartbeat; seen by a1, not by all)
            10000 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn one_server_down_is_partial() {
    play(
        "0     UUU UUU UUU
         3000  UDU UDU UDU
         9000  UDU UDU UDU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            4400 partial: 1 of 3 servers down: b2 (no heartbeat; seen by a1, a2, a3)
        "#]],
    );
}

#[test]
fn servers_that_are_seen_down_one_by_one_are_partial_before_they_are_lost() {
    play(
        "0     UUU UUU UUU
         3000  DUU DUU DUU
         6000  DDU DDU DDU
         9000  DDD DDD DDD
         9800  DDD DDD DDD",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            4400 partial: 1 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3)
            9400 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
        "#]],
    );
}

#[test]
fn what_is_down_for_less_than_a_second_is_not_held_against_anyone() {
    play(
        "0     UUU UUU UUU
         3000  DUU DUU DUU
         4300  UUU UUU UUU
         5000  UDU UDU UDU
         6300  UUU UUU UUU
         9000  UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn the_evidence_says_what_is_seen_now() {
    let mut film = Film::default();
    let mut judge = Judge::new(Duration::ZERO);
    let mut look = |at: u64, rows: [&str; 3]| {
        let now = Duration::from_millis(at);
        judge.judge(now, &film.view(now, &rows));
        let Verdict { health, since, evidence } = judge.verdict();
        format!("{} since {}: {evidence}", health, since.as_millis())
    };
    let mut lines = vec![look(0, ["UUU"; 3]), look(1000, ["UDU"; 3]), look(2000, ["UDU"; 3])];
    lines.push(look(3000, ["UDU"; 3]));
    lines.push(look(4000, ["DDU", "DDU", "UDU"]));
    lines.push(look(5000, ["DDU", "DDU", "DDU"]));
    lines.push(look(6000, ["DDD"; 3]));
    lines.push(look(6500, ["DDD"; 3]));
    lines.push(look(7000, ["UDD"; 3]));
    lines.push(look(7500, ["UUU"; 3]));
    lines.push(look(8000, ["UUU"; 3]));
    expect![[r#"
        healthy since 0: 3 of 3 servers up
        healthy since 0: 3 of 3 servers up
        healthy since 0: 2 of 3 servers up
        partial since 3000: 1 of 3 servers down: b2 (no heartbeat; seen by a1, a2, a3)
        partial since 3000: 1 of 3 servers down: b2 (no heartbeat; seen by a1, a2, a3)
        partial since 3000: 2 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3)
        partial since 3000: 2 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3)
        lost since 6500: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
        lost since 6500: 2 of 3 servers down: b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
        lost since 6500: 3 of 3 servers up again, not for long
        healthy since 8000: 3 of 3 servers up
    "#]].assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_path_that_blinks_is_not_held_against_anyone() {
    play(
        "0     UUU UUU UUU
         3000  DUU UUU UUU
         3300  UUU UUU UUU
         6000  UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn leaderless_is_said_after_two_seconds_and_withdrawn_after_one() {
    play(
        "0     UUU UUU UUU
         3000  uuu uuu uuu
         4500  UUU UUU UUU
         6000  uuu uuu uuu
         9000  UUU UUU UUU
         12000 UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            8100 leaderless: 3 of 3 servers up, none knows a leader
            10000 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn a_returning_datacenter_needs_a_stable_second_and_a_leader() {
    play(
        "0     UUU UUU UUU
         3000  DDD DDD DDD
         6000  uuu uuu uuu
         8000  UUU UUU UUU
         12000 UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            3400 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
            8000 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn a_datacenter_that_returns_without_a_leader_is_leaderless_in_the_end() {
    play(
        "0     UUU UUU UUU
         3000  DDD DDD DDD
         6000  uDD uDD uDD
         15000 uDD uDD uDD",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            3400 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
            11000 leaderless: 1 of 3 servers up, none knows a leader
        "#]],
    );
}

#[test]
fn a_datacenter_that_is_heard_but_not_reached_is_one_way() {
    play(
        "0     UUU UUU UUU
         3000  DDD DDD DDD
         5000  DkD DDD DDD
         9000  UDD DDD DDD
         9500  DDD DDD DDD
         15000 UUU UUU UUU
         18000 UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            3400 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
            5000 one-way: b2 heard but not reached; 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
            9500 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
            16000 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn loss_that_lasts_is_held_against_a_datacenter_until_it_is_gone_for_a_second() {
    play(
        "0     UUU UUU UUU
         3000  lll lll lll
         7900  UUU UUU UUU
         10000 lll lll lll
         20000 lUU lUU lUU
         25000 UUU UUU UUU
         30000 UUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            15000 lossy: 3 of 3 servers up, 12 % of 576 heartbeats lost
            26000 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn one_path_that_loses_is_no_lossy_datacenter() {
    play(
        "0     UUU UUU UUU
         3000  lUU UUU UUU
         20000 lUU UUU UUU",
        expect![[r#"
            0 healthy: 3 of 3 servers up
        "#]],
    );
}

#[test]
fn a_flapping_datacenter_stays_lost() {
    play(
        "0     UUU UUU UUU
         3000  DDD DDD DDD
         6000  Uuu Uuu Uuu
         6800  DDD DDD DDD
         8000  UUU UUU UUU
         8900  DDD DDD DDD
         15000 DDD DDD DDD",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            3400 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1, a2, a3); b2 (no heartbeat; seen by a1, a2, a3); b3 (no heartbeat; seen by a1, a2, a3)
        "#]],
    );
}

#[test]
fn the_last_server_of_a_datacenter_decides_alone() {
    play(
        "0     UUU - -
         3000  DDD - -
         6000  DDD - -",
        expect![[r#"
            0 healthy: 3 of 3 servers up
            3400 lost: 3 of 3 servers down: b1 (no heartbeat; seen by a1); b2 (no heartbeat; seen by a1); b3 (no heartbeat; seen by a1)
        "#]],
    );
}

#[test]
fn a_datacenter_whose_servers_left_is_left() {
    let mut judge = Judge::new(Duration::ZERO);
    let mut view = Film::default().view(Duration::ZERO, &["UUU", "UUU"]);
    judge.judge(Duration::ZERO, &view);
    for server in view.servers.values_mut() {
        server.left = true;
    }
    judge.judge(Duration::from_secs(1), &view);
    assert_eq!(judge.verdict().health, Health::Left);
}

#[test]
fn a_server_that_left_says_nothing_about_the_others() {
    let mut judge = Judge::new(Duration::ZERO);
    let mut view = Film::default().view(Duration::ZERO, &["DUU", "DUU"]);
    view.servers.get_mut("b1").unwrap().left = true;
    judge.judge(Duration::ZERO, &view);
    assert_eq!(judge.verdict().health, Health::Healthy);
}

fn row() -> impl Strategy<Value = String> {
    prop_oneof![Just("-".to_owned()), "[UuD?]{3}"]
}

proptest! {
    #[test]
    fn one_observer_among_several_never_makes_it_lost(
        rows in proptest::collection::vec("[UuD?]{3}", 1..40),
    ) {
        let mut film = Film::default();
        let mut judge = Judge::new(Duration::ZERO);
        for (step, row) in rows.iter().enumerate() {
            let now = Duration::from_millis(step as u64 * 500);
            judge.judge(now, &film.view(now, &[row, "UUU", "UUU"]));
            prop_assert_ne!(judge.verdict().health, Health::Lost);
        }
    }

    #[test]
    fn whatever_came_before_the_truth_is_found(
        rows in proptest::collection::vec([row(), row(), row()], 0..30),
        lost: bool,
    ) {
        let mut film = Film::default();
        let mut judge = Judge::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for row in &rows {
            let row: Vec<&str> = row.iter().map(String::as_str).collect();
            judge.judge(now, &film.view(now, &row));
            now += Duration::from_millis(300);
        }
        let (truth, wanted, within) = if lost {
            (["DDD"; 3], Health::Lost, DOWN_MIN)
        } else {
            (["UUU"; 3], Health::Healthy, RETURN_MIN)
        };
        let end = now + within + Duration::from_millis(100);
        while now <= end {
            judge.judge(now, &film.view(now, &truth));
            now += Duration::from_millis(100);
        }
        prop_assert_eq!(judge.verdict().health, wanted);
    }
}
