//! Carries a request to another datacenter and its answer back.
//!
//! ```text
//!   known? -> not lost? -> path allowed? -> gate open? -> servers that are heard, 2 at most
//!      |          |                           |                       |
//!      error      +---------------------------+-----------------------+
//!                                             v
//!                     detours: servers of other datacenters pass it on (crate::relay)
//!                                             v
//!                     servers that are not heard, while there is time for that
//! ```
//!
//! A late attempt goes only to a server that is heard right now, so that all together stay below 2 s
//! when nobody is left: whoever is asked for a detour and has no path itself says so at once. Every
//! request carries an id by which it applies once, so that writes may be tried again, whichever way.
//!
//! A request for the own datacenter goes through another one: it comes from a server that can't
//! reach its leader, see [`crate::envelope`].

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::Instant;
use topology::Datacenter;
use tracing::debug;

use crate::{
    attempt::{Carrier, CarryError, Errand, Trail, attempt},
    breaker::Outcome,
    detour::{self, Asked, Detours, Neighbour, Onward, Refusals},
    envelope::Envelope,
    error::{Effect, ForwardError},
    gate::{self, Gate, Turned},
    routes::{self, Candidate, Need, Reach},
    table::{Remote, Server, Table},
    verdict::Health,
};

/// Most servers of the wanted datacenter that a request is sent to directly: the second one covers
/// for one server's death, and more would only add load to a datacenter that is in trouble.
pub const ATTEMPTS_MAX: usize = 2;

/// How long after its start a request may still go to a server that is not heard: with
/// [`crate::attempt::HEAR_MAX`] on top, that stays below 2 s.
const UNHEARD_UNTIL: Duration = Duration::from_millis(1100);

/// A request that ran into its deadline counts against the datacenter only when it had at least
/// this long: a shorter deadline says more about the asker.
const FAIR_MIN: Duration = Duration::from_secs(1);

/// A future that a trait object returns.
pub type Promise<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// An answer, and the way that the request took to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The answer's bytes, as the server that gave it wrote them.
    pub answer: Bytes,
    /// The datacenters, from the one that asked to the one that answered: two, or three.
    pub path: Vec<Datacenter>,
}

impl Forwarded {
    /// Tells whether the request went through a third datacenter, or home through another one.
    pub fn is_detour(&self) -> bool {
        self.path.len() > 2
    }
}

/// Carries requests to other datacenters.
pub(crate) struct Forwarder {
    pub(crate) dc: Datacenter,
    pub(crate) detours: Detours,
    pub(crate) table: Arc<ArcSwap<Table>>,
    pub(crate) carrier: Arc<dyn Carrier>,
    start: Instant,
    /// The way home through other datacenters.
    home: Arc<Gate>,
    refusals: Mutex<Refusals>,
}

/// Which servers of the wanted datacenter are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Those of whom an answer can be expected.
    Fit(Need),
    /// Those of them that are heard right now.
    Live(Need),
    /// Whoever is left.
    Rest,
}

/// A request on its way: what was tried so far, and with whom.
pub(crate) struct Journey<'a> {
    carrier: &'a dyn Carrier,
    envelope: &'a Envelope,
    body: Bytes,
    asked: Instant,
    trail: Trail,
    /// Servers of the wanted datacenter that were not asked yet.
    pub(crate) left: Vec<&'a Server>,
    /// How many of them were asked.
    pub(crate) attempts: usize,
    /// What a server said that would not take it, although another one may.
    refused: Option<ForwardError>,
}

/// What ends a journey, unless it has to go on.
type Step<T, C = ()> = ControlFlow<Result<T, ForwardError>, C>;

/// How a server gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// It would not take the request.
    Refused,
    /// It did not get it, or said nothing.
    Failed,
}

impl Forwarder {
    pub(crate) fn new(
        dc: Datacenter,
        detours: Detours,
        start: Instant,
        table: Arc<ArcSwap<Table>>,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        let home = Gate::new(gate::DETOURS_MAX);
        Self { dc, detours, table, carrier, start, home, refusals: Mutex::default() }
    }

