//! How fast a pool talks, and how long it waits before it gives up on somebody.
//!
//! The two presets answer to two networks. In a datacenter a packet takes well under a
//! millisecond and costs nothing, so the pool talks often. Between datacenters it takes up to
//! 300 ms and some are lost, so the pool waits longer before it suspects; the faster verdict
//! there comes from the paths themselves ([`super::Input::PathDown`]).

use std::{
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

use crate::member::{Profile, Role};

use super::packet::HEAD_LEN_MAX;

/// Smallest packet bound that still carries a head and a few members.
const PACKET_LEN_MIN: usize = 256;

/// Copies of an update that each member sends, for each digit of the pool's size, as memberlist
/// does. The odds that an update misses a member fall by e with each copy.
const COPIES_PER_DIGIT: usize = 4;

/// Members up to which full states are pulled at the plain interval; beyond, each doubling adds
/// one interval, so that the bytes for the roster grow more slowly than the pool.
const PULL_SCALE_FROM: usize = 32;

/// Which of the two pools an engine speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All nodes of one datacenter, by node name.
    Lan,
    /// The servers of all datacenters, by `node.dc`.
    Wan,
}

impl Scope {
    /// Returns the name that a member has in this pool.
    pub fn key(self, profile: &Profile) -> String {
        match self {
            Scope::Lan => profile.name.to_string(),
            Scope::Wan => profile.name.in_wan(&profile.dc),
        }
    }

    /// Tells whether a member can be asked for its full state.
    pub(crate) fn answers_pulls(self, profile: &Profile) -> bool {
        match self {
            Scope::Lan => profile.role == Role::Server && profile.link.is_some(),
            Scope::Wan => true,
        }
    }
}

/// The constants of a pool. All members of a pool should use the same.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pool.
    pub scope: Scope,
    /// Longest packet that the engine makes, in bytes, unless one profile alone is longer.
    pub packet_len_max: usize,
    /// How often one random member is probed.
    pub probe_period: Duration,
    /// How long a probe waits for a direct answer before it asks others to try.
    pub probe_rtt: Duration,
    /// How many others are asked to try.
    pub probe_helpers: NonZeroUsize,
    /// How long a suspect may refute before it is held for failed.
    pub suspect_for: Duration,
    /// The same for a member whose path is known to have closed.
    pub path_suspect_for: Duration,
    /// How often news are sent on, while there are any.
    pub gossip_interval: Duration,
    /// To how many members.
    pub gossip_fanout: NonZeroUsize,
    /// How often a random member is asked whom it knows.
    pub feed_interval: Duration,
    /// How often failed members are knocked at, so that a healed partition merges.
    pub knock_interval: Duration,
    /// At how many of them.
    pub knock_fanout: usize,
    /// How often a full state is pulled, in a small pool.
    pub pull_interval: Duration,
    /// How long failed and left members are remembered.
    pub reap_after: Duration,
}

/// Makes a non-zero number of a constant.
const fn some(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

impl Config {
    /// Returns the constants for the pool of a datacenter.
    ///
    /// A dead member is probed by somebody within a second (by 1 - 1/e; each second more shrinks the
    /// rest by e), suspected 1 s later, failed 4 s after that, and everyone knows 1 s later:
    /// measured 5-7 s (median) and 9 s (97 %) for 3 to 1,000 members at 2 % of loss.
    pub fn lan() -> Self {
        Self {
            scope: Scope::Lan,
            // A sealed packet stays below an Ethernet frame even inside a tunnel (1400 bytes),
            // less nonce, tag and key number of the seal.
            packet_len_max: 1340,
            probe_period: Duration::from_secs(1),
            // Far above a LAN's round trip: a busy process is not a dead one.
            probe_rtt: Duration::from_millis(500),
            probe_helpers: some(3),
            suspect_for: Duration::from_secs(4),
            path_suspect_for: Duration::from_secs(2),
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: some(3),
            feed_interval: Duration::from_secs(5),
            knock_interval: Duration::from_secs(5),
            knock_fanout: 2,
            pull_interval: Duration::from_secs(30),
            // As Consul's `reconnect_timeout`.
            reap_after: Duration::from_secs(72 * 3600),
        }
    }

    /// Returns the constants for the pool of all servers.
    ///
    /// Who is dead is known from the paths, which are watched; probes only find what nobody watches. So they
    /// are rare, and bear that the connection is made for them at 300 ms of round trip and 2 % of loss,
    /// also by way of a helper.
    pub fn wan() -> Self {
        Self {
            scope: Scope::Wan,
            // A QUIC datagram before path MTU discovery holds 1162 bytes.
            packet_len_max: 1150,
            probe_period: Duration::from_secs(5),
            probe_rtt: Duration::from_secs(2),
            suspect_for: Duration::from_secs(8),
            // Ten gossip rounds and a round trip for a refutation by way of others.
            path_suspect_for: Duration::from_secs(5),
            gossip_interval: Duration::from_millis(500),
            gossip_fanout: some(4),
            feed_interval: Duration::from_secs(10),
            knock_interval: Duration::from_secs(5),
            knock_fanout: 3,
            ..Self::lan()
        }
    }

    /// Returns what foca is told for a pool of `members`.
    pub(crate) fn swim(&self, members: usize) -> foca::Config {
        let packet_len_max = self.packet_len_max.max(PACKET_LEN_MIN);
        let copies = u8::try_from(copies(members)).unwrap_or(u8::MAX);
        let periodic =
            |frequency, num_members| Some(foca::PeriodicParams { frequency, num_members });
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: self.probe_helpers,
            max_transmissions: NonZeroU8::new(copies).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.suspect_for,
            // The engine reaps: it knows who left and who failed, and since when.
            remove_down_after: None,
            max_packet_size: some(packet_len_max - HEAD_LEN_MAX),
            notify_down_members: true,
            periodic_announce: periodic(self.feed_interval, NonZeroUsize::MIN),
            // The engine knocks itself: only at failed members, and also when it is alone.
            periodic_announce_to_down_members: None,
            periodic_gossip: periodic(self.gossip_interval, self.gossip_fanout),
        }
    }

    /// Returns the time between two pulls in a pool of `members`.
    pub(crate) fn pull_interval(&self, members: usize) -> Duration {
        let doublings = (members / PULL_SCALE_FROM).checked_ilog2().map_or(0, |n| n + 1);
        self.pull_interval * (1 + doublings)
    }
}

/// Returns how many copies of an update each member sends in a pool of `members`.
pub(crate) fn copies(members: usize) -> usize {
    COPIES_PER_DIGIT * members.checked_ilog10().map_or(1, |n| n as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_get_rarer_as_the_pool_grows() {
        let config = Config::lan();
        assert_eq!(config.pull_interval(3), Duration::from_secs(30));
        assert_eq!(config.pull_interval(31), Duration::from_secs(30));
        assert_eq!(config.pull_interval(64), Duration::from_secs(90));
        assert_eq!(config.pull_interval(5_000), Duration::from_secs(30 * 9));
    }
}
