//! A check that says what others say: the worst of the checks of a service, here or on another node,
//! and of its node.
//!
//! It follows them: those of this node by a look after one changed, those of another by
//! questions to the servers that are answered when one changes. What the servers can't say is
//! critical from the second time on; then they are asked less and less often.

use std::{sync::Arc, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{Finding, driver::Found};
use crate::{
    agent::Agent,
    ask::{Answer, Ask, AskError, Blocking, Consistency, Outcome, Question},
    caller::Promise,
    catalog::{Check, Form, Health, Inventory, Lookup, Selection, Subject, Text},
    local::Local,
};

/// The shortest time between two looks at the checks of this node, of which hundreds may change every
/// second.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How long a question waits for a change.
const WAIT: Duration = Duration::from_secs(60);

/// What a question that waits takes beyond its wait: the jitter of a sixteenth, and the way.
const WAIT_SLACK: Duration = Duration::from_secs(14);

/// How long a question takes that does not wait.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause after a failure; doubled after each further one, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause after a failure, as Consul's.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Reads the catalog, from whichever server.
pub trait Catalog: Send + Sync + 'static {
    /// Answers a lookup, when something changed if it blocks.
    fn look_up(
        &self,
        lookup: Lookup,
        blocking: Option<Blocking>,
    ) -> Promise<Result<Answer, AskError>>;
}

/// Whom a check follows.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) check: Text,
    pub(super) generation: u64,
    /// Empty for this node.
    pub(super) node: Text,
    /// Empty for the node itself.
    pub(super) service: Text,
    pub(super) seed: u64,
}

impl Alias {
    /// Makes what follows for ever and tells what it finds, also when that is nothing new.
    pub(super) fn follow(
        self,
        local: &Local,
        catalog: &Arc<dyn Catalog>,
        found: mpsc::Sender<Found>,
    ) -> Promise<()> {
        match self.node.is_empty() {
            true => Box::pin(self.follow_here(local.clone(), found)),
            false => Box::pin(self.follow_elsewhere(catalog.clone(), found)),
        }
    }

    async fn follow_here(self, local: Local, found: mpsc::Sender<Found>) {
        let mut changes = local.changes();
        loop {
            changes.mark_unchanged();
            let checks = local.look(|state| {
                state.service(&self.service)?;
                let checks = state.checks_for(&self.service);
                Some(checks.map(|entry| Arc::new(entry.check.clone())).collect::<Vec<_>>())
            });
            self.tell(&found, self.judge(checks.as_deref())).await;
            sleep(LOOK_PAUSE).await;
            if changes.changed().await.is_err() {
                // The agent is ending.
                return;
            }
        }
    }

    async fn follow_elsewhere(self, catalog: Arc<dyn Catalog>, found: mpsc::Sender<Found>) {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let (mut index, mut failures) = (0, 0);
        loop {
            match self.ask(&*catalog, index).await {
                Ok((finding, at)) => {
                    self.tell(&found, finding).await;
                    // An index that fell back is that of restored servers.
                    index = if at < index { 0 } else { at };
                    failures = 0;
                }
                Err(error) => {
                    failures += 1;
                    index = 0;
                    if failures > 1 {
                        let text = format!("Failure checking aliased node or service: {error}");
                        self.tell(&found, Finding::critical(text)).await;
                    }
                }
            }
            if index == 0 {
                // Without an index the next question is answered at once.
                sleep(pause(failures, &mut random)).await;
            }
        }
    }

    async fn tell(&self, found: &mpsc::Sender<Found>, finding: Finding) {
        let (check, generation) = (self.check.clone(), self.generation);
        // It fails when the driver is gone; then nobody polls this any more.
        let _ = found.send(Found { check, generation, finding }).await;
    }

