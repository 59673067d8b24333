//! Answers questions about the federation: what this server knows, what it asks others for.
//!
//! ```text
//!   asked server --+--> its fellow servers: their events          within FELLOWS_MAX
//!                  +--> a server of each other datacenter          within GATHER_MAX
//!                         +--> its fellow servers: their events
//! ```
//!
//! Who does not answer in time is named in the answer and holds nobody up any longer.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use lan_agent::{
    ask::{
        Answer, Ask, AskError, Blocking, Consistency, Meta, Outcome, Question,
        question::Scope,
        wire::{decode_reply, encode_ask},
    },
    remote::ASK,
};
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};
use topology::{Datacenter, NodeName, Profile, Role};
use wan_federation::Federation;

use super::{Dispatch, Request, Target};
use crate::federation::{
    status::{Home, overview},
    timeline::Gathered,
};

/// How long the servers of the own datacenter have to tell their events.
const FELLOWS_MAX: Duration = Duration::from_secs(1);

/// How long another datacenter has: its servers' second, and as much again for the way.
pub(super) const GATHER_MAX: Duration = Duration::from_secs(2);

/// How often those who wait for events look around for new ones.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

impl Dispatch {
    /// Answers how the datacenters are, once that is something else than what has the index given.
    pub(super) async fn federation_status(&self, ask: &Ask) -> Result<Answer, AskError> {
        let federation = self.wan()?;
        if let Some(blocking) = ask.blocking {
            let (index, until) = self.wait(blocking);
            let mut changes = federation.changes();
            let changed = changes.wait_for(|now| *now != index);
            // What there is when the time is over is the answer as well.
            let _ = timeout_at(until, changed).await;
        }
        let report =
            federation.report().await.map_err(|error| AskError::Failed(error.to_string()))?;
        let home = Home {
            me: federation.me().name.clone(),
            leader: self.raft.leader().map(|leader| leader.name),
            term: self.raft.term(),
            applied: self.raft.applied(),
        };
        self.shown(report.index, &overview(federation.me(), &home, &report, &self.mirrors.ages()))
    }

    /// Answers what happened, once somebody has more to tell than what has the index given.
    pub(super) async fn federation_timeline(
        &self,
        ask: &Ask,
        about: Option<&Datacenter>,
        scope: Scope,
    ) -> Result<Answer, AskError> {
        let federation = self.wan()?;
        let waits = ask.blocking.map(|blocking| self.wait(blocking));
        loop {
            let gathered = Gathered::merged(self.gather(federation, ask, scope).await?, about);
            let next = Instant::now() + FOLLOW_INTERVAL;
            match waits {
                Some((index, until)) if gathered.index() == index && next < until => {
                    sleep_until(next).await;
                }
                _ => return self.shown(gathered.index(), &gathered),
            }
        }
    }

    async fn gather(
        &self,
        federation: &Federation,
        ask: &Ask,
        scope: Scope,
    ) -> Result<Vec<Gathered>, AskError> {
        let events =
            federation.events().await.map_err(|error| AskError::Failed(error.to_string()))?;
        let mine = Gathered::of_server(federation.me(), events);
        let fellows = async {
            match scope {
                Scope::Federation | Scope::Datacenter => {
                    self.ask_fellows(federation.me(), ask).await
                }
                Scope::Server => Vec::new(),
            }
        };
        let others = async {
            match scope {
                Scope::Federation => self.ask_others(federation, ask).await,
                Scope::Datacenter | Scope::Server => Vec::new(),
            }
        };
        let (mut all, others) = tokio::join!(fellows, others);
        all.push(mine);
        all.extend(others);
        Ok(all)
    }

    /// Asks the other servers of the own datacenter for their events.
    async fn ask_fellows(&self, me: &Profile, ask: &Ask) -> Vec<Gathered> {
        let deadline = ask.deadline.min(Instant::now() + FELLOWS_MAX);
        let ask = &part_of(ask, None, Scope::Server, deadline);
        let members = self.pool.members();
        let fellows = members.iter().map(|member| &member.profile).filter(|profile| {
            profile.role == Role::Server && profile.name != me.name && profile.dc == me.dc
        });
        let one = async |fellow: &Profile| {
            let asked = self.ask_fellow(fellow, ask).await;
            gathered(asked, &me.dc, Some(&fellow.name))
        };
        join_all(fellows.map(one)).await
    }

