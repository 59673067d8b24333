//! The one place through which the DNS interface asks for the catalog.
//!
//! Every question becomes a lookup of records, from any server where the settings allow it. When
//! that server has not heard from its leader for longer than they allow, the leader is asked. When
//! no server answers the agent's cache does; before that if the settings say so.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use topology::Datacenter;

use super::{
    kept::Kept,
    records::Found,
    settings::{Freshness, Settings},
};
use crate::{
    agent::Agent,
    ask::{Answer, AskError, Consistency},
    cache::Key,
    catalog::Lookup,
    lookup::Inquiry,
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
        settings: &Settings,
    ) -> Result<Arc<Found>, AskError> {
        let key = Key {
            dc: dc.filter(|dc| **dc != self.agent.config.me.dc).cloned(),
            token: String::new(),
            lookup,
        };
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let ask = |consistency| {
            let inquiry = Inquiry {
                key: key.clone(),
                consistency,
                max_stale: None,
                blocking: None,
                cached: settings.cache,
                trace: self.agent.new_trace(),
                deadline,
            };
            async { Ok::<_, AskError>(self.agent.look_up(inquiry).await?.answer) }
        };
        let answer = match settings.freshness {
            Freshness::Leader => ask(Consistency::Default).await?,
            Freshness::Stale(max) => match ask(Consistency::Stale).await? {
                Answer { meta, .. } if meta.last_contact > max => ask(Consistency::Default).await?,
                answer => answer,
            },
        };
        self.kept.read(dc, &key.lookup, answer.body)
    }
}
