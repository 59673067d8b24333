//! What of all that a server watches is worth an event of its timeline: changes, told once.
//!
//! A function of values and of what was told before: paths and words, verdicts that changed, gates in;
//! [`Note`]s out. What lasts shorter than between two looks is not told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use topology::{Datacenter, NodeName};

use crate::{
    gate::{Gate, Gates},
    share::Key,
    table::{Remote, Table},
    timeline::{Kind, Note},
    verdict::{DOWN_MIN, Health, Path, Seen},
    watch::Change,
};

/// How long no detour must have been taken for them to be over.
pub(crate) const DETOURS_OVER: Duration = Duration::from_secs(10);

/// Remembers what was told.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    down: BTreeSet<Key>,
    sites: BTreeMap<Datacenter, Site>,
    home: Detours,
}

#[derive(Debug, Default)]
struct Site {
    leader: Option<NodeName>,
    broken: bool,
    detours: Detours,
}

/// The detours to one datacenter.
#[derive(Debug, Default)]
struct Detours {
    /// How many there have been.
    taken: u64,
    /// When one was taken last, while they go on.
    last: Option<Duration>,
}

impl Notice {
    /// Returns what there is to tell of other datacenters. `seen` is what this server itself sees of their servers.
    pub(crate) fn step(
        &mut self,
        now: Duration,
        seen: &BTreeMap<Key, Seen>,
        changes: &[Change],
        table: &Table,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        self.paths(seen, &mut notes);
        changes.iter().for_each(|change| verdict(change, &mut notes));
        self.sites.retain(|dc, _| table.remotes.contains_key(dc));
        for (dc, remote) in &table.remotes {
            let site = self.sites.entry(dc.clone()).or_default();
            site.leader(dc, remote, &mut notes);
            site.gates(now, dc, &remote.gates, &mut notes);
        }
        notes
    }

    /// Returns what there is to tell of the ways to the own leader through other datacenters.
    pub(crate) fn home(&mut self, now: Duration, dc: &Datacenter, gate: &Gate) -> Option<Note> {
        let text = self.home.step(now, gate.entered(), Detours::HOME)?;
        Some(Note { about: dc.clone(), kind: Kind::Effect, text: text.to_owned() })
    }

    fn paths(&mut self, seen: &BTreeMap<Key, Seen>, notes: &mut Vec<Note>) {
        self.down.retain(|key| seen.contains_key(key));
        for ((dc, name), seen) in seen {
            let key = (dc.clone(), name.clone());
            let text = match seen.path {
                Path::Down if seen.age >= DOWN_MIN && self.down.insert(key.clone()) => {
                    let why = if seen.reason.is_empty() { "no path" } else { &seen.reason };
                    format!("{name} can't be reached: {why}")
                }
                Path::Up if self.down.remove(&key) => format!("{name} can be reached again"),
                Path::Down | Path::Up | Path::Unknown => continue,
            };
            notes.push(Note { about: dc.clone(), kind: Kind::Observation, text });
        }
    }
}

impl Site {
    fn leader(&mut self, dc: &Datacenter, remote: &Remote, notes: &mut Vec<Note>) {
        let Some((name, term)) = leader(remote) else { return };
        if self.leader.as_ref() != Some(name) {
            self.leader = Some(name.clone());
            let text = format!("{name} leads, in term {term}");
            notes.push(Note { about: dc.clone(), kind: Kind::Observation, text });
        }
    }

    fn gates(&mut self, now: Duration, dc: &Datacenter, gates: &Gates, notes: &mut Vec<Note>) {
        let broken = gates.direct.is_open();
        if std::mem::replace(&mut self.broken, broken) != broken {
            let text = match broken {
                true => "the breaker opened: the last requests all failed, most are turned away",
                false => "the breaker closed: requests go there again",
            };
            notes.push(Note { about: dc.clone(), kind: Kind::Effect, text: text.to_owned() });
        }
        if let Some(text) = self.detours.step(now, gates.detours.entered(), Detours::AWAY) {
            notes.push(Note { about: dc.clone(), kind: Kind::Effect, text: text.to_owned() });
        }
    }
}

