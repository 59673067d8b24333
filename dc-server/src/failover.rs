//! Plain lookups of a service, and runs of prepared queries, that another datacenter answers when the own one has too few
//! healthy instances.
//!
//! ```text
//! lookup ─▶ plan: the policy and its targets ─▶ choice ─▶ bodies of the own state and of mirrors ─▶ one body
//!                                               ▲
//!            kept: what was chosen, of which versions of what; recomputed when one of them changed
//! ```
//!
//! Everything that it takes is here: the own state, the mirrors of the others, and the verdicts. So a lookup costs
//! a comparison of versions more than one without a policy, and nobody is asked. A lookup that names a datacenter
//! gets that one's answer and nothing else; a query that is run there goes where it says.
//!
//! An answer has an index of its own: it changes whenever a version that it depends on, or the choice, does. It goes up
//! on each server, but servers need not agree, so that a blocking query waits for one that differs.

pub mod asked;
pub mod choice;
pub mod explain;
pub mod merge;
pub mod plan;
pub mod policy;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::{BoxFuture, select_all};
use lan_agent::{
    ask::{Answer, AskError, Blocking, Meta, Outcome},
    catalog::{Form, Lookup, Subject, Text},
};
use tokio::time::Instant;
use topology::Datacenter;
use wan_federation::{Federation, Health, Verdict};

use self::{
    asked::{Asked, ran},
    choice::{Choice, Memory, Place, choose},
    plan::{Plan, Target, plan, plan_query},
    policy::{Count, Policy},
};
use crate::{
    blocking::stretched,
    mirror::{Mirror, Mirrors},
    prepared_query::Wanted,
    query::{self, Answers, Draw, Version},
    state::{
        State,
        catalog::{Part, fold},
        view::{Published, View},
        watch::Topic,
    },
};

/// Most services whose choices are kept; whoever looks up names that nobody has could make any number.
const KEPT_MAX: usize = 16 * 1024;

/// How soon it is looked again for a datacenter of which nothing is known: there is nothing to wait on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Decides which datacenter answers, for a server.
pub struct Failover {
    /// What counts for services whose resolvers say nothing of failover; `None`: nothing does.
    default: Option<Policy>,
    /// Whether instances elsewhere are shown with their addresses as they count there.
    translate_wan: bool,
    mirrors: Mirrors,
    federation: Option<Federation>,
    kept: ArcSwap<imbl::HashMap<Text, Arc<Kept>>>,
    start: Instant,
    jitter: AtomicU64,
}

/// A choice, and what it was made of.
struct Kept {
    /// The federation's number of changes.
    epoch: u64,
    /// The index of what resolvers, or queries, say.
    rules: u64,
    /// What a query wants; `None` for a service.
    wanted: Option<Wanted>,
    /// How many other places were looked at in vain, of one that was found.
    failovers: usize,
    /// What is meant when nothing is wrong: whoever else answers stands in for it.
    meant: Target,
    /// The versions of what the first targets have; others did not matter.
    seen: Vec<Seen>,
    /// When to choose again, after the start.
    again_at: Option<Duration>,
    memory: Option<Memory<Target>>,
    parts: Vec<(Target, Option<usize>)>,
    index: u64,
}

/// Which version of a target's service a choice was made of.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    dc: Option<Datacenter>,
    part: Part,
    /// `None` while nothing is known of its datacenter.
    version: Option<Version>,
}

/// What a server has of itself.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// Its state.
    pub view: &'a View,
    /// What answers questions about it.
    pub answers: &'a Answers,
}

impl Failover {
    /// Decides by this policy where there is no other; `seed` decides the jitter of blocking queries.
    pub fn new(
        default: Option<Policy>,
        translate_wan: bool,
        mirrors: Mirrors,
        federation: Option<Federation>,
        seed: u64,
    ) -> Self {
        Self {
            default,
            translate_wan,
            mirrors,
            federation,
            kept: ArcSwap::default(),
            start: Instant::now(),
            jitter: AtomicU64::new(seed),
        }
    }

    /// Tells whether more than what is registered decides who answers a lookup.
    pub fn concerns(&self, own: Own<'_>, lookup: &Lookup) -> bool {
        match Asked::of(lookup) {
            Some(Asked::Service(service)) => {
                let state = own.view.load();
                plan::is_needed(state.config_entries(), self.default.as_ref(), service)
            }
            Some(Asked::Query(_)) => true,
            None => false,
        }
    }

