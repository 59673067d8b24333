//! The way of a client agent to the servers of its datacenter: asks over QUIC links.
//!
//! An ask goes to the server that [`Servers`] puts first. When that one can't be reached, loses
//! the connection or has no leader, the next one is asked within the same deadline: reads may be
//! repeated, and a write carries its request id, so that it is applied once however often it is
//! sent. When no server is left the ask fails at once, with the reason for each of them.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use certs::{
    error::CallError,
    identity::Identity,
    link::{Answering, Endpoint, Kind, Path, PathState, Refusal, Request, Service, Target},
};
use tokio::time::Instant;
use topology::{Datacenter, Profile};

use crate::{
    ask::{Answer, Ask, AskError, wire},
    caller::{Caller, Promise, ServerSide},
    pool::{Pool, Puller},
    servers::{Changes, Server, Servers, Way},
};

/// The kind of a request that holds an [`Ask`], see [`wire`].
pub const ASK: Kind = Kind(1);

/// The kind of a request that holds a full state of the LAN pool, and is answered with one.
pub const ROSTER: Kind = Kind(2);

/// Most servers that one ask is sent to: a datacenter has 5 at most.
const ATTEMPTS_MAX: usize = 5;

/// How long fetching a full state may take: 5,000 members are 2 MiB.
const PULL_TIMEOUT: Duration = Duration::from_secs(10);

/// The code of a refusal by an agent that is no server.
const NO_SERVER: u16 = Refusal::SERVICE_MIN;

/// Asks the servers of the own datacenter. Clones are handles to the same one.
#[derive(Clone)]
pub struct RemoteCaller(Arc<Shared>);

struct Shared {
    dc: Datacenter,
    endpoint: Endpoint,
    pool: Pool,
    servers: Mutex<Servers>,
}

impl RemoteCaller {
    /// Makes a caller over an endpoint that runs. The returned future keeps the choice of
    /// servers up to date; it ends with the pool.
    pub fn new(
        dc: Datacenter,
        endpoint: Endpoint,
        pool: Pool,
        seed: u64,
    ) -> (RemoteCaller, impl Future<Output = ()> + Send + use<>) {
        let servers = Mutex::new(Servers::new(seed));
        let caller = RemoteCaller(Arc::new(Shared { dc, endpoint, pool, servers }));
        let watching = caller.clone();
        (caller, async move { watching.0.watch().await })
    }
}

impl Caller for RemoteCaller {
    fn ask(&self, ask: Ask) -> Promise<Result<Answer, AskError>> {
        let shared = self.0.clone();
        Box::pin(async move { shared.ask(&ask).await })
    }

    fn server(&self) -> Option<&dyn ServerSide> {
        None
    }
}

/// What came of asking one server.
enum Attempt {
    /// This is the outcome.
    Final(Result<Answer, AskError>),
    /// The server can't help, another one may.
    Elsewhere(AskError),
    /// The server can't be reached any more, another one may. Says why, and what it may have done.
    Dropped(String, Effect),
}

/// Whether attempts that failed may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Possible,
}

impl Effect {
    fn or(self, other: Self) -> Self {
        if self == Effect::Possible { self } else { other }
    }

    /// Does not let an error say that nothing happened when something may have.
    fn on(self, outcome: Result<Answer, AskError>) -> Result<Answer, AskError> {
        outcome.map_err(|error| match self {
            Effect::Possible if error.had_no_effect() => AskError::Failed(format!(
                "the connection was lost when the request had been sent, so that it may have \
                 been applied; trying again: {error}"
            )),
            Effect::Possible | Effect::None => error,
        })
    }
}

impl Shared {
    async fn ask(&self, ask: &Ask) -> Result<Answer, AskError> {
        let mut tried = Vec::new();
        let mut refusal = None;
        let mut effect = Effect::None;
        while tried.len() < ATTEMPTS_MAX {
            let began = Instant::now();
            let Some(server) = self.servers().next(&tried, began) else { break };
            tried.push(server.link);
            match self.attempt(&server, ask).await {
                Attempt::Final(outcome) => return effect.on(outcome),
                Attempt::Elsewhere(error) => refusal = Some(error),
                Attempt::Dropped(why, possible) => {
                    tracing::warn!(server = %server.name, error = %why, "server dropped");
                    if !ask.question.reads() {
                        effect = effect.or(possible);
                    }
                    let now = Instant::now();
                    let changes = self.servers().see_failure(server.link, began, now, why);
                    self.carry_out(changes).await;
                }
            }
        }
        let cut_off = || AskError::CutOff(self.servers().why_none());
        effect.on(Err(refusal.unwrap_or_else(cut_off)))
    }

