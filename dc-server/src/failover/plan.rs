//! What a lookup of a service looks at: its own instances, and those that may stand in for them.
//!
//! A service-resolver says which instances are meant (a redirect, a subset) and where to go when they are too few. Without
//! a word on that in it, the server's own policy counts, if it has one. A function of values.

use std::{borrow::Cow, time::Duration};

use lan_agent::catalog::{Form, Lookup, Run, Selection, Subject, Text};
use topology::Datacenter;

use super::policy::{Policy, Preference};
use crate::{
    config_entry::{self, ServiceResolver},
    prepared_query::Wanted,
    state::config_entries::Table,
};

/// Most redirects that are followed: one that leads in a circle ends somewhere.
const REDIRECTS_MAX: usize = 8;

/// Some instances of a service in a datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The datacenter; `None` for the own one.
    pub dc: Option<Datacenter>,
    /// The service.
    pub service: Text,
    /// Which of its instances.
    pub selection: Selection,
    /// Whether those with warnings are left out.
    pub only_passing: bool,
}

/// Who may answer a lookup of a service, and by which policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// When others than the first target answer.
    pub policy: Policy,
    /// What is meant comes first, then what may stand in for it, in order.
    pub targets: Vec<Target>,
}

/// Where a resolution is.
struct Step {
    dc: Option<Datacenter>,
    service: Text,
    subset: Option<Text>,
}

/// Tells whether anything but the instances of a service as they are registered may answer a lookup of it.
pub fn is_needed(entries: &Table, default: Option<&Policy>, service: &str) -> bool {
    default.is_some() || entries.resolver(service).is_some()
}

/// Plans a lookup of a service. `nearest` returns so many of the other datacenters, the nearest first.
pub fn plan(
    entries: &Table,
    default: Option<&Policy>,
    home: &Datacenter,
    service: &Text,
    nearest: impl FnOnce(usize) -> Vec<Datacenter>,
) -> Plan {
    let start = Step { dc: None, service: service.clone(), subset: None };
    let (meant, resolver) = resolve(entries, start);
    let own = target(home, &meant, resolver);
    let failover = resolver.and_then(|it| it.failover(meant.subset.as_deref()));
    if let Some(failover) = failover {
        let others = failover.targets.iter().map(|other| {
            let step = after(&meant, other);
            let (step, resolver) = resolve(entries, step);
            target(home, &step, resolver)
        });
        let policy = Policy {
            min_healthy: failover.min_healthy,
            spill: failover.spill,
            hold_down: failover.hold_down,
            ..Policy::default()
        };
        return Plan { policy, targets: distinct([own].into_iter().chain(others)) };
    }
    let policy = default.cloned().unwrap_or_default();
    let dcs = match (default.map(|it| &it.to), &own.dc) {
        // Who is sent to a datacenter by a redirect was meant to go there.
        (None, _) | (_, Some(_)) => Vec::new(),
        (Some(Preference::These(dcs)), None) => dcs.clone(),
        (Some(Preference::Nearest(most)), None) => nearest(*most),
    };
    let others = dcs.into_iter().filter(|dc| dc != home);
    let others = others.map(|dc| Target { dc: Some(dc), ..own.clone() }).collect::<Vec<_>>();
    Plan { policy, targets: distinct([own].into_iter().chain(others)) }
}

/// Plans a run of a prepared query.
pub fn plan_query(
    wanted: &Wanted,
    home: &Datacenter,
    nearest: impl FnOnce(usize) -> Vec<Datacenter>,
) -> Plan {
    let Wanted { service, selection, datacenters, .. } = wanted.clone();
    let own = Target { dc: None, service, selection, only_passing: false };
    let others = nearest(wanted.nearest).into_iter().chain(datacenters);
    let others = others.filter(|dc| dc != home);
    let others = others.map(|dc| Target { dc: Some(dc), ..own.clone() }).collect::<Vec<_>>();
    // As in Consul the own datacenter answers as soon as it has anything to answer with.
    let policy = Policy { hold_down: Duration::ZERO, ..Policy::default() };
    Plan { policy, targets: distinct([own].into_iter().chain(others)) }
}