    /// Answers a lookup of a service, or a run of a query, by the policy for it, waiting for a change if asked to.
    pub async fn answer(
        &self,
        own: Own<'_>,
        lookup: &Lookup,
        blocking: Option<Blocking>,
        last_contact: impl FnOnce() -> Duration,
    ) -> Result<Answer, AskError> {
        let Some(asked) = Asked::of(lookup) else {
            return Err(AskError::Bad("only the health of services has a policy".to_owned()));
        };
        if let Some(blocking) = blocking.filter(|blocking| blocking.index > 0) {
            query::check_lookup(lookup)?;
            self.wait(own, asked, blocking).await?;
        }
        let last_contact = last_contact();
        let state = own.view.load();
        match self.keep(own.answers, &state, asked)? {
            Some(kept) => self.show(own.answers, &state, lookup, &kept, last_contact),
            None => {
                let index = asked.rules(&state).max(1);
                let meta = Meta { index, last_contact, ..Meta::default() };
                Ok(Answer { outcome: Outcome::Absent, meta, body: Bytes::new() })
            }
        }
    }

    /// Waits until the index is another one.
    async fn wait(
        &self,
        own: Own<'_>,
        asked: Asked<'_>,
        blocking: Blocking,
    ) -> Result<(), AskError> {
        let seed = self.jitter.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + stretched(blocking.wait, seed);
        let mut changes = self.federation.as_ref().map(Federation::changes);
        loop {
            changes.iter_mut().for_each(tokio::sync::watch::Receiver::mark_unchanged);
            let planned = self.plan(own.answers, &own.view.load(), asked)?;
            let targets = planned.map(|planned| planned.plan.targets).unwrap_or_default();
            let mut watches = vec![own.view.watches().watch(vec![asked.topic()])];
            watches.extend(targets.iter().filter_map(|it| self.watch(own.view, it)));
            // From here on nothing is missed.
            let changed: Vec<BoxFuture<'static, ()>> =
                watches.iter().map(|it| it.changed()).collect();
            let state = own.view.load();
            let kept = self.keep(own.answers, &state, asked)?;
            let index = kept.as_ref().map_or_else(|| asked.rules(&state).max(1), |kept| kept.index);
            if index != blocking.index {
                return Ok(());
            }
            let verdicts = async {
                match &mut changes {
                    Some(changes) => drop(changes.changed().await),
                    None => std::future::pending().await,
                }
            };
            let unknown =
                |it: &Target| it.dc.as_ref().is_some_and(|dc| self.mirrors.get(dc).is_none());
            let look = targets.iter().any(unknown).then(|| Instant::now() + LOOK_AGAIN);
            let again = kept.and_then(|kept| kept.again_at).map(|at| self.start + at);
            let again = [again, look].into_iter().flatten().fold(until, Instant::min);
            tokio::select! {
                biased;
                _ = select_all(changed) => {}
                () = verdicts => {}
                () = tokio::time::sleep_until(again) => if Instant::now() >= until { return Ok(()) },
            }
        }
    }

    /// Registers for changes of what a target has.
    fn watch(&self, own: &View, target: &Target) -> Option<crate::state::watch::Watch> {
        let topics = vec![Topic::Catalog(part_of(target))];
        match &target.dc {
            None => Some(own.watches().watch(topics)),
            Some(dc) => Some(self.mirrors.get(dc)?.view().watches().watch(topics)),
        }
    }

    /// Returns what decides; `None` for a query that there is not.
    fn plan(
        &self,
        own: &Answers,
        state: &State,
        asked: Asked<'_>,
    ) -> Result<Option<Planned>, AskError> {
        let nearest = |most| {
            let known = self.federation.iter().flat_map(Federation::datacenters);
            known.skip(1).map(|(dc, _)| dc).take(most).collect()
        };
        let (entries, home) = (state.config_entries(), own.home());
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
    fn keep(
        &self,
        own: &Answers,
        state: &Published,
        asked: Asked<'_>,
    ) -> Result<Option<Arc<Kept>>, AskError> {
        let name = asked.key();
        let before = self.kept.load().get(&name).cloned();
        if let Some(kept) = before.as_ref().filter(|kept| self.counts(kept, state, asked)) {
            return Ok(Some(kept.clone()));
        }
        let Some(kept) = self.choose(own, state, asked, before.as_deref())? else {
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
            .collect::<imbl::HashMap<_, _>>();
            all.insert(name.clone(), kept.clone());
            all
        });
        Ok(Some(kept))
    }

