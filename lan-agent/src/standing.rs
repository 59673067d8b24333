//! Whether anybody answers for the datacenter: what an agent knows before it asks.
//!
//! A client agent is connected while it has a path to a server, a server while it knows a leader.
//! Servers tell their agents with every heartbeat whether they know one ([`word`]).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

/// How long an agent whose last path went down looks for another server before it is cut off:
/// several round trips and handshakes of any LAN.
const LOOKS_AROUND: Duration = Duration::from_millis(250);

/// How long a path may be silent before an agent makes sure of the other servers: two heartbeats.
const DOUBTFUL_AFTER: Duration = Duration::from_millis(1200);

/// How long a path may be silent before nobody is made to wait for it: three heartbeats. It is
/// held for dead somewhat later.
const QUIET_AFTER: Duration = Duration::from_millis(1700);

/// How long it takes at most until a path is held for dead, or servers that lost their leader say so with
/// a heartbeat: nothing was the truth for certain later than this before.
pub(crate) const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// What a server says of itself when it knows a leader, and when it knows none.
const LED: Bytes = Bytes::from_static(&[1]);
const LEADERLESS: Bytes = Bytes::from_static(&[0]);

/// Whether anybody answers, and since when it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who answers.
    pub reach: Reach,
    /// Since when.
    pub since: Instant,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Servers that have a leader.
    Led,
    /// Servers, or this one, that know no leader: reads that may be stale, nothing else.
    Leaderless,
    /// Nobody, for this reason.
    CutOff(Arc<str>),
}

impl Standing {
    /// How it is before anything is known.
    pub fn at_start(now: Instant) -> Self {
        let why = "this agent has not met any server of its datacenter".into();
        Self { reach: Reach::CutOff(why), since: now }
    }

    /// Tells whether everything is answered.
    pub fn is_led(&self) -> bool {
        self.reach == Reach::Led
    }

    /// Tells whether nothing is answered, and why.
    pub fn cut_off(&self) -> Option<&Arc<str>> {
        match &self.reach {
            Reach::CutOff(why) => Some(why),
            Reach::Led | Reach::Leaderless => None,
        }
    }

    /// Takes in how it is now. Tells whether that is another standing than before; the reason for
    /// being cut off may become another one without that.
    pub fn see(&mut self, reach: Reach, now: Instant) -> bool {
        let same = std::mem::discriminant(&self.reach) == std::mem::discriminant(&reach);
        if !same {
            self.since = now;
        }
        self.reach = reach;
        !same
    }
}

impl Reach {
    /// Returns the name that operators see.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reach::Led => "connected",
            Reach::Leaderless => "leaderless",
            Reach::CutOff(_) => "cut off",
        }
    }
}

/// Returns what a server says of itself with its heartbeats.
pub fn word(leader_known: bool) -> Bytes {
    if leader_known { LED } else { LEADERLESS }
}

/// Reads the words of the servers that can be heard; `None` when there is none. What a later version
/// says counts as led: asking it shows. So does silence, unless others have spoken: a path that just
/// came up has not had its first heartbeat yet.
pub fn reach(words: &[&[u8]]) -> Option<Reach> {
    let leaderless = |word: &[u8]| word == LEADERLESS.as_ref();
    let mut spoken = words.iter().filter(|word| !word.is_empty()).peekable();
    match words {
        [] => None,
        _ if spoken.peek().is_some() && spoken.all(|word| leaderless(word)) => {
            Some(Reach::Leaderless)
        }
        _ => Some(Reach::Led),
    }
}

/// When a path on which something was heard gives reason to look for another.
pub fn doubtful_from(heard: Instant) -> Instant {
    heard + DOUBTFUL_AFTER
}

/// When a path on which something was heard counts as silent.
pub fn quiet_from(heard: Instant) -> Instant {
    heard + QUIET_AFTER
}

/// When an agent without a path has looked around for long enough.
pub fn looked_around(since: Instant) -> Instant {
    since + LOOKS_AROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_that_knows_a_leader_is_enough() {
        let (led, leaderless) = (word(true), word(false));
        assert_eq!(reach(&[&leaderless, &led]), Some(Reach::Led));
        assert_eq!(reach(&[&leaderless, &leaderless]), Some(Reach::Leaderless));
        assert_eq!(reach(&[&leaderless, b""]), Some(Reach::Leaderless), "it has yet to speak");
        assert_eq!(reach(&[b"", &led, &leaderless]), Some(Reach::Led));
        assert_eq!(reach(&[b""]), Some(Reach::Led));
        assert_eq!(reach(&[&leaderless, b"\x02later"]), Some(Reach::Led));
        assert_eq!(reach(&[b"\x02later"]), Some(Reach::Led));
        assert_eq!(reach(&[]), None);
    }

    #[test]
    fn a_standing_lasts_while_its_reason_changes() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut standing = Standing::at_start(start);
        assert!(!standing.see(Reach::CutOff("other".into()), later));
        assert_eq!((standing.since, standing.cut_off().map(|it| &**it)), (start, Some("other")));
        assert!(standing.see(Reach::Led, later));
        assert_eq!((standing.since, standing.is_led()), (later, true));
    }
}
