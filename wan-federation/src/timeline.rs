//! What happened between the datacenters, as one server saw it: what was seen, what was made of it, what that did,
//! and when it was over.
//!
//! ```text
//!   12:00:07.412  dc1 a2  observation  dc2  b1 can't be reached: no packet for 1.9s
//!   12:00:07.903  dc1 a1  verdict      dc2  healthy -> lost: 3 of 3 servers down: ...
//!   12:00:07.903  dc1 a1  effect       dc2  requests are no longer sent there
//!   12:00:31.077  dc1 a1  recovery     dc2  lost -> healthy after 23.2s: 3 of 3 servers up
//! ```
//!
//! Each server keeps the last [`EVENTS_MAX`] events in memory. They are stamped with the time of day that
//! the server holds it for, so that those of several servers can be put in one order ([`merge`]), which is as good as their
//! clocks agree. A path that flaps makes many observations: they have half of the room at most, so that they never
//! push out the verdicts.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
};

use serde::{Deserialize, Serialize};
use topology::{Datacenter, NodeName};

/// Most events that a server keeps: those of some hundred losses and returns, in half a megabyte.
pub const EVENTS_MAX: usize = 1024;

/// Most observations among them.
pub const OBSERVATIONS_MAX: usize = EVENTS_MAX / 2;

/// Longest text of an event, in bytes: the evidence of a datacenter with a dozen servers.
pub const TEXT_LEN_MAX: usize = 1024;

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The path to a server came or went, or another server leads.
    Observation,
    /// Something else is held of the datacenter.
    Verdict,
    /// A verdict or failing requests changed what becomes of requests.
    Effect,
    /// The datacenter is healthy again.
    Recovery,
    /// A server joined, left or failed, by gossip.
    Member,
    /// A datacenter was removed from the federation, or may come back.
    Removal,
    /// A server is refused for its cluster or its datacenter, or not any more.
    Refusal,
}

impl Kind {
    /// Returns the name that a kind has in answers and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Observation => "observation",
            Kind::Verdict => "verdict",
            Kind::Effect => "effect",
            Kind::Recovery => "recovery",
            Kind::Member => "member",
            Kind::Removal => "removal",
            Kind::Refusal => "refusal",
        }
    }
}

/// What there is to tell, without when and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The datacenter that it is about.
    pub about: Datacenter,
    /// What it is.
    pub kind: Kind,
    /// A sentence without a full stop, cut at [`TEXT_LEN_MAX`].
    pub text: String,
}

/// Something that a server saw, decided or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Event {
    /// When, in milliseconds since 1970, by the server's clock.
    pub time_ms: u64,
    /// The server's datacenter.
    pub datacenter: Datacenter,
    /// The server.
    pub server: NodeName,
    /// Tells the server's events apart; larger for each that follows, also after a restart.
    pub sequence: u64,
    /// The datacenter that is told of.
    pub about: Datacenter,
    /// One of the names of [`Kind`], or one that a later version has.
    pub kind: Cow<'static, str>,
    /// What happened, in a sentence.
    pub text: String,
}

/// The events of one server, the oldest first.
#[derive(Debug)]
pub struct Timeline {
    dc: Datacenter,
    server: NodeName,
    next: u64,
    events: VecDeque<Event>,
    observations: usize,
}

impl Timeline {
    /// Starts without events. `first` is the first event's number: larger at every start of the server, by more
    /// than the events of a start, such as milliseconds since 1970.
    pub fn new(dc: Datacenter, server: NodeName, first: u64) -> Self {
        Self { dc, server, next: first.max(1), events: VecDeque::new(), observations: 0 }
    }

    /// Keeps what happened at `now_ms`, in milliseconds since 1970.
    pub fn note(&mut self, now_ms: u64, note: Note) {
        let Note { about, kind, mut text } = note;
        text.truncate(text.floor_char_boundary(TEXT_LEN_MAX));
        let is_observation = kind == Kind::Observation;
        match is_observation && self.observations >= OBSERVATIONS_MAX {
            true => self.forget_observation(),
            false if self.events.len() >= EVENTS_MAX => self.forget_oldest(),
            false => {}
        }
        self.observations += usize::from(is_observation);
        self.events.push_back(Event {
            time_ms: now_ms,
            datacenter: self.dc.clone(),
            server: self.server.clone(),
            sequence: self.next,
            about,
            kind: kind.as_str().into(),
            text,
        });
        self.next += 1;
    }

    /// Returns what is kept, the oldest first.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &Event> {
        self.events.iter()
    }

    fn forget_oldest(&mut self) {
        let gone = self.events.pop_front();
        self.observations -= usize::from(gone.is_some_and(|event| is_observation(&event)));
    }

    fn forget_observation(&mut self) {
        if let Some(at) = self.events.iter().position(is_observation) {
            self.events.remove(at);
            self.observations -= 1;
        }
    }
}

