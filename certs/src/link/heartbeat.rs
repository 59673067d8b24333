//! Notices that a path is dead, from what was heard on it.
//!
//! A side that cares for a path sends pings, and the other side answers each with a pong. In a LAN
//! that is the side that dialled, always; on the WAN it is whoever watches the path, at the pace that it
//! wants ([`Pace`]): often while requests are on their way, once a second to know whether the peer lives,
//! and not at all on a path that nobody has a use for just now.
//!
//! ```text
//!   ping ---------> lost          patience        1.9 s: dead
//!    |------------------------------|--ping--ping--ping--|
//!    asked                              every 250 ms
//! ```
//!
//! When a ping is not answered in the time that the path usually takes, the next ones follow soon, and when nothing
//! was heard for [`ANSWER_MAX`] since the first of them, the path is dead: closed. At 2 % loss each
//! way and 300 ms there and back, five pings in a row have to be lost for a living path to be closed by
//! mistake: about once a day for a hundred idle paths. When packets arrive, but no heartbeat, the peer's
//! program hangs, and it is given more time. The side that does not ping in a LAN counts silence.
//! Time that this node itself slept is not held against its peers.

mod window;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::window::Window;
use crate::link::{Pace, Profile, frame::Beat};

/// How long the answer to a ping may take, before the path is held for dead.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(1900);

/// The same while packets arrive, but no heartbeat among them.
const HANG_MAX: Duration = Duration::from_millis(4100);

/// How long a path may be silent whose peer is known to send pings.
const SILENT_MAX: Duration = Duration::from_millis(2200);

/// Between two pings when the last one was not answered as fast as usual.
const EAGER_INTERVAL: Duration = Duration::from_millis(250);

/// How much longer than usual an answer may take before the pings follow sooner: twice the round
/// trip and a bit, within these bounds.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(600));

/// How often a path is looked at whose peer is known to send pings: what arrived is noticed then.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The same for a path that nothing is expected of: certificates end.
const REST_INTERVAL: Duration = Duration::from_secs(2);

/// A look that comes later than this was held up by this node: it slept, or had no time.
const LATE_MIN: Duration = Duration::from_millis(500);

/// How a side takes part in the heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// This node dialled.
    ByUs,
    /// The peer dialled.
    ByPeer,
}

/// What a side sends and expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// Between two pings of this side; `None`: it sends none.
    ping: Option<Duration>,
    /// Whether the peer is known to send pings.
    expect: bool,
    /// Whether this side need not ping as long as the peer does.
    yields: bool,
}

/// What was heard on a path.
#[derive(Debug)]
pub(super) struct Vitals {
    began: Instant,
    /// When the next look was planned.
    planned: Instant,
    /// When a heartbeat was heard last.
    pub(super) heard: Instant,
    /// When the first ping was sent that nothing was heard after.
    pub(super) asked: Option<Instant>,
    /// When the last ping was sent, and its number.
    pinged: Option<Instant>,
    sent: u64,
    /// When the peer's last ping was heard.
    peer_pinged: Option<Instant>,
    /// When any packet was heard last, and how many there were.
    packet: Instant,
    packets: u64,
    /// Which of the pings of either side arrived lately.
    ours: Window,
    theirs: Window,
    /// What the peer said of itself last.
    pub(super) word: Bytes,
}

/// What a look found to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The number of the ping to send now.
    pub(super) ping: Option<u64>,
    /// When to look again.
    pub(super) look: Instant,
}

/// Why a path is held for dead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dead {
    #[error("no packet for {0:?}")]
    Silent(Duration),
    #[error("no heartbeat for {0:?}, though packets arrive: the peer hangs")]
    Unanswered(Duration),
}

impl Rhythm {
    /// Returns what a side does on a connection; one that was just dialled is always tried.
    pub(super) fn new(profile: Profile, side: Side, pace: Pace, proven: bool) -> Self {
        match (profile, side) {
            // No packet is lost in a LAN that is well; an idle server has little else to do than
            // to answer its thousands of clients.
            (Profile::Lan, Side::ByUs) => {
                Self { ping: Some(Duration::from_millis(500)), expect: false, yields: false }
            }
            (Profile::Lan, Side::ByPeer) => Self { ping: None, expect: true, yields: false },
            (Profile::Wan, Side::ByUs) => {
                let pace = if proven { pace } else { Pace::Brisk };
                Self { ping: pace.interval(), expect: false, yields: false }
            }
            (Profile::Wan, Side::ByPeer) => {
                Self { ping: pace.interval(), expect: false, yields: true }
            }
        }
    }
}

impl Pace {
    fn interval(self) -> Option<Duration> {
        match self {
            Pace::Rest => None,
            Pace::Watch => Some(Duration::from_secs(1)),
            Pace::Brisk => Some(Duration::from_millis(300)),
        }
    }
}

