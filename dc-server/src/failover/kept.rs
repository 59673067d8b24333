//! What was chosen for a service or a query, of which versions of what. It counts until one of them changes.

use std::{sync::Arc, time::Duration};

use lan_agent::ask::AskError;
use topology::Datacenter;
use wan_federation::{Federation, Health, Verdict};

use super::{
    Failover,
    asked::{Asked, Name},
    choice::{Choice, Memory, Place, choose},
    plan::{Plan, Target, plan, plan_query},
    policy::Count,
};
use crate::{
    prepared_query::Wanted,
    query::{self, Version},
    state::{
        State,
        catalog::{Part, fold},
        view::Published,
    },
};

/// Most services whose choices are kept; whoever looks up names that nobody has could make any number.
const KEPT_MAX: usize = 16 * 1024;

/// A choice, and what it was made of.
pub(super) struct Kept {
    /// The federation's number of changes.
    epoch: u64,
    /// The index of what resolvers, or queries, say.
    rules: u64,
    /// What a query wants; `None` for a service.
    pub(super) wanted: Option<Wanted>,
    /// How many other places were looked at in vain, of one that was found.
    pub(super) failovers: usize,
    /// What is meant when nothing is wrong: whoever else answers stands in for it.
    pub(super) meant: Target,
    /// The versions of what the first targets have; others did not matter.
    seen: Vec<Seen>,
    /// When to choose again, after the start.
    pub(super) again_at: Option<Duration>,
    /// Where lookups are, if they are away.
    pub(super) memory: Option<Memory<Target>>,
    /// Who answers, and with how many instances.
    pub(super) parts: Vec<(Target, Option<usize>)>,
    /// The index of the answer.
    pub(super) index: u64,
}

/// Which version of a target's service a choice was made of.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    dc: Option<Datacenter>,
    part: Part,
    /// `None` while nothing is known of its datacenter.
    version: Option<Version>,
}

/// What decides on a lookup.
pub(super) struct Planned {
    /// Who may answer, and when.
    pub(super) plan: Plan,
    /// What a query wants; `None` for a service.
    pub(super) wanted: Option<Wanted>,
}

impl Failover {
    /// Returns what decides; `None` for a query that there is not.
    pub(super) fn plan(
        &self,
        state: &State,
        asked: Asked<'_>,
    ) -> Result<Option<Planned>, AskError> {
        let nearest = |most| {
            let known = self.federation.iter().flat_map(Federation::datacenters);
            known.skip(1).map(|(dc, _)| dc).take(most).collect()
        };
        let (entries, home) = (state.config_entries(), self.own.answers.home());
        Ok(match asked {
            Asked::Service(service) => {
                let plan = plan(entries, self.default.as_ref(), home, service, nearest);
                Some(Planned { plan, wanted: None })
            }
            Asked::Query(run) => {
                let Some(entry) = state.queries().find(&run.name) else { return Ok(None) };
                let wanted = entry.definition.filled_in(&run.name)?.wanted();
                let plan = plan_query(&wanted, home, nearest);
                Some(Planned { plan, wanted: Some(wanted) })
            }
        })
    }

    /// Returns the choice as things are; `None` for a query that there is not.
    pub(super) fn keep(
        self: &Arc<Self>,
        state: &Published,
        asked: Asked<'_>,
    ) -> Result<Option<Arc<Kept>>, AskError> {
        let name = asked.name();
        let before = self.kept.load().get(&name).cloned();
        if let Some(kept) = before.as_ref().filter(|kept| self.counts(kept, state, asked)) {
            return Ok(Some(kept.clone()));
        }
        let Some(kept) = self.choose(state, asked, before.as_deref())? else {
            return Ok(None);
        };
        let kept = Arc::new(kept);
        self.kept.rcu(|all| {
            let full = all.len() >= KEPT_MAX && !all.contains_key(&name);
            let mut all = match full {
                // Those that are away know since when; the others are what they would be again.
                true => all.iter().filter(|(_, it)| it.memory.is_some()).take(KEPT_MAX / 2),
                false => return all.update(name.clone(), kept.clone()),
            }
            .map(|(name, kept)| (name.clone(), kept.clone()))
            .collect::<imbl::HashMap<Name, _>>();
            all.insert(name.clone(), kept.clone());
            all
        });
        if let (Asked::Service(service), Some(_)) = (asked, &kept.memory) {
            self.mind(service);
        }
        Ok(Some(kept))
    }