    /// Asks for the checks of another node, after a change if there was an index.
    async fn ask(&self, catalog: &dyn Catalog, index: u64) -> Result<(Finding, u64), AskError> {
        let blocking = (index > 0).then_some(Blocking { index, wait: WAIT });
        let lookup = lookup(Subject::NodeChecks(self.node.clone()));
        let answer = catalog.look_up(lookup, blocking).await?;
        let checks: Vec<Arc<Check>> = read(&answer)?.unwrap_or_default();
        let of_service = |check: &Arc<Check>| check.service_id == self.service;
        let known = checks.iter().any(of_service) || self.is_known(catalog).await?;
        let checks = known.then(|| self.concerning(checks));
        Ok((self.judge(checks.as_deref()), answer.meta.index))
    }

    /// Asks whether there is such a node, with such a service; it has no check that would show it.
    async fn is_known(&self, catalog: &dyn Catalog) -> Result<bool, AskError> {
        let lookup = lookup(Subject::NodeServices(self.node.clone()));
        let answer = catalog.look_up(lookup, None).await?;
        let inventory: Option<Inventory> = read(&answer)?;
        Ok(inventory.is_some_and(|inventory| {
            let mut services = inventory.services.iter();
            self.service.is_empty() || services.any(|service| service.id == self.service)
        }))
    }

    /// Leaves those of the node itself and of the service.
    fn concerning(&self, mut checks: Vec<Arc<Check>>) -> Vec<Arc<Check>> {
        checks.retain(|check| check.service_id.is_empty() || check.service_id == self.service);
        checks
    }

    /// Says what the checks come to; `None` when there is nothing that could have any.
    fn judge(&self, checks: Option<&[Arc<Check>]>) -> Finding {
        let Some(checks) = checks else { return Finding::critical(self.not_found()) };
        // What this check says itself is no reason for it.
        let others = checks.iter().filter(|check| check.id != self.check);
        let Some(worst) = others.rev().max_by_key(|check| check.status) else {
            return Finding::passing("No checks found.".to_owned());
        };
        match worst.status {
            Health::Passing => Finding::passing("All checks passing.".to_owned()),
            health => {
                let text = format!("Aliased check {:?} failing: {}", worst.name, worst.output);
                Finding { health, output: text }
            }
        }
    }

    fn not_found(&self) -> String {
        match (&*self.node, &*self.service) {
            (node, "") => format!("Node {node} could not be found"),
            ("", service) => format!("Service {service} could not be found on this node"),
            (node, service) => format!("Service {service} could not be found on node {node}"),
        }
    }
}

impl Catalog for Arc<Agent> {
    fn look_up(
        &self,
        lookup: Lookup,
        blocking: Option<Blocking>,
    ) -> Promise<Result<Answer, AskError>> {
        let agent = self.clone();
        let timeout = if blocking.is_some() { WAIT + WAIT_SLACK } else { ASK_TIMEOUT };
        let ask = Ask {
            dc: None,
            consistency: Consistency::Stale,
            max_stale: None,
            blocking,
            token: String::new(),
            trace: agent.new_trace(),
            request: agent.new_request(),
            deadline: Instant::now() + timeout,
            question: Question::Lookup(lookup),
        };
        Box::pin(async move { agent.ask(ask).await })
    }
}

/// Returns the pause after so many failures in a row, with a random half.
fn pause(failures: u32, random: &mut impl Rng) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(PAUSE_MAX).mul_f64(random.random_range(0.5..1.0))
}

fn lookup(subject: Subject) -> Lookup {
    Lookup { subject, selection: Selection::default(), form: Form::Records }
}

/// Reads the records of an answer; `None` where there is nothing.
fn read<T: DeserializeOwned>(answer: &Answer) -> Result<Option<T>, AskError> {
    let Answer { outcome: Outcome::Found, body, .. } = answer else { return Ok(None) };
    let malformed = |error| AskError::Failed(format!("the answer can't be read: {error}"));
    rmp_serde::from_slice(body).map_err(malformed)
}

#[cfg(test)]
mod tests;