impl Detours {
    const AWAY: [&str; 2] = [
        "requests try to go there by way of other datacenters",
        "no request has gone there by way of another datacenter for 10 s",
    ];
    const HOME: [&str; 2] = [
        "requests for the own leader try to go by way of other datacenters",
        "no request for the own leader has gone by way of another datacenter for 10 s",
    ];

    /// Takes in how many there have been; returns the first text when they begin, the second when
    /// they are over.
    fn step(
        &mut self,
        now: Duration,
        taken: u64,
        [begun, over]: [&'static str; 2],
    ) -> Option<&'static str> {
        if std::mem::replace(&mut self.taken, taken) != taken {
            return self.last.replace(now).is_none().then_some(begun);
        }
        let is_over = now.saturating_sub(self.last?) >= DETOURS_OVER;
        is_over.then(|| {
            self.last = None;
            over
        })
    }
}

/// Returns the server that says it leads its datacenter, and its term; of several the one in the latest term.
pub(crate) fn leader(remote: &Remote) -> Option<(&NodeName, u64)> {
    let leads = |server: &&crate::table::Server| server.word.is_some_and(|word| word.is_leader);
    let leaders = remote.servers.iter().filter(leads);
    leaders
        .map(|server| (&server.name, server.word.map_or(0, |word| word.term)))
        .max_by_key(|(_, term)| *term)
}

