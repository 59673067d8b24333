//! Answers every ask, wherever it came in: the one place that knows all the ways.
//!
//! ```text
//! loop {
//!     way::decide ──┬─▶ Datacenter   envelope to one of its servers; its answer is the answer
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
//! within the hold time fails with [`AskError::NoLeader`]; what was sent and not answered by the
//! deadline fails with [`AskError::Deadline`], which says that it may have been applied.

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
    pool::Pool,
    remote::ASK,
    standing::Standing,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use topology::Datacenter;
use tracing::{Instrument, debug};
use wan_federation::{Effect, Envelope, Federation, ForwardError, Forwarded};

use crate::{
    blocking::{self, Waits},
    dispatch::way::{Leadership, Origin, Way},
    metrics::Ways,
    query::{self, Answers},
    raft::{Leader, Leadership as Leading, Raft, RaftError, Read, Watching},
    state::{Command, Op},
    status,
};

/// How long a request that needs a leader waits before it looks again, when nothing told it to.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the dispatch needs to reach everyone.
pub struct Dispatch {
    home: Datacenter,
    raft: Raft,
    link: Endpoint,
    federation: Option<Federation>,
    pool: Pool,
    standing: watch::Receiver<Standing>,
    patience: Patience,
    under_way: AtomicU64,
    jitter: AtomicU64,
    answers: Answers,
    ways: Ways,
}

