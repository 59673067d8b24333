//! Notices that a path is dead, from what was heard on it.
//!
//! The side that dialled sends a ping at an interval, the other side answers each with a pong;
//! so the first misses pongs and the second misses pings. A side closes the connection when no
//! packet at all arrived for [`SILENT_MAX`], or packets but no heartbeat for [`UNANSWERED_MAX`]
//! (a peer whose QUIC stack lives but whose program hangs). At 2 % loss each way and 300 ms there
//! and back, six heartbeats in a row have to be lost for a living path between servers to be
//! closed by mistake: less than once a day for a hundred idle paths. Time that this node itself
//! slept is not held against its peers.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::link::{Profile, frame::Beat};

/// How long a path may be silent.
pub(super) const SILENT_MAX: Duration = Duration::from_millis(2200);

/// How long packets may arrive without a heartbeat among them.
const UNANSWERED_MAX: Duration = Duration::from_millis(4400);

/// How a side takes part in the heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// This node dialled: it sends pings.
    ByUs,
    /// The peer dialled: it sends pings.
    ByPeer,
}

/// What was heard on a path.
#[derive(Debug)]
pub(super) struct Vitals {
    interval: Duration,
    began: Instant,
    /// The last look at the path.
    looked: Instant,
    /// When a heartbeat was heard last.
    pub(super) heard: Instant,
    /// When any packet was heard last, and how many there were.
    packet: Instant,
    packets: u64,
    /// The highest number sent (by us) or received (by the peer).
    beats: u64,
    /// How many of them were answered (by us) or received (by the peer).
    arrived: u64,
    /// What the peer said of itself last.
    pub(super) word: Bytes,
}

/// Why a path is held for dead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Dead {
    #[error("no packet for {0:?}")]
    Silent(Duration),
    #[error("no heartbeat for {0:?}, though packets arrive: the peer hangs")]
    Unanswered(Duration),
}

/// Returns the time between two pings of a node.
pub(super) fn interval(profile: Profile) -> Duration {
    match profile {
        // No packet is lost in a LAN that is well; an idle server has little else to do than to
        // answer its thousands of clients.
        Profile::Lan => Duration::from_millis(500),
        Profile::Wan => Duration::from_millis(300),
    }
}

impl Vitals {
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            began: now,
            looked: now,
            heard: now,
            packet: now,
            packets: 0,
            beats: 0,
            arrived: 0,
            word: Bytes::new(),
        }
    }

    /// Looks whether the path is alive; `packets` counts all that arrived since it began. To be
    /// called at every interval.
    pub(super) fn look(&mut self, now: Instant, packets: u64) -> Result<(), Dead> {
        // If this look comes late, this node slept and what arrived meanwhile is not read yet.
        let slept = now.duration_since(self.looked).saturating_sub(2 * self.interval);
        self.looked = now;
        self.heard = (self.heard + slept).min(now);
        self.packet = (self.packet + slept).min(now);
        if packets != self.packets {
            self.packets = packets;
            self.packet = now;
        }
        let silent = now.duration_since(self.packet.max(self.heard));
        let unanswered = now.duration_since(self.heard);
        if silent >= SILENT_MAX {
            Err(Dead::Silent(silent))
        } else if unanswered >= UNANSWERED_MAX {
            Err(Dead::Unanswered(unanswered))
        } else {
            Ok(())
        }
    }

    /// Returns the number of the next ping.
    pub(super) fn next_ping(&mut self) -> u64 {
        self.beats += 1;
        self.beats
    }

    /// Takes a heartbeat of the peer. Tells whether it says something new of itself.
    pub(super) fn hear(&mut self, now: Instant, side: Side, beat: &Beat) -> bool {
        self.heard = now;
        self.packet = now;
        self.arrived += 1;
        if side == Side::ByPeer {
            // A number far ahead of what the time allows would be a lie.
            let possible = now.duration_since(self.began).as_millis() as u64 / 10 + 10;
            self.beats = self.beats.max(beat.seq.min(possible));
        }
        if self.word == beat.word {
            return false;
        }
        // A copy, because the word is kept and would keep its whole packet's buffer.
        self.word = Bytes::copy_from_slice(&beat.word);
        true
    }

    /// Returns how many heartbeats there were, and how many of them were not heard.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.beats, self.beats.saturating_sub(self.arrived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(250);

    fn beat(seq: u64) -> Beat {
        Beat { instance: 1, seq, word: Bytes::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_path_is_dead_after_its_bound() {
        let mut now = Instant::now();
        let mut vitals = Vitals::new(now, INTERVAL);
        vitals.hear(now, Side::ByUs, &beat(1));
        let start = now;
        loop {
            now += INTERVAL;
            match vitals.look(now, 0) {
                Ok(()) => assert!(now - start < SILENT_MAX),
                Err(dead) => {
                    assert_eq!(dead, Dead::Silent(now - start));
                    assert!(now - start < Duration::from_millis(2500));
                    return;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn packets_without_heartbeats_only_buy_some_time() {
        let mut now = Instant::now();
        let mut vitals = Vitals::new(now, INTERVAL);
        let start = now;
        for packets in 1.. {
            now += INTERVAL;
            if let Err(dead) = vitals.look(now, packets) {
                assert_eq!(dead, Dead::Unanswered(now - start));
                assert!(now - start >= UNANSWERED_MAX);
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn own_sleep_is_not_held_against_the_peer() {
        let start = Instant::now();
        let mut vitals = Vitals::new(start, INTERVAL);
        let woken = start + Duration::from_secs(30);
        assert_eq!(vitals.look(woken, 0), Ok(()));
        let mut now = woken;
        while vitals.look(now, 0).is_ok() {
            now += INTERVAL;
        }
        let given = now - woken;
        assert!(given > SILENT_MAX / 2 && given < 2 * SILENT_MAX, "{given:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn lost_heartbeats_are_counted_on_both_sides() {
        let now = Instant::now();
        let mut dialler = Vitals::new(now, INTERVAL);
        let mut dialled = Vitals::new(now, INTERVAL);
        for _ in 0..4 {
            dialler.next_ping();
        }
        dialler.hear(now, Side::ByUs, &beat(1));
        dialled.hear(now, Side::ByPeer, &beat(1));
        dialled.hear(now, Side::ByPeer, &beat(4));
        assert_eq!(dialler.counts(), (4, 3));
        assert_eq!(dialled.counts(), (4, 2));
    }
}
