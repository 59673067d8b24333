//! Answers every ask, wherever it came in: the one place that knows all the ways.
//!
//! ```text
//! loop {
//!     way::decide ──┬─▶ Datacenter   envelope to one of its servers; its answer is the answer
//!                   ├─▶ Mirror       what this server knows of another datacenter
//!                   ├─▶ Local        status, stale reads: what this server has
//!                   ├─▶ Here         write: Raft; read: confirm leadership, answer from the state
//!                   ├─▶ Leader       the same ask, to the leader
//!                   ├─▶ Detour       the same, by way of another datacenter
//!                   └─▶ Await
//!     no leader, or not the leader any more: wait until leadership changes, within the hold time
//! }
//! ```
//!
//! Repeating is safe: a write carries its request id and applies once. What can't be decided
//! within the hold time fails with [`AskError::NoLeader`], or with [`AskError::Lost`] when it is a write
//! that a leader may have applied; what was sent and not answered by the deadline fails with
//! [`AskError::Deadline`], which leaves that open, too.

mod abroad;
mod again;
mod explain;
mod gather;
mod primary;
mod removal;
mod union;

pub mod way;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use certs::{
    error::CallError,
    link::{Endpoint, Request, Target},
};
use lan_agent::{
    ask::{
        Answer, Ask, AskError, Consistency, Meta, Question,
        wire::{decode_reply, encode_ask},
    },
    catalog::{Lookup, Subject},
    pool::Pool,
    refuge::Refuges,
    remote::ASK,
    standing::Standing,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use topology::Datacenter;
use tracing::{Instrument, debug};
use wan_federation::{Effect, Federation, ForwardError};

use crate::{
    blocking::{self, Waits},
    coordinates::{self, Inbox},
    dispatch::{
        abroad::{answer_of, envelope, forward_error},
        again::{Again, Attempts, another_leads},
        way::{Leadership, Map, Origin, Scene, Way},
    },
    failover::Failover,
    metrics::Ways,
    mirror::{
        self, Mirrors,
        rule::{self, Use},
    },
    query::{self, Answers},
    raft::{Leader, Raft, Read},
    removals::Removals,
    state::{Command, Op},
    status,
};

/// How long a request that needs a leader waits before it looks again, when nothing told it to.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long another datacenter is waited for by those who may be answered from its mirror.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// What the dispatch needs to reach everyone.
pub struct Dispatch {
    map: Map,
    raft: Raft,
    link: Endpoint,
    federation: Option<Federation>,
    removals: Removals,
    pool: Pool,
    standing: watch::Receiver<Standing>,
    patience: Patience,
    under_way: AtomicU64,
    jitter: AtomicU64,
    answers: Arc<Answers>,
    mirrors: Mirrors,
    failover: Arc<Failover>,
    coordinates: Inbox,
    ways: Ways,
}

/// Who a dispatch reaches the others by.
pub struct Parts {
    /// Which datacenter it serves, and which one writes for all.
    pub map: Map,
    /// What the datacenter agrees on.
    pub raft: Raft,
    /// The way to the other servers.
    pub link: Endpoint,
    /// The way to other datacenters; `None` when it is disabled.
    pub federation: Option<Federation>,
    /// Keeps which datacenters were removed.
    pub removals: Removals,
    /// The LAN pool.
    pub pool: Pool,
    /// Whether there is a leader, and since when.
    pub standing: watch::Receiver<Standing>,
    /// What is known of other datacenters.
    pub mirrors: Mirrors,
    /// Who answers for services that have too few healthy instances.
    pub failover: Arc<Failover>,
    /// Writes where nodes are.
    pub coordinates: Inbox,
}

/// How long requests are waited with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a leader, where there is none (`performance.rpc_hold_timeout`).
    pub leader: Duration,
    /// For a change of what is asked.
    pub waits: Waits,
}

