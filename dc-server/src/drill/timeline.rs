//! The timeline of a lost datacenter, read out of a drill's history. Functions of the history:
//! times in the result are seconds from the kill, negative before it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use topology::Datacenter;

use crate::drill::history::{History, Operation, Outcome, Seen};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When, in seconds from the kill.
    pub at_seconds: f64,
    /// What.
    pub what: What,
    /// The node or datacenter that it happened to or was seen at.
    pub who: String,
    /// What was answered, where something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What happens in the course of losing a datacenter and getting it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The last answer that a client elsewhere got from it.
    LastGoodAnswer,
    /// Its servers were killed.
    Killed,
    /// The first time that a client elsewhere was told that something is wrong.
    FirstClearError,
    /// A surviving server says that it holds it for lost.
    Verdict,
    /// Its servers were started again.
    Restarted,
    /// One of its servers names a leader.
    LeaderBack,
    /// The first answer that a client elsewhere got from it again.
    FirstGoodAnswer,
    /// Every node sees every member alive.
    Whole,
}

/// What happened, in order, and when each surviving server knew.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// In the order of time.
    pub events: Vec<Event>,
    /// When each surviving server knew that the datacenter is lost, since the drill's start.
    pub verdicts: BTreeMap<String, Option<Duration>>,
    /// When each surviving datacenter had its first answer from it again, since the drill's start.
    pub answers_back: BTreeMap<Datacenter, Option<Duration>>,
}

/// Counts of one second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Seconds from the kill to its start.
    pub second: i64,
    /// Asked in the surviving datacenters, by the datacenter asked for.
    pub across: BTreeMap<String, Counts>,
    /// Asked of the lost datacenter's own agents, whatever for.
    pub inside_lost: Counts,
}

/// Answers and errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that were answered.
    pub answers: u32,
    /// Requests that were not.
    pub errors: u32,
}

/// Returns the operations that ask for the lost datacenter in another one.
pub fn across(history: &History) -> impl Iterator<Item = &Operation> {
    history.operations.iter().filter(|op| op.to == history.lost && op.via.dc != history.lost)
}

/// Returns a time as seconds from the kill.
pub fn from_kill(history: &History, at: Duration) -> f64 {
    at.as_secs_f64() - history.marks.killed.as_secs_f64()
}

/// Reads the timeline out of a history.
pub fn read(history: &History) -> Timeline {
    let verdicts: BTreeMap<_, _> = history
        .surviving_servers
        .iter()
        .map(|server| (server.clone(), verdict(history, server)))
        .collect();
    let mut answers_back = BTreeMap::new();
    for dc in history.datacenters.iter().filter(|dc| **dc != history.lost) {
        let from_here = across(history).filter(|op| op.via.dc == *dc);
        let back = from_here.filter(|op| op.is_answer() && op.start >= history.marks.restarted);
        answers_back.insert(dc.clone(), back.map(|op| op.end).min());
    }
    let mut events = client_events(history);
    let mut add = |at: Duration, what, who: &str| {
        let at_seconds = from_kill(history, at);
        events.push(Event { at_seconds, what, who: who.to_owned(), detail: None });
    };
    let lost = history.lost.as_str();
    add(history.marks.killed, What::Killed, lost);
    for (server, at) in &verdicts {
        if let Some(at) = at {
            add(*at, What::Verdict, server);
        }
    }
    add(history.marks.restarted, What::Restarted, lost);
    if let Some(at) = history.leader_back {
        add(at, What::LeaderBack, lost);
    }
    for (dc, at) in &answers_back {
        if let Some(at) = at {
            add(*at, What::FirstGoodAnswer, dc.as_str());
        }
    }
    if let Some(at) = history.whole {
        add(at, What::Whole, "every node");
    }
    events.sort_by(|a, b| a.at_seconds.total_cmp(&b.at_seconds));
    Timeline { events, verdicts, answers_back }
}

