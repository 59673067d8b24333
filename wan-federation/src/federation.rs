//! The federation as a server holds it: [`Federation::bind`] opens the WAN address, the
//! returned future drives everything, and handles forward requests and show what is known.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use certs::{
    error::{CallError, LinkError},
    identity::Identity,
    link::{self, Accept, Endpoint, Limits, Refusal, Request, Sockets, Target},
    store::Keys,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch as signal},
    task::JoinSet,
    time::Instant,
};
use topology::{
    Datacenter, Member, NodeName, Profile, Status, gateway,
    gossip::{self, Engine, Removal},
};

use crate::{
    answer::{Door, ENVELOPE, Inside, REFUSED_ELSEWHERE, REFUSED_KIND},
    attempt::{Carrier, CarryError, Errand},
    detour::Detours,
    driver::{Board, Driver, Due, lan::Lan, paths::Paths},
    envelope::Envelope,
    error::{ForwardError, PoolError},
    forward::{Forwarded, Forwarder, Promise},
    inbox::{INBOX_MAX, Message},
    matrix::Matrix,
    metrics::Metrics,
    pool::{self, Census, Pool, ROSTER},
    relay::{REFUSED_RELAY, RELAY, Relayed},
    removal::{RemovalError, Wish},
    report::Report,
    seeds::Seeds,
    sight::Sight,
    table::Server,
    timeline::{Event, Timeline},
    verdict::{Health, Verdict},
    watch::Watch,
};

/// How long asking an address to be let in may take.
const JOIN_MAX: Duration = Duration::from_secs(5);

/// Most addresses joined by at once.
const JOIN_ADDRS_MAX: usize = 64;

/// How long goodbyes are on their way before this server may stop: four rounds of gossip.
const LEAVE_LINGER: Duration = Duration::from_millis(2500);

/// How a server takes part in the federation.
#[derive(Clone)]
pub struct Config {
    /// What this server says of itself to the WAN pool. Its `addr` is where others reach it; a
    /// port 0 there stands for the port that [`Config::bind`] gets. With a tag
    /// [`GATEWAYS_TAG`](gateway::GATEWAYS_TAG) that is where its fellow servers reach it, and all others by these.
    pub me: Profile,
    /// Where to listen (UDP); port 0 takes any free one.
    pub bind: SocketAddr,
    /// The link of the own datacenter, over which fellow servers tell each other what they see.
    /// What comes in there of kind [`SIGHT`](crate::sight::SIGHT) goes to [`Federation::told`].
    pub lan: Endpoint,
    /// This server's certificate and the authorities that it trusts.
    pub keys: Keys,
    /// Addresses to get in by: `host`, `host:port`; tried again until somebody is there.
    pub join: Vec<String>,
    /// The longest wait between two attempts.
    pub retry_interval: Duration,
    /// The pool's constants; [`gossip::Config::wan`] unless a test needs others.
    pub gossip: gossip::Config,
    /// Feeds the random choices.
    pub seed: u64,
    /// Larger at every start of this server: milliseconds since 1970 will do.
    pub boot: u64,
    /// The present in milliseconds since 1970: what the timeline is stamped with, as time passes.
    pub wall_ms: u64,
    /// Whether the link's identifiers are derived from `seed` too, as a simulation needs.
    pub randomness: Randomness,
    /// What [`Federation::removals`] said before this server was started.
    pub removed: Vec<Removal>,
    /// Whether requests take detours through other datacenters, and are passed on for them.
    pub detours: Detours,
}

/// Where the link takes its identifiers and jitter from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Randomness {
    /// From the operating system: nobody can guess them.
    System,
    /// From [`Config::seed`]: equal runs are equal.
    Seeded,
}

/// A handle to the federation; clones are handles to the same one.
#[derive(Clone)]
pub struct Federation(Arc<Shared>);

struct Shared {
    me: Profile,
    start: Instant,
    endpoint: Endpoint,
    forwarder: Arc<Forwarder>,
    inbox: mpsc::Sender<Message>,
    board: Board,
    metrics: Arc<Metrics>,
}

