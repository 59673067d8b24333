//! One datacenter's name, one cluster: who is refused for saying a name that others have.
//!
//! The servers of a datacenter agree on an identity when they begin, and say it in a tag ([`CLUSTER_TAG`]). A
//! member keeps whom it knew first: as long as a server of a cluster lives, and [`NAME_KEPT_FOR`] longer, nobody
//! of another cluster is let in under its datacenter's name. Who says no cluster yet is let in until it does.
//!
//! What is refused still takes part in SWIM, so that it is known when it is gone, and is let in when the name is free.
//!
//! [`CLUSTER_TAG`]: crate::member::CLUSTER_TAG

use std::{fmt, time::Duration};

use super::{Engine, Event, Output, roster::Dropped};
use crate::member::Profile;

/// How long a name stays taken after its last server fell silent. Who is held for failed by mistake hears so
/// from whomever it gossips with, within a second or two, and is knocked at every five: twice that. A
/// datacenter that is gone hands its name on so much later.
pub(crate) const NAME_KEPT_FOR: Duration = Duration::from_secs(10);

/// A server that is refused because another cluster has the name of its datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// What it says of itself.
    pub profile: Profile,
    /// The cluster that has the name.
    pub holder: String,
    /// Since when it is refused, by the engine's clock.
    pub since: Duration,
}

impl Rival {
    /// Returns the cluster that it is of.
    pub fn cluster(&self) -> &str {
        self.profile.cluster().unwrap_or_default()
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, holder, .. } = self;
        let (dc, name) = (&profile.dc, &profile.name);
        write!(f, "{dc} is the name of cluster {holder} here, and {name} is of {}", self.cluster())
    }
}

impl Engine {
    /// Returns the servers that are refused for their cluster, by address.
    pub fn rivals(&self) -> impl Iterator<Item = &Rival> {
        self.roster.rivals()
    }

    /// Lets those come in whose name is free, and forgets those who are gone.
    pub(super) fn review_rivals(&mut self, out: &mut Vec<Output>) {
        let gone = self.roster.review_rivals(self.now);
        out.extend(gone.into_iter().map(|rival| Output::Event(Event::RivalGone(rival))));
    }

    /// Tells of members that made way for others.
    pub(super) fn forgotten(&mut self, gone: Vec<Dropped>, out: &mut Vec<Output>) {
        if gone.is_empty() {
            return;
        }
        let shown = gone.into_iter().filter(|dropped| dropped.was_shown);
        out.extend(shown.map(|dropped| Output::Event(Event::Reaped(dropped.member))));
        self.swim.retune(&self.config, self.roster.alive());
    }
}
