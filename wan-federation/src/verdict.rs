//! What is to be held of another datacenter, judged from what the servers of the own one see.
//!
//! Each server of the own datacenter is an observer: it watches its share of the other ones' servers
//! ([`crate::share`]), and tells its fellow servers what it sees ([`crate::sight`]). A server is *down* when
//! [`OBSERVERS_MIN`] observers see it down, as far as there are as many, and none sees it up. From there:
//!
//! ```text
//!                 all its servers are down
//!   Healthy <--> Degraded ------------------> Lost, or one-way while it is heard all the same
//!      ^            ^                           |
//!      +------------+---------------------------+
//!        one is up for RETURN_MIN and knows a leader,
//!        or is up for RETURN_LEADERLESS_MIN without one
//! ```
//!
//! A single observer's loss of paths is never `Lost`: its own link may be the broken one. It
//! decides alone only when it hears no other observer, which means that it is the last server of
//! its datacenter or cut off from everything; then nothing can be reached anyway. Nor does loss on
//! all paths make a datacenter lost: it has to take every heartbeat for two seconds on each of them.
//!
//! What is wrong is held against a datacenter when it has lasted for a while, and forgiven when it has been
//! gone for a while: each bound is named below. Of several ills the worst is told. The
//! evidence says what is seen now, as long as a verdict is held: it changes without the verdict.
//!
//! [`judge::Judge::judge`] is a function of values and of what was held before. It fails towards
//! calling a lost datacenter reachable: then requests end by their own bounds.

pub(crate) mod judge;

mod tally;

use std::{collections::BTreeMap, fmt, time::Duration};

use topology::NodeName;

use crate::word::Word;

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

/// Loss of heartbeats from which on a datacenter is lossy, in percent: requests are felt to be slow
/// there. 2 % each way, which an ordinary WAN may have, are 4 % of heartbeats and their answers.
pub const LOSSY_MIN: u32 = 10;

/// Loss below which it no longer is.
pub const LOSSY_END: u32 = 5;

/// Heartbeats below which their loss says nothing: of 100 at 4 %, 10 are lost once in 200 times.
pub const LOSSY_BEATS_MIN: u32 = 100;

/// How long the loss must last: what was lost while something broke or was mended is over then.
pub const LOSSY_AFTER: Duration = Duration::from_secs(5);

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
    /// Its paths lose a good part of what is sent.
    Lossy,
    /// None of the servers that can be reached knows a leader.
    Leaderless,
    /// Its servers are heard, but no path to them can be had: one direction is broken.
    OneWay,
}

impl Health {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Health::Healthy,
        Health::Degraded(Degradation::Unseen),
        Health::Degraded(Degradation::Partial),
        Health::Degraded(Degradation::Lossy),
        Health::Degraded(Degradation::Leaderless),
        Health::Degraded(Degradation::OneWay),
        Health::Lost,
        Health::Left,
    ];

    /// Returns the name that logs, metrics and tables have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Degraded(Degradation::Unseen) => "unseen",
            Health::Degraded(Degradation::Partial) => "partial",
            Health::Degraded(Degradation::Lossy) => "lossy",
            Health::Degraded(Degradation::Leaderless) => "leaderless",
            Health::Degraded(Degradation::OneWay) => "one-way",
            Health::Lost => "lost",
            Health::Left => "left",
        }
    }

    /// Returns the health of this name; `None` for one that a later version may know.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|health| health.as_str() == name)
    }

    /// Tells whether something is wrong with the datacenter: not that it left, nor that nobody knows yet.
    pub fn is_bad(self) -> bool {
        match self {
            Health::Healthy | Health::Left | Health::Degraded(Degradation::Unseen) => false,
            Health::Lost | Health::Degraded(_) => true,
        }
    }

    /// Tells whether there is any use in sending a request there.
    pub fn takes_requests(self) -> bool {
        match self {
            Health::Degraded(Degradation::OneWay) | Health::Lost | Health::Left => false,
            Health::Healthy | Health::Degraded(_) => true,
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
    /// When that was decided, on the clock of the federation.
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
    /// Why the path is down; empty when it isn't.
    pub reason: String,
    /// Whether the server tries to connect: it is alive, whatever its path is.
    pub knocks: bool,
    /// The path's round trip.
    pub rtt: Option<Duration>,
    /// How many heartbeats there were lately.
    pub beats: u32,
    /// How many of them were lost.
    pub beats_lost: u32,
    /// What the server said of itself last, on a path that is up.
    pub word: Option<Word>,
}

impl Seen {
    /// Sees nothing yet.
    pub const NOTHING: Self = Self {
        path: Path::Unknown,
        age: Duration::ZERO,
        reason: String::new(),
        knocks: false,
        rtt: None,
        beats: 0,
        beats_lost: 0,
        word: None,
    };
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

#[cfg(test)]
mod tests;