    /// Carries an envelope to its datacenter by its deadline.
    pub(crate) async fn forward(&self, envelope: Envelope) -> Result<Forwarded, ForwardError> {
        let table = self.table.load_full();
        let remote = match envelope.dc == self.dc {
            true => None,
            false => Some(known(&table, &envelope.dc)?),
        };
        let envelope = envelope.leaving(&self.dc)?;
        let mut journey = Journey::new(&*self.carrier, &envelope, remote)?;
        let reachable = remote.filter(|remote| remote.verdict.health.takes_requests());
        // A server that asks for its own leader needs nobody who has none either.
        let need = remote.map_or(Need::Leader, |remote| remote.need(envelope.consistency));
        if let Some(remote) = reachable {
            let step = journey.ask_directly(&remote.gates.direct, Choice::Fit(need)).await;
            if let ControlFlow::Break(result) = step {
                return result.map(|answer| self.forwarded(&envelope, None, answer));
            }
        }
        if self.detours == Detours::On {
            let gate = remote.map_or(&self.home, |remote| &remote.gates.detours);
            let step = self.detour(&table, gate, need, &mut journey).await;
            if let ControlFlow::Break(result) = step {
                return result;
            }
        }
        if let Some(remote) = reachable {
            let step = journey.ask_directly(&remote.gates.direct, Choice::Rest).await;
            if let ControlFlow::Break(result) = step {
                return result.map(|answer| self.forwarded(&envelope, None, answer));
            }
        }
        let lost = remote.filter(|remote| !remote.verdict.health.takes_requests());
        Err(match lost.filter(|_| journey.trail.effect == Effect::None) {
            Some(remote) => self.lost(&envelope.dc, remote, &journey.trail),
            None => journey.failed(),
        })
    }

    /// Tells whether there is a server to ask for the way home.
    pub(crate) fn may_go_home(&self) -> bool {
        if self.detours == Detours::Off {
            return false;
        }
        let table = self.table.load();
        let neighbours: Vec<Neighbour> = self
            .others(&table, &self.dc)
            .into_iter()
            .map(|(dc, remote)| self.neighbour(&table, dc, remote, (&self.dc, Need::Leader)))
            .collect();
        !detour::rank(&neighbours, 0).is_empty()
    }

    /// Asks servers of other datacenters to pass the request on, the best first.
    async fn detour(
        &self,
        table: &Table,
        gate: &Arc<Gate>,
        need: Need,
        journey: &mut Journey<'_>,
    ) -> Step<Forwarded> {
        let wanted = &journey.envelope.dc;
        let others = self.others(table, wanted);
        let neighbours: Vec<Neighbour> = others
            .iter()
            .map(|(dc, remote)| self.neighbour(table, dc, remote, (wanted, need)))
            .collect();
        let ways = detour::rank(&neighbours, journey.spread());
        if ways.is_empty() {
            debug!(to = %wanted, ?neighbours, "no detour");
            return ControlFlow::Continue(());
        }
        let pass = match gate.enter() {
            Ok(pass) => pass,
            Err(turned) => {
                journey.trail.say(format!("no detour: {turned}"));
                return ControlFlow::Continue(());
            }
        };
        let asked = Instant::now();
        let mut outcome = Outcome::Abandoned;
        for (neighbour, server) in ways {
            let (dc, remote) = others[neighbour];
            let Some(server) = remote.servers.get(server) else { continue };
            debug!(server = %server.name, through = %dc, to = %wanted, "taking a detour");
            match journey.ask(server, Errand::PassOn).await {
                ControlFlow::Break(result) => {
                    pass.finish(outcome_of(&result, asked));
                    let answer = |answer| self.forwarded(journey.envelope, Some(dc), answer);
                    return ControlFlow::Break(result.map(answer));
                }
                ControlFlow::Continue(Silence::Refused) => {
                    let asked = asked_for(wanted, need, server);
                    self.refusals().note(self.start.elapsed(), asked);
                }
                ControlFlow::Continue(Silence::Failed) => outcome = Outcome::Failed,
            }
        }
        pass.finish(outcome);
        ControlFlow::Continue(())
    }