    async fn ask_fellow(&self, fellow: &Profile, ask: &Ask) -> Result<Answer, AskError> {
        let failed = |reason: String| AskError::Failed(reason);
        let link = fellow.link.ok_or_else(|| failed("it has no link".to_owned()))?;
        let target = Target::server(&self.map.home, &fellow.name, link);
        let body = encode_ask(ask, Instant::now());
        let request = Request { kind: ASK, deadline: ask.deadline, body };
        let called = timeout_at(ask.deadline, self.link.call(&target, request)).await;
        let called = called.map_err(|_| failed("no answer in time".to_owned()))?;
        decode_reply(called.map_err(|error| failed(error.to_string()))?.body)
    }

    /// Asks a server of each other datacenter for the events of all servers there.
    async fn ask_others(&self, federation: &Federation, ask: &Ask) -> Vec<Gathered> {
        let deadline = ask.deadline.min(Instant::now() + GATHER_MAX);
        let ask = |dc: &Datacenter| part_of(ask, Some(dc), Scope::Datacenter, deadline);
        let answers = self.ask_each(&self.others(federation), ask).await;
        answers.into_iter().map(|(dc, asked)| gathered(asked, &dc, None)).collect()
    }

    /// Returns the other datacenters that did not leave.
    pub(super) fn others(&self, federation: &Federation) -> Vec<Datacenter> {
        let all = federation.datacenters().into_iter().map(|(dc, _)| dc);
        all.filter(|dc| *dc != self.map.home).collect()
    }

    /// Asks several other datacenters at the same time, each by the deadline of its ask.
    pub(super) async fn ask_each(
        &self,
        dcs: &[Datacenter],
        ask: impl Fn(&Datacenter) -> Ask,
    ) -> Vec<(Datacenter, Result<Answer, AskError>)> {
        let one = async |dc: &Datacenter| {
            let ask = ask(dc);
            let asked = timeout_at(ask.deadline, self.forward(&ask, dc.clone())).await;
            let late = |_| Err(AskError::Deadline("no answer in time".to_owned()));
            (dc.clone(), asked.unwrap_or_else(late))
        };
        join_all(dcs.iter().map(one)).await
    }

    /// Returns the federation, unless it is disabled.
    pub(super) fn wan(&self) -> Result<&Federation, AskError> {
        let disabled = || AskError::Bad("the WAN is disabled here: set ports.serf_wan".to_owned());
        self.federation.as_ref().ok_or_else(disabled)
    }

    /// Returns which index is old, and until when to wait for another one.
    fn wait(&self, blocking: Blocking) -> (u64, Instant) {
        let blocking = self.patience.waits.hold(blocking);
        (blocking.index, Instant::now() + blocking.wait)
    }

    fn shown(&self, index: u64, what: &impl Serialize) -> Result<Answer, AskError> {
        let body = serde_json::to_vec(what).map_err(|error| AskError::Failed(error.to_string()))?;
        let meta = Meta {
            index,
            known_leader: Some(self.raft.leader().is_some()),
            last_contact: self.raft.last_contact(),
            consistency: Consistency::Stale,
            ..Meta::default()
        };
        Ok(Answer { outcome: Outcome::Found, meta, body: Bytes::from(body) })
    }
}

/// Makes the question for a part of a timeline.
fn part_of(ask: &Ask, dc: Option<&Datacenter>, scope: Scope, deadline: Instant) -> Ask {
    Ask {
        dc: dc.cloned(),
        consistency: Consistency::Stale,
        blocking: None,
        deadline,
        question: Question::FederationTimeline { about: None, scope },
        ..ask.clone()
    }
}

/// Reads what somebody answered; who did not is named instead.
fn gathered(
    asked: Result<Answer, AskError>,
    dc: &Datacenter,
    server: Option<&NodeName>,
) -> Gathered {
    let reason = match asked {
        Ok(answer) => match serde_json::from_slice(&answer.body) {
            Ok(gathered) => return gathered,
            Err(error) => format!("its answer can't be read: {error}"),
        },
        Err(error) => error.to_string(),
    };
    Gathered::silent(dc.clone(), server.cloned(), reason)
}
