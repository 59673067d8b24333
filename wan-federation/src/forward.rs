//! Carries a request to another datacenter and its answer back.
//!
//! ```text
//!   known? -> not lost? -> path allowed? -> gate open? -> attempt 1 -> attempt 2
//!   -------------- at once, nothing is sent --------------
//! ```
//!
//! An attempt lasts while its server is heard: a blocking query may run to its deadline, and a
//! call into a datacenter that died ends when its silence is longer than chance explains
//! ([`crate::watch::QUIET_MIN`]), verdict or not. A late second attempt goes only
//! to a server that is heard right now, so that both together stay below 2 s when nobody is left. Every request
//! carries an id by which it applies once, so that writes may be tried twice.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use topology::Datacenter;
use tracing::debug;

use crate::{
    breaker::Outcome,
    envelope::Envelope,
    error::{Effect, ForwardError},
    gate::Turned,
    routes::{self, Candidate, Reach},
    table::{Remote, Server, Table},
    verdict::Health,
};

/// Most servers that a request is sent to: the second one covers for one server's death, and
/// more would only add load to a datacenter that is in trouble.
pub const ATTEMPTS_MAX: usize = 2;

/// How long an attempt waits for a server that is not heard to be dialled or to be heard again:
/// two of them stay below 2 s.
pub const HEAR_MAX: Duration = Duration::from_millis(800);

/// How long after its start a request may still go to a server that is not heard: with
/// [`HEAR_MAX`] on top, that stays below 2 s.
const UNHEARD_UNTIL: Duration = Duration::from_millis(1100);

/// A request that ran into its deadline counts against the datacenter only when it had at least
/// this long: a shorter deadline says more about the asker.
const FAIR_MIN: Duration = Duration::from_secs(1);

/// A future that a trait object returns.
pub type Promise<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CarryError {
    /// The request never got there.
    NotSent(String),
    /// The connection was lost while the answer was awaited.
    Lost(String),
    /// The deadline passed.
    Deadline,
    /// The server refused, without any effect.
    Refused {
        code: u16,
        message: String,
        /// Whether another server may take it.
        elsewhere: bool,
    },
}

/// Takes an envelope's bytes to a server and brings back the answer's.
pub(crate) trait Carrier: Send + Sync + 'static {
    fn carry(
        &self,
        to: &Server,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, CarryError>>;
}

/// Carries requests to other datacenters.
pub(crate) struct Forwarder {
    dc: Datacenter,
    start: Instant,
    table: Arc<ArcSwap<Table>>,
    carrier: Arc<dyn Carrier>,
}

/// What the attempts so far came to.
struct Trail {
    tried: Vec<String>,
    effect: Effect,
}

impl Forwarder {
    pub(crate) fn new(
        dc: Datacenter,
        start: Instant,
        table: Arc<ArcSwap<Table>>,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        Self { dc, start, table, carrier }
    }

    /// Carries an envelope to its datacenter by its deadline.
    pub(crate) async fn forward(&self, envelope: Envelope) -> Result<Bytes, ForwardError> {
        let table = self.table.load_full();
        let remote = table
            .remotes
            .get(&envelope.dc)
            .filter(|remote| remote.verdict.health != Health::Left && !remote.servers.is_empty())
            .ok_or_else(|| ForwardError::UnknownDatacenter { dc: envelope.dc.clone() })?;
        if remote.verdict.health == Health::Lost {
            return Err(ForwardError::Lost {
                dc: envelope.dc,
                since: self.start.elapsed().saturating_sub(remote.verdict.since),
                evidence: remote.verdict.evidence.clone(),
            });
        }
        let envelope = envelope.leaving(&self.dc)?;
        let body = envelope.encode()?;
        let pass = remote.gate.enter().map_err(|turned| refusal(&envelope.dc, turned))?;
        let asked = Instant::now();
        let result = self.attempts(remote, &envelope, body).await;
        pass.finish(match &result {
            Err(ForwardError::Unreachable { .. }) => Outcome::Failed,
            Err(ForwardError::Deadline { .. }) if asked.elapsed() >= FAIR_MIN => Outcome::Failed,
            Err(ForwardError::Deadline { .. }) => Outcome::Abandoned,
            _ => Outcome::Answered,
        });
        result
    }