impl Federation {
    /// Binds the WAN address. The federation works while the returned future runs.
    pub fn bind(
        config: Config,
        sockets: &dyn Sockets,
        inside: Arc<dyn Inside>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static + use<>), LinkError> {
        let metrics = Arc::new(Metrics::resolve());
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let board = Board::new(config.boot);
        let mut me = config.me;
        let door = Door {
            dc: me.dc.clone(),
            inside: inside.clone(),
            inbox: sender.clone(),
            row: board.row.clone(),
            removals: board.removals.clone(),
            rivals: board.rivals.clone(),
            metrics: metrics.clone(),
            forwarder: Arc::default(),
        };
        let relays = door.forwarder.clone();
        let link = link::Config {
            addr: config.bind,
            me: Identity::new(me.dc.clone(), me.role, Some(me.name.clone())),
            keys: config.keys,
            accept: Accept::Agents,
            profile: link::Profile::Wan,
            seed: (config.randomness == Randomness::Seeded).then_some(config.seed),
            limits: Limits::default(),
        };
        let (endpoint, link) = Endpoint::bind(link, sockets, Arc::new(door))?;
        me.addr = addr_in_pool(&me, endpoint.local_addr().port());
        let start = Instant::now();
        let engine = Engine::new(config.gossip, me.clone(), config.boot, config.seed);
        let wake = Arc::new(Notify::new());
        let carrier = Arc::new(Wire(endpoint.clone()));
        let (dc, table) = (me.dc.clone(), board.table.clone());
        let forwarder = Arc::new(Forwarder::new(dc, config.detours, start, table, carrier));
        let driver = Driver {
            start,
            inside,
            inbox,
            pool: Pool::new(engine, endpoint.clone(), &me, start, &board),
            watch: Watch::new(&me, wake.clone()),
            paths: Paths::new(endpoint.clone()),
            lan: Lan::new(config.lan, me.name.clone()),
            seeds: Seeds::new(&config.join, config.retry_interval),
            board: board.clone(),
            metrics: metrics.clone(),
            wake,
            due: Due::default(),
            removed: config.removed,
            timeline: Timeline::new(me.dc.clone(), me.name.clone(), config.boot),
            wall_ms: config.wall_ms,
            home: forwarder.home(),
        };
        let opened = relays.set(Arc::downgrade(&forwarder));
        assert!(opened.is_ok(), "the door is new, and nobody else has it");
        let shared = Shared { me, start, endpoint, forwarder, inbox: sender, board, metrics };
        let run = async move {
            tokio::select! {
                biased;
                () = driver.run() => {}
                () = link => {}
            }
        };
        Ok((Self(Arc::new(shared)), run))
    }

    /// Returns what this server says of itself, with the port that was bound.
    pub fn me(&self) -> &Profile {
        &self.0.me
    }

    /// Carries a request to its datacenter and returns the answer, by the envelope's deadline: to
    /// the own one by way of another one.
    pub async fn forward(&self, envelope: Envelope) -> Result<Forwarded, ForwardError> {
        let asked = Instant::now();
        let dc = envelope.dc.clone();
        let result = self.0.forwarder.forward(envelope).await;
        self.0.metrics.forwarded(dc.as_str(), asked.elapsed(), result.as_ref());
        result
    }

    /// Tells whether there is a server in another datacenter that may know the way to the leader of
    /// the own one.
    pub fn may_go_home(&self) -> bool {
        self.0.forwarder.may_go_home()
    }

    /// Returns the datacenters that did not leave and what they are held for: the own one first,
    /// then the others, the nearest first.
    pub fn datacenters(&self) -> Vec<(Datacenter, Verdict)> {
        let own = Verdict {
            health: Health::Healthy,
            since: Duration::ZERO,
            evidence: "the own datacenter".to_owned(),
        };
        let table = self.0.board.table.load();
        let others =
            table.by_distance().into_iter().filter(|(_, r)| r.verdict.health != Health::Left);
        std::iter::once((self.0.me.dc.clone(), own))
            .chain(others.map(|(dc, remote)| (dc.clone(), remote.verdict.clone())))
            .collect()
    }

    /// Returns servers of other datacenters that may be asked for this one, should all of its own be gone: two of
    /// each datacenter that is not lost and says so in its tag, the nearest datacenter first.
    pub fn servers_with(&self, tag: &str) -> Vec<(Datacenter, NodeName, SocketAddr)> {
        let (members, table) = (self.members(), self.0.board.table.load());
        let has_tag = |addr: SocketAddr| {
            let at = |member: &&Member| member.profile.addr == addr;
            members.iter().find(at).is_some_and(|member| member.profile.tags.contains_key(tag))
        };
        let known = table.by_distance().into_iter();
        let there = known
            .filter(|(_, remote)| !matches!(remote.verdict.health, Health::Lost | Health::Left));
        let servers = there.flat_map(|(dc, remote)| {
            let servers = remote.servers.iter().filter(|server| has_tag(server.addr));
            servers.take(2).map(|it| (dc.clone(), it.name.clone(), it.addr))
        });
        servers.collect()
    }

    /// Returns the gateways by which a server of the WAN pool is reached; none if it is by its own address.
    pub fn gateways_of(&self, addr: SocketAddr) -> Vec<SocketAddr> {
        self.0.endpoint.ways(addr).map(|ways| ways.to_vec()).unwrap_or_default()
    }

    /// Tells whether a datacenter is known and held for lost: asking it is in vain.
    pub fn holds_for_lost(&self, dc: &Datacenter) -> bool {
        let table = self.0.board.table.load();
        table.remotes.get(dc).is_some_and(|remote| remote.verdict.health == Health::Lost)
    }

