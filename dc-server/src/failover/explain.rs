//! Where lookups would go: what is known here, put together by the same plan and choice that lookups go by.
//!
//! ```text
//! each datacenter   its services ─▶ plan ─▶ places ──────────────▶ choice: now
//!                                             └─▶ without the lost ─▶ choice: then     Callers
//! the one asked     the Callers of all, what instances there are ─▶ report
//! ```

pub mod report;

use std::collections::{BTreeMap, BTreeSet};

use lan_agent::{ask::AskError, catalog::Text};
use serde::{Deserialize, Serialize};
use topology::Datacenter;
use wan_federation::{Federation, Verdict};

use super::{
    Failover,
    asked::Asked,
    choice::{Choice, Place, choose},
    kept::{Planned, put_in_order},
    plan::{Plan, Target, is_needed},
};
use crate::{
    config_entry::SERVICE_RESOLVER,
    query::Answers,
    state::{
        catalog::fold,
        view::{Published, View},
    },
};

/// Where those are sent who look services up in a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Callers {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// The services that are registered there, or looked up elsewhere by a policy, by name.
    pub services: Vec<Fate>,
}

/// What becomes of the lookups of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Fate {
    /// The service.
    pub service: Text,
    /// Whether a policy decides who answers.
    pub policy: bool,
    /// How many instances are registered in the datacenter of the callers, however they are.
    pub registered: usize,
    /// Who answers now.
    pub now: Vec<Share>,
    /// Who would answer without the datacenters in question.
    pub then: Vec<Share>,
}

/// The instances that answer in one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Share {
    /// Where.
    pub datacenter: Datacenter,
    /// Of which service: another one than was looked up if a resolver says so.
    pub service: Text,
    /// How many healthy ones; at least 1.
    pub instances: usize,
}

/// How many healthy instances of a service there are in each datacenter.
pub type Held = BTreeMap<Text, BTreeMap<Datacenter, usize>>;

impl Failover {
    /// Returns where those of this datacenter are sent, for one service or all.
    pub fn callers(
        &self,
        service: Option<&Text>,
        lost: &[Datacenter],
    ) -> Result<Callers, AskError> {
        let state = self.own.view.load();
        let verdicts: Vec<_> = self.federation.iter().flat_map(Federation::datacenters).collect();
        let names = match service {
            Some(service) => BTreeSet::from([service.clone()]),
            None => self.names(&state),
        };
        let mut services = Vec::with_capacity(names.len());
        for name in &names {
            let fate = self.fate(&state, name, lost, &verdicts)?;
            if fate.registered > 0 || !fate.now.is_empty() || !fate.then.is_empty() {
                services.push(fate);
            }
        }
        Ok(Callers { datacenter: self.own.answers.home().clone(), services })
    }

    /// Returns how many healthy instances there are, of one service or all, as far as is known here.
    pub fn held(&self, service: Option<&Text>) -> Result<Held, AskError> {
        let mut held = Held::new();
        let mut take_in = |view: &View, answers: &Answers| -> Result<(), AskError> {
            let state = view.load();
            let all = state.catalog().names().iter().map(|(name, _)| name.clone());
            let names: Vec<Text> = service.map_or_else(|| all.collect(), |one| vec![one.clone()]);
            for name in names {
                let target = Target::own(name.clone());
                let healthy = answers.count(&state, &target.census())?.healthy;
                if healthy > 0 {
                    held.entry(name).or_default().insert(answers.home().clone(), healthy);
                }
            }
            Ok(())
        };
        take_in(&self.own.view, &self.own.answers)?;
        for mirror in self.mirrors.ages().keys().filter_map(|dc| self.mirrors.get(dc)) {
            take_in(mirror.view(), mirror.answers())?;
        }
        Ok(held)
    }

    /// Returns the names of all services that somebody may look up, each once whatever its capitals.
    fn names(&self, state: &Published) -> BTreeSet<Text> {
        let mut names: BTreeMap<Text, Text> = BTreeMap::new();
        let mut add = |name: &Text| {
            names.entry(fold(name)).or_insert_with(|| name.clone());
        };
        state.catalog().names().iter().for_each(|(name, _)| add(name));
        for mirror in self.mirrors.ages().keys().filter_map(|dc| self.mirrors.get(dc)) {
            mirror.view().load().catalog().names().iter().for_each(|(name, _)| add(name));
        }
        let resolvers = state.config_entries().of_kind(SERVICE_RESOLVER);
        resolvers.for_each(|entry| add(&entry.definition.name));
        names.into_values().collect()
    }

    fn fate(
        &self,
        state: &Published,
        service: &Text,
        lost: &[Datacenter],
        verdicts: &[(Datacenter, Verdict)],
    ) -> Result<Fate, AskError> {
        let home = self.own.answers.home();
        let asked = Asked::Service(service);
        let Some(Planned { plan, .. }) = self.plan(state, asked)? else {
            return Err(AskError::Failed(format!("nothing is known of {service}")));
        };
        let Plan { policy, targets } = plan;
        let places = targets.iter().map(|target| self.place(state, target, verdicts));
        let mut places = places.collect::<Result<Vec<_>, _>>()?;
        put_in_order(&mut places, verdicts);
        let kept = self.kept.load().get(&asked.name()).cloned();
        let memory = kept.as_ref().and_then(|kept| kept.memory.as_ref());
        let now = choose(&policy, &places, memory, self.start.elapsed());
        let is_lost = |place: &Place<Target>| lost.contains(place.of.dc.as_ref().unwrap_or(home));
        let without = places.iter().map(|it| Place { open: it.open && !is_lost(it), ..it.clone() });
        let without: Vec<_> = without.collect();
        let then = match lost.contains(home) {
            // Nobody is left who could ask.
            true => Vec::new(),
            false => {
                let then = choose(&policy, &without, now.memory.as_ref(), self.start.elapsed());
                shares(home, &then, &without)
            }
        };
        let registered =
            self.own.answers.count(state, &Target::own(service.clone()).census())?.total;
        Ok(Fate {
            service: service.clone(),
            policy: is_needed(state.config_entries(), self.default.as_ref(), service),
            registered,
            now: shares(home, &now, &places),
            then,
        })
    }
}

/// Returns who answers by a choice.
fn shares(home: &Datacenter, choice: &Choice<Target>, places: &[Place<Target>]) -> Vec<Share> {
    let share = |(target, most): &(Target, Option<usize>)| {
        let place = places.iter().find(|place| place.of == *target && place.open)?;
        let instances = place.count.healthy.min(most.unwrap_or(usize::MAX));
        let datacenter = target.dc.as_ref().unwrap_or(home).clone();
        (instances > 0).then(|| Share { datacenter, service: target.service.clone(), instances })
    };
    choice.parts.iter().filter_map(share).collect()
}
