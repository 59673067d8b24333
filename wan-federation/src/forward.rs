//! Carries a request to another datacenter and its answer back.
//!
//! ```text
//!   known? -> not lost? -> path allowed? -> gate open? -> servers that are heard, 2 at most
//!      |          |                           |                       |
//!      error      +---------------------------+-----------------------+
//!                                             v
//!                     detours: servers of other datacenters pass it on (crate::relay), already
//!                     beside those that are in doubt
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

mod around;

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::Instant;
use topology::Datacenter;

use self::around::{Around, Pace};
use crate::{
    attempt::{Carrier, HEAR_MAX, Trail},
    detour::{Asked, Detours, Refusals},
    envelope::Envelope,
    error::{Effect, ForwardError},
    gate::{self, Gate},
    journey::{Choice, Journey},
    routes::Need,
    table::{Remote, Server, Table},
    verdict::Health,
};

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

    /// Returns the gate of what goes home through other datacenters.
    pub(crate) fn home(&self) -> Arc<Gate> {
        self.home.clone()
    }

    /// Carries an envelope to its datacenter by its deadline.
    pub(crate) async fn forward(&self, envelope: Envelope) -> Result<Forwarded, ForwardError> {
        let table = self.table.load_full();
        let remote = match envelope.dc == self.dc {
            true => None,
            false => Some(known(&table, &envelope.dc)?),
        };
        let envelope = envelope.leaving(&self.dc)?;
        let mut journey = Journey::new(&*self.carrier, &envelope, remote, HEAR_MAX)?;
        let mut around = Around::new(self, &table, &journey);
        let reachable = remote.filter(|remote| remote.verdict.health.takes_requests());
        // A server that asks for its own leader needs nobody who has none either.
        let need = remote.map_or(Need::Leader, |remote| remote.need(envelope.consistency));
        if let Some(remote) = reachable {
            let doubt = journey.doubt.clone();
            let (gate, hedges) = (&remote.gates.direct, Some(&*remote.gates.hedges));
            let direct = journey.ask_directly(gate, hedges, Choice::Fit(need));
            let step = around.beside(direct, &doubt, remote, need).await;
            if let ControlFlow::Break(result) = step {
                return result;
            }
        }
        let gate = remote.map_or(&self.home, |remote| &remote.gates.detours);
        let step = around.take(gate, need, Pace::Patient).await;
        journey.trail.join(around.trail());
        if let ControlFlow::Break(result) = step {
            return result;
        }
        if let Some(remote) = reachable {
            let step = journey.ask_directly(&remote.gates.direct, None, Choice::Rest).await;
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

#[cfg(test)]
mod tests;
