//! What a server counts.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::time::{MissedTickBehavior, interval};

use crate::{dispatch::way::Way, raft::Raft};

/// How often Raft's numbers are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Declares a struct of series; the doc of a field is the help text of its series.
macro_rules! series {
    ($(#[$outer:meta])* $name:ident { $(#[doc = $help:literal] $field:ident: $kind:ident = $series:literal,)* }) => {
        $(#[$outer])*
        pub struct $name { $(#[doc = $help] pub $field: $kind,)* }

        impl $name {
            /// Finds the series in the recorder of this process.
            pub fn resolve() -> Self {
                $(series!(@describe $kind, $series, $help);)*
                Self { $($field: series!(@resolve $kind, $series),)* }
            }
        }
    };
    (@describe Counter, $series:literal, $help:literal) => { describe_counter!($series, $help.trim()) };
    (@describe Gauge, $series:literal, $help:literal) => { describe_gauge!($series, $help.trim()) };
    (@resolve Counter, $series:literal) => { counter!($series) };
    (@resolve Gauge, $series:literal) => { gauge!($series) };
}

series! {
    /// Where asks were answered.
    Ways {
        /// Asks handed to another datacenter.
        datacenter: Counter = "causeway.dispatch.datacenter",
        /// Asks about another datacenter answered with what this server had of it.
        mirror: Counter = "causeway.dispatch.mirror",
        /// Asks handed to the leader of the datacenter.
        leader: Counter = "causeway.dispatch.leader",
        /// Asks handed to the leader of the datacenter by way of another one.
        detour: Counter = "causeway.dispatch.detour",
        /// Asks answered by this server as the leader.
        here: Counter = "causeway.dispatch.here",
        /// Asks answered by this server with what it had.
        local: Counter = "causeway.dispatch.local",
        /// Looks at an ask when there was no leader to answer it.
        awaited: Counter = "causeway.dispatch.awaited",
        /// Writes refused because another datacenter took this one for the primary, and it is not.
        not_primary: Counter = "causeway.dispatch.not_primary",
    }
}

series! {
    /// Answers about the catalog.
    Encoding {
        /// Answers about the catalog that were encoded.
        encoded: Counter = "causeway.lookup.encoded",
        /// Answers about the catalog that were as the last time, and not encoded again.
        kept: Counter = "causeway.lookup.kept",
    }
}

series! {
    /// How the configuration entries of the primary datacenter come here.
    ConfigReplication {
        /// Commands that made configuration entries those of the primary datacenter.
        commands: Counter = "causeway.config_entries.replicated",
        /// Attempts to replicate configuration entries that failed.
        failures: Counter = "causeway.config_entries.failures",
        /// 1 while configuration entries can't be replicated, 0 otherwise; of the leader alone.
        failing: Gauge = "causeway.config_entries.failing",
    }
}

series! {
    /// How Raft is doing.
    Replication {
        /// 1 while this server leads, 0 otherwise.
        leads: Gauge = "causeway.raft.leads",
        /// The Raft term.
        term: Gauge = "causeway.raft.term",
        /// The last entry in the log.
        last_index: Gauge = "causeway.raft.last_index",
        /// The last entry known to be committed.
        commit_index: Gauge = "causeway.raft.commit_index",
        /// The last entry applied to the state.
        applied_index: Gauge = "causeway.raft.applied_index",
        /// The last entry in the newest snapshot.
        snapshot_index: Gauge = "causeway.raft.snapshot_index",
        /// Seconds since this server heard from a leader; 0 on the leader.
        last_contact: Gauge = "causeway.raft.last_contact.seconds",
        /// 1 when the log can't be written any more, 0 otherwise.
        broken: Gauge = "causeway.raft.broken",
    }
}

impl Ways {
    /// Counts a way that was taken.
    pub fn count(&self, way: &Way) {
        let taken = match way {
            Way::Datacenter(_) => &self.datacenter,
            Way::Mirror(_) => &self.mirror,
            Way::Leader => &self.leader,
            Way::Detour => &self.detour,
            Way::Here => &self.here,
            Way::Local => &self.local,
            Way::Await => &self.awaited,
            Way::NotPrimary => &self.not_primary,
        };
        taken.increment(1);
    }
}

impl Replication {
    fn show(&self, raft: &Raft) {
        // Indexes stay far below 2^53, up to which a float is exact.
        let number = |number: u64| number as f64;
        let status = raft.status();
        self.leads.set(f64::from(u8::from(raft.is_leader())));
        self.term.set(number(status.term));
        self.last_index.set(number(status.last_index));
        self.commit_index.set(number(status.commit_index));
        self.applied_index.set(number(status.applied_index));
        self.snapshot_index.set(number(status.snapshot_index));
        self.last_contact.set(status.last_contact.as_secs_f64());
        self.broken.set(f64::from(u8::from(status.broken.is_some())));
    }

    /// Shows Raft's numbers until it is dropped.
    pub async fn follow(self, raft: Raft) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.show(&raft);
        }
    }
}