/// Who a dispatch reaches the others by.
pub struct Parts {
    /// What the datacenter agrees on.
    pub raft: Raft,
    /// The way to the other servers.
    pub link: Endpoint,
    /// The way to other datacenters; `None` when it is disabled.
    pub federation: Option<Federation>,
    /// The LAN pool.
    pub pool: Pool,
    /// Whether there is a leader, and since when.
    pub standing: watch::Receiver<Standing>,
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

/// Why an attempt did not end the request.
enum Again {
    /// Somebody else leads, or nobody: look again.
    LeaderChanged,
    /// The same, and what was sent may have been applied.
    Lost,
    /// It is over.
    Failed(AskError),
}

impl From<AskError> for Again {
    fn from(error: AskError) -> Self {
        Again::Failed(error)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dispatch {
    /// Puts a dispatch together; `seed` decides the jitter of blocking queries.
    pub fn new(home: Datacenter, parts: Parts, patience: Patience, seed: u64) -> Arc<Self> {
        let Parts { raft, link, federation, pool, standing } = parts;
        Arc::new(Self {
            answers: Answers::new(home.clone()),
            home,
            raft,
            link,
            federation,
            pool,
            standing,
            patience,
            under_way: AtomicU64::new(0),
            jitter: AtomicU64::new(seed),
            ways: Ways::resolve(),
        })
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
        let mut none = AskError::NoLeader;
        loop {
            leadership.mark_unchanged();
            let leader = self.raft.leader();
            let way = way::decide(ask, origin, &self.home, self.leadership(&leader));
            debug!(?way, ?origin, "ask");
            self.ways.count(&way);
            let outcome = match way {
                Way::Datacenter(dc) => return self.forward(ask, dc).await,
                Way::Local => return self.answer_locally(ask).await,
                Way::Here => self.answer_as_leader(ask).await,
                Way::Leader => {
                    tokio::select! {
                        biased;
                        outcome = self.pass_on(ask, &leader) => outcome,
                        // A leader that was replaced may be dead: nobody waits until that is certain.
                        () = another_leads(&mut leadership, &leader) => Err(Again::LeaderChanged),
                    }
                }
                Way::Detour => self.detour(ask).await,
                Way::Await => Err(Again::LeaderChanged),
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(Again::Failed(error)) => return Err(error),
                Err(Again::Lost) if !ask.question.reads() => none = lost(),
                Err(Again::Lost | Again::LeaderChanged) => {}
            }
            match origin {
                // Who passed it on looks again.
                Origin::Follower => return Err(AskError::NoLeader),
                Origin::Detour => return Err(none),
                Origin::Agent | Origin::Federation if patience.is_zero() => return Err(none),
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
            Question::Datacenters => Ok(status::datacenters(&self.home, self.federation.as_ref())),
            question if !self.raft.ever_contacted() => {
                debug!(?question, "stale read before the first contact with a leader");
                Err(AskError::NoLeader)
            }
            _ => self.read(ask).await,
        }
    }

    async fn answer_as_leader(&self, ask: &Ask) -> Result<Answer, Again> {
        if let Some(op) = Op::from_question(&ask.question) {
            query::check(&ask.question)?;
            let command = Command::new(Some(ask.request), &op);
            let applied = self.raft.write(command).await.map_err(again)?;
            return Ok(self.answers.written(&applied)?);
        }
        let certainty = match ask.consistency {
            Consistency::Consistent => Read::Index,
            Consistency::Default | Consistency::Stale => Read::Lease,
        };
        self.raft.confirm(certainty).await.map_err(again)?;
        let answer = self.read(ask).await?;
        if ask.blocking.is_some() {
            // Minutes may have passed: who waited must not get the last words of a deposed leader.
            self.raft.confirm(certainty).await.map_err(again)?;
        }
        Ok(answer)
    }

    /// Answers a read from the state as it is here.
    async fn read(&self, ask: &Ask) -> Result<Answer, AskError> {
        let answer = match &ask.question {
            Question::RaftConfiguration => status::configuration(&self.raft, &self.pool.members()),
            question => {
                let blocking = ask.blocking.map(|blocking| self.patience.waits.hold(blocking));
                let seed = self.jitter.fetch_add(1, Ordering::Relaxed);
                blocking::answer(self.raft.view(), &self.answers, question, blocking, seed).await?
            }
        };
        let meta = Meta {
            known_leader: Some(self.raft.leader().is_some()),
            last_contact: self.raft.last_contact(),
            consistency: ask.consistency,
            ..answer.meta
        };
        Ok(Answer { meta, ..answer })
    }

    /// Hands an ask to the leader.
    async fn pass_on(&self, ask: &Ask, leader: &Option<Leader>) -> Result<Answer, Again> {
        let Some(leader) = leader else { return Err(Again::LeaderChanged) };
        let target = Target::server(&self.home, &leader.name, leader.addr);
        let body = encode_ask(ask, Instant::now());
        let request = Request { kind: ASK, deadline: ask.deadline, body };
        match self.link.call(&target, request).await {
            Ok(reply) => match decode_reply(reply.body) {
                Err(AskError::NoLeader) => Err(Again::LeaderChanged),
                answer => answer.map_err(Again::Failed),
            },
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
        let forwarded = federation.forward(envelope(ask, self.home.clone())).await;
        match forwarded.map(answer_of) {
            Ok(Err(AskError::NoLeader)) => Err(Again::LeaderChanged),
            Ok(answer) => answer.map_err(Again::Failed),
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
        answer_of(forwarded.map_err(|error| forward_error(ask, error))?)
    }

    /// Answers what came from another datacenter.
    pub async fn answer_remote(&self, payload: &[u8], origin: Origin) -> Result<Answer, AskError> {
        let ask = lan_agent::ask::wire::decode_ask(payload, Instant::now())?;
        self.ask(ask, origin).await
    }
}

/// Puts an ask into an envelope for a datacenter.
fn envelope(ask: &Ask, dc: Datacenter) -> Envelope {
    let any_server = ask.question.reads() && ask.consistency == Consistency::Stale;
    Envelope {
        dc,
        path: Vec::new(),
        deadline: ask.deadline,
        request: ask.request.0,
        read: ask.question.reads(),
        waits: ask.blocking.is_some(),
        consistency: match any_server {
            true => wan_federation::Consistency::Any,
            false => wan_federation::Consistency::Leader,
        },
        trace: ask.trace.0,
        payload: encode_ask(ask, Instant::now()),
    }
}

/// Reads what another datacenter, or the own one by way of another, answered.
fn answer_of(forwarded: Forwarded) -> Result<Answer, AskError> {
    let Forwarded { answer, path } = forwarded;
    let mut answer = decode_reply(answer)?;
    answer.meta.path = path;
    Ok(answer)
}

/// Ends when another server than this one is known to lead.
async fn another_leads(leadership: &mut Watching<Leading>, leader: &Option<Leader>) {
    let asked = leader.as_ref().map(|leader| leader.id);
    let another = |now: &Leading| now.leader.is_some() && now.leader != asked;
    if leadership.wait_for(another).await.is_err() {
        // Raft has stopped here and will not tell; whoever was asked may still answer.
        std::future::pending::<()>().await;
    }
}

fn too_late(ask: &Ask) -> AskError {
    let what = if ask.question.reads() { "the answer" } else { "the outcome of the write" };
    AskError::Deadline(format!("{what} did not come in time"))
}

fn lost() -> AskError {
    let text = "No cluster leader any more: the write was sent and may have been applied";
    AskError::Failed(text.to_owned())
}

fn again(error: RaftError) -> Again {
    match error {
        RaftError::NotLeader { .. } => Again::LeaderChanged,
        // The same request id finds out what became of it.
        RaftError::Unknown => Again::Lost,
        RaftError::Refused(sentence) | RaftError::Broken(sentence) => {
            Again::Failed(AskError::Failed(sentence))
        }
        RaftError::Shutdown => Again::Failed(AskError::NoLeader),
    }
}

fn forward_error(ask: &Ask, error: ForwardError) -> AskError {
    let reason = error.to_string();
    match error {
        ForwardError::Unreachable { effect: Effect::Unknown, .. } if !ask.question.reads() => {
            AskError::Failed(format!("{reason}; the write may have been applied"))
        }
        ForwardError::UnknownDatacenter { dc } => AskError::NoPath { dc },
        ForwardError::Lost { dc, .. } | ForwardError::Unreachable { dc, .. } => {
            AskError::NoServer { dc, reason }
        }
        ForwardError::Deadline { .. } => AskError::Deadline(reason),
        _ => AskError::Failed(reason),
    }
}