/// Counts a request while it is under way.
struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dispatch {
    /// Puts a dispatch together; `seed` decides the jitter of blocking queries.
    pub fn new(parts: Parts, patience: Patience, seed: u64) -> Arc<Self> {
        let Parts { map, raft, link, federation, removals, pool, standing, mirrors, .. } = parts;
        Arc::new(Self {
            answers: parts.failover.own().answers.clone(),
            map,
            raft,
            link,
            federation,
            removals,
            pool,
            standing,
            patience,
            under_way: AtomicU64::new(0),
            jitter: AtomicU64::new(seed),
            mirrors,
            failover: parts.failover,
            coordinates: parts.coordinates,
            ways: Ways::resolve(),
        })
    }

    /// Returns what is known of other datacenters.
    pub fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// Returns how many requests are under way.
    pub fn load(&self) -> u32 {
        u32::try_from(self.under_way.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// Answers an ask by its deadline, within the span of its trace.
    pub async fn ask(&self, ask: Ask, origin: Origin) -> Result<Answer, AskError> {
        let span = ask.trace.span();
        self.answer(ask, origin).instrument(span).await
    }

    async fn answer(&self, ask: Ask, origin: Origin) -> Result<Answer, AskError> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _counted = UnderWay(&self.under_way);
        let answered = timeout_at(ask.deadline, self.find_way(&ask, origin)).await;
        answered.unwrap_or_else(|_| Err(too_late(&ask)))
    }

    async fn find_way(&self, ask: &Ask, origin: Origin) -> Result<Answer, AskError> {
        let mut leadership = self.raft.leadership();
        let mut patience = self.patience_for_leader();
        let mut attempts = Attempts::new(ask.question.reads());
        loop {
            leadership.mark_unchanged();
            let leader = self.raft.leader();
            let scene = self.scene(ask, &leader);
            let way = way::decide(ask, origin, &self.map, scene);
            debug!(?way, ?origin, "ask");
            self.ways.count(&way);
            let outcome = match way {
                Way::Datacenter(dc) if scene.mirror == Use::Last => {
                    return self.forward_or_mirror(ask, dc).await;
                }
                Way::Datacenter(dc) => return self.forward(ask, dc).await,
                Way::Mirror(dc) => return self.answer_from_mirror(ask, dc).await,
                Way::Local => return self.answer_locally(ask).await,
                Way::Here => self.answer_as_leader(ask).await,
                Way::Leader => {
                    // A leader that was replaced may be dead: nobody waits until that is certain.
                    let another = another_leads(&mut leadership, &leader);
                    again::unless(another, self.pass_on(ask, &leader)).await
                }
                Way::Detour => self.detour(ask).await,
                Way::Await => Err(Again::LeaderChanged),
                Way::NotPrimary => return Err(primary::mistaken(&self.map)),
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(again) => attempts.see(again)?,
            }
            match origin {
                // Who passed it on looks again.
                Origin::Follower | Origin::Detour => return Err(attempts.in_vain()),
                Origin::Agent | Origin::Federation if patience.is_zero() => {
                    return Err(attempts.in_vain());
                }
                Origin::Agent | Origin::Federation => {}
            }
            let began = Instant::now();
            let until = began + patience.min(LOOK_AGAIN);
            // Whether it changed or not, the next look decides; a stopped Raft never changes again.
            if let Ok(Err(_)) = timeout_at(until, leadership.changed()).await {
                tokio::time::sleep_until(until).await;
            }
            patience = patience.saturating_sub(began.elapsed());
        }
    }

    /// Returns for how long a request may wait for a leader: all of them together no longer than
    /// one, so that a datacenter that has had none for long says so at once.
    fn patience_for_leader(&self) -> Duration {
        let standing = self.standing.borrow();
        let waited = if standing.is_led() { Duration::ZERO } else { standing.since.elapsed() };
        self.patience.leader.saturating_sub(waited)
    }

    fn scene(&self, ask: &Ask, leader: &Option<Leader>) -> Scene {
        Scene {
            leadership: self.leadership(leader),
            // It takes a lock, and nearly nobody wants to know.
            last_contact: ask.max_stale.map_or(Duration::ZERO, |_| self.raft.last_contact()),
            mirror: ask.dc.as_ref().map_or(Use::Never, |dc| self.use_of_mirror(ask, dc)),
        }
    }

    /// Decides what may be done with the mirror of another datacenter.
    fn use_of_mirror(&self, ask: &Ask, dc: &Datacenter) -> Use {
        let Some(mirror) = self.mirrors.get(dc) else { return Use::Never };
        let lost = self.federation.as_ref().is_none_or(|it| it.holds_for_lost(dc));
        rule::choose(ask, mirror.held(&ask.question, lost), self.mirrors.bounds())
    }

    fn leadership(&self, leader: &Option<Leader>) -> Leadership {
        match leader {
            Some(leader) if leader.id == self.raft.id() => Leadership::Mine,
            Some(_) => Leadership::Other,
            None => {
                let standing = self.standing.borrow();
                let led = standing.is_led();
                let leaderless_for = if led { Duration::ZERO } else { standing.since.elapsed() };
                let may_detour = self.federation.as_ref().is_some_and(Federation::may_go_home);
                Leadership::without(leaderless_for, may_detour)
            }
        }
    }

    /// Answers what needs no leader from what this server has.
    async fn answer_locally(&self, ask: &Ask) -> Result<Answer, AskError> {
        match &ask.question {
            Question::StatusLeader => Ok(status::leader(&self.raft)),
            Question::StatusPeers => Ok(status::peers(&self.raft)),
            Question::Datacenters => {
                Ok(status::datacenters(&self.map.home, self.federation.as_ref()))
            }
            Question::Refuges => Ok(status::refuges(self.federation.as_ref())),
            Question::CoordinateDatacenters => {
                Ok(coordinates::wan::answer(&self.map.home, self.federation.as_ref()))
            }
            Question::FederationStatus => self.federation_status(ask).await,
            Question::FederationTimeline { about, scope } => {
                self.federation_timeline(ask, about.as_ref(), *scope).await
            }
            Question::Union(union) => self.unite(ask, union).await,
            Question::FederationRemove { dc, removing } => {
                self.remove_datacenter(dc, *removing).await
            }
            question if !self.raft.ever_contacted() => {
                debug!(?question, "stale read before the first contact with a leader");
                Err(AskError::NoLeader)
            }
            _ => self.read(ask).await,
        }
    }

    async fn answer_as_leader(&self, ask: &Ask) -> Result<Answer, Again> {
        if let Question::CoordinateUpdate(update) = &ask.question {
            return Ok(self.coordinates.put(update.clone()).await?);
        }
        if let Some(op) = Op::from_question(&ask.question)? {
            query::check(&ask.question)?;
            query::check_room(&self.raft.view().load(), &op)?;
            let command = Command::new(Some(ask.request), &op);
            let applied = self.raft.write(command).await.map_err(Again::from)?;
            return Ok(self.answers.written(&applied)?);
        }
        let certainty = match ask.consistency {
            Consistency::Consistent => Read::Index,
            Consistency::Default | Consistency::Stale => Read::Lease,
        };
        self.raft.confirm(certainty).await.map_err(Again::from)?;
        let answer = self.read(ask).await?;
        if ask.blocking.is_some() {
            // Minutes may have passed: who waited must not get the last words of a deposed leader.
            self.raft.confirm(certainty).await.map_err(Again::from)?;
        }
        Ok(answer)
    }

    /// Answers a read from the state as it is here.
    async fn read(&self, ask: &Ask) -> Result<Answer, AskError> {
        let answer = match &ask.question {
            Question::RaftConfiguration => {
                let last_contact = self.raft.last_contact();
                let answer = status::configuration(&self.raft, &self.pool.members());
                Answer { meta: Meta { last_contact, ..answer.meta }, ..answer }
            }
            Question::Feed(feed) => {
                let contact = || self.raft.last_contact();
                mirror::feed_answer(self.raft.view(), feed, ask, contact).await
            }
            Question::FailoverExplain(explain) => self.explain(ask, explain).await?,
            Question::Lookup(lookup) if self.may_fail_over(ask, lookup) => {
                let blocking = ask.blocking.map(|blocking| self.patience.waits.hold(blocking));
                let contact = || self.raft.last_contact();
                self.failover.answer(lookup, blocking, contact).await?
            }
            question => {
                let blocking = ask.blocking.map(|blocking| self.patience.waits.hold(blocking));
                let seed = self.jitter.fetch_add(1, Ordering::Relaxed);
                let (view, contact) = (self.raft.view(), || self.raft.last_contact());
                blocking::answer(view, &self.answers, question, blocking, seed, contact).await?
            }
        };
        let meta = Meta {
            known_leader: Some(self.raft.leader().is_some()),
            consistency: ask.consistency,
            ..answer.meta
        };
        Ok(Answer { meta, ..answer })
    }

    /// Tells whether others than the own instances may answer a lookup. Who names a datacenter wants that one's answer
    /// and nothing else, but where it goes itself is a query's own business.
    fn may_fail_over(&self, ask: &Ask, lookup: &Lookup) -> bool {
        let is_query = matches!(lookup.subject, Subject::Query(_));
        (ask.dc.is_none() || is_query) && self.failover.concerns(lookup)
    }

    /// Hands an ask to the leader.
    async fn pass_on(&self, ask: &Ask, leader: &Option<Leader>) -> Result<Answer, Again> {
        let Some(leader) = leader else { return Err(Again::LeaderChanged) };
        let target = Target::server(&self.map.home, &leader.name, leader.addr);
        let body = encode_ask(ask, Instant::now());
        let request = Request { kind: ASK, deadline: ask.deadline, body };
        match self.link.call(&target, request).await {
            Ok(reply) => decode_reply(reply.body).map_err(Again::answered),
            Err(CallError::Deadline { .. }) => Err(Again::Failed(too_late(ask))),
            Err(error @ (CallError::Refused { .. } | CallError::TooLarge { .. })) => {
                Err(Again::Failed(AskError::Failed(error.to_string())))
            }
            // Lost or never sent: the request id makes it safe to ask again.
            Err(error) => {
                debug!(%error, leader = %leader.name, "the leader did not answer");
                Err(if error.had_no_effect() { Again::LeaderChanged } else { Again::Lost })
            }
        }
    }

    /// Hands an ask to the leader by way of another datacenter.
    async fn detour(&self, ask: &Ask) -> Result<Answer, Again> {
        let Some(federation) = &self.federation else { return Err(Again::LeaderChanged) };
        let forwarded = federation.forward(envelope(ask, self.map.home.clone())).await;
        match forwarded.map(answer_of) {
            Ok(answer) => answer.map_err(Again::answered),
            Err(ForwardError::Deadline { .. }) => Err(Again::Failed(too_late(ask))),
            Err(error) => {
                debug!(%error, "no way home");
                Err(match error.effect() {
                    Effect::None => Again::LeaderChanged,
                    Effect::Unknown => Again::Lost,
                })
            }
        }
    }

    /// Hands an ask to another datacenter.
    async fn forward(&self, ask: &Ask, dc: Datacenter) -> Result<Answer, AskError> {
        let Some(federation) = &self.federation else { return Err(AskError::NoPath { dc }) };
        let forwarded = federation.forward(envelope(ask, dc)).await;
        let forwarded = forwarded.map_err(|error| forward_error(ask, error));
        answer_of(match ask.question.is_for_primary() {
            true => forwarded.map_err(primary::unreachable)?,
            false => forwarded?,
        })
    }

    /// Answers for another datacenter with what is known of it here.
    async fn answer_from_mirror(&self, ask: &Ask, dc: Datacenter) -> Result<Answer, AskError> {
        let Some(mirror) = self.mirrors.get(&dc) else {
            return Err(AskError::Busy(format!("nothing is mirrored of {dc} here yet")));
        };
        let seed = self.jitter.fetch_add(1, Ordering::Relaxed);
        mirror.answer(ask, self.patience.waits, seed).await
    }

    /// Hands an ask to another datacenter; when nobody there answers soon, what is known of it has to do.
    async fn forward_or_mirror(&self, ask: &Ask, dc: Datacenter) -> Result<Answer, AskError> {
        let now = Instant::now();
        let soon = now + (ask.deadline.saturating_duration_since(now) / 2).min(PATIENCE_MAX);
        let deadline = if ask.blocking.is_some() { ask.deadline } else { soon };
        let hurried = Ask { deadline, ..ask.clone() };
        let error = match self.forward(&hurried, dc.clone()).await {
            answered @ (Ok(_) | Err(AskError::Bad(_) | AskError::TooLarge(_))) => return answered,
            Err(error) => error,
        };
        debug!(%dc, %error, "answered from the mirror");
        match self.use_of_mirror(ask, &dc) {
            Use::Never => Err(error),
            Use::First | Use::Last => self.answer_from_mirror(ask, dc).await,
        }
    }

    /// Answers an agent of another datacenter whose own servers are gone: reads of what may be stale.
    pub async fn answer_guest(&self, payload: &[u8]) -> Result<Answer, AskError> {
        let ask = lan_agent::ask::wire::decode_ask(payload, Instant::now())?;
        match Refuges::may_answer(&ask) {
            true => self.ask(ask, Origin::Federation).await,
            false => Err(AskError::Bad("only stale reads are answered here".to_owned())),
        }
    }

    /// Asks what changed in another datacenter, for the mirror of it: its own servers if `direct`, else the leader
    /// of this one, who asks them.
    pub async fn pull(&self, ask: Ask, direct: bool) -> Result<Answer, AskError> {
        match ask.dc.clone() {
            Some(dc) if direct => self.forward(&ask, dc).await,
            _ => self.ask(ask, Origin::Agent).await,
        }
    }

    /// Tells whether another server leads this datacenter.
    pub fn is_led_by_another(&self) -> bool {
        self.leadership(&self.raft.leader()) == Leadership::Other
    }

    /// Answers what came from another datacenter.
    pub async fn answer_remote(&self, payload: &[u8], origin: Origin) -> Result<Answer, AskError> {
        let ask = lan_agent::ask::wire::decode_ask(payload, Instant::now())?;
        self.ask(ask, origin).await
    }
}

fn too_late(ask: &Ask) -> AskError {
    let what = if ask.question.reads() { "the answer" } else { "the outcome of the write" };
    AskError::Deadline(format!("{what} did not come in time"))
}