    /// Tells whether nothing has changed since a choice was made.
    fn counts(&self, kept: &Kept, state: &Published, asked: Asked<'_>) -> bool {
        let version = |it: &Seen| self.version(state, it.dc.as_ref(), &it.part);
        kept.epoch == self.epoch()
            && kept.rules == asked.rules(state)
            && kept.again_at.is_none_or(|at| self.start.elapsed() < at)
            && kept.seen.iter().all(|it| version(it) == it.version)
    }

    fn epoch(&self) -> u64 {
        self.federation.as_ref().map_or(0, Federation::version)
    }

    /// Returns which version of a part is known in a place; `None` when its datacenter is not.
    fn version(&self, own: &Published, dc: Option<&Datacenter>, part: &Part) -> Option<Version> {
        match dc {
            None => Some(query::version(own, part)),
            Some(dc) => Some(query::version(&self.mirrors.get(dc)?.view().load(), part)),
        }
    }

    fn choose(
        &self,
        state: &Published,
        asked: Asked<'_>,
        before: Option<&Kept>,
    ) -> Result<Option<Kept>, AskError> {
        // Before anything else: what changes meanwhile makes the choice be made again.
        let (epoch, now) = (self.epoch(), self.start.elapsed());
        let Some(Planned { plan, wanted }) = self.plan(state, asked)? else { return Ok(None) };
        let Plan { policy, targets } = plan;
        let verdicts = self.federation.iter().flat_map(Federation::datacenters).collect::<Vec<_>>();
        let memory = before.and_then(|kept| kept.memory.as_ref());
        let (mut seen, mut places) = (Vec::new(), Vec::new());
        for target in &targets {
            let (dc, part) = (target.dc.clone(), part_of(target));
            seen.push(Seen { version: self.version(state, dc.as_ref(), &part), dc, part });
            let place = self.place(state, target, &verdicts)?;
            let enough = place.open && policy.min_healthy.missing(place.count) == 0;
            places.push(place);
            if enough && seen.len() == 1 && memory.is_none() {
                // The others don't matter, and need not be looked at when they change.
                break;
            }
        }
        put_in_order(&mut places, &verdicts);
        let Choice { parts, memory, again_at } = choose(&policy, &places, memory, now);
        let sum = seen.iter().flat_map(|it| it.version).map(|version| version.index).sum::<u64>();
        let index = match before {
            Some(it) if it.seen == seen && it.parts == parts && it.wanted == wanted => it.index,
            Some(it) => sum.max(it.index + 1),
            None => sum.max(1),
        };
        let meant = places[0].of.clone();
        let answers = |place: &Place<Target>| {
            place.open && place.count.healthy > 0 && parts.iter().any(|(at, _)| *at == place.of)
        };
        let failovers = places.iter().position(answers).unwrap_or(places.len() - 1);
        Ok(Some(Kept {
            epoch,
            rules: asked.rules(state),
            wanted,
            failovers,
            meant,
            seen,
            again_at,
            memory,
            parts,
            index,
        }))
    }

    /// Looks at a target.
    pub(super) fn place(
        &self,
        state: &Published,
        target: &Target,
        verdicts: &[(Datacenter, Verdict)],
    ) -> Result<Place<Target>, AskError> {
        let Some(dc) = &target.dc else {
            let count = self.own.answers.count(state, &target.census())?;
            return Ok(Place { of: target.clone(), count, open: true });
        };
        let count = match self.mirrors.get(dc) {
            Some(mirror) => mirror.answers().count(&mirror.view().load(), &target.census())?,
            None => Count::default(),
        };
        let verdict = verdicts.iter().find(|(of, _)| of == dc);
        let open = verdict.is_some_and(|(_, verdict)| verdict.health.takes_requests());
        Ok(Place { of: target.clone(), count, open })
    }
}

/// Puts what is well before what is not quite, whatever is preferred among those. The first place stays.
pub(super) fn put_in_order(places: &mut [Place<Target>], verdicts: &[(Datacenter, Verdict)]) {
    if let Some((_, others)) = places.split_first_mut() {
        others.sort_by_key(|place| !is_well(place.of.dc.as_ref(), verdicts));
    }
}

/// Tells whether nothing is wrong with a datacenter; `None` is the own one.
fn is_well(dc: Option<&Datacenter>, verdicts: &[(Datacenter, Verdict)]) -> bool {
    let well =
        |(of, verdict): &(Datacenter, Verdict)| Some(of) == dc && verdict.health == Health::Healthy;
    dc.is_none() || verdicts.iter().any(well)
}

/// Returns what has to change for there to be others of a target's instances.
pub(super) fn part_of(target: &Target) -> Part {
    Part::Health(fold(&target.service))
}