fn is_observation(event: &Event) -> bool {
    event.kind == Kind::Observation.as_str()
}

/// Puts the events of several servers in one order and leaves out what is told twice: of one server in the order in which
/// they happened, of several by the time of day, whatever the order that they are given in.
pub fn merge(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut of_server: BTreeMap<(Datacenter, NodeName), BTreeMap<u64, Event>> = BTreeMap::new();
    for event in events {
        let server = (event.datacenter.clone(), event.server.clone());
        of_server.entry(server).or_default().insert(event.sequence, event);
    }
    let mut placed = Vec::new();
    for (server, events) in of_server {
        // A clock that is set back must not turn the order of a server's own events around.
        let mut latest = 0;
        for (sequence, event) in events {
            latest = event.time_ms.max(latest);
            placed.push((latest, server.clone(), sequence, event));
        }
    }
    placed.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
    placed.into_iter().map(|(.., event)| event).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(kind: Kind, text: &str) -> Note {
        Note { about: "dc2".parse().unwrap(), kind, text: text.to_owned() }
    }

    fn timeline(server: &str) -> Timeline {
        Timeline::new("dc1".parse().unwrap(), server.parse().unwrap(), 100)
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let mut timeline = timeline("a1");
        for at in 0..EVENTS_MAX as u64 + 10 {
            timeline.note(at, note(Kind::Verdict, "x"));
        }
        assert_eq!(timeline.events().len(), EVENTS_MAX);
        assert_eq!(timeline.events().next().unwrap().time_ms, 10);
        assert_eq!(timeline.events().last().unwrap().sequence, 100 + EVENTS_MAX as u64 + 9);
    }

    #[test]
    fn observations_do_not_push_out_verdicts() {
        let mut timeline = timeline("a1");
        timeline.note(0, note(Kind::Verdict, "the verdict"));
        for at in 0..3 * EVENTS_MAX as u64 {
            timeline.note(at, note(Kind::Observation, "it flaps"));
        }
        assert_eq!(timeline.events().len(), OBSERVATIONS_MAX + 1);
        assert_eq!(timeline.events().next().unwrap().text, "the verdict");
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let mut timeline = timeline("a1");
        timeline.note(0, note(Kind::Verdict, &"ü".repeat(TEXT_LEN_MAX)));
        assert_eq!(timeline.events().next().unwrap().text, "ü".repeat(TEXT_LEN_MAX / 2));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_turn_a_server_s_events_around() {
        let mut timeline = timeline("a1");
        for (at, text) in [(5, "first"), (3, "second"), (4, "third")] {
            timeline.note(at, note(Kind::Verdict, text));
        }
        let merged = merge(timeline.events().cloned());
        let texts: Vec<&str> = merged.iter().map(|event| &*event.text).collect();
        assert_eq!(texts, ["first", "second", "third"]);
    }

    /// The events of three servers, whose clocks jump.
    fn histories() -> impl Strategy<Value = Vec<Vec<Event>>> {
        let times = || proptest::collection::vec(0..50_u64, 0..20);
        [times(), times(), times()].prop_map(|all| {
            let one = |(server, times): (&str, Vec<u64>)| {
                let mut timeline = timeline(server);
                times.into_iter().for_each(|at| timeline.note(at, note(Kind::Verdict, "x")));
                timeline.events().cloned().collect()
            };
            ["a1", "a2", "b1"].into_iter().zip(all).map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn merging_depends_on_neither_order_nor_repetition(
            histories in histories(), shuffle in any::<proptest::sample::Index>(),
        ) {
            let all: Vec<Event> = histories.concat();
            let merged = merge(all.clone());
            let mut turned = [all.clone(), all.clone()].concat();
            let at = shuffle.index(turned.len() + 1).min(turned.len());
            turned.rotate_left(at);
            turned.reverse();
            prop_assert_eq!(&merge(turned), &merged);
            prop_assert_eq!(merged.len(), all.len());
            prop_assert_eq!(&merge(merged.clone()), &merged);
            for history in &histories {
                let own: Vec<&Event> =
                    merged.iter().filter(|event| history.contains(event)).collect();
                prop_assert!(own.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
            }
        }

        #[test]
        fn where_clocks_go_forward_the_order_is_that_of_time(times in proptest::collection::vec((0..3_usize, 0..9_u64), 0..40)) {
            let mut lines = ["a1", "a2", "b1"].map(timeline);
            let mut now = 0;
            for (server, later) in times {
                now += later;
                lines[server].note(now, note(Kind::Verdict, "x"));
            }
            let merged = merge(lines.iter().flat_map(Timeline::events).cloned());
            prop_assert!(merged.windows(2).all(|pair| pair[0].time_ms <= pair[1].time_ms));
        }
    }
}