    async fn attempts(
        &self,
        remote: &Remote,
        envelope: &Envelope,
        body: Bytes,
    ) -> Result<Bytes, ForwardError> {
        let asked = Instant::now();
        let mut trail = Trail { tried: Vec::new(), effect: Effect::None };
        let mut left: Vec<&Server> = remote.servers.iter().collect();
        let mut refused = None;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 && asked.elapsed() > UNHEARD_UNTIL {
                left.retain(|server| server.reach() == Reach::Live);
            }
            let Some(server) = next(&mut left, envelope) else { break };
            debug!(server = %server.name, dc = %server.dc, attempt, "handing over");
            match self.attempt(server, &body, envelope.deadline).await {
                Ok(answer) => return Ok(answer),
                Err(CarryError::Refused { code, message, elsewhere }) => {
                    debug!(server = %server.name, code, message, "refused");
                    let server = format!("{}.{}", server.name, server.dc);
                    let error = ForwardError::Refused { server, code, message };
                    if !elsewhere || trail.effect == Effect::Unknown {
                        return Err(error);
                    }
                    refused = Some(error);
                }
                Err(CarryError::Deadline) => {
                    let waited = asked.elapsed().as_secs_f64();
                    return Err(ForwardError::Deadline {
                        dc: envelope.dc.clone(),
                        evidence: format!("{} was asked, {waited:.1}s passed", server.name),
                        effect: Effect::Unknown,
                    });
                }
                Err(CarryError::NotSent(why)) => trail.note(server, &why),
                Err(CarryError::Lost(why)) => {
                    trail.note(server, &why);
                    trail.effect = Effect::Unknown;
                }
            }
        }
        Err(refused.unwrap_or_else(|| ForwardError::Unreachable {
            dc: envelope.dc.clone(),
            evidence: trail.evidence(),
            effect: trail.effect,
        }))
    }

    /// Asks one server for as long as it is heard and the deadline has not passed.
    async fn attempt(
        &self,
        server: &Server,
        body: &Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CarryError> {
        if Instant::now() >= deadline {
            return Err(CarryError::Deadline);
        }
        let carried = self.carrier.carry(server, body.clone(), deadline);
        tokio::select! {
            biased;
            result = carried => result,
            lost = silence(server.reach.clone()) => Err(lost),
            () = tokio::time::sleep_until(deadline) => Err(CarryError::Deadline),
        }
    }
}

/// Ends when a server is not heard, or no longer.
async fn silence(mut reach: watch::Receiver<Reach>) -> CarryError {
    let hearing = async { reach.wait_for(|reach| reach.is_heard()).await.is_ok() };
    if tokio::time::timeout(HEAR_MAX, hearing).await != Ok(true) {
        return CarryError::Lost(format!("not heard within {} ms", HEAR_MAX.as_millis()));
    }
    match reach.wait_for(|reach| !reach.is_heard()).await.map(|reach| *reach) {
        Ok(Reach::Quiet) => CarryError::Lost("fell silent".to_owned()),
        Ok(_) => CarryError::Lost("the connection was lost".to_owned()),
        Err(_) => CarryError::Lost("it left".to_owned()),
    }
}

/// Takes the best server out of those left.
fn next<'a>(left: &mut Vec<&'a Server>, envelope: &Envelope) -> Option<&'a Server> {
    let candidates: Vec<Candidate> = left.iter().map(|server| server.candidate()).collect();
    let spread = envelope.request.as_u64_pair().1;
    let best = *routes::rank(&candidates, envelope.consistency, spread).first()?;
    Some(left.remove(best))
}

fn refusal(dc: &Datacenter, turned: Turned) -> ForwardError {
    match turned {
        Turned::Full { under_way } => ForwardError::Busy { dc: dc.clone(), under_way },
        Turned::Broken { retry_after } => ForwardError::Unreachable {
            dc: dc.clone(),
            evidence: format!(
                "the last requests all failed, the next try is in {} ms",
                retry_after.as_millis()
            ),
            effect: Effect::None,
        },
    }
}

impl Trail {
    fn note(&mut self, server: &Server, why: &str) {
        let path =
            if server.reason.is_empty() { String::new() } else { format!(" ({})", server.reason) };
        debug!(server = %server.name, why, "no answer");
        self.tried.push(format!("{}: {why}{path}", server.name));
    }

    fn evidence(&self) -> String {
        if self.tried.is_empty() { "no server to ask".to_owned() } else { self.tried.join("; ") }
    }
}

#[cfg(test)]
mod tests;
