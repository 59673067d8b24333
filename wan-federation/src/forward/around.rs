//! The way around: servers of other datacenters are asked to pass a request on.
//!
//! That is done one after the other when there is no direct path. When the servers that were asked directly are in doubt,
//! detours begin at once and nearly together, so that a request that was under way when its datacenter died has tried
//! all ways within two seconds: who passes it on gives up as soon as it is in doubt itself. What waits for a change
//! does not take part in that: a server that only missed a heartbeat would cost a second query that waits as long as
//! the first.

use std::{future::Future, ops::ControlFlow, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use topology::Datacenter;
use tracing::debug;

use super::{Forwarded, Forwarder, asked_for};
use crate::{
    attempt::{Errand, Trail},
    breaker::Outcome,
    detour::{self, Detours, Neighbour, Onward},
    gate::Gate,
    journey::{Journey, Silence, Step, outcome_of},
    routes::Need,
    table::{Remote, Server, Table},
};

/// How long after one server another one is asked, too, when there is no time.
const OVERLAP: Duration = Duration::from_millis(50);

/// Whether there is time for one detour after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Each is given the time that it takes.
    Patient,
    /// They are tried nearly together.
    Hasty,
}

/// A datacenter that a request may go through.
type Other<'t> = (&'t Datacenter, &'t Remote);

/// Detours of one request.
pub(super) struct Around<'a> {
    forwarder: &'a Forwarder,
    table: &'a Table,
    journey: Journey<'a>,
    /// Whether they were tried.
    taken: bool,
}

impl<'a> Around<'a> {
    pub(super) fn new(forwarder: &'a Forwarder, table: &'a Table, direct: &Journey<'a>) -> Self {
        let taken = forwarder.detours == Detours::Off;
        Self { forwarder, table, journey: direct.aside(), taken }
    }

    /// Returns what was tried.
    pub(super) fn trail(self) -> Trail {
        self.journey.trail
    }

    /// Waits for what comes of asking directly, and tries detours beside it when that is in doubt. The first answer counts.
    pub(super) async fn beside(
        &mut self,
        direct: impl Future<Output = Step<Bytes>>,
        doubt: &Notify,
        remote: &Remote,
        need: Need,
    ) -> Step<Forwarded> {
        let (forwarder, envelope) = (self.forwarder, self.journey.envelope);
        let came = |step: Step<Bytes>| {
            step.map_break(|result| Ok(forwarder.forwarded(envelope, None, result?)))
        };
        let mut direct = pin!(direct);
        tokio::select! {
            biased;
            step = &mut direct => return came(step),
            () = doubt.notified(), if !envelope.waits && !self.taken => {}
        }
        let mut detours = pin!(self.take(&remote.gates.detours, need, Pace::Hasty));
        tokio::select! {
            biased;
            step = &mut direct => match step {
                ControlFlow::Continue(()) => detours.await,
                step => came(step),
            },
            step = &mut detours => match step {
                ControlFlow::Break(Ok(_)) => step,
                step => match direct.await {
                    ControlFlow::Continue(()) => step,
                    direct => came(direct),
                },
            },
        }
    }

    /// Asks servers of other datacenters to pass the request on, the best first, unless that was done.
    pub(super) async fn take(
        &mut self,
        gate: &Arc<Gate>,
        need: Need,
        pace: Pace,
    ) -> Step<Forwarded> {
        if std::mem::replace(&mut self.taken, true) {
            return ControlFlow::Continue(());
        }
        let wanted = &self.journey.envelope.dc;
        let (others, ranked) = self.forwarder.ways(self.table, wanted, need, self.journey.spread());
        if ranked.is_empty() {
            return ControlFlow::Continue(());
        }
        let pass = match gate.enter() {
            Ok(pass) => pass,
            Err(turned) => {
                self.journey.trail.say(format!("no detour: {turned}"));
                return ControlFlow::Continue(());
            }
        };
        let asked = Instant::now();
        let ways = ranked.into_iter().filter_map(|(neighbour, server)| {
            let (dc, remote): Other<'a> = others[neighbour];
            Some((dc, remote.servers.get(server)?))
        });
        let (step, outcome) = self.follow(ways, need, pace).await;
        match &step {
            ControlFlow::Break(result) => pass.finish(outcome_of(result, asked)),
            ControlFlow::Continue(()) => pass.finish(outcome),
        }
        step
    }

    /// Asks one server after the other, or nearly so, until there is an answer.
    async fn follow(
        &mut self,
        mut ways: impl Iterator<Item = (&'a Datacenter, &'a Server)>,
        need: Need,
        pace: Pace,
    ) -> (Step<Forwarded>, Outcome) {
        let wanted = &self.journey.envelope.dc;
        let mut outcome = Outcome::Abandoned;
        let mut under_way = FuturesUnordered::new();
        let mut next = ways.next();
        loop {
            if let Some((dc, server)) = next {
                debug!(server = %server.name, through = %dc, to = %wanted, "taking a detour");
                let attempt = self.journey.attempt(server, Errand::PassOn);
                under_way.push(async move { (dc, server, attempt.await) });
            }
            let ended = tokio::select! {
                biased;
                ended = under_way.next() => ended,
                () = sleep(OVERLAP), if pace == Pace::Hasty && next.is_some() => {
                    next = ways.next();
                    continue;
                }
            };
            let Some((dc, server, result)) = ended else {
                return (ControlFlow::Continue(()), outcome);
            };
            match self.journey.take(server, Errand::PassOn, result) {
                ControlFlow::Break(result) => {
                    let answer = |it| self.forwarder.forwarded(self.journey.envelope, Some(dc), it);
                    return (ControlFlow::Break(result.map(answer)), outcome);
                }
                ControlFlow::Continue(Silence::Refused) => {
                    let asked = asked_for(wanted, need, server);
                    self.forwarder.refusals().note(self.forwarder.start.elapsed(), asked);
                }
                ControlFlow::Continue(Silence::Failed) => outcome = Outcome::Failed,
            }
            next = ways.next();
        }
    }
}

impl Forwarder {
    /// Tells whether there is a server to ask for the way home.
    pub(crate) fn may_go_home(&self) -> bool {
        let table = self.table.load();
        self.detours == Detours::On && !self.ways(&table, &self.dc, Need::Leader, 0).1.is_empty()
    }

    /// Ranks the ways around: the other datacenters, and the places of them and of their servers, best first.
    fn ways<'t>(
        &self,
        table: &'t Table,
        wanted: &Datacenter,
        need: Need,
        spread: u64,
    ) -> (Vec<Other<'t>>, Vec<(usize, usize)>) {
        let others = self.others(table, wanted);
        let neighbour = |(dc, remote): &(&Datacenter, &Remote)| {
            self.neighbour(table, dc, remote, (wanted, need))
        };
        let neighbours: Vec<Neighbour> = others.iter().map(neighbour).collect();
        let ranked = detour::rank(&neighbours, spread);
        if ranked.is_empty() {
            debug!(to = %wanted, ?neighbours, "no detour");
        }
        (others, ranked)
    }

    /// Returns the datacenters that a request for a wanted one may go through.
    fn others<'t>(&self, table: &'t Table, wanted: &Datacenter) -> Vec<Other<'t>> {
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
}
