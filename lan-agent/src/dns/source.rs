//! The one place through which the DNS interface asks for the catalog.
//!
//! Every question becomes an [`Ask`] for records, from any server where the settings allow it. When
//! that server has not heard from its leader for longer than they allow, the leader is asked.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use topology::Datacenter;

use super::{kept::Kept, records::Found, settings::Freshness};
use crate::{
    agent::Agent,
    ask::{Answer, Ask, AskError, Consistency, Question},
    catalog::Lookup,
};

/// How long a question may take: the usual resolvers ask somebody else, or give up, after 5 s, and
/// are to hear before that that this agent can't answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks for the catalog.
pub(super) struct Source {
    agent: Arc<Agent>,
    kept: Kept,
}

impl Source {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, kept: Kept::default() }
    }

    /// Returns what a lookup finds in a datacenter, or in the own one, no older than allowed.
    pub(super) async fn lookup(
        &self,
        dc: Option<&Datacenter>,
        lookup: Lookup,
        freshness: Freshness,
    ) -> Result<Arc<Found>, AskError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let ask = |consistency| {
            let question = Question::Lookup(lookup.clone());
            self.agent.ask(self.ask(dc, consistency, deadline, question))
        };
        let answer = match freshness {
            Freshness::Leader => ask(Consistency::Default).await?,
            Freshness::Stale(max) => match ask(Consistency::Stale).await? {
                Answer { meta, .. } if meta.last_contact > max => ask(Consistency::Default).await?,
                answer => answer,
            },
        };
        self.kept.read(dc, &lookup, answer.body)
    }

    fn ask(
        &self,
        dc: Option<&Datacenter>,
        consistency: Consistency,
        deadline: Instant,
        question: Question,
    ) -> Ask {
        Ask {
            dc: dc.filter(|dc| **dc != self.agent.config.me.dc).cloned(),
            consistency,
            blocking: None,
            token: String::new(),
            trace: self.agent.new_trace(),
            request: self.agent.new_request(),
            deadline,
            question,
        }
    }
}