    async fn attempt(&self, server: &Server, ask: &Ask) -> Attempt {
        let body = wire::encode_ask(ask, Instant::now());
        let request = Request { kind: ASK, deadline: ask.deadline, body };
        match self.endpoint.call(&target(&self.dc, server), request).await {
            Ok(reply) => match wire::decode_reply(reply.body) {
                Err(error @ (AskError::NoLeader | AskError::CutOff(_))) => {
                    Attempt::Elsewhere(error)
                }
                outcome => Attempt::Final(outcome),
            },
            Err(error) => judge(&error),
        }
    }

    /// Follows the members and the paths.
    async fn watch(&self) {
        let mut members = self.pool.changes();
        let mut paths = self.endpoint.changes();
        members.mark_changed();
        loop {
            tokio::select! {
                biased;
                changed = members.changed() => match changed {
                    Err(_) => return,
                    Ok(()) => {
                        members.borrow_and_update();
                        let changes = self.see_members();
                        self.carry_out(changes).await;
                    }
                },
                changed = paths.changed() => match changed {
                    Err(_) => return,
                    Ok(()) => {
                        paths.borrow_and_update();
                        let changes = self.see_paths();
                        self.carry_out(changes).await;
                    }
                },
            }
        }
    }

    fn see_members(&self) -> Changes {
        self.servers().see_members(&self.pool.members(), Instant::now())
    }

    fn see_paths(&self) -> Changes {
        self.servers().see_ways(ways(self.endpoint.paths()), Instant::now())
    }

    async fn carry_out(&self, changes: Changes) {
        for server in &changes.connect {
            self.endpoint.connect(&target(&self.dc, server));
        }
        for server in &changes.disconnect {
            self.endpoint.disconnect(&target(&self.dc, server));
        }
        for server in &changes.lost {
            if self.pool.path_down(server.addr).await.is_err() {
                tracing::debug!(server = %server.name, "the pool is gone");
            }
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        // The choice is whole between any two statements.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn judge(error: &CallError) -> Attempt {
    let text = error.to_string();
    match error {
        CallError::Dial(_) | CallError::Lost { .. } => {
            let none = error.had_no_effect();
            Attempt::Dropped(text, if none { Effect::None } else { Effect::Possible })
        }
        CallError::Refused { .. } => Attempt::Elsewhere(AskError::CutOff(text)),
        CallError::Deadline { .. } => Attempt::Final(Err(AskError::Deadline(text))),
        CallError::TooLarge { .. } => Attempt::Final(Err(AskError::TooLarge(text))),
        CallError::ReplyTooLarge { .. } => Attempt::Final(Err(AskError::Failed(text))),
    }
}

fn target(dc: &Datacenter, server: &Server) -> Target {
    Target::server(dc, &server.name, server.link)
}

fn ways(paths: Vec<Path>) -> BTreeMap<SocketAddr, Way> {
    let way = |path: Path| match path.state {
        PathState::Up { since } => Some((path.addr, Way::Up { since })),
        PathState::Down { reason, .. } | PathState::Dialing { after: Some((_, reason)) } => {
            Some((path.addr, Way::Down { reason }))
        }
        PathState::Dialing { after: None } => None,
    };
    paths.into_iter().filter_map(way).collect()
}

/// Fetches full states of the LAN pool from servers: a pool's [`Puller`] over the link.
#[derive(Clone)]
pub struct LinkPuller(Endpoint);

impl LinkPuller {
    /// Fetches over this endpoint.
    pub fn new(endpoint: Endpoint) -> Self {
        Self(endpoint)
    }
}

impl Puller for LinkPuller {
    fn pull(&self, from: Profile, mine: Bytes) -> Promise<Result<Bytes, String>> {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let link = from.link.ok_or_else(|| format!("{} is no server", from.name))?;
            let target = Target::server(&from.dc, &from.name, link);
            let deadline = Instant::now() + PULL_TIMEOUT;
            let request = Request { kind: ROSTER, deadline, body: mine };
            let reply = endpoint.call(&target, request).await;
            reply.map(|reply| reply.body).map_err(|error| error.to_string())
        })
    }
}

/// What a client agent's endpoint does for others: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientService;

impl Service for ClientService {
    fn call(&self, _peer: Arc<Identity>, _from: SocketAddr, _request: Request) -> Answering {
        let refusal = Refusal::new(NO_SERVER, "this agent is no server");
        Box::pin(std::future::ready(Err(refusal)))
    }

    fn datagram(&self, _peer: &Identity, _from: SocketAddr, _data: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

#[cfg(test)]
mod tests;
