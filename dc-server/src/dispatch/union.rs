//! Answers a lookup in several datacenters: each is asked what it holds, at the same time as the others.
//!
//! ```text
//! asked server --+--> its own datacenter
//!                +--> each other one, within GATHER_MAX ──▶ its mirror here, if it does not answer
//! ```
//!
//! Who does not answer takes nothing from the others: its part says why. Who waits is answered when the index of any
//! part is another one than it has seen, or a datacenter's verdict changes.

use std::{collections::BTreeMap, pin::pin};

use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use lan_agent::ask::{
    Answer, Ask, AskError, Blocking, Consistency, Meta, Outcome, Part, Question, Union, union::sum,
};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout_at};
use topology::Datacenter;
use wan_federation::{Federation, Health};

use super::{Dispatch, gather::GATHER_MAX, way::Origin};
use crate::{mirror::rule::Use, query, union};

/// How soon a datacenter that failed to say that something changed is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The parts of an answer, in order, with their bodies.
struct Parts(Vec<(Part, Option<Answer>)>);

impl Dispatch {
    /// Answers for several datacenters. It is an ask that asks: its type would have no end.
    pub(super) fn unite<'a>(
        &'a self,
        ask: &'a Ask,
        union: &'a Union,
    ) -> BoxFuture<'a, Result<Answer, AskError>> {
        Box::pin(self.unite_parts(ask, union))
    }

    async fn unite_parts(&self, ask: &Ask, union: &Union) -> Result<Answer, AskError> {
        query::check_lookup(&union.lookup)?;
        if !Union::is_list(&union.lookup.subject) {
            return Err(AskError::Bad("only lists of several datacenters are put together".into()));
        }
        let mut changes = self.federation.as_ref().map(Federation::changes);
        let parts = self.parts(ask, union).await;
        let Some(blocking) = ask.blocking else { return parts.put_together(union, ask) };
        let is_news = match union.seen.is_empty() {
            true => sum(&parts.all()) != blocking.index,
            false => parts.seen() != union.seen,
        };
        if is_news {
            return parts.put_together(union, ask);
        }
        let until = Instant::now() + self.patience.waits.hold(blocking).wait;
        let held = parts.held();
        let mut changed = pin!(self.any_change(ask, union, &parts, until));
        loop {
            let verdicts = async {
                match &mut changes {
                    Some(changes) => drop(changes.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut changed => break,
                () = verdicts => {
                    let now = self.verdicts();
                    if held.iter().any(|(dc, status)| now.get(dc).is_some_and(|now| now != status))
                        || (union.of.is_empty() && now.len() != held.len())
                    {
                        break;
                    }
                }
                () = sleep_until(until) => break,
            }
        }
        self.parts(ask, union).await.put_together(union, ask)
    }

    /// Asks all, or those that are wanted.
    async fn parts(&self, ask: &Ask, union: &Union) -> Parts {
        let verdicts = self.verdicts();
        let wanted = match union.of.is_empty() {
            true => self.by_distance(),
            false => union.of.clone(),
        };
        let one = async |dc: &Datacenter| {
            let status = verdicts.get(dc).map_or_else(|| "unknown".to_owned(), Clone::clone);
            let asked = self.part(ask, union, dc).await;
            let part = Part {
                dc: dc.clone(),
                index: asked.as_ref().map_or(0, |answer| answer.meta.index),
                age: asked.as_ref().map_or(Duration::ZERO, |answer| answer.meta.last_contact),
                rows: asked.as_ref().map_or(0, |answer| union::rows(&union.lookup, &answer.body)),
                mirrored: asked.as_ref().is_ok_and(|answer| answer.meta.mirrored),
                error: asked.as_ref().err().map(ToString::to_string),
                status,
            };
            (part, asked.ok())
        };
        Parts(join_all(wanted.iter().map(one)).await)
    }

    /// Asks one, or its mirror if it does not answer.
    async fn part(&self, ask: &Ask, union: &Union, dc: &Datacenter) -> Result<Answer, AskError> {
        let deadline = ask.deadline.min(Instant::now() + GATHER_MAX);
        let ask = self.part_ask(ask, union, dc, None, deadline);
        let late = || AskError::Deadline("no answer in time".to_owned());
        let answered = timeout_at(deadline, self.ask(ask.clone(), Origin::Agent)).await;
        let answered = answered.unwrap_or_else(|_| Err(late()));
        let Err(error) = answered else { return answered };
        let stale = Ask { consistency: Consistency::Stale, deadline: deadline + GATHER_MAX, ..ask };
        let may = stale.consistency != ask.consistency && ask.consistency == Consistency::Default;
        match may && *dc != self.map.home && self.use_of_mirror(&stale, dc) != Use::Never {
            true => self.answer_from_mirror(&stale, dc.clone()).await,
            false => Err(error),
        }
    }

    fn part_ask(
        &self,
        ask: &Ask,
        union: &Union,
        dc: &Datacenter,
        blocking: Option<Blocking>,
        deadline: Instant,
    ) -> Ask {
        let mut lookup = union.lookup.clone();
        lookup.selection.wan &= *dc != self.map.home;
        // Its own datacenter is named as well: no policy is to answer for it.
        let (dc, question) = (Some(dc.clone()), Question::Lookup(lookup));
        Ask { dc, blocking, deadline, question, ..ask.clone() }
    }

    /// Waits until the index of any part changes.
    async fn any_change(&self, ask: &Ask, union: &Union, parts: &Parts, until: Instant) {
        let wait = until.saturating_duration_since(Instant::now());
        let one = async |part: &Part| {
            let blocking = Some(Blocking { index: part.index, wait });
            loop {
                let ask = self.part_ask(ask, union, &part.dc, blocking, until + GATHER_MAX);
                match self.ask(ask, Origin::Agent).await {
                    Ok(answer) if answer.meta.index != part.index => return,
                    // It waited for as long as it was to.
                    Ok(_) if Instant::now() >= until => return,
                    Ok(_) | Err(_) => sleep(AGAIN).await,
                }
            }
        };
        let there = parts.0.iter().map(|(part, _)| part).filter(|part| part.index > 0);
        let mut changes: FuturesUnordered<_> = there.map(one).collect();
        if changes.next().await.is_none() {
            sleep_until(until).await;
        }
    }

    /// Returns the datacenters that did not leave, the own one first, then the nearest.
    fn by_distance(&self) -> Vec<Datacenter> {
        match &self.federation {
            Some(federation) => federation.datacenters().into_iter().map(|(dc, _)| dc).collect(),
            None => vec![self.map.home.clone()],
        }
    }

    /// Returns what each datacenter is held for.
    fn verdicts(&self) -> BTreeMap<Datacenter, String> {
        let all = self.federation.iter().flat_map(Federation::datacenters);
        let mut all: BTreeMap<_, _> =
            all.map(|(dc, verdict)| (dc, verdict.health.to_string())).collect();
        all.entry(self.map.home.clone()).or_insert_with(|| Health::Healthy.to_string());
        all
    }
}

impl Parts {
    fn all(&self) -> Vec<Part> {
        self.0.iter().map(|(part, _)| part.clone()).collect()
    }

    /// Returns the index of each part.
    fn seen(&self) -> BTreeMap<Datacenter, u64> {
        self.0.iter().map(|(part, _)| (part.dc.clone(), part.index)).collect()
    }

    /// Returns what each datacenter was held for.
    fn held(&self) -> BTreeMap<Datacenter, String> {
        self.0.iter().map(|(part, _)| (part.dc.clone(), part.status.clone())).collect()
    }

    /// Makes one answer of all, unless nobody gave one.
    fn put_together(self, union: &Union, ask: &Ask) -> Result<Answer, AskError> {
        let parts = self.all();
        let answers: Vec<Answer> = self.0.into_iter().filter_map(|(_, answer)| answer).collect();
        if answers.is_empty() {
            let why = parts.iter().filter_map(|part| Some((&part.dc, part.error.as_ref()?)));
            let why: Vec<String> = why.map(|(dc, error)| format!("{dc}: {error}")).collect();
            return Err(AskError::Failed(format!("no datacenter answered: {}", why.join("; "))));
        }
        let mirrored = answers.iter().any(|answer| answer.meta.mirrored);
        let meta = Meta {
            index: sum(&parts),
            known_leader: Some(answers.iter().all(|it| it.meta.known_leader == Some(true))),
            last_contact: answers.iter().map(|it| it.meta.last_contact).max().unwrap_or_default(),
            consistency: if mirrored { Consistency::Stale } else { ask.consistency },
            mirrored,
            parts,
            ..Meta::default()
        };
        let bodies = answers.into_iter().map(|answer| answer.body).collect();
        Ok(Answer {
            outcome: Outcome::Found,
            meta,
            body: union::put_together(&union.lookup, bodies)?,
        })
    }
}