    /// Tells whether nothing has changed since a choice was made.
    fn counts(&self, kept: &Kept, state: &Published, asked: Asked<'_>) -> bool {
        let version = |it: &Seen| self.version(state, it.dc.as_ref(), &it.part);
        kept.wanted.is_some() == asked.is_query()
            && kept.epoch == self.epoch()
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
        own: &Answers,
        state: &Published,
        asked: Asked<'_>,
        before: Option<&Kept>,
    ) -> Result<Option<Kept>, AskError> {
        // Before anything else: what changes meanwhile makes the choice be made again.
        let (epoch, now) = (self.epoch(), self.start.elapsed());
        let Some(Planned { plan, wanted }) = self.plan(own, state, asked)? else { return Ok(None) };
        let Plan { policy, targets } = plan;
        let verdicts = self.federation.iter().flat_map(Federation::datacenters).collect::<Vec<_>>();
        let memory = before.and_then(|kept| kept.memory.as_ref());
        let (mut seen, mut places) = (Vec::new(), Vec::new());
        for target in &targets {
            let (dc, part) = (target.dc.clone(), part_of(target));
            seen.push(Seen { version: self.version(state, dc.as_ref(), &part), dc, part });
            let place = self.place(own, state, target, &verdicts)?;
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
    fn place(
        &self,
        own: &Answers,
        state: &Published,
        target: &Target,
        verdicts: &[(Datacenter, Verdict)],
    ) -> Result<Place<Target>, AskError> {
        let Some(dc) = &target.dc else {
            let count = own.count(state, &target.census())?;
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

    /// Returns which instances of a part are shown; `None` for all in the usual order.
    fn draw(&self, lookup: &Lookup, target: &Target, most: Option<usize>) -> Option<Draw> {
        let Subject::Query(run) = &lookup.subject else {
            return most.map(|most| Draw { most, seed: None });
        };
        if lookup.form == Form::Records {
            // DNS has its own die.
            return None;
        }
        let most = if run.limit == 0 { usize::MAX } else { run.limit as usize };
        let is_ordered = !lookup.selection.near.is_empty() || !target.selection.near.is_empty();
        let seed = self.jitter.fetch_add(1, Ordering::Relaxed);
        Some(Draw { most, seed: (!is_ordered).then_some(seed) })
    }

    /// Puts the answer together.
    fn show(
        &self,
        own: &Answers,
        state: &Published,
        lookup: &Lookup,
        kept: &Kept,
        last_contact: Duration,
    ) -> Result<Answer, AskError> {
        let mut meta = Meta { index: kept.index, last_contact, ..Meta::default() };
        let mut bodies = Vec::with_capacity(kept.parts.len());
        for (target, most) in &kept.parts {
            let draw = self.draw(lookup, target, *most);
            let stands_in = kept.meant != *target;
            let lookup = target.lookup(lookup, stands_in, self.translate_wan);
            let Some(dc) = &target.dc else {
                bodies.push(own.shown(state, &lookup, draw)?);
                meta.served.push(own.home().clone());
                continue;
            };
            meta.served.push(dc.clone());
            // It was there when it was chosen, and is forgotten when its datacenter leaves.
            let Some(mirror) = self.mirrors.get(dc) else { continue };
            meta.mirrored = true;
            meta.last_contact = meta.last_contact.max(age(&mirror));
            bodies.push(mirror.answers().shown(&mirror.view().load(), &lookup, draw)?);
        }
        if bodies.is_empty()
            && let Some(dc) = meta.served.first()
        {
            // That there is nothing can't be said of what is not known.
            return Err(AskError::Failed(format!("nothing is mirrored of {dc} here yet")));
        }
        let mut body = merge::lists(lookup.form, bodies)?;
        if let Some(wanted) = &kept.wanted {
            let dc = meta.served.first().unwrap_or(own.home());
            body = ran(lookup.form, wanted, dc, kept.failovers, &body)?;
        }
        Ok(Answer { outcome: Outcome::Found, meta, body })
    }
}

/// Puts what is well before what is not quite, whatever is preferred among those. The first place stays.
fn put_in_order(places: &mut [Place<Target>], verdicts: &[(Datacenter, Verdict)]) {
    if let Some((_, others)) = places.split_first_mut() {
        others.sort_by_key(|place| !is_well(place.of.dc.as_ref(), verdicts));
    }
}

/// What decides on a lookup.
struct Planned {
    plan: Plan,
    wanted: Option<Wanted>,
}

/// Tells whether nothing is wrong with a datacenter; `None` is the own one.
fn is_well(dc: Option<&Datacenter>, verdicts: &[(Datacenter, Verdict)]) -> bool {
    let well =
        |(of, verdict): &(Datacenter, Verdict)| Some(of) == dc && verdict.health == Health::Healthy;
    dc.is_none() || verdicts.iter().any(well)
}

/// Returns what has to change for there to be others of a target's instances.
fn part_of(target: &Target) -> Part {
    Part::Health(fold(&target.service))
}

fn age(mirror: &Mirror) -> Duration {
    mirror.age().unwrap_or(Duration::MAX)
}

impl Answers {
    /// Returns the body of a lookup, with all instances or those that are drawn.
    fn shown(
        &self,
        state: &Published,
        lookup: &Lookup,
        draw: Option<Draw>,
    ) -> Result<Bytes, AskError> {
        match draw {
            None => Ok(self.look_up(state, lookup)?.body),
            Some(draw) => self.drawn(state, lookup, draw),
        }
    }
}

impl std::fmt::Debug for Failover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.kept.load().len();
        f.debug_struct("Failover").field("default", &self.default).field("kept", &kept).finish()
    }
}
