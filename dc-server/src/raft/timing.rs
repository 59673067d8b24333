//! Raft's times.
//!
//! ```text
//! leader    |asks------------- lease ------------>|
//! follower       |answers---------------- promise --------------->|
//!                 votes for nobody else
//! ```
//!
//! A follower that answers a leader promises to vote for nobody else for a while, by its own clock. The leader
//! counts from the moment before that, when it asked, by its clock; it relies on the promise for a little
//! less than it holds, because one of the two clocks may run faster than the other: those of virtual machines
//! do while they are moved or slewed.

use std::time::Duration;

use openraft::SnapshotPolicy;

use super::{APPEND_ENTRIES_MAX, Config, INTERVALS_KEPT, SNAPSHOT_TIMEOUT, StartError};

/// Which part of a promise a leader does not rely on: clocks may differ in speed by 5 %, a hundred times
/// what a quartz does.
const DRIFT_PARTS: u32 = 20;

/// Raft's times for a multiplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// The shortest time without a heartbeat after which a server wants an election.
    pub election_min: Duration,
    /// The longest; also how long a follower keeps its promise to a leader.
    pub election_max: Duration,
}

impl Timing {
    /// Returns the times for Consul's `raft_multiplier`.
    pub fn new(multiplier: u8) -> Self {
        let times = u32::from(multiplier.clamp(1, 10));
        Self {
            heartbeat: Duration::from_millis(150) * times,
            election_min: Duration::from_millis(300) * times,
            election_max: Duration::from_millis(600) * times,
        }
    }

    /// Returns how long a leader relies on what its quorum promised, counted from when it asked: less
    /// than the promise holds, by one part in [`DRIFT_PARTS`].
    pub fn lease(&self) -> Duration {
        self.promise() - self.promise() / DRIFT_PARTS
    }

    /// Returns for how long a server that heard from a leader votes for nobody else.
    pub fn promise(&self) -> Duration {
        self.election_max
    }

    /// Returns how long a leader may be silent before a follower holds it for gone.
    pub fn silence_max(&self) -> Duration {
        self.election_max + self.heartbeat * 2
    }

    pub(super) fn config(&self, config: &Config) -> Result<openraft::Config, StartError> {
        let millis = |time: Duration| time.as_millis() as u64;
        let config = openraft::Config {
            cluster_name: "causeway".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            // openraft makes it the time of the promise, too. At least that and an election timeout, or a leader that lost its quorum would
            // give up before others may stand.
            quorum_loss_probe_interval: Some(millis(self.election_max * 3)),
            enable_pre_vote: Some(true),
            install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
            max_in_snapshot_log_to_keep: config.snapshot_entries * INTERVALS_KEPT,
            replication_lag_threshold: config.snapshot_entries * INTERVALS_KEPT,
            max_payload_entries: APPEND_ENTRIES_MAX,
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| StartError::Raft(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the clocks do within the bound, and however long the answer took.
        #[test]
        fn a_promise_outlasts_what_the_leader_believes_of_it(
            multiplier in 1_u8..=10,
            drift in 0.0..0.05,
            faster in any::<bool>(),
            way_ms in 0_u64..1_000,
        ) {
            let timing = Timing::new(multiplier);
            // The speeds of the two clocks; a fast one shows that a time is over too early.
            let (leader, follower) = if faster { (1.0, 1.0 + drift) } else { (1.0 - drift, 1.0) };
            let relied_on = timing.lease().div_f64(leader);
            let kept = Duration::from_millis(way_ms) + timing.promise().div_f64(follower);
            prop_assert!(relied_on <= kept, "{relied_on:?} of {kept:?}");
        }
    }

    #[test]
    fn a_leader_has_time_to_be_heard_again_before_its_lease_is_over() {
        for multiplier in 1..=10 {
            let timing = Timing::new(multiplier);
            assert!(timing.heartbeat * 3 < timing.lease());
        }
    }
}
