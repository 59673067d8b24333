//! Answers lookups in the catalog from the servers or from the cache, and says which.
//!
//! ```text
//!            may the cache answer?
//! Inquiry ──┬─ it is wished (`?cached`) ──▶ what is held ──┬─ there ──▶ HIT
//!           │                                              └─ not ────▶ servers ──▶ MISS, kept fresh
//!           ├─ it may be stale ──▶ servers ──┬─ answer ──▶ remembered
//!           │                                └─ none ────▶ what is held, with its age
//!           └─ else ─────────────▶ servers, or an error at once
//! ```
//!
//! While no leader vouches for what servers or the cache say, instances on nodes that this agent
//! knows to be gone are left out.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{
    agent::Agent,
    ask::{Answer, Ask, AskError, Blocking, Consistency, Question, TraceId},
    cache::{
        self, Key,
        entry::Entry,
        prune::{self, Gone},
        rules::{self, Control, Refresh, Use},
    },
    standing::Reach,
};

/// How long servers are waited for by those who would be content with what is held.
const PATIENCE: Duration = Duration::from_millis(400);

/// A lookup as an interface wants it answered.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// What is asked, of which datacenter.
    pub key: Key,
    /// How fresh an answer of the servers has to be.
    pub consistency: Consistency,
    /// How old the answer of a stale read may be.
    pub max_stale: Option<Duration>,
    /// Whether to wait for a change.
    pub blocking: Option<Blocking>,
    /// Whether the cache may answer, and how old the answer may be; `None` for only when no
    /// server does.
    pub cached: Option<Control>,
    /// Follows the request everywhere.
    pub trace: TraceId,
    /// When the asker stops listening.
    pub deadline: Instant,
}

/// An answer, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The answer. Its [`crate::ask::Meta`] says how old it is and whether a leader vouches for it.
    pub answer: Answer,
    /// How old what the cache held is; `None` when a server answered.
    pub age: Option<Duration>,
}

impl Agent {
    /// Answers a lookup.
    pub async fn look_up(self: &Arc<Self>, mut inquiry: Inquiry) -> Result<Served, AskError> {
        let Key { dc, lookup, .. } = &mut inquiry.key;
        lookup.selection.wan = dc.is_some() && self.config.translate_wan;
        match inquiry.cached {
            Some(control) => self.answer_from_cache(inquiry, control).await,
            None => self.answer_from_servers(inquiry).await,
        }
    }

    async fn answer_from_cache(
        self: &Arc<Self>,
        inquiry: Inquiry,
        control: Control,
    ) -> Result<Served, AskError> {
        let entry = self.cache.enter(&inquiry.key, self.now_ms());
        entry.touch(self.now_ms());
        let held = self.held(&entry).map(|(_, standing)| standing);
        let reachable = self.caller.standing().borrow().cut_off().is_none();
        match rules::choose(control, held, reachable) {
            Use::Held => self.keep_fresh(&entry),
            Use::Fetch { or_held } => match self.fetch(&entry, &inquiry).await {
                Ok(answer) => {
                    entry.resume();
                    self.keep_fresh(&entry);
                    if !waits_for(inquiry.blocking, &answer) {
                        self.cache.metrics().missed.increment(1);
                        return Ok(self.served(&entry.key, answer));
                    }
                }
                Err(error) if !or_held || !is_silence(&error) => return Err(error),
                Err(_) => self.keep_fresh(&entry),
            },
        }
        if let Some(blocking) = inquiry.blocking {
            self.wait_for_change(&entry, blocking).await?;
        }
        self.hit(&entry).ok_or_else(|| AskError::CutOff("nothing is held".to_owned()))
    }

