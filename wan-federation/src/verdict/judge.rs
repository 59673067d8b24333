//! The judge of one datacenter: what is held of it from moment to moment, and what has to last
//! before that changes.

use std::time::Duration;

use super::{
    Degradation, Health, LEADERLESS_MIN, LOSSY_AFTER, PARTIAL_MIN, RETURN_MIN, Verdict, View,
    tally::Tally,
};

/// Judges one datacenter from moment to moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judge {
    verdict: Verdict,
    /// Since when no server that is up knows a leader.
    leaderless: Option<Duration>,
    /// Since when some of its servers have been down.
    partial: Option<Duration>,
    /// Since when its paths have lost too much.
    lossy: Option<Duration>,
    /// Since when nothing has spoken against calling the datacenter healthy.
    well: Option<Duration>,
}

impl Judge {
    /// Starts with a datacenter that was heard of just now.
    pub(crate) fn new(now: Duration) -> Self {
        let verdict = Verdict {
            health: Health::Degraded(Degradation::Unseen),
            since: now,
            evidence: "no path yet".to_owned(),
        };
        Self { verdict, leaderless: None, partial: None, lossy: None, well: None }
    }

    /// Returns what is held now.
    pub(crate) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Takes in what is known now; returns what was held before when the health changed.
    pub(crate) fn judge(&mut self, now: Duration, view: &View) -> Option<Verdict> {
        let tally = Tally::of(view);
        let health = self.weigh(now, &tally);
        let evidence = tally.evidence(health);
        if health == self.verdict.health {
            self.verdict.evidence = evidence;
            return None;
        }
        let verdict = Verdict { health, since: now, evidence };
        Some(std::mem::replace(&mut self.verdict, verdict))
    }

    fn weigh(&mut self, now: Duration, tally: &Tally<'_>) -> Health {
        let seen = tally.health();
        let was_lossy = self.verdict.health == Health::Degraded(Degradation::Lossy);
        let leaderless = lasted(&mut self.leaderless, now, tally.leader_known == Some(false));
        let partial =
            lasted(&mut self.partial, now, seen == Health::Degraded(Degradation::Partial));
        let lossy = lasted(&mut self.lossy, now, tally.is_lossy(was_lossy));
        let well = seen == Health::Healthy && tally.leader_known != Some(false) && lossy.is_none();
        let well = lasted(&mut self.well, now, well);
        let dark =
            matches!(self.verdict.health, Health::Lost | Health::Degraded(Degradation::OneWay));
        match seen {
            Health::Left | Health::Lost | Health::Degraded(Degradation::OneWay) => seen,
            _ if dark && !tally.returned() => self.verdict.health,
            _ if leaderless > Some(LEADERLESS_MIN) => Health::Degraded(Degradation::Leaderless),
            Health::Degraded(Degradation::Partial) => self.worsened(partial),
            _ if lossy >= Some(LOSSY_AFTER) || (was_lossy && lossy.is_some()) => {
                Health::Degraded(Degradation::Lossy)
            }
            Health::Healthy => self.recovered(well.unwrap_or_default()),
            Health::Degraded(degradation) => Health::Degraded(degradation),
        }
    }

    /// Decides on a datacenter some of whose servers are down: the others may follow, and it is lost.
    fn worsened(&self, down_for: Option<Duration>) -> Health {
        let partial = Health::Degraded(Degradation::Partial);
        match self.verdict.health {
            Health::Lost | Health::Left | Health::Degraded(Degradation::OneWay) => partial,
            held if down_for < Some(PARTIAL_MIN) => held,
            _ => partial,
        }
    }

    /// Decides on a datacenter with nothing wrong: one that was degraded has to stay well first.
    fn recovered(&self, well_for: Duration) -> Health {
        match self.verdict.health {
            Health::Degraded(
                Degradation::Partial | Degradation::Leaderless | Degradation::Lossy,
            ) if well_for < RETURN_MIN => self.verdict.health,
            _ => Health::Healthy,
        }
    }
}

/// Keeps since when something has been so; returns for how long, if it is so now.
fn lasted(since: &mut Option<Duration>, now: Duration, is_so: bool) -> Option<Duration> {
    if !is_so {
        *since = None;
        return None;
    }
    Some(now.saturating_sub(*since.get_or_insert(now)))
}
