//! What the observers agree on at one moment, and how that is put into words.

use topology::NodeName;

use super::{
    DOWN_MIN, Degradation, Health, LOSSY_BEATS_MIN, LOSSY_END, LOSSY_MIN, OBSERVERS_MIN, Path,
    RETURN_LEADERLESS_MIN, RETURN_MIN, Seen, Server, View,
};

/// What the observers agree on for one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Up,
    Down,
    Disputed,
    Unknown,
}

/// What the observers agree on for all servers that did not leave.
pub(super) struct Tally<'a> {
    fates: Vec<(&'a NodeName, &'a Server, Fate)>,
    left: usize,
    /// Whether any server that is up knows a leader; `None` when none said anything of it.
    pub(super) leader_known: Option<bool>,
    beats: u32,
    beats_lost: u32,
}

impl<'a> Tally<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let needed = view.observers.clamp(1, OBSERVERS_MIN);
        let present = || view.servers.iter().filter(|(_, server)| !server.left);
        let up = || {
            present()
                .flat_map(|(_, server)| server.seen.values())
                .filter(|seen| seen.path == Path::Up)
        };
        Self {
            fates: present().map(|(name, server)| (name, server, fate(server, needed))).collect(),
            left: view.servers.len() - present().count(),
            leader_known: up().filter_map(|seen| seen.word).map(|word| word.leader_known).max(),
            beats: up().map(|seen| seen.beats).sum(),
            beats_lost: up().map(|seen| seen.beats_lost).sum(),
        }
    }

    /// Returns what to hold of the datacenter if nothing had been held before.
    pub(super) fn health(&self) -> Health {
        if self.fates.is_empty() {
            return if self.left > 0 {
                Health::Left
            } else {
                Health::Degraded(Degradation::Unseen)
            };
        }
        if self.all(Fate::Down) {
            return match self.knocking().next() {
                Some(_) => Health::Degraded(Degradation::OneWay),
                None => Health::Lost,
            };
        }
        if self.all(Fate::Unknown) {
            return Health::Degraded(Degradation::Unseen);
        }
        if self.fates.iter().any(|(_, _, fate)| matches!(fate, Fate::Down | Fate::Disputed)) {
            return Health::Degraded(Degradation::Partial);
        }
        Health::Healthy
    }

    /// Tells whether a lost datacenter may be called reachable again.
    pub(super) fn returned(&self) -> bool {
        let needed =
            if self.leader_known == Some(true) { RETURN_MIN } else { RETURN_LEADERLESS_MIN };
        self.fates
            .iter()
            .flat_map(|(_, server, _)| server.seen.values())
            .any(|seen| seen.path == Path::Up && seen.age >= needed)
    }

    /// Tells whether the paths lose too much; once they did, they have to get better than just so.
    pub(super) fn is_lossy(&self, was: bool) -> bool {
        let bound = if was { LOSSY_END } else { LOSSY_MIN };
        self.beats >= LOSSY_BEATS_MIN && self.loss() >= bound
    }

    /// Says what is seen by whom, as grounds for a health.
    pub(super) fn evidence(&self, health: Health) -> String {
        let (up, total) = (self.up(), self.fates.len());
        match health {
            Health::Left => format!("all {} servers left", self.left),
            Health::Degraded(Degradation::Unseen) => "no path yet".to_owned(),
            Health::Healthy => format!("{up} of {total} servers up"),
            Health::Degraded(Degradation::Lossy) => format!(
                "{up} of {total} servers up, {} % of {} heartbeats lost",
                self.loss(),
                self.beats
            ),
            Health::Degraded(Degradation::Leaderless) if self.leader_known == Some(true) => {
                format!("{up} of {total} servers up, a leader is known again")
            }
            Health::Degraded(Degradation::Leaderless) => {
                format!("{up} of {total} servers up, none knows a leader")
            }
            Health::Lost | Health::Degraded(Degradation::Partial | Degradation::OneWay)
                if up == total =>
            {
                format!("{total} of {total} servers up again, not for long")
            }
            Health::Degraded(Degradation::OneWay) => {
                let heard: Vec<&str> = self.knocking().map(NodeName::as_str).collect();
                format!("{} heard but not reached; {}", heard.join(", "), self.complaints())
            }
            Health::Lost | Health::Degraded(Degradation::Partial) => self.complaints(),
        }
    }

    fn all(&self, fate: Fate) -> bool {
        self.fates.iter().all(|(_, _, is)| *is == fate)
    }

    fn up(&self) -> usize {
        self.fates.iter().filter(|(_, _, fate)| *fate == Fate::Up).count()
    }

    /// Returns the servers that try to connect.
    fn knocking(&self) -> impl Iterator<Item = &'a NodeName> {
        let knocks = |server: &Server| server.seen.values().any(|seen| seen.knocks);
        self.fates.iter().filter(move |(_, server, _)| knocks(server)).map(|(name, ..)| *name)
    }

    /// Returns the part of the heartbeats that was lost, in percent.
    fn loss(&self) -> u32 {
        (self.beats_lost * 100).checked_div(self.beats).unwrap_or(0)
    }

    fn complaints(&self) -> String {
        let down: Vec<String> = self
            .fates
            .iter()
            .filter(|(_, _, fate)| matches!(fate, Fate::Down | Fate::Disputed))
            .map(|(name, server, fate)| complaint(name, server, *fate))
            .collect();
        format!("{} of {} servers down: {}", down.len(), self.fates.len(), down.join("; "))
    }
}

/// Weighs what the observers see of one server.
fn fate(server: &Server, needed: usize) -> Fate {
    let count = |test: &dyn Fn(&Seen) -> bool| server.seen.values().filter(|s| test(s)).count();
    let down = count(&|seen| seen.path == Path::Down && seen.age >= DOWN_MIN);
    let up = count(&|seen| seen.path == Path::Up);
    let blinking = count(&|seen| seen.path == Path::Down && seen.age < DOWN_MIN);
    match (up, down) {
        (0, down) if down >= needed => Fate::Down,
        (0, 0) if blinking == 0 => Fate::Unknown,
        (_, 0) => Fate::Up,
        _ => Fate::Disputed,
    }
}

/// Says who sees a server down and why.
fn complaint(name: &NodeName, server: &Server, fate: Fate) -> String {
    let mut observers: Vec<&str> = Vec::new();
    let mut reason = "";
    for (observer, seen) in &server.seen {
        if seen.path == Path::Down {
            observers.push(observer.as_str());
            if !seen.reason.is_empty() {
                reason = &seen.reason;
            }
        }
    }
    let doubt = if fate == Fate::Disputed { ", not by all" } else { "" };
    let why = if reason.is_empty() { "no path" } else { reason };
    format!("{name} ({why}; seen by {}{doubt})", observers.join(", "))
}
