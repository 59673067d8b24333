//! Heartbeats by values alone: a path that answers, loses, falls silent or hangs.

use super::*;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn beat(seq: u64) -> Beat {
    Beat { instance: 1, seq, word: Bytes::new() }
}

fn wan(side: Side, pace: Pace) -> Rhythm {
    Rhythm::new(Profile::Wan, side, pace, true)
}

fn lan(side: Side) -> Rhythm {
    Rhythm::new(Profile::Lan, side, Pace::Rest, true)
}

/// A side with its clock; the peer answers each ping at once unless the test says otherwise.
struct Path {
    vitals: Vitals,
    rhythm: Rhythm,
    rtt: Duration,
    begin: Instant,
    now: Instant,
    packets: u64,
}

impl Path {
    fn new(rhythm: Rhythm, rtt: Duration) -> Self {
        let now = Instant::now();
        Self { vitals: Vitals::new(now), rhythm, rtt, begin: now, now, packets: 0 }
    }

    /// Looks when it is due until `end`; returns the milliseconds at which pings were sent.
    fn run(&mut self, end: Duration, answered: bool) -> Result<Vec<u64>, Dead> {
        let mut pings = Vec::new();
        while self.now < self.begin + end {
            let due = self.vitals.look(self.now, self.packets, self.rhythm, self.rtt)?;
            let mut next = due.look;
            if let Some(seq) = due.ping {
                pings.push(self.now.duration_since(self.begin).as_millis() as u64);
                if answered {
                    self.vitals.hear_pong(self.now + self.rtt, &beat(seq));
                    next = self.now + self.rtt;
                }
            }
            assert!(next > self.now || due.ping.is_some(), "a look plans a later one");
            self.now = next.max(self.now + MILLI);
        }
        Ok(pings)
    }
}

#[test]
fn a_path_is_pinged_at_the_pace_that_is_wanted() {
    for (pace, count) in [(Pace::Rest, 0), (Pace::Watch, 10), (Pace::Brisk, 34)] {
        let mut path = Path::new(wan(Side::ByUs, pace), MILLI * 20);
        assert_eq!(path.run(SECOND * 10, true).unwrap().len(), count, "{pace:?}");
        assert_eq!(path.vitals.counts(), (count as u32, 0));
        assert_eq!(path.vitals.asked, None);
    }
}

#[test]
fn an_unanswered_ping_is_followed_soon_and_the_path_is_dead_after_its_bound() {
    for (rtt, pings) in [
        (MILLI * 20, [0, 250, 500, 750, 1000, 1250, 1500, 1750].as_slice()),
        (MILLI * 300, [0, 600, 850, 1100, 1350, 1600, 1850].as_slice()),
    ] {
        let mut path = Path::new(wan(Side::ByUs, Pace::Watch), rtt);
        let before = ANSWER_MAX - MILLI;
        assert_eq!(path.run(before, false).unwrap(), pings);
        assert!(path.run(SECOND * 3, false).is_err());
        assert_eq!(path.now.duration_since(path.begin), ANSWER_MAX);
    }
}

#[test]
fn an_answer_in_time_saves_the_path() {
    let mut path = Path::new(wan(Side::ByUs, Pace::Watch), MILLI * 20);
    path.run(ANSWER_MAX - MILLI, false).unwrap();
    path.vitals.hear_pong(path.now, &beat(3));
    path.run(SECOND * 10, true).unwrap();
    // The first two were lost, the fifth and later ones of the first seconds may be, too.
    let (count, lost) = path.vitals.counts();
    assert!(count > 8 && (2..8).contains(&lost), "{count} {lost}");
}

#[test]
fn packets_without_heartbeats_only_buy_some_time() {
    let mut path = Path::new(wan(Side::ByUs, Pace::Brisk), MILLI * 20);
    for step in 1.. {
        path.packets += 1;
        if let Err(dead) = path.run(SECOND / 10 * step, false) {
            let lived = path.now.duration_since(path.begin);
            assert_eq!(dead, Dead::Unanswered(lived));
            assert!(lived >= HANG_MAX && lived < HANG_MAX + SECOND / 2, "{lived:?}");
            return;
        }
    }
}

#[test]
fn a_resting_path_is_never_dead() {
    let mut path = Path::new(wan(Side::ByPeer, Pace::Rest), MILLI * 20);
    assert_eq!(path.run(SECOND * 600, false), Ok(Vec::new()));
}

#[test]
fn a_connection_that_was_just_dialled_is_tried_at_any_pace() {
    let rhythm = Rhythm::new(Profile::Wan, Side::ByUs, Pace::Rest, false);
    assert!(Path::new(rhythm, MILLI).run(ANSWER_MAX * 2, false).is_err());
}

#[test]
fn the_side_that_was_dialled_yields_to_the_pings_of_the_other_as_long_as_they_come() {
    let mut path = Path::new(wan(Side::ByPeer, Pace::Watch), MILLI * 20);
    for second in 1..=10_u64 {
        path.vitals.hear_ping(path.begin + SECOND * second as u32 - SECOND, &beat(second));
        assert_eq!(path.run(SECOND * second as u32, false), Ok(Vec::new()));
    }
    let pings = path.run(SECOND * 12, false).unwrap();
    assert_eq!(pings.first(), Some(&10_500));
    assert!(path.run(SECOND * 20, false).is_err());
    let lived = path.now.duration_since(path.begin + SECOND * 9);
    assert_eq!(lived, SECOND * 3 / 2 + ANSWER_MAX, "since the last ping of the peer");
}

#[test]
fn in_a_lan_the_side_that_dialled_pings_and_the_other_counts_silence() {
    let mut path = Path::new(lan(Side::ByUs), MILLI);
    assert_eq!(path.run(SECOND * 10, true).unwrap().len(), 20);
    let mut path = Path::new(lan(Side::ByPeer), MILLI);
    assert!(path.run(SECOND * 9, false).is_err());
    assert_eq!(path.now.duration_since(path.begin), SILENT_MAX);
}

#[test]
fn own_sleep_is_not_held_against_the_peer() {
    for rhythm in [wan(Side::ByUs, Pace::Watch), lan(Side::ByPeer)] {
        let mut path = Path::new(rhythm, MILLI * 20);
        path.run(SECOND, false).unwrap();
        path.now += SECOND * 30;
        let woken = path.now;
        while path.run(path.now.duration_since(path.begin) + MILLI, false).is_ok() {}
        let given = path.now.duration_since(woken);
        assert!(given > SECOND / 2 && given < SECOND * 3, "{given:?}");
    }
}

#[test]
fn the_answer_to_what_was_never_asked_changes_nothing() {
    let mut path = Path::new(wan(Side::ByUs, Pace::Watch), MILLI * 20);
    path.run(MILLI * 10, false).unwrap();
    path.vitals.hear_pong(path.now, &beat(99));
    assert!(path.vitals.asked.is_some());
    assert_eq!(path.vitals.counts(), (0, 0));
    path.vitals.hear_ping(path.now, &beat(1_000_000));
    assert_eq!(path.vitals.counts(), (0, 0));
}

#[test]
fn a_new_word_is_news() {
    let mut vitals = Vitals::new(Instant::now());
    let said = |word: &'static str| Beat { word: Bytes::from_static(word.as_bytes()), ..beat(1) };
    assert!(vitals.hear_ping(Instant::now(), &said("leader")));
    assert!(!vitals.hear_ping(Instant::now(), &said("leader")));
    assert!(vitals.hear_ping(Instant::now(), &said("follower")));
}