    async fn answer_from_servers(self: &Arc<Self>, inquiry: Inquiry) -> Result<Served, AskError> {
        if inquiry.consistency != Consistency::Stale {
            let answer = self.ask_together(&inquiry).await?;
            return Ok(self.served(&inquiry.key, answer));
        }
        match self.ask_with_patience(&inquiry).await {
            Ok(answer) => Ok(self.served(&inquiry.key, answer)),
            Err(error) if is_silence(&error) => {
                let known = self.cache.get(&inquiry.key).and_then(|it| self.hit(&it));
                let known = known.filter(|it| !waits_for(inquiry.blocking, &it.answer));
                let max_stale = inquiry.max_stale.unwrap_or(Duration::MAX);
                let known = known.filter(|it| it.answer.meta.last_contact <= max_stale);
                known.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the servers what is true now, together with others who ask the same. A server is not
    /// far from the answer, and another datacenter is too far to wait for twice.
    async fn ask_together(self: &Arc<Self>, inquiry: &Inquiry) -> Result<Answer, AskError> {
        let far = inquiry.blocking.is_some() || inquiry.key.dc.is_some();
        if !far && self.caller.server().is_none() {
            let asked = (inquiry.key.clone(), inquiry.consistency == Consistency::Consistent);
            let (agent, mut shared) = (self.clone(), inquiry.clone());
            let ask = move || async move {
                // It is for others, too, who may have more time.
                shared.deadline = Instant::now() + agent.config.ask_timeout;
                agent.ask_alone(&shared).await
            };
            if let Some(flight) = self.flights.join(&asked, ask) {
                return flight.answer(inquiry.deadline).await;
            }
        }
        self.ask_alone(inquiry).await
    }

    async fn ask_alone(&self, inquiry: &Inquiry) -> Result<Answer, AskError> {
        let answer = self.ask(inquiry.ask(self)).await?;
        self.remember(&inquiry.key, &answer);
        Ok(answer)
    }

    /// Asks the servers, but not for long when there is an answer that would do.
    async fn ask_with_patience(self: &Arc<Self>, inquiry: &Inquiry) -> Result<Answer, AskError> {
        if inquiry.blocking.is_some() || !self.remembers(&inquiry.key) {
            return self.ask_alone(inquiry).await;
        }
        let entry = self.cache.enter(&inquiry.key, self.now_ms());
        entry.touch(self.now_ms());
        if let Some(why) = self.caller.standing().borrow().cut_off()
            && self.holds(&entry, inquiry.max_stale)
        {
            // Those who could say more are far away, if there are any.
            return Err(AskError::CutOff(why.to_string()));
        }
        let fetching = self.fetch(&entry, inquiry);
        if entry.held().is_none() {
            return fetching.await;
        }
        let late = |_| Err(AskError::Deadline("no server answered at once".to_owned()));
        timeout(PATIENCE, fetching).await.unwrap_or_else(late)
    }

    /// Asks the servers once for all who want the same now, and keeps what they say.
    async fn fetch(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        inquiry: &Inquiry,
    ) -> Result<Answer, AskError> {
        let asking = || {
            let mut ask = inquiry.ask(self);
            // It is for others, too, who may have more time.
            ask.deadline = Instant::now() + self.config.ask_timeout;
            ask.blocking = None;
            let (agent, entry) = (self.clone(), entry.clone());
            async move {
                let answer = agent.ask(ask).await?;
                agent.cache.take(&entry, &answer, agent.now_ms());
                Ok(answer)
            }
        };
        entry.fetch(asking).await
    }

    /// Starts to keep an entry up to date, unless somebody does.
    fn keep_fresh(self: &Arc<Self>, entry: &Arc<Entry>) {
        if entry.begin_refresh() {
            tokio::spawn(cache::refresh(self.clone(), entry.clone()));
        }
    }

    /// Waits until an entry holds something newer than a client knows, or for as long as it wants.
    /// Fails when nobody can say whether there is.
    async fn wait_for_change(&self, entry: &Entry, blocking: Blocking) -> Result<(), AskError> {
        let mut changes = entry.changes();
        let mut standing = self.caller.standing();
        let until = Instant::now() + blocking.wait;
        loop {
            changes.mark_unchanged();
            standing.mark_unchanged();
            // Where a policy decides who answers, an index that differs in any way says that something changed.
            let is_news = |held: &Answer| match held.meta.served.is_empty() {
                true => held.meta.index > blocking.index,
                false => held.meta.index != blocking.index,
            };
            if entry.held().is_some_and(|held| is_news(&held)) {
                return Ok(());
            }
            if entry.key.dc.is_none()
                && let Some(why) = standing.borrow().cut_off()
            {
                return Err(AskError::CutOff(why.to_string()));
            }
            tokio::select! {
                biased;
                () = self.stopping().cancelled() => return Ok(()),
                _ = changes.changed() => {}
                _ = standing.changed() => {}
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Returns what an entry holds, with its age, as a hit.
    fn hit(&self, entry: &Entry) -> Option<Served> {
        let (held, standing) = self.held(entry)?;
        let elsewhere = held.meta.is_served_elsewhere(&self.config.me.dc);
        let mut answer = match self.gone_from(&entry.key).filter(|_| !elsewhere) {
            Some(gone) => entry.without(&held, &gone),
            None => Answer::clone(&held),
        };
        // It took that way when it was fetched.
        answer.meta.path.clear();
        answer.meta.mirrored = false;
        self.cache.metrics().hit.increment(1);
        if standing.refresh == Refresh::Alive {
            return Some(Served { answer, age: Some(Duration::ZERO) });
        }
        answer.meta.known_leader = answer.meta.known_leader.map(|_| false);
        answer.meta.last_contact = standing.age;
        answer.meta.consistency = Consistency::Stale;
        Some(Served { answer, age: Some(standing.age) })
    }

    /// Returns what a server answered, without what is gone if no leader vouches for it.
    fn served(&self, key: &Key, answer: Answer) -> Served {
        // What another datacenter mirrors of this one is what nobody here vouches for.
        let vouched = answer.meta.known_leader != Some(false) && !answer.meta.mirrored;
        let own = key.dc.is_none() && !answer.meta.is_served_elsewhere(&self.config.me.dc);
        let unled = own && !vouched;
        let answer = match unled {
            true => prune::without(&answer, &key.lookup, &self.cache.gone()),
            false => answer,
        };
        Served { answer, age: None }
    }

    /// Tells whether an entry holds an answer that is not too old.
    fn holds(&self, entry: &Entry, max_stale: Option<Duration>) -> bool {
        let held = self.held(entry);
        held.is_some_and(|(_, standing)| max_stale.is_none_or(|max| standing.age <= max))
    }

    fn held(&self, entry: &Entry) -> Option<(Arc<Answer>, rules::Standing)> {
        let standing = cache::standing(entry, self.now_ms(), self.unled_ms(&entry.key));
        Some((entry.held()?, standing))
    }

    /// Returns what is gone, if what is said of a datacenter has to do without it.
    fn gone_from(&self, key: &Key) -> Option<Arc<Gone>> {
        (key.dc.is_none() && self.unled_ms(key).is_some()).then(|| self.cache.gone())
    }

    /// Returns since when it is known that no leader vouches for what is said of a datacenter, in
    /// milliseconds since 1970; `None` if one does.
    fn unled_ms(&self, key: &Key) -> Option<u64> {
        let standing = self.caller.standing();
        let standing = standing.borrow();
        let unled = match standing.reach {
            Reach::Led => false,
            // Servers pass on to another datacenter what they can't decide on themselves.
            Reach::Leaderless => key.dc.is_none(),
            Reach::CutOff(_) => true,
        };
        let for_ms = || u64::try_from(standing.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        unled.then(|| self.now_ms().saturating_sub(for_ms()))
    }

    fn remember(&self, key: &Key, answer: &Answer) {
        if self.remembers(key) {
            self.cache.remember(key, answer, self.now_ms());
        }
    }

    /// Tells whether an answer may be of use later: a server has the state of its own datacenter.
    fn remembers(&self, key: &Key) -> bool {
        key.dc.is_some() || self.caller.server().is_none()
    }
}

impl Inquiry {
    fn ask(&self, agent: &Agent) -> Ask {
        Ask {
            dc: self.key.dc.clone(),
            consistency: self.consistency,
            max_stale: self.max_stale,
            blocking: self.blocking,
            token: self.key.token.clone(),
            trace: self.trace,
            request: agent.new_request(),
            deadline: self.deadline,
            question: Question::Lookup(self.key.lookup.clone()),
        }
    }
}

/// Tells whether who asked would be told nothing new by an answer.
fn waits_for(blocking: Option<Blocking>, answer: &Answer) -> bool {
    blocking.is_some_and(|blocking| answer.meta.index <= blocking.index)
}

/// Tells whether nobody who could answer did.
fn is_silence(error: &AskError) -> bool {
    match error {
        AskError::NoLeader
        | AskError::Lost
        | AskError::NoServer { .. }
        | AskError::CutOff(_)
        | AskError::Deadline(_) => true,
        AskError::Bad(_)
        | AskError::TooLarge(_)
        | AskError::Busy(_)
        | AskError::NoPath { .. }
        | AskError::Failed(_) => false,
    }
}

#[cfg(test)]
mod tests;
