//! What the callers of all datacenters come to: which services would have nowhere to go, which would have too much
//! to do. A function of values.

use std::collections::BTreeMap;

use lan_agent::catalog::Text;
use serde::Serialize;
use topology::Datacenter;

use super::{Callers, Fate, Held, Share};

/// Where lookups go now, and would go without some datacenters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// The datacenters that it does without.
    pub lost: Vec<Datacenter>,
    /// Each service that somebody looks up, or that is gone with the lost datacenters, by name.
    pub services: Vec<ServiceReport>,
    /// Services that some callers, or all, would find nowhere.
    pub nowhere: Vec<Text>,
    /// Services with instances that would have too much to do.
    pub overloaded: Vec<Text>,
    /// The datacenters whose callers are not known, and why.
    pub unknown: Vec<Unknown>,
}

/// What becomes of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceReport {
    /// Its name.
    pub service: Text,
    /// The worst that befalls anybody.
    pub outcome: Outcome,
    /// How many times as much the busiest instance would have to do as the busiest one has now, when all datacenters
    /// ask as much; absent when that can't be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// The datacenters from which it is looked up. Empty when only lost datacenters have it and nobody goes there by
    /// a policy.
    pub callers: Vec<CallerReport>,
}

/// What becomes of a service for those in one datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CallerReport {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// Whether a policy decides who answers.
    pub policy: bool,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Who answers now.
    pub now: Vec<Share>,
    /// Who would answer.
    pub then: Vec<Share>,
}

/// What becomes of lookups, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Whoever asks is lost as well.
    Lost,
    /// The own datacenter answers.
    Own,
    /// Another one does, at least in part.
    Elsewhere,
    /// Who answers has too much to do.
    Overloaded,
    /// Nobody answers.
    Nowhere,
}

/// A datacenter that did not say where its callers go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Unknown {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// Why.
    pub reason: String,
}

/// Puts a report together. An instance has too much to do when it has more than `overload` times what the busiest
/// one has now.
pub fn report(
    lost: &[Datacenter],
    overload: f64,
    callers: &[Callers],
    held: &Held,
    unknown: Vec<Unknown>,
) -> Report {
    let mut fates: BTreeMap<&Text, Vec<(&Datacenter, &Fate)>> = BTreeMap::new();
    for service in held.keys() {
        fates.entry(service).or_default();
    }
    for Callers { datacenter, services } in callers {
        for fate in services {
            fates.entry(&fate.service).or_default().push((datacenter, fate));
        }
    }
    let services = fates.iter().filter_map(|(service, fates)| {
        let gone = held.get(*service).is_some_and(|at| at.keys().all(|dc| lost.contains(dc)));
        service_report(service, lost, overload, fates, gone)
    });
    let services: Vec<ServiceReport> = services.collect();
    let with = |outcome: Outcome| {
        let found = services.iter().filter(move |it| it.outcome == outcome);
        found.map(|it| it.service.clone()).collect::<Vec<_>>()
    };
    Report {
        lost: lost.to_vec(),
        nowhere: with(Outcome::Nowhere),
        overloaded: with(Outcome::Overloaded),
        services,
        unknown,
    }
}

/// Reports on one service; `gone`: only lost datacenters have it.
fn service_report(
    service: &Text,
    lost: &[Datacenter],
    overload: f64,
    fates: &[(&Datacenter, &Fate)],
    gone: bool,
) -> Option<ServiceReport> {
    let callers: Vec<CallerReport> = fates
        .iter()
        .map(|(datacenter, fate)| CallerReport {
            datacenter: (*datacenter).clone(),
            policy: fate.policy,
            outcome: outcome(datacenter, fate, lost),
            now: fate.now.clone(),
            then: fate.then.clone(),
        })
        .collect();
    let load = load(fates);
    let worst = callers.iter().map(|it| it.outcome).max();
    let somebody_stays = callers.iter().any(|it| it.outcome > Outcome::Lost);
    let outcome = match worst {
        Some(Outcome::Nowhere) => Outcome::Nowhere,
        // Whoever named a lost datacenter to find it finds nothing.
        _ if gone && !somebody_stays => Outcome::Nowhere,
        _ if load.is_some_and(|load| load > overload) => Outcome::Overloaded,
        Some(worst) => worst,
        // Somebody has it, and nobody looks it up without naming a datacenter.
        None => return None,
    };
    Some(ServiceReport { service: service.clone(), outcome, load, callers })
}

fn outcome(datacenter: &Datacenter, fate: &Fate, lost: &[Datacenter]) -> Outcome {
    match &*fate.then {
        _ if lost.contains(datacenter) => Outcome::Lost,
        [] => Outcome::Nowhere,
        then if then.iter().all(|share| share.datacenter == *datacenter) => Outcome::Own,
        _ => Outcome::Elsewhere,
    }
}

/// Returns how many times as much the busiest instance would have to do as the busiest one has now.
fn load(fates: &[(&Datacenter, &Fate)]) -> Option<f64> {
    let now = busiest(fates.iter().map(|(_, fate)| &*fate.now))?;
    let then = busiest(fates.iter().map(|(_, fate)| &*fate.then))?;
    Some(then / now)
}

/// Returns how many datacenters there are for each instance where there are most; each asks all that answer it
/// alike.
fn busiest<'a>(callers: impl Iterator<Item = &'a [Share]>) -> Option<f64> {
    let mut places: BTreeMap<(&Datacenter, &Text), (f64, usize)> = BTreeMap::new();
    for shares in callers {
        let all: usize = shares.iter().map(|share| share.instances).sum();
        for share in shares {
            let (asked, instances) =
                places.entry((&share.datacenter, &share.service)).or_insert((0.0, 0));
            *asked += share.instances as f64 / all as f64;
            *instances = (*instances).max(share.instances);
        }
    }
    let loads = places.values().map(|(asked, instances)| asked / *instances as f64);
    loads.reduce(f64::max)
}

#[cfg(test)]
mod tests;
