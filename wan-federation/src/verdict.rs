//! What is to be held of another datacenter, judged from what the servers of the own one see.
//!
//! Each server of the own datacenter is an observer: it has a path to each server of the other
//! ones, and tells its fellow servers what it sees ([`crate::sight`]). A server is *down* when
//! [`OBSERVERS_MIN`] observers see it down and none sees it up. From there:
//!
//! ```text
//!                 all its servers are down
//!   Healthy <--> Degraded ------------------> Lost
//!      ^            ^                           |
//!      +------------+---------------------------+
//!        one is up for RETURN_MIN and knows a leader,
//!        or is up for RETURN_LEADERLESS_MIN without one
//! ```
//!
//! A single observer's loss of paths is never `Lost`: its own link may be the broken one. It
//! decides alone only when it hears no other observer, which means that it is the last server of
//! its datacenter or cut off from everything; then nothing can be reached anyway.
//!
//! The evidence says what is seen now, as long as a verdict is held: it changes without the verdict.
//!
//! [`Judge::judge`] is a function of values and of what was held before. It fails towards
//! calling a lost datacenter reachable: then requests end by their own bounds.

use std::{collections::BTreeMap, fmt, time::Duration};

use topology::NodeName;

/// Observers that must agree before a server is down, if there are as many.
pub const OBSERVERS_MIN: usize = 2;

/// How long a path must be down to count: connections are replaced in less.
pub const DOWN_MIN: Duration = Duration::from_millis(400);

/// How long nobody may know a leader before it is held against the datacenter: an election takes
/// less.
pub const LEADERLESS_MIN: Duration = Duration::from_secs(2);

/// How long some servers must be down before that is held against the datacenter: when it is lost,
/// all of them are within that time.
pub const PARTIAL_MIN: Duration = Duration::from_secs(1);

/// How long a server must stay up before its datacenter is no longer lost, or no longer degraded.
pub const RETURN_MIN: Duration = Duration::from_secs(1);

/// The same when no server says that it knows a leader: stale reads can be answered there.
pub const RETURN_LEADERLESS_MIN: Duration = Duration::from_secs(5);

/// What a datacenter is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// All its servers can be reached and it has a leader.
    Healthy,
    /// It can be reached, but not as it should be.
    Degraded(Degradation),
    /// None of its servers can be reached.
    Lost,
    /// All its servers said that they left.
    Left,
}

/// What is wrong with a datacenter that can still be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Degradation {
    /// Nobody has had a path to it yet.
    Unseen,
    /// Some of its servers can't be reached.
    Partial,
    /// None of the servers that can be reached knows a leader.
    Leaderless,
}

impl Health {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Health::Healthy,
        Health::Degraded(Degradation::Unseen),
        Health::Degraded(Degradation::Partial),
        Health::Degraded(Degradation::Leaderless),
        Health::Lost,
        Health::Left,
    ];

    /// Returns the name that logs, metrics and tables have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Degraded(Degradation::Unseen) => "unseen",
            Health::Degraded(Degradation::Partial) => "partial",
            Health::Degraded(Degradation::Leaderless) => "leaderless",
            Health::Lost => "lost",
            Health::Left => "left",
        }
    }

    /// Returns the health of this name; `None` for one that a later version may know.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.as_str() == name)
    }

    /// Tells whether there is any use in sending a request there.
    pub fn takes_requests(self) -> bool {
        match self {
            Health::Healthy | Health::Degraded(_) => true,
            Health::Lost | Health::Left => false,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a datacenter is held for, since when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it is held for.
    pub health: Health,
    /// When that was decided, on the clock that [`Judge::judge`] is called with.
    pub since: Duration,
    /// What is seen by whom, in a sentence.
    pub evidence: String,
}

/// What an observer sees of the path to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// It is heard.
    Up,
    /// It is not, although it was or should have been.
    Down,
    /// It is too early to say.
    Unknown,
}

/// What one observer sees of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The path to it.
    pub path: Path,
    /// For how long the path has been so.
    pub age: Duration,
    /// Whether the server says that it knows a leader; `None` when it said nothing.
    pub leader_known: Option<bool>,
    /// Why the path is down; empty when it isn't.
    pub reason: String,
}

/// What is known of one server of the datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Whether it said that it leaves.
    pub left: bool,
    /// What each observer that was heard of lately sees of it.
    pub seen: BTreeMap<NodeName, Seen>,
}

/// What is known of a datacenter at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// How many observers there are now, the judge's own server included.
    pub observers: usize,
    /// The datacenter's servers by name.
    pub servers: BTreeMap<NodeName, Server>,
}

/// Judges one datacenter from moment to moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    verdict: Verdict,
    /// Since when no server that is up knows a leader.
    leaderless: Option<Duration>,
    /// Since when some of its servers have been down.
    partial: Option<Duration>,
    /// Since when nothing has spoken against calling the datacenter healthy.
    well: Option<Duration>,
}

impl Judge {
    /// Starts with a datacenter that was heard of just now.
    pub fn new(now: Duration) -> Self {
        let verdict = Verdict {
            health: Health::Degraded(Degradation::Unseen),
            since: now,
            evidence: "no path yet".to_owned(),
        };
        Self { verdict, leaderless: None, partial: None, well: None }
    }

