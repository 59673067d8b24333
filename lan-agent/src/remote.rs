//! The way of a client agent to the servers of its datacenter: asks over QUIC links.
//!
//! An ask goes to the server that [`Servers`] puts first. When that one can't be reached, loses
//! the connection or has no leader, the next one is asked within the same deadline; when it falls
//! silent, the next one is asked, too, and the first answer counts. Reads may be repeated, and a write
//! carries its request id, so that it is applied once however often it is sent. When no server is left the ask fails at
//! once, with the reason for each of them; what may be stale is asked of a server of another datacenter
//! first, if one is known that mirrors this one ([`crate::refuge`]).

mod round;

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use certs::{
    error::CallError,
    identity::Identity,
    link::{Answering, Endpoint, Kind, Path, PathState, Refusal, Request, Service, Target},
};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use topology::{Datacenter, Profile};
use tracing::{Instrument, debug, info, warn};

use self::round::{Effect, Round};
use crate::{
    ask::{Answer, Ask, AskError, wire},
    caller::{Caller, Promise, ServerSide},
    pool::{Pool, Puller},
    refuge::Refuges,
    servers::{Changes, Server, Servers, Way},
    standing::{self, Reach, Standing},
};

/// The kind of a request that holds an [`Ask`], see [`wire`].
pub const ASK: Kind = Kind(1);

/// The kind of a request that holds a full state of the LAN pool, and is answered with one.
pub const ROSTER: Kind = Kind(2);

/// Most servers that one ask is sent to: a datacenter has 5 at most.
const ATTEMPTS_MAX: usize = 5;

/// How long fetching a full state may take: 5,000 members are 2 MiB.
const PULL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may leave an ask without any packet, be it an acknowledgement, before the next
/// one is asked, too: several round trips of any LAN.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// How often a path that fell silent is looked at, until it is heard again or held for dead.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The code of a refusal by an agent that is no server.
const NO_SERVER: u16 = Refusal::SERVICE_MIN;

/// Asks the servers of the own datacenter. Clones are handles to the same one.
#[derive(Clone)]
pub struct RemoteCaller(Arc<Shared>);

struct Shared {
    dc: Datacenter,
    endpoint: Endpoint,
    pool: Pool,
    /// Whether there was ever a path to a server.
    met: AtomicBool,
    servers: Mutex<Servers>,
    standing: watch::Sender<Standing>,
    /// Tells all asks under way that no server can be reached any more, in the order in which they
    /// began; a watch would wake them in any order, and a simulation would not repeat itself.
    cut: Notify,
    refuges: Option<Refuges>,
}

impl RemoteCaller {
    /// Makes a caller over an endpoint that runs. When no server answers, what may be stale is asked of
    /// the refuges. The returned future keeps the choice of servers up to date; it ends with the pool.
    pub fn new(
        dc: Datacenter,
        endpoint: Endpoint,
        pool: Pool,
        refuges: Option<Refuges>,
        seed: u64,
    ) -> (RemoteCaller, impl Future<Output = ()> + Send + use<>) {
        let servers = Mutex::new(Servers::new(seed));
        let met = AtomicBool::new(false);
        let standing = watch::Sender::new(Standing::at_start(Instant::now()));
        let cut = Notify::new();
        let shared = Shared { dc, endpoint, pool, met, servers, standing, cut, refuges };
        let caller = RemoteCaller(Arc::new(shared));
        let watching = caller.clone();
        (caller, async move { watching.0.watch().await })
    }
}