/// Follows redirects; returns where they end, with the subset that is meant, and the resolver there.
fn resolve(entries: &Table, mut step: Step) -> (Step, Option<&ServiceResolver>) {
    for _ in 0..REDIRECTS_MAX {
        let resolver = entries.resolver(&step.service);
        let Some(redirect) = resolver.and_then(|it| it.redirect.as_ref()) else { break };
        let next = after(&step, redirect);
        let ends = next.service == step.service;
        step = next;
        if ends {
            break;
        }
    }
    let resolver = entries.resolver(&step.service).map(|resolver| &**resolver);
    let default = resolver.and_then(|it| it.default_subset.clone());
    step.subset = step.subset.or(default);
    (step, resolver)
}

/// Returns where a resolver's target leads to.
fn after(step: &Step, to: &config_entry::Target) -> Step {
    let service = to.service.clone().unwrap_or_else(|| step.service.clone());
    let same = service == step.service;
    Step {
        dc: to.datacenter.clone().or_else(|| step.dc.clone()),
        subset: to.subset.clone().or_else(|| step.subset.clone().filter(|_| same)),
        service,
    }
}

fn target(home: &Datacenter, step: &Step, resolver: Option<&ServiceResolver>) -> Target {
    let subset = step.subset.as_ref().and_then(|name| resolver?.subsets.get(name));
    Target {
        dc: step.dc.clone().filter(|dc| dc != home),
        service: step.service.clone(),
        selection: Selection {
            filter: subset.map_or_else(Text::default, |subset| subset.filter_text.clone()),
            ..Selection::default()
        },
        only_passing: subset.is_some_and(|subset| subset.only_passing),
    }
}

fn distinct(targets: impl Iterator<Item = Target>) -> Vec<Target> {
    let mut all = Vec::new();
    for target in targets {
        if !all.contains(&target) {
            all.push(target);
        }
    }
    all
}

impl Target {
    /// All instances of a service in the own datacenter.
    pub fn own(service: Text) -> Self {
        Self { dc: None, service, selection: Selection::default(), only_passing: false }
    }

    /// Makes a lookup of the service's health, or a run of a query, one of these instances; those elsewhere are shown
    /// as they are seen from the WAN if `wan`. Only passing ones stand in for others, unless a query says which do.
    pub fn lookup<'a>(&self, asked: &'a Lookup, stands_in: bool, wan: bool) -> Cow<'a, Lookup> {
        if !stands_in && self.is_all_of(&asked.subject) {
            return Cow::Borrowed(asked);
        }
        let mut lookup = asked.clone();
        if let Subject::Query(run) = &asked.subject {
            lookup.subject = Subject::Health { service: self.service.clone(), passing: false };
            let wan = asked.selection.wan || (self.dc.is_some() && wan);
            let near = self.near(run, &asked.selection.near);
            lookup.selection = Selection { near, wan, ..self.selection.clone() };
            return Cow::Owned(lookup);
        }
        if let Subject::Health { service, passing } = &mut lookup.subject {
            *service = self.service.clone();
            *passing |= stands_in || self.only_passing;
        }
        let selection = &mut lookup.selection;
        selection.wan |= self.dc.is_some() && wan;
        let own = &self.selection.filter;
        selection.filter = match (&*selection.filter, &**own) {
            (_, "") => selection.filter.clone(),
            ("", _) => own.clone(),
            (asked, own) => format!("({asked}) and ({own})").into(),
        };
        Cow::Owned(lookup)
    }

    /// Tells whether it is what is asked for, as it stands there.
    fn is_all_of(&self, subject: &Subject) -> bool {
        let own = self.dc.is_none() && !self.only_passing && self.selection.filter.is_empty();
        own && matches!(subject, Subject::Health { service, .. } if *service == self.service)
    }

    /// Returns the lookup that tells how many of them there are.
    pub fn census(&self) -> Lookup {
        let subject = Subject::Health { service: self.service.clone(), passing: false };
        Lookup { subject, selection: self.selection.clone(), form: Form::Json }
    }

    /// Returns the node that a run wants instances to be near to. A node of the own datacenter is near to none of
    /// another one.
    fn near(&self, run: &Run, asked: &Text) -> Text {
        let said = if asked.is_empty() { &self.selection.near } else { asked };
        match &**said {
            _ if self.dc.is_some() => Text::default(),
            "_agent" => run.agent.clone(),
            // Whoever asks is only known to the agent that it asks.
            "_ip" => Text::default(),
            _ => said.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
