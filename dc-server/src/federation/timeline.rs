//! `/v1/federation/timeline`: the events of many servers in one order, and of whom they are not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use topology::{Datacenter, NodeName, Profile};
use wan_federation::timeline::{Event, merge};

/// Most events in an answer, the latest: those of four servers that have seen much, in two megabytes.
pub const SHOWN_MAX: usize = 4096;

/// The events of some servers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Gathered {
    /// The oldest first.
    pub events: Vec<Event>,
    /// The servers whose events these are.
    #[serde(default)]
    pub servers: Vec<Teller>,
    /// Those who did not answer.
    #[serde(default)]
    pub unreachable: Vec<Silent>,
}

/// A server that told its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Teller {
    /// Its datacenter.
    pub datacenter: Datacenter,
    /// Its name there.
    pub server: NodeName,
    /// The number of its latest event; 0 when it has none.
    pub sequence: u64,
}

/// A server or datacenter that did not tell its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Silent {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// The server; `None` for the whole datacenter.
    pub server: Option<NodeName>,
    /// Why not.
    pub reason: String,
}

impl Gathered {
    /// Holds the events of one server.
    pub fn of_server(me: &Profile, events: Vec<Event>) -> Self {
        let sequence = events.last().map_or(0, |event| event.sequence);
        let (datacenter, server) = (me.dc.clone(), me.name.clone());
        let servers = vec![Teller { datacenter, server, sequence }];
        Self { events, servers, unreachable: Vec::new() }
    }

    /// Holds nothing but who did not answer.
    pub fn silent(datacenter: Datacenter, server: Option<NodeName>, reason: String) -> Self {
        let unreachable = vec![Silent { datacenter, server, reason }];
        Self { unreachable, ..Self::default() }
    }

    /// Puts several together: the latest [`SHOWN_MAX`] events about a datacenter or all.
    pub fn merged(parts: Vec<Self>, about: Option<&Datacenter>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.events.extend(part.events);
            all.servers.extend(part.servers);
            all.unreachable.extend(part.unreachable);
        }
        let wanted = |event: &Event| about.is_none_or(|about| *about == event.about);
        let mut events = merge(all.events.into_iter().filter(wanted));
        events.drain(..events.len().saturating_sub(SHOWN_MAX));
        let key = |it: &Teller| (it.datacenter.clone(), it.server.clone());
        let servers: BTreeMap<_, _> = all.servers.into_iter().map(|it| (key(&it), it)).collect();
        let servers = servers.into_values().collect();
        all.unreachable.sort_by(|a, b| (&a.datacenter, &a.server).cmp(&(&b.datacenter, &b.server)));
        Self { events, servers, unreachable: all.unreachable }
    }

    /// Returns a number that differs whenever somebody has more to tell, or somebody else answers; never 0.
    pub fn index(&self) -> u64 {
        let sum = |sum: u64, teller: &Teller| sum.wrapping_add(teller.sequence);
        self.servers.iter().fold(0, sum).max(1)
    }
}

#[cfg(test)]
mod tests {
    use wan_federation::timeline::{Kind, Note, Timeline};

    use super::*;

    fn of(dc: &str, server: &str, times: &[u64]) -> Gathered {
        let (dc, server): (Datacenter, NodeName) = (dc.parse().unwrap(), server.parse().unwrap());
        let mut timeline = Timeline::new(dc.clone(), server.clone(), 50);
        for at in times {
            let about = if at % 2 == 0 { "dc2" } else { "dc3" };
            let (about, text) = (about.parse().unwrap(), at.to_string());
            timeline.note(*at, Note { about, kind: Kind::Verdict, text });
        }
        let events: Vec<Event> = timeline.events().cloned().collect();
        let sequence = events.last().map_or(0, |event| event.sequence);
        let servers = vec![Teller { datacenter: dc, server, sequence }];
        Gathered { events, servers, unreachable: Vec::new() }
    }

    fn times(gathered: &Gathered) -> Vec<u64> {
        gathered.events.iter().map(|event| event.time_ms).collect()
    }

    #[test]
    fn events_of_all_come_in_one_order_once() {
        let (one, two) = (of("dc1", "a1", &[1, 4]), of("dc2", "b1", &[2, 3]));
        let merged = Gathered::merged(vec![two.clone(), one.clone(), two], None);
        assert_eq!(times(&merged), [1, 2, 3, 4]);
        assert_eq!(merged.servers.len(), 2);
        assert_eq!(merged.index(), 51 + 51);
    }

    #[test]
    fn what_is_about_others_is_left_out_and_counts_for_the_index_all_the_same() {
        let about = "dc2".parse().unwrap();
        let merged = Gathered::merged(vec![of("dc1", "a1", &[1, 2, 4, 5])], Some(&about));
        assert_eq!(times(&merged), [2, 4]);
        assert_eq!(merged.index(), 53);
    }

    #[test]
    fn the_latest_are_shown_when_there_are_too_many() {
        let many: Vec<u64> = (0..1000).collect();
        let names = ["a1", "a2", "a3", "a4", "a5"];
        let all = names.map(|name| of("dc1", name, &many)).to_vec();
        let merged = Gathered::merged(all, None);
        assert_eq!(merged.events.len(), SHOWN_MAX);
        assert_eq!(merged.events.last().unwrap().time_ms, 999);
    }

    #[test]
    fn nobody_is_a_timeline_too() {
        let gone = Gathered::silent("dc2".parse().unwrap(), None, "lost".to_owned());
        let merged = Gathered::merged(vec![gone.clone()], None);
        assert_eq!((merged.index(), &merged), (1, &gone));
    }

    #[test]
    fn fields_that_a_later_version_adds_are_passed_over_and_missing_ones_are_empty() {
        let text = r#"{"Events":[{"TimeMs":7,"Datacenter":"dc1","Server":"a1","Sequence":9,
            "About":"dc2","Kind":"mood","Text":"fine","Colour":"blue"}],"More":1}"#;
        let read: Gathered = serde_json::from_str(text).unwrap();
        assert_eq!((read.events[0].time_ms, &*read.events[0].kind), (7, "mood"));
        assert!(read.servers.is_empty() && read.unreachable.is_empty());
    }
}