    /// Returns the datacenters that a request for a wanted one may go through.
    fn others<'a>(
        &self,
        table: &'a Table,
        wanted: &Datacenter,
    ) -> Vec<(&'a Datacenter, &'a Remote)> {
        let is_open =
            |(dc, remote): &(&Datacenter, &Remote)| *dc != wanted && !remote.gates.direct.is_open();
        table.remotes.iter().filter(is_open).collect()
    }

    /// Puts together what is known of a datacenter that a request may go through.
    fn neighbour(
        &self,
        table: &Table,
        dc: &Datacenter,
        remote: &Remote,
        (wanted, need): (&Datacenter, Need),
    ) -> Neighbour {
        let now = self.start.elapsed();
        let refusals = self.refusals();
        let refused = |server: &Server| refusals.holds(now, &asked_for(wanted, need, server));
        let servers = remote.servers.iter().enumerate();
        Neighbour {
            rtt: remote.rtt(),
            onward: Onward::of(&table.matrix, dc, wanted, need),
            refused: servers.filter(|(_, it)| refused(it)).map(|(place, _)| place).collect(),
            servers: remote.servers.iter().map(Server::candidate).collect(),
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        // The memory is whole between any two statements.
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forwarded(
        &self,
        envelope: &Envelope,
        through: Option<&Datacenter>,
        answer: Bytes,
    ) -> Forwarded {
        let way = envelope.path.iter().chain(through).chain([&envelope.dc]);
        Forwarded { answer, path: way.cloned().collect() }
    }

    fn lost(&self, dc: &Datacenter, remote: &Remote, trail: &Trail) -> ForwardError {
        let tried =
            if trail.is_empty() { String::new() } else { format!("; {}", trail.evidence()) };
        ForwardError::Lost {
            dc: dc.clone(),
            since: self.start.elapsed().saturating_sub(remote.verdict.since),
            evidence: format!("{}{tried}", remote.verdict.evidence),
        }
    }
}

impl<'a> Journey<'a> {
    pub(crate) fn new(
        carrier: &'a dyn Carrier,
        envelope: &'a Envelope,
        remote: Option<&'a Remote>,
    ) -> Result<Self, ForwardError> {
        Ok(Self {
            carrier,
            envelope,
            body: envelope.encode()?,
            asked: Instant::now(),
            trail: Trail::new(),
            left: remote.map(|remote| remote.servers.iter().collect()).unwrap_or_default(),
            attempts: 0,
            refused: None,
        })
    }

    /// Any number that differs between requests.
    fn spread(&self) -> u64 {
        self.envelope.request.as_u64_pair().1
    }

    /// Asks servers of the wanted datacenter, if its gate lets the request through.
    pub(crate) async fn ask_directly(&mut self, gate: &Arc<Gate>, choice: Choice) -> Step<Bytes> {
        let Some(first) = self.next(choice) else { return ControlFlow::Continue(()) };
        let pass = match gate.enter() {
            Ok(pass) => pass,
            // It has too much to do: nobody else is to be kept busy by that.
            Err(Turned::Full { under_way }) => {
                let dc = self.envelope.dc.clone();
                return ControlFlow::Break(Err(ForwardError::Busy { dc, under_way }));
            }
            Err(turned) => {
                self.left.clear();
                self.trail.say(turned.to_string());
                return ControlFlow::Continue(());
            }
        };
        let asked = Instant::now();
        let mut next = Some(first);
        while let Some(server) = next {
            self.attempts += 1;
            if let ControlFlow::Break(result) = self.ask(server, Errand::Answer).await {
                pass.finish(outcome_of(&result, asked));
                return ControlFlow::Break(result);
            }
            next = self.next(choice);
        }
        pass.finish(match self.refused {
            Some(_) => Outcome::Answered,
            None => Outcome::Failed,
        });
        ControlFlow::Continue(())
    }

    /// Takes the best server of the wanted datacenter out of those left.
    fn next(&mut self, choice: Choice) -> Option<&'a Server> {
        if self.attempts >= ATTEMPTS_MAX {
            return None;
        }
        let late = self.asked.elapsed() > UNHEARD_UNTIL;
        let candidates: Vec<Candidate> = self.left.iter().map(|it| it.candidate()).collect();
        let places = routes::rank(&candidates, self.envelope.consistency, self.spread());
        let best = places.into_iter().find(|place| {
            let candidate = &candidates[*place];
            let live = candidate.reach == Reach::Live;
            let chosen = match choice {
                Choice::Fit(need) => candidate.meets(need),
                Choice::Live(need) => live && candidate.meets(need),
                Choice::Rest => true,
            };
            chosen && (live || !late)
        })?;
        Some(self.left.remove(best))
    }

    /// Asks one server; what it says ends the journey, unless somebody else may help.
    async fn ask(&mut self, server: &Server, errand: Errand) -> Step<Bytes, Silence> {
        debug!(server = %server.name, dc = %server.dc, ?errand, "handing over");
        let deadline = self.envelope.deadline;
        match attempt(self.carrier, server, errand, &self.body, deadline).await {
            Ok(answer) => return ControlFlow::Break(Ok(answer)),
            Err(CarryError::Refused { code, message, elsewhere }) => {
                self.trail.note(server, errand, &message);
                let server = format!("{}.{}", server.name, server.dc);
                let error = ForwardError::Refused { server, code, message };
                if !elsewhere {
                    return ControlFlow::Break(Err(error));
                }
                // Who can't pass it on says nothing for the wanted datacenter.
                if errand == Errand::Answer {
                    self.refused = Some(error);
                }
                return ControlFlow::Continue(Silence::Refused);
            }
            Err(CarryError::Deadline) => {
                let waited = self.asked.elapsed().as_secs_f64();
                return ControlFlow::Break(Err(ForwardError::Deadline {
                    dc: self.envelope.dc.clone(),
                    evidence: format!("{} was asked, {waited:.1}s passed", server.name),
                    effect: Effect::Unknown,
                }));
            }
            Err(CarryError::NotSent(why)) => self.trail.note(server, errand, &why),
            Err(CarryError::Lost(why)) => {
                self.trail.note(server, errand, &why);
                self.trail.lost();
            }
        }
        ControlFlow::Continue(Silence::Failed)
    }

    /// Returns why there is no answer, when nobody is left to ask.
    pub(crate) fn failed(self) -> ForwardError {
        let effect = self.trail.effect;
        if let (Some(refused), Effect::None) = (self.refused, effect) {
            return refused;
        }
        let (dc, evidence) = (self.envelope.dc.clone(), self.trail.evidence());
        ForwardError::Unreachable { dc, evidence, effect }
    }
}

/// Finds a datacenter that did not leave.
pub(crate) fn known<'a>(table: &'a Table, dc: &Datacenter) -> Result<&'a Remote, ForwardError> {
    table
        .remotes
        .get(dc)
        .filter(|remote| remote.verdict.health != Health::Left && !remote.servers.is_empty())
        .ok_or_else(|| ForwardError::UnknownDatacenter { dc: dc.clone() })
}

fn asked_for(wanted: &Datacenter, need: Need, server: &Server) -> Asked {
    let (wanted, through) = (wanted.clone(), server.dc.clone());
    Asked { wanted, need, through, server: server.name.clone() }
}

/// Says what a request's end tells of the way that it took.
fn outcome_of(result: &Result<Bytes, ForwardError>, asked: Instant) -> Outcome {
    match result {
        Err(ForwardError::Deadline { .. }) if asked.elapsed() >= FAIR_MIN => Outcome::Failed,
        Err(ForwardError::Deadline { .. }) => Outcome::Abandoned,
        _ => Outcome::Answered,
    }
}

#[cfg(test)]
mod tests;