/// The last good answer and the first clear error that clients elsewhere saw.
fn client_events(history: &History) -> Vec<Event> {
    let down = history.marks.killing..history.marks.restarted;
    let last = across(history)
        .filter(|op| op.is_answer() && op.end < down.end)
        .max_by_key(|op| op.end)
        .map(|op| (op, What::LastGoodAnswer, None));
    let first = across(history)
        .filter(|op| down.contains(&op.end))
        .filter_map(|op| match &op.outcome {
            Outcome::Error { status, text } => Some((op, status, text)),
            _ => None,
        })
        .min_by_key(|(op, ..)| op.end)
        .map(|(op, status, text)| {
            let took = op.took().as_secs_f64();
            (op, What::FirstClearError, Some(format!("{status} {text} (took {took:.3} s)")))
        });
    let event = |(op, what, detail): (&Operation, What, Option<String>)| Event {
        at_seconds: from_kill(history, op.end),
        what,
        who: op.via.label.clone(),
        detail,
    };
    last.into_iter().chain(first).map(event).collect()
}

/// Returns when a server first said that it holds the datacenter for lost.
fn verdict(history: &History, server: &str) -> Option<Duration> {
    let marks = &history.marks;
    history
        .probes
        .iter()
        .filter(|probe| probe.server == server && probe.seen == Seen::Lost)
        .filter(|probe| probe.start >= marks.killing && probe.end <= marks.restarted)
        .map(|probe| probe.end)
        .min()
}

/// Counts answers and errors by second and datacenter.
pub fn seconds(history: &History) -> Vec<Second> {
    let mut rows: BTreeMap<i64, Second> = BTreeMap::new();
    let names: Vec<String> = history.datacenters.iter().map(ToString::to_string).collect();
    for operation in &history.operations {
        let second = from_kill(history, operation.end).floor() as i64;
        let row = rows.entry(second).or_insert_with(|| Second {
            second,
            across: names.iter().map(|name| (name.clone(), Counts::default())).collect(),
            inside_lost: Counts::default(),
        });
        let counts = match operation.via.dc == history.lost {
            true => &mut row.inside_lost,
            false => row.across.entry(operation.to.to_string()).or_default(),
        };
        match operation.is_answer() {
            true => counts.answers += 1,
            false => counts.errors += 1,
        }
    }
    rows.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample::{self, ms};

    #[test]
    fn events_are_in_the_order_of_time_and_count_from_the_kill() {
        let timeline = read(&sample::history());
        let order: Vec<_> = timeline.events.iter().map(|event| event.what).collect();
        assert_eq!(
            order,
            [
                What::LastGoodAnswer,
                What::Killed,
                What::FirstClearError,
                What::Verdict,
                What::Restarted,
                What::LeaderBack,
                What::FirstGoodAnswer,
                What::Whole,
            ]
        );
        assert_eq!(timeline.events[1].at_seconds, 0.0);
        assert!(timeline.events[0].at_seconds < 0.0);
    }

    #[test]
    fn a_fast_error_is_no_verdict() {
        let mut history = sample::history();
        for probe in history.probes.iter_mut().filter(|probe| probe.seen == Seen::Lost) {
            probe.seen = Seen::Unreachable;
        }
        assert_eq!(read(&history).verdicts["server-1.dc1"], None);
    }

    #[test]
    fn an_answer_that_was_asked_for_before_the_restart_is_not_the_first_one_back() {
        let mut history = sample::history();
        let back = history.operations.iter_mut().find(|op| op.end == ms(20_200)).unwrap();
        back.start = history.marks.restarted.saturating_sub(ms(1));
        let dc1 = Datacenter::new("dc1").unwrap();
        assert_eq!(read(&history).answers_back[&dc1], None);
    }

    #[test]
    fn seconds_count_what_ended_in_them() {
        let rows = seconds(&sample::history());
        let first = rows.iter().find(|row| row.second == -1).unwrap();
        assert_eq!(first.across["dc2"], Counts { answers: 1, errors: 0 });
        let second = rows.iter().find(|row| row.second == 1).unwrap();
        assert_eq!(second.across["dc2"], Counts { answers: 0, errors: 1 });
    }
}