impl Caller for RemoteCaller {
    fn ask(&self, ask: Ask) -> Promise<Result<Answer, AskError>> {
        let shared = self.0.clone();
        let span = ask.trace.span();
        Box::pin(async move { shared.ask(&ask).await }.instrument(span))
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
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

/// What came of asking which server, and when it was asked.
struct Ended {
    server: Server,
    began: Instant,
    attempt: Attempt,
}

impl Shared {
    /// Asks the servers, and a refuge for what may be stale when none of them can be reached.
    async fn ask(&self, ask: &Ask) -> Result<Answer, AskError> {
        let answered = self.ask_servers(ask).await;
        match (&answered, &self.refuges) {
            (Err(AskError::CutOff(_)), Some(refuges)) if Refuges::may_answer(ask) => {
                refuges.ask(ask).await.map_or(answered, Ok)
            }
            _ => answered,
        }
    }

    /// Asks one server, and the next one when it failed or fell silent meanwhile.
    async fn ask_servers(&self, ask: &Ask) -> Result<Answer, AskError> {
        if let Some(error) = self.cut_off() {
            return Err(error);
        }
        let mut lost = pin!(self.lost());
        let mut round = Round::new(ask);
        let mut under_way = FuturesUnordered::new();
        let mut next = self.next(&mut round);
        loop {
            let silence = self.silence_of(next.as_ref());
            under_way.extend(next.clone().map(|server| self.attempt(server, ask)));
            let ended = tokio::select! {
                biased;
                ended = under_way.next() => ended,
                () = silence, if round.may_go_on() => {
                    // It may be dead, which takes a while to be certain. Who asks does not wait.
                    next = self.next(&mut round);
                    continue;
                }
                error = &mut lost => return round.conclude(Err(error), under_way.len()),
            };
            match ended {
                Some(Ended { attempt: Attempt::Final(outcome), .. }) => {
                    return round.conclude(outcome, under_way.len());
                }
                Some(Ended { attempt: Attempt::Elsewhere(error), .. }) => {
                    round.refusal = Some(error);
                }
                Some(Ended { server, began, attempt: Attempt::Dropped(why, effect) }) => {
                    let trace = ask.trace;
                    warn!(%trace, server = %server.name, error = %why, "server dropped");
                    round.see(effect);
                    let now = Instant::now();
                    let changes = self.servers().see_failure(server.link, began, now, why);
                    self.carry_out(changes).await;
                }
                None => {
                    let cut_off = || AskError::CutOff(self.servers().why_none());
                    let refusal = round.refusal.take().unwrap_or_else(cut_off);
                    return round.conclude(Err(refusal), 0);
                }
            }
            next = self.next(&mut round);
        }
    }

    /// Returns the next server to ask, and notes that it is asked.
    fn next(&self, round: &mut Round) -> Option<Server> {
        let left = round.may_go_on();
        let server = left.then(|| self.servers().next(&round.tried, Instant::now())).flatten();
        match &server {
            Some(server) => round.tried.push(server.link),
            None => round.exhausted = true,
        }
        server
    }

    async fn attempt(&self, server: Server, ask: &Ask) -> Ended {
        debug!(server = %server.name, addr = %server.link, "asking a server");
        let began = Instant::now();
        let body = wire::encode_ask(ask, began);
        let request = Request { kind: ASK, deadline: ask.deadline, body };
        let attempt = match self.endpoint.call(&target(&self.dc, &server), request).await {
            Ok(reply) => match wire::decode_reply(reply.body) {
                Err(error @ (AskError::NoLeader | AskError::CutOff(_))) => {
                    Attempt::Elsewhere(error)
                }
                outcome => Attempt::Final(outcome),
            },
            Err(error) => judge(&error),
        };
        Ended { server, began, attempt }
    }

    /// Ends when a server has been silent for [`SILENT_AFTER`] from now on.
    async fn silence_of(&self, server: Option<&Server>) {
        let packets = || server.and_then(|it| self.endpoint.packets(&target(&self.dc, it)));
        let before = packets();
        tokio::time::sleep(SILENT_AFTER).await;
        if packets() != before {
            // It lives. Should it die now, the connection will say so.
            std::future::pending::<()>().await;
        }
    }

    /// Says that it makes no sense to ask, if it makes none: the endpoint goes on trying to reach
    /// all servers, which is quicker than every ask doing so. Before any server was met an ask
    /// tries, as the first path may be about to come up.
    fn cut_off(&self) -> Option<AskError> {
        let standing = self.standing.borrow();
        let why = standing.cut_off().filter(|_| self.met.load(Relaxed))?;
        let since = standing.since.elapsed().as_secs_f64();
        let dc = &self.dc;
        let text =
            format!("no server of datacenter {dc} has been reachable for {since:.1} s: {why}");
        Some(AskError::CutOff(text))
    }

    /// Waits until no server can be reached any more; returns the error that says so.
    async fn lost(&self) -> AskError {
        loop {
            let mut cut = pin!(self.cut.notified());
            // From here on nothing is missed.
            cut.as_mut().enable();
            if let Some(error) = self.cut_off() {
                return error;
            }
            cut.await;
        }
    }

    /// Follows the members and the paths.
    async fn watch(&self) {
        let mut members = self.pool.changes();
        let mut paths = self.endpoint.changes();
        members.mark_changed();
        let mut pathless = Some(Instant::now());
        loop {
            let look_again = self.see_standing(&mut pathless);
            let needless = self.servers().settle(Instant::now());
            self.carry_out(needless).await;
            let look_again = async move {
                match look_again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
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
                () = look_again => {}
            }
        }
    }

    /// Takes in whether servers can be reached. `pathless` is since when there is no path to any.
    /// Returns when to look again, whatever happens.
    fn see_standing(&self, pathless: &mut Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        let paths = self.endpoint.paths();
        let up: Vec<&Path> = paths.iter().filter(|path| path.is_up()).collect();
        let heard = |path: &&&Path| now < standing::quiet_from(path.last_heard.unwrap_or(now));
        let words: Vec<&[u8]> = up.iter().filter(heard).map(|it| it.word.as_ref()).collect();
        *pathless = if up.is_empty() { pathless.or(Some(now)) } else { None };
        let looked = pathless.is_none_or(|since| now >= standing::looked_around(since));
        self.met.fetch_or(!up.is_empty(), Relaxed);
        let why = || match up.first() {
            Some(path) => format!("{} has fallen silent", path.addr),
            None => self.servers().why_none(),
        };
        let reach = standing::reach(&words).or_else(|| looked.then(|| Reach::CutOff(why().into())));
        let Some(reach) = reach else { return pathless.map(standing::looked_around) };
        let changed = self.standing.send_if_modified(|standing| {
            let changed = standing.see(reach, now);
            if changed {
                announce(standing);
            }
            changed
        });
        if changed {
            self.cut.notify_waiters();
        }
        let last_heard = up.iter().filter_map(|path| path.last_heard).max()?;
        let doubtful = standing::doubtful_from(last_heard);
        if now < doubtful {
            return Some(doubtful);
        }
        // The others tell whether it is this one or all of them.
        for server in self.servers().all() {
            self.endpoint.connect(&target(&self.dc, &server));
        }
        // A path that fell silent may be heard again, which nobody tells.
        let quiet = standing::quiet_from(last_heard);
        Some(if now < quiet { quiet } else { now + LOOK_AGAIN })
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
        for server in &changes.retire {
            self.endpoint.retire(&target(&self.dc, server));
        }
        for server in &changes.lost {
            if self.pool.path_down(server.addr).await.is_err() {
                debug!(server = %server.name, "the pool is gone");
            }
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        // The choice is whole between any two statements.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn announce(standing: &Standing) {
    match &standing.reach {
        Reach::Led => info!("connected to the servers"),
        Reach::Leaderless => warn!("the servers have no leader: reads may be stale, writes wait"),
        Reach::CutOff(why) => warn!(%why, "cut off: no server of the datacenter answers"),
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