fn verdict(change: &Change, notes: &mut Vec<Note>) {
    let Change { dc, before, lasted, verdict } = change;
    let (after, evidence) = (verdict.health, &verdict.evidence);
    let is_recovery = after == Health::Healthy && before.is_bad();
    let text = match is_recovery {
        true => format!("{before} -> {after} after {:.1}s: {evidence}", lasted.as_secs_f64()),
        false => format!("{before} -> {after}: {evidence}"),
    };
    let kind = if is_recovery { Kind::Recovery } else { Kind::Verdict };
    notes.push(Note { about: dc.clone(), kind, text });
    let text = match (before.takes_requests(), after.takes_requests()) {
        (true, false) => "requests are no longer sent there",
        (false, true) => "requests are sent there again",
        (true, true) | (false, false) => return,
    };
    notes.push(Note { about: dc.clone(), kind: Kind::Effect, text: text.to_owned() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        breaker::{FAILURES_MAX, Outcome},
        demand::Demand,
        routes::Reach,
        verdict::Verdict,
        word::Word,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn dc2() -> Datacenter {
        "dc2".parse().unwrap()
    }

    fn texts(notes: &[Note]) -> Vec<String> {
        notes.iter().map(|note| format!("{}: {}", note.kind.as_str(), note.text)).collect()
    }

    fn seen(path: Path, reason: &str) -> BTreeMap<Key, Seen> {
        let seen = Seen { path, age: SECOND, reason: reason.to_owned(), ..Seen::NOTHING };
        BTreeMap::from([((dc2(), "b1".parse().unwrap()), seen)])
    }

    fn change(before: Health, after: Health) -> Change {
        let verdict = Verdict { health: after, since: SECOND * 9, evidence: "because".to_owned() };
        Change { dc: dc2(), before, lasted: SECOND * 8, verdict }
    }

    /// A table of one datacenter whose servers say that they lead, in these terms.
    fn table(gates: &Gates, leaders: &[(&str, u64)]) -> Table {
        let verdict = change(Health::Lost, Health::Healthy).verdict;
        let server = |(name, term): &(&str, u64)| crate::table::Server {
            dc: dc2(),
            name: name.parse().unwrap(),
            addr: "127.0.0.1:1".parse().unwrap(),
            rtt: None,
            word: Some(Word { is_leader: true, term: *term, ..Word::default() }),
            reach: tokio::sync::watch::channel(Reach::Live).1,
            reason: String::new(),
            demand: Demand::new(std::sync::Arc::default()),
        };
        let servers = leaders.iter().map(server).collect();
        let remote = Remote { verdict, servers, gates: gates.clone() };
        Table { remotes: BTreeMap::from([(dc2(), remote)]), ..Table::default() }
    }

    #[test]
    fn a_path_that_is_lost_is_told_once_with_its_reason_and_once_when_it_is_back() {
        let mut notice = Notice::default();
        let mut step =
            |path, reason| texts(&notice.step(SECOND, &seen(path, reason), &[], &Table::default()));
        assert_eq!(step(Path::Up, ""), [""; 0]);
        let down = ["observation: b1 can't be reached: no packet for 1.9s"];
        assert_eq!(step(Path::Down, "no packet for 1.9s"), down);
        assert_eq!(step(Path::Down, "another reason"), [""; 0]);
        assert_eq!(step(Path::Up, ""), ["observation: b1 can be reached again"]);
        assert_eq!(step(Path::Up, ""), [""; 0]);
    }

    #[test]
    fn a_connection_that_is_replaced_is_not_told() {
        let mut notice = Notice::default();
        let mut seen = seen(Path::Down, "");
        seen.values_mut().for_each(|seen| seen.age = DOWN_MIN / 2);
        assert_eq!(notice.step(SECOND, &seen, &[], &Table::default()), []);
    }

    #[test]
    fn a_verdict_comes_with_its_evidence_and_its_effect_and_a_recovery_with_its_time() {
        let mut notice = Notice::default();
        let mut step = |before, after| {
            let changes = [change(before, after)];
            texts(&notice.step(SECOND, &BTreeMap::new(), &changes, &Table::default()))
        };
        let lost =
            ["verdict: healthy -> lost: because", "effect: requests are no longer sent there"];
        assert_eq!(step(Health::Healthy, Health::Lost), lost);
        let back = [
            "recovery: lost -> healthy after 8.0s: because",
            "effect: requests are sent there again",
        ];
        assert_eq!(step(Health::Lost, Health::Healthy), back);
        let unseen = Health::Degraded(crate::verdict::Degradation::Unseen);
        assert_eq!(step(unseen, Health::Healthy), ["verdict: unseen -> healthy: because"]);
    }

    #[tokio::test(start_paused = true)]
    async fn breakers_are_told_when_they_open_and_close() {
        let (mut notice, gates) = (Notice::default(), Gates::default());
        let mut step = || texts(&notice.step(SECOND, &BTreeMap::new(), &[], &table(&gates, &[])));
        assert_eq!(step(), [""; 0]);
        for _ in 0..FAILURES_MAX {
            gates.direct.enter().unwrap().finish(Outcome::Failed);
        }
        assert!(step()[0].starts_with("effect: the breaker opened"));
        assert_eq!(step(), [""; 0]);
        gates.reset();
        assert!(step()[0].starts_with("effect: the breaker closed"));
    }

    #[tokio::test(start_paused = true)]
    async fn detours_begin_with_the_first_and_are_over_after_a_while() {
        let (mut notice, gates) = (Notice::default(), Gates::default());
        let mut step = |at: u64| {
            let now = SECOND * at as u32;
            texts(&notice.step(now, &BTreeMap::new(), &[], &table(&gates, &[])))
        };
        assert_eq!(step(0), [""; 0]);
        drop(gates.detours.enter().unwrap());
        assert!(step(1)[0].starts_with("effect: requests try to go there by way"));
        drop(gates.detours.enter().unwrap());
        assert_eq!(step(8), [""; 0]);
        assert_eq!(step(17), [""; 0]);
        assert!(step(18)[0].starts_with("effect: no request has gone there by way"));
        assert_eq!(step(99), [""; 0]);
    }

    #[test]
    fn the_leader_of_the_latest_term_is_told_when_it_is_another() {
        let (mut notice, gates) = (Notice::default(), Gates::default());
        let mut step = |leaders: &[(&str, u64)]| {
            texts(&notice.step(SECOND, &BTreeMap::new(), &[], &table(&gates, leaders)))
        };
        assert_eq!(step(&[("b1", 3)]), ["observation: b1 leads, in term 3"]);
        assert_eq!(step(&[]), [""; 0]);
        assert_eq!(step(&[("b1", 3)]), [""; 0]);
        assert_eq!(step(&[("b1", 3), ("b2", 4)]), ["observation: b2 leads, in term 4"]);
    }
}
