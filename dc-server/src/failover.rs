//! Plain lookups of a service, and runs of prepared queries, that another datacenter answers when the own one has too few
//! healthy instances.
//!
//! ```text
//! lookup ─▶ plan: the policy and its targets ─▶ choice ─▶ bodies of the own state and of mirrors ─▶ one body
//!                                               ▲
//!            kept: what was chosen, of which versions of what; recomputed when one of them changed
//! ```
//!
//! Everything that it takes is here: the own state, the mirrors of the others, and the verdicts. So a lookup costs
//! a comparison of versions more than one without a policy, and nobody is asked. A lookup that names a datacenter
//! gets that one's answer and nothing else; a query that is run there goes where it says.
//!
//! An answer has an index of its own: it changes whenever a version that it depends on, or the choice, does. It goes up
//! on each server, but servers need not agree, so that a blocking query waits for one that differs.

pub mod asked;
pub mod choice;
pub mod explain;
mod follow;
mod kept;
pub mod merge;
pub mod plan;
pub mod policy;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use lan_agent::{
    ask::{Answer, AskError, Blocking, Meta, Outcome},
    catalog::{Form, Lookup, Subject},
};
use tokio::time::Instant;
use wan_federation::Federation;

use self::{
    asked::{Asked, Name, ran},
    kept::Kept,
    plan::Target,
    policy::Policy,
};
use crate::{
    mirror::{Mirror, Mirrors},
    query::{self, Answers, Draw},
    state::view::{Published, View},
};

/// Decides which datacenter answers, for a server.
pub struct Failover {
    own: Own,
    /// What counts for services whose resolvers say nothing of failover; `None`: nothing does.
    default: Option<Policy>,
    /// Whether instances elsewhere are shown with their addresses as they count there.
    translate_wan: bool,
    mirrors: Mirrors,
    federation: Option<Federation>,
    kept: ArcSwap<imbl::HashMap<Name, Arc<Kept>>>,
    /// Services that are followed because their lookups are away.
    minded: Mutex<HashSet<Name>>,
    start: Instant,
    jitter: AtomicU64,
}

/// What a server has of itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its state.
    pub view: View,
    /// What answers questions about it.
    pub answers: Arc<Answers>,
}

impl Failover {
    /// Decides by this policy where there is no other; `seed` decides the jitter of blocking queries.
    pub fn new(
        own: Own,
        default: Option<Policy>,
        translate_wan: bool,
        mirrors: Mirrors,
        federation: Option<Federation>,
        seed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            own,
            default,
            translate_wan,
            mirrors,
            federation,
            kept: ArcSwap::default(),
            minded: Mutex::default(),
            start: Instant::now(),
            jitter: AtomicU64::new(seed),
        })
    }

    /// Returns what the server has of itself.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// Tells whether more than what is registered decides who answers a lookup.
    pub fn concerns(&self, lookup: &Lookup) -> bool {
        match Asked::of(lookup) {
            Some(Asked::Service(service)) => {
                let state = self.own.view.load();
                plan::is_needed(state.config_entries(), self.default.as_ref(), service)
            }
            Some(Asked::Query(_)) => true,
            None => false,
        }
    }

    /// Answers a lookup of a service, or a run of a query, by the policy for it, waiting for a change if asked to.
    pub async fn answer(
        self: &Arc<Self>,
        lookup: &Lookup,
        blocking: Option<Blocking>,
        last_contact: impl FnOnce() -> Duration,
    ) -> Result<Answer, AskError> {
        let Some(asked) = Asked::of(lookup) else {
            return Err(AskError::Bad("only the health of services has a policy".to_owned()));
        };
        if let Some(blocking) = blocking.filter(|blocking| blocking.index > 0) {
            query::check_lookup(lookup)?;
            self.wait(asked, blocking).await?;
        }
        let last_contact = last_contact();
        let state = self.own.view.load();
        match self.keep(&state, asked)? {
            Some(kept) => self.show(&state, lookup, &kept, last_contact),
            None => {
                let index = asked.rules(&state).max(1);
                let meta = Meta { index, last_contact, ..Meta::default() };
                Ok(Answer { outcome: Outcome::Absent, meta, body: Bytes::new() })
            }
        }
    }

    /// Returns which instances of a part are shown; `None` for all in the usual order.
    fn draw(&self, lookup: &Lookup, target: &Target, most: Option<usize>) -> Option<Draw> {
        let Subject::Query(run) = &lookup.subject else {
            return most.map(|most| Draw { most, seed: None });
        };
        if lookup.form == Form::Records {
            // DNS has its own die.
            return None;
        }
        let most = if run.limit == 0 { usize::MAX } else { run.limit as usize };
        let is_ordered = !lookup.selection.near.is_empty() || !target.selection.near.is_empty();
        let seed = self.jitter.fetch_add(1, Ordering::Relaxed);
        Some(Draw { most, seed: (!is_ordered).then_some(seed) })
    }

    /// Puts the answer together.
    fn show(
        &self,
        state: &Published,
        lookup: &Lookup,
        kept: &Kept,
        last_contact: Duration,
    ) -> Result<Answer, AskError> {
        let own = &self.own.answers;
        let mut meta = Meta { index: kept.index, last_contact, ..Meta::default() };
        let mut bodies = Vec::with_capacity(kept.parts.len());
        for (target, most) in &kept.parts {
            let draw = self.draw(lookup, target, *most);
            let stands_in = kept.meant != *target;
            let lookup = target.lookup(lookup, stands_in, self.translate_wan);
            let Some(dc) = &target.dc else {
                bodies.push(own.shown(state, &lookup, draw)?);
                meta.served.push(own.home().clone());
                continue;
            };
            meta.served.push(dc.clone());
            // It was there when it was chosen, and is forgotten when its datacenter leaves.
            let Some(mirror) = self.mirrors.get(dc) else { continue };
            meta.mirrored = true;
            meta.last_contact = meta.last_contact.max(age(&mirror));
            bodies.push(mirror.answers().shown(&mirror.view().load(), &lookup, draw)?);
        }
        if bodies.is_empty()
            && let Some(dc) = meta.served.first()
        {
            // That there is nothing can't be said of what is not known.
            return Err(AskError::Failed(format!("nothing is mirrored of {dc} here yet")));
        }
        let mut body = merge::lists(lookup.form, bodies)?;
        if let Some(wanted) = &kept.wanted {
            let dc = meta.served.first().unwrap_or(own.home());
            body = ran(lookup.form, wanted, dc, kept.failovers, &body)?;
        }
        Ok(Answer { outcome: Outcome::Found, meta, body })
    }
}

fn age(mirror: &Mirror) -> Duration {
    mirror.age().unwrap_or(Duration::MAX)
}

impl Answers {
    /// Returns the body of a lookup, with all instances or those that are drawn.
    fn shown(
        &self,
        state: &Published,
        lookup: &Lookup,
        draw: Option<Draw>,
    ) -> Result<Bytes, AskError> {
        match draw {
            None => Ok(self.look_up(state, lookup)?.body),
            Some(draw) => self.drawn(state, lookup, draw),
        }
    }
}

impl std::fmt::Debug for Failover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.kept.load().len();
        f.debug_struct("Failover").field("default", &self.default).field("kept", &kept).finish()
    }
}