impl Vitals {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            planned: now,
            heard: now,
            asked: None,
            pinged: None,
            sent: 0,
            peer_pinged: None,
            packet: now,
            packets: 0,
            ours: Window::default(),
            theirs: Window::default(),
            word: Bytes::new(),
        }
    }

    /// Looks whether the path is alive, and what is due; `packets` counts all that arrived since
    /// it began. To be called when the last look said, or earlier.
    pub(super) fn look(
        &mut self,
        now: Instant,
        packets: u64,
        rhythm: Rhythm,
        rtt: Duration,
    ) -> Result<Due, Dead> {
        self.forgive(now);
        if packets != self.packets {
            self.packets = packets;
            self.packet = now;
        }
        let mut due = Due { ping: None, look: now + REST_INTERVAL };
        if let Some(interval) = rhythm.ping {
            let dead = self.check_answer(now)?;
            let patience = (rtt * 2 + PATIENCE.0 / 2).clamp(PATIENCE.0, PATIENCE.1);
            if now >= self.ping_at(interval, patience, rhythm.yields) {
                self.sent += 1;
                self.pinged = Some(now);
                self.asked.get_or_insert(now);
                due.ping = Some(self.sent);
            }
            let next = self.ping_at(interval, patience, rhythm.yields);
            due.look = due.look.min(next).min(dead.unwrap_or(next));
        } else {
            self.asked = None;
            if rhythm.expect {
                due.look = self.check_silence(now)?.min(now + LOOK_INTERVAL);
            }
        }
        self.planned = due.look;
        Ok(due)
    }

    /// Takes the answer to a ping. Tells whether the peer says something new of itself.
    pub(super) fn hear_pong(&mut self, now: Instant, beat: &Beat) -> bool {
        // The answer to what was never asked would be a lie.
        if beat.seq <= self.sent {
            self.asked = None;
            self.ours.hear(beat.seq);
        }
        self.hear(now, beat)
    }

    /// Takes a ping of the peer. Tells whether it says something new of itself.
    pub(super) fn hear_ping(&mut self, now: Instant, beat: &Beat) -> bool {
        // A number far ahead of what the time allows would be one, too.
        let possible = now.duration_since(self.began).as_millis() as u64 / 10 + 10;
        if beat.seq <= possible {
            self.theirs.hear(beat.seq);
        }
        self.peer_pinged = Some(now);
        self.hear(now, beat)
    }

    /// Returns how many pings of both sides there were lately, and how many of them were lost.
    pub(super) fn counts(&self) -> (u32, u32) {
        let ((ours, our_lost), (theirs, their_lost)) = (self.ours.counts(), self.theirs.counts());
        (ours + theirs, our_lost + their_lost)
    }

    fn hear(&mut self, now: Instant, beat: &Beat) -> bool {
        self.heard = now;
        self.packet = now;
        if self.word == beat.word {
            return false;
        }
        // A copy, because the word is kept and would keep its whole packet's buffer.
        self.word = Bytes::copy_from_slice(&beat.word);
        true
    }

    /// If this look comes late, this node slept and what arrived meanwhile is not read yet.
    fn forgive(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.planned);
        if late < LATE_MIN {
            return;
        }
        self.heard = (self.heard + late).min(now);
        self.packet = (self.packet + late).min(now);
        self.asked = self.asked.map(|asked| (asked + late).min(now));
    }

    /// Returns when the path will be dead unless something is heard.
    fn check_answer(&self, now: Instant) -> Result<Option<Instant>, Dead> {
        let Some(asked) = self.asked else { return Ok(None) };
        let silent = asked.max(self.packet) + ANSWER_MAX;
        let hanging = asked + HANG_MAX;
        if now >= silent {
            return Err(Dead::Silent(now.duration_since(self.packet.max(self.heard))));
        }
        if now >= hanging {
            return Err(Dead::Unanswered(now.duration_since(self.heard)));
        }
        Ok(Some(silent.min(hanging)))
    }

    /// The same for a path whose peer is known to send pings.
    fn check_silence(&self, now: Instant) -> Result<Instant, Dead> {
        let silent = self.packet.max(self.heard) + SILENT_MAX;
        let hanging = self.heard + SILENT_MAX * 2;
        if now >= silent {
            return Err(Dead::Silent(now.duration_since(self.packet.max(self.heard))));
        }
        if now >= hanging {
            return Err(Dead::Unanswered(now.duration_since(self.heard)));
        }
        Ok(silent.min(hanging))
    }

    /// Returns when the next ping is to be sent.
    fn ping_at(&self, interval: Duration, patience: Duration, yields: bool) -> Instant {
        let Some(pinged) = self.pinged else {
            // A peer that pings need not be pinged at the beginning either.
            let peer = self.peer_pinged.filter(|_| yields);
            return peer.map_or(self.began, |peer| peer + interval * 3 / 2);
        };
        match (self.asked, self.peer_pinged.filter(|_| yields)) {
            (Some(asked), _) => {
                let eager = (pinged + interval.min(EAGER_INTERVAL)).max(asked + patience);
                eager.min(pinged + interval)
            }
            (None, Some(peer)) => (pinged + interval).max(peer + interval * 3 / 2),
            (None, None) => pinged + interval,
        }
    }
}

#[cfg(test)]
mod tests;