    /// Takes in what a fellow server says that it sees; tells whether it could: it is told again
    /// otherwise. The link has made sure who it is.
    pub fn told(&self, fellow: &NodeName, body: &[u8]) -> bool {
        let Some(sight) = Sight::decode(body) else { return false };
        let taken = self.0.inbox.try_send(Message::Sight { from: fellow.clone(), sight }).is_ok();
        if !taken {
            self.0.metrics.overflow.increment(1);
        }
        taken
    }

    /// Returns what each datacenter holds of each other one, as far as it was told.
    pub fn matrix(&self) -> Arc<Matrix> {
        self.0.board.table.load().matrix.clone()
    }

    /// Returns the members of the WAN pool, failed and left ones included, sorted by `node.dc`.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.0.board.members.load_full()
    }

    /// Returns all that is known of the datacenters now.
    pub async fn report(&self) -> Result<Report, PoolError> {
        let (reply, report) = oneshot::channel();
        self.post(Message::Report { reply }).await?;
        report.await.map_err(|_| PoolError::Stopped)
    }

    /// Returns the events of this server's timeline, the oldest first.
    pub async fn events(&self) -> Result<Vec<Event>, PoolError> {
        let (reply, events) = oneshot::channel();
        self.post(Message::Events { reply }).await?;
        events.await.map_err(|_| PoolError::Stopped)
    }

    /// Returns the number that [`Federation::changes`] tells, as of now.
    pub fn version(&self) -> u64 {
        *self.0.board.changes.borrow()
    }

    /// Returns a number that changes whenever members, verdicts, breakers or the matrix do; it
    /// goes up while the server runs.
    pub fn changes(&self) -> signal::Receiver<u64> {
        self.0.board.changes.subscribe()
    }

    /// Joins the pool by these addresses, at most 64 of them; returns how many answered.
    pub async fn join(&self, addrs: Vec<SocketAddr>) -> Result<usize, PoolError> {
        let addrs: Vec<SocketAddr> = addrs.into_iter().take(JOIN_ADDRS_MAX).collect();
        let (reply, export) = oneshot::channel();
        self.post(Message::Export { reply }).await?;
        let body = export.await.map_err(|_| PoolError::Stopped)?;
        let deadline = Instant::now() + JOIN_MAX;
        let mut calls = JoinSet::new();
        for &addr in &addrs {
            let endpoint = self.0.endpoint.clone();
            let request = Request { kind: ROSTER, deadline, body: body.clone() };
            let target = Target { addr, expect: link::Expect::any_server() };
            calls.spawn(async move { (addr, endpoint.call(&target, request).await) });
        }
        let mut answered = Vec::new();
        let mut reasons = Vec::new();
        while let Some(done) = calls.join_next().await {
            match done {
                Ok((addr, Ok(reply))) => {
                    answered.push(addr);
                    self.post(Message::Roster { state: reply.body, reply: None }).await?;
                }
                Ok((addr, Err(error))) => reasons.push(format!("{addr}: {error}")),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if answered.is_empty() {
            reasons.sort();
            return Err(PoolError::NobodyAnswered { reasons });
        }
        let count = answered.len();
        self.post(Message::Join(answered)).await?;
        Ok(count)
    }

    /// Looks through the servers of the own LAN now: some came or went.
    pub fn flood(&self) {
        // When the task can't keep up, it looks by itself soon.
        let _ = self.0.inbox.try_send(Message::Flood);
    }

    /// Says something new of this server: version or tags. Its name and address stay.
    pub async fn update(&self, profile: Profile) -> Result<(), PoolError> {
        self.post(Message::Update(Box::new(profile))).await
    }

    /// Holds a failed member for left, or forgets it at once. `name` is `node.dc`.
    pub async fn force_leave(&self, name: &str, prune: bool) -> Result<(), PoolError> {
        let members = self.members();
        let is = |member: &&Member| member.profile.name.in_wan(&member.profile.dc) == name;
        let member = members.iter().find(is);
        let Some(member) = member else {
            return Err(PoolError::UnknownMember { name: name.to_owned() });
        };
        if matches!(member.status, Status::Alive | Status::Leaving) {
            return Err(PoolError::StillAlive { name: name.to_owned() });
        }
        self.post(Message::ForceLeave { name: name.to_owned(), prune }).await
    }

    /// Removes a datacenter from the federation, or lets it in again: here at once, everywhere else
    /// soon. It is the caller's to keep [`Federation::removals`] over a restart.
    pub async fn remove(&self, dc: Datacenter, wish: Wish) -> Result<(), RemovalError> {
        let (reply, done) = oneshot::channel();
        let posted = self.post(Message::Remove { dc, wish, reply }).await;
        posted.map_err(|_| RemovalError::Stopped)?;
        done.await.map_err(|_| RemovalError::Stopped)?
    }

    /// Returns what was said of removed datacenters, by datacenter; [`Federation::changes`] tells when that
    /// changes.
    pub fn removals(&self) -> Arc<Vec<Removal>> {
        self.0.board.removals.load_full()
    }

    /// Tells everyone that this server leaves for good, and waits until they should know.
    pub async fn leave(&self) -> Result<(), PoolError> {
        self.post(Message::Leave).await?;
        tokio::time::sleep(LEAVE_LINGER).await;
        Ok(())
    }

    /// Closes all connections, saying why.
    pub async fn shutdown(&self, reason: &str) {
        self.0.endpoint.shutdown(reason).await;
    }

    /// Returns what `info` shows of the WAN: section, key, value.
    pub fn stats(&self) -> Vec<(&'static str, String, String)> {
        // The pool's numbers stand where Consul has them.
        const POOL: &str = "serf_wan";
        const SECTION: &str = "wan";
        let census = Census::of(&self.0.board.members.load());
        let table = self.0.board.table.load();
        let now = self.0.start.elapsed();
        let mut lines = vec![
            (POOL, "encrypted".to_owned(), true.to_string()),
            (POOL, "members".to_owned(), (census.alive + census.failed + census.left).to_string()),
            (POOL, "alive".to_owned(), census.alive.to_string()),
            (POOL, "failed".to_owned(), census.failed.to_string()),
            (POOL, "left".to_owned(), census.left.to_string()),
        ];
        for (dc, remote) in table.by_distance() {
            let verdict = &remote.verdict;
            let age = now.saturating_sub(verdict.since).as_secs();
            let rtt = match remote.rtt() {
                Some(rtt) => format!("{:.1}", rtt.as_secs_f64() * 1000.0),
                None => "unknown".to_owned(),
            };
            let held = format!("{} for {age}s: {}", verdict.health, verdict.evidence);
            lines.push((SECTION, format!("{dc}_health"), held));
            lines.push((SECTION, format!("{dc}_rtt_ms"), rtt));
            lines.push((SECTION, format!("{dc}_under_way"), remote.gates.under_way().to_string()));
            let relays = remote.gates.relays.under_way();
            lines.push((SECTION, format!("{dc}_relays_under_way"), relays.to_string()));
            let hedges = remote.gates.hedges.get().sent();
            lines.push((SECTION, format!("{dc}_hedges"), hedges.to_string()));
        }
        lines
    }

    async fn post(&self, message: Message) -> Result<(), PoolError> {
        self.0.inbox.send(message).await.map_err(|_| PoolError::Stopped)
    }
}

/// Returns the address by which the WAN pool knows this server, which listens on that port.
fn addr_in_pool(me: &Profile, port: u16) -> SocketAddr {
    let port = if me.addr.port() == 0 { port } else { me.addr.port() };
    match me.tags.contains_key(gateway::GATEWAYS_TAG) {
        true => gateway::virtual_addr(&me.dc, &me.name, port),
        false => SocketAddr::new(me.addr.ip(), port),
    }
}

/// Carries envelopes over the link.
struct Wire(Endpoint);

impl Carrier for Wire {
    fn carry(
        &self,
        to: &Server,
        errand: Errand,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, CarryError>> {
        let endpoint = self.0.clone();
        let target = Target { addr: to.addr, expect: pool::expect_server(&to.dc, &to.name) };
        Box::pin(async move {
            let kind = match errand {
                Errand::Answer => ENVELOPE,
                Errand::PassOn => RELAY,
            };
            let called = endpoint.call(&target, Request { kind, deadline, body }).await;
            let reply =
                called.map(|reply| reply.body).map_err(|error| carry_error(errand, error))?;
            match errand {
                Errand::Answer => Ok(reply),
                Errand::PassOn => Relayed::decode(reply),
            }
        })
    }
}

fn carry_error(errand: Errand, error: CallError) -> CarryError {
    let no_effect = error.had_no_effect();
    match error {
        CallError::Refused { code, message, .. } => {
            // The link's own refusals are about what was sent, not about who got it.
            let elsewhere = match errand {
                Errand::Answer => code == REFUSED_ELSEWHERE,
                // One that does not know this kind of request yet can't pass it on.
                Errand::PassOn => {
                    matches!(code, REFUSED_ELSEWHERE | REFUSED_RELAY | REFUSED_KIND)
                }
            };
            CarryError::Refused { code, message, elsewhere }
        }
        CallError::TooLarge { .. } => CarryError::Refused {
            code: Refusal::TOO_LARGE,
            message: error.to_string(),
            elsewhere: false,
        },
        CallError::Deadline { .. } => CarryError::Deadline,
        error if no_effect => CarryError::NotSent(error.to_string()),
        error => CarryError::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