    /// Returns what is held now.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Takes in what is known now; returns what was held before when the health changed.
    pub fn judge(&mut self, now: Duration, view: &View) -> Option<Verdict> {
        let tally = Tally::of(view);
        let leaderless_for = self.follow_leader(now, &tally);
        let health = match tally.health() {
            Health::Left => Health::Left,
            Health::Lost => Health::Lost,
            _ if self.verdict.health == Health::Lost && !tally.returned() => Health::Lost,
            _ if leaderless_for > LEADERLESS_MIN => Health::Degraded(Degradation::Leaderless),
            Health::Healthy => self.recovered(now),
            Health::Degraded(Degradation::Partial) => self.worsened(now),
            Health::Degraded(degradation) => Health::Degraded(degradation),
        };
        if tally.health() != Health::Degraded(Degradation::Partial) {
            self.partial = None;
        }
        if tally.health() != Health::Healthy || tally.leader_known == Some(false) {
            self.well = None;
        }
        let evidence = tally.evidence(health);
        if health == self.verdict.health {
            self.verdict.evidence = evidence;
            return None;
        }
        let verdict = Verdict { health, since: now, evidence };
        Some(std::mem::replace(&mut self.verdict, verdict))
    }

    /// Returns for how long nobody has known a leader.
    fn follow_leader(&mut self, now: Duration, tally: &Tally<'_>) -> Duration {
        match tally.leader_known {
            Some(false) => now.saturating_sub(*self.leaderless.get_or_insert(now)),
            Some(true) | None => {
                self.leaderless = None;
                Duration::ZERO
            }
        }
    }

    /// Decides on a datacenter some of whose servers are down: the others may follow, and it is lost.
    fn worsened(&mut self, now: Duration) -> Health {
        let down_for = now.saturating_sub(*self.partial.get_or_insert(now));
        match self.verdict.health {
            Health::Healthy | Health::Degraded(Degradation::Unseen | Degradation::Leaderless)
                if down_for < PARTIAL_MIN =>
            {
                self.verdict.health
            }
            _ => Health::Degraded(Degradation::Partial),
        }
    }

    /// Decides on a datacenter with nothing wrong: one that was degraded has to stay well first.
    fn recovered(&mut self, now: Duration) -> Health {
        let well_for = now.saturating_sub(*self.well.get_or_insert(now));
        match self.verdict.health {
            Health::Degraded(Degradation::Partial | Degradation::Leaderless)
                if well_for < RETURN_MIN =>
            {
                self.verdict.health
            }
            _ => Health::Healthy,
        }
    }
}

/// What the observers agree on for one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Up,
    Down,
    Disputed,
    Unknown,
}

/// What the observers agree on for all servers that did not leave.
struct Tally<'a> {
    fates: Vec<(&'a NodeName, &'a Server, Fate)>,
    left: usize,
    leader_known: Option<bool>,
}

impl<'a> Tally<'a> {
    fn of(view: &'a View) -> Self {
        let needed = view.observers.clamp(1, OBSERVERS_MIN);
        let present = || view.servers.iter().filter(|(_, server)| !server.left);
        let words = || {
            present()
                .flat_map(|(_, server)| server.seen.values())
                .filter(|seen| seen.path == Path::Up)
                .filter_map(|seen| seen.leader_known)
        };
        Self {
            fates: present().map(|(name, server)| (name, server, fate(server, needed))).collect(),
            left: view.servers.len() - present().count(),
            leader_known: words().max(),
        }
    }

    fn all(&self, fate: Fate) -> bool {
        self.fates.iter().all(|(_, _, is)| *is == fate)
    }

    fn up(&self) -> usize {
        self.fates.iter().filter(|(_, _, fate)| *fate == Fate::Up).count()
    }

    /// What to hold of the datacenter if nothing had been held before.
    fn health(&self) -> Health {
        if self.fates.is_empty() {
            return if self.left > 0 {
                Health::Left
            } else {
                Health::Degraded(Degradation::Unseen)
            };
        }
        if self.all(Fate::Down) {
            return Health::Lost;
        }
        if self.all(Fate::Unknown) {
            return Health::Degraded(Degradation::Unseen);
        }
        if self.fates.iter().any(|(_, _, fate)| matches!(fate, Fate::Down | Fate::Disputed)) {
            return Health::Degraded(Degradation::Partial);
        }
        Health::Healthy
    }

    /// Whether a lost datacenter may be called reachable again.
    fn returned(&self) -> bool {
        let needed =
            if self.leader_known == Some(true) { RETURN_MIN } else { RETURN_LEADERLESS_MIN };
        self.fates
            .iter()
            .flat_map(|(_, server, _)| server.seen.values())
            .any(|seen| seen.path == Path::Up && seen.age >= needed)
    }

    fn evidence(&self, health: Health) -> String {
        let total = self.fates.len();
        match health {
            Health::Left => format!("all {} servers left", self.left),
            Health::Degraded(Degradation::Unseen) => "no path yet".to_owned(),
            Health::Healthy => format!("{} of {total} servers up", self.up()),
            Health::Degraded(Degradation::Leaderless) if self.leader_known == Some(true) => {
                format!("{} of {total} servers up, a leader is known again", self.up())
            }
            Health::Degraded(Degradation::Leaderless) => {
                format!("{} of {total} servers up, none knows a leader", self.up())
            }
            Health::Lost | Health::Degraded(Degradation::Partial) if self.up() == total => {
                format!("{total} of {total} servers up again, not for long")
            }
            Health::Lost | Health::Degraded(Degradation::Partial) => {
                let down: Vec<String> = self
                    .fates
                    .iter()
                    .filter(|(_, _, fate)| matches!(fate, Fate::Down | Fate::Disputed))
                    .map(|(name, server, fate)| complaint(name, server, *fate))
                    .collect();
                format!("{} of {total} servers down: {}", down.len(), down.join("; "))
            }
        }
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
            reason = &seen.reason;
        }
    }
    let doubt = if fate == Fate::Disputed { ", not by all" } else { "" };
    let why = if reason.is_empty() { "no path" } else { reason };
    format!("{name} ({why}; seen by {}{doubt})", observers.join(", "))
}

#[cfg(test)]
mod tests;
