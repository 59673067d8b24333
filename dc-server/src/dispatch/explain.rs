//! Answers where lookups would go without some datacenters: this one knows what its own callers do, and asks the
//! others for theirs.

use std::collections::BTreeSet;

use bytes::Bytes;
use lan_agent::ask::{
    Answer, Ask, AskError, FailoverExplain, Meta, Outcome, Question, question::Scope,
};
use serde::Serialize;
use tokio::time::Instant;
use topology::Datacenter;

use super::{Dispatch, gather::GATHER_MAX};
use crate::failover::explain::{
    Callers,
    report::{Unknown, report},
};

impl Dispatch {
    /// Explains what becomes of lookups.
    pub(super) async fn explain(
        &self,
        ask: &Ask,
        explain: &FailoverExplain,
    ) -> Result<Answer, AskError> {
        let FailoverExplain { service, lost, overload_percent, scope } = explain;
        let mine = self.failover.callers(service.as_ref(), lost)?;
        if *scope != Scope::Federation {
            return self.explained(&mine);
        }
        let others = self.federation.as_ref().map(|it| self.others(it)).unwrap_or_default();
        self.check_known(lost, &others)?;
        let deadline = ask.deadline.min(Instant::now() + GATHER_MAX);
        let question = FailoverExplain { scope: Scope::Datacenter, ..explain.clone() };
        let asked = |dc: &Datacenter| Ask {
            dc: Some(dc.clone()),
            blocking: None,
            deadline,
            question: Question::FailoverExplain(question.clone()),
            ..ask.clone()
        };
        let (mut callers, mut unknown) = (vec![mine], Vec::new());
        for (datacenter, answer) in self.ask_each(&others, asked).await {
            match answer.and_then(|answer| read(&answer)) {
                Ok(theirs) => callers.push(theirs),
                // Nobody is left there to be asked, nor to ask.
                Err(_) if lost.contains(&datacenter) => {}
                Err(error) => unknown.push(Unknown { datacenter, reason: error.to_string() }),
            }
        }
        let held = self.failover.held(service.as_ref())?;
        let overload = f64::from(*overload_percent) / 100.0;
        self.explained(&report(lost, overload, &callers, &held, unknown))
    }

    /// Refuses to do without what is not there: a name that is misspelt would explain nothing.
    fn check_known(&self, lost: &[Datacenter], others: &[Datacenter]) -> Result<(), AskError> {
        let known: BTreeSet<_> = others.iter().chain([&self.map.home]).cloned().collect();
        let Some(stranger) = lost.iter().find(|dc| !known.contains(*dc)) else { return Ok(()) };
        let known: Vec<&str> = known.iter().map(Datacenter::as_str).collect();
        let known = known.join(", ");
        Err(AskError::Bad(format!("no such datacenter: {stranger}; there are {known}")))
    }

    fn explained(&self, what: &impl Serialize) -> Result<Answer, AskError> {
        let body = serde_json::to_vec(what).map_err(|error| AskError::Failed(error.to_string()))?;
        let meta = Meta { last_contact: self.raft.last_contact(), ..Meta::default() };
        Ok(Answer { outcome: Outcome::Found, meta, body: Bytes::from(body) })
    }
}

fn read(answer: &Answer) -> Result<Callers, AskError> {
    let failed = |error| AskError::Failed(format!("its answer can't be read: {error}"));
    serde_json::from_slice(&answer.body).map_err(failed)
}
