//! The federation's task: the one owner of the pool, the watch and the addresses to join by.
//!
//! It reacts to messages and timers, and looks around at an interval short enough that silence
//! is noticed in time. It ends when the last handle is gone.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use certs::link::{self, Endpoint, PathState, Request};
use tokio::{
    sync::{mpsc, watch as signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use topology::{Datacenter, Member, Profile, gossip::Input};
use tracing::{debug, info, warn};

use crate::{
    answer::{Inside, ROW, SIGHT},
    inbox::Message,
    matrix::Written,
    metrics::Metrics,
    pool::{self, Census, Pool},
    seeds::Seeds,
    sight::Sight,
    table::Table,
    watch::{Change, Link, Report, Watch},
    word::Word,
};

/// How often the paths are looked at: the resolution of what is noticed by silence.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often fellow servers are told what is seen even if nothing changed; several times within
/// [`crate::watch::SIGHT_AGE_MAX`].
const SIGHT_INTERVAL: Duration = Duration::from_millis(500);

/// How long telling a fellow server may take: after that, the next sight is on its way.
const SIGHT_MAX: Duration = Duration::from_secs(1);

/// How long asking for a row of the matrix may take: it is asked for again.
const ROW_MAX: Duration = Duration::from_secs(3);

/// How often the own LAN's servers are looked through for those missing in the WAN pool.
const FLOOD_INTERVAL: Duration = Duration::from_secs(5);

/// How often gauges are set: they are read more rarely.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// How long looking up a name may take.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Most messages taken in before timers and paths get their turn.
const MESSAGES_MAX: usize = 64;

/// What handles read.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) members: Arc<ArcSwap<Vec<Member>>>,
    pub(crate) table: Arc<ArcSwap<Table>>,
    pub(crate) row: Arc<ArcSwap<Written>>,
    /// Goes up when members or verdicts changed.
    pub(crate) changes: Arc<signal::Sender<u64>>,
}

/// Owns what the federation knows.
pub(crate) struct Driver {
    pub(crate) me: Profile,
    pub(crate) start: Instant,
    pub(crate) endpoint: Endpoint,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) inbox: mpsc::Receiver<Message>,
    pub(crate) pool: Pool,
    pub(crate) watch: Watch,
    pub(crate) seeds: Seeds,
    pub(crate) board: Board,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) told: Told,
}

/// What fellow servers were told last, when the LAN was flooded last, which paths were up.
#[derive(Default)]
pub(crate) struct Told {
    sight: Sight,
    sight_at: Option<Duration>,
    flood_at: Option<Duration>,
    counted_at: Option<Duration>,
    up: BTreeMap<SocketAddr, bool>,
}

impl Driver {
    /// Drives the federation until its handles are gone.
    pub(crate) async fn run(mut self) {
        self.pool.begin();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut messages = Vec::with_capacity(MESSAGES_MAX);
        loop {
            let timer = self.pool.next_timer();
            let timer = async {
                match timer {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = look.tick() => self.look(),
                () = timer => {
                    if self.pool.fire() {
                        self.changed();
                    }
                }
                message = self.pool.errand() => {
                    if let Some(message) = message {
                        self.react(message);
                    }
                }
                count = self.inbox.recv_many(&mut messages, MESSAGES_MAX) => {
                    if count == 0 {
                        return;
                    }
                    for message in messages.drain(..) {
                        self.react(message);
                    }
                }
            }
        }
    }

    fn react(&mut self, message: Message) {
        match message {
            Message::Packet { peer, from, data } => match self.pool.packet(&peer, from, data) {
                Some(true) => self.changed(),
                Some(false) => {}
                None => self.metrics.impostors.increment(1),
            },
            Message::Roster { state, reply } => {
                self.input(Input::Sync(state));
                if let Some(reply) = reply {
                    // Whoever asked may be gone.
                    let _ = reply.send(self.pool.export());
                }
            }
            Message::Export { reply } => {
                let _ = reply.send(self.pool.export());
            }
            Message::Sight { from, sight } => {
                let fellow = self.pool.member_at(from).map(|member| &member.profile);
                if let Some(profile) = fellow.filter(|profile| profile.dc == self.me.dc) {
                    self.watch.told(self.start.elapsed(), profile.name.clone(), sight);
                }
            }
            Message::Row { dc, by, row } => {
                self.watch.told_row(self.start.elapsed(), dc, by, &row);
            }
            Message::Resolved { host, addrs } => {
                self.seeds.resolved(&host, &addrs);
                self.join(addrs);
            }
            Message::Join(addrs) => self.join(addrs),
            Message::Flood => self.flood(),
            Message::Update(profile) => self.input(Input::Update(*profile)),
            Message::ForceLeave { name, prune } => self.input(Input::ForceLeave { name, prune }),
            Message::Leave => self.input(Input::Leave),
        }
    }

    fn input(&mut self, input: Input) {
        if self.pool.handle(input) {
            self.changed();
        }
    }

    fn join(&mut self, addrs: Vec<SocketAddr>) {
        let missing: Vec<_> = addrs.into_iter().filter(|addr| !self.pool.is_alive(*addr)).collect();
        if !missing.is_empty() {
            self.input(Input::Join(missing));
        }
    }

    /// Tells handles that members or verdicts changed.
    fn changed(&self) {
        self.metrics.members(&Census::of(&self.board.members.load()));
        self.board.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Looks at the paths, judges, tells the fellow servers, and does what is due.
    fn look(&mut self) {
        let now = self.start.elapsed();
        let reports = self.reports();
        self.report_closed_paths(&reports);
        let members = self.board.members.load_full();
        let step = self.watch.step(now, &members, &reports);
        if self.told.counted_at.is_none_or(|at| now >= at + COUNT_INTERVAL) {
            self.told.counted_at = Some(now);
            self.metrics.datacenters(&step.table);
        }
        self.board.table.store(Arc::new(step.table));
        self.board.row.store(step.row);
        self.ask_rows(&step.wanted);
        if !step.changes.is_empty() {
            step.changes.iter().for_each(log);
            self.changed();
        }
        self.tell_fellows(now, step.sight, &reports);
        if self.told.flood_at.is_none_or(|at| now >= at + FLOOD_INTERVAL) {
            self.told.flood_at = Some(now);
            self.flood();
        }
        let pool = &self.pool;
        for host in self.seeds.due(now, |addr| pool.is_alive(addr)) {
            self.pool.spawn(resolve(host));
        }
    }

    /// Returns what the link says of the paths to members; a path to somebody else than the
    /// member of that address is none.
    fn reports(&self) -> BTreeMap<SocketAddr, Report> {
        let report = |path: link::Path| {
            let member = self.pool.member_at(path.addr)?;
            let expected = pool::expect(&member.profile);
            let link = match (&path.state, &path.peer) {
                (PathState::Up { .. }, Some(peer)) if !expected.matches(peer) => {
                    Link::Down { reason: format!("its address answers as {peer}") }
                }
                (PathState::Up { .. }, _) => Link::Up,
                (PathState::Dialing { after: None }, _) => Link::Dialing,
                (PathState::Dialing { after: Some((_, reason)) }, _)
                | (PathState::Down { reason, .. }, _) => Link::Down { reason: reason.to_string() },
            };
            let silent = path.last_heard.map_or(Duration::ZERO, |at| at.elapsed());
            let word = Word::decode(&path.word);
            Some((path.addr, Report { link, silent, rtt: path.rtt, word }))
        };
        self.endpoint.paths().into_iter().filter_map(report).collect()
    }

    /// Lets the pool know of paths that closed: their members are suspected at once.
    fn report_closed_paths(&mut self, reports: &BTreeMap<SocketAddr, Report>) {
        let mut up = BTreeMap::new();
        for (addr, report) in reports {
            up.insert(*addr, report.link == Link::Up);
        }
        let before = std::mem::replace(&mut self.told.up, up);
        for (addr, was_up) in before {
            if was_up && !self.told.up.get(&addr).copied().unwrap_or(false) {
                self.input(Input::PathDown(addr));
            }
        }
    }

    fn tell_fellows(
        &mut self,
        now: Duration,
        sight: Sight,
        reports: &BTreeMap<SocketAddr, Report>,
    ) {
        let due = self.told.sight_at.is_none_or(|at| now >= at + SIGHT_INTERVAL);
        if !due && !sight.differs(&self.told.sight) {
            return;
        }
        let body = sight.encode();
        self.told.sight = sight;
        self.told.sight_at = Some(now);
        for (addr, report) in reports {
            let fellow = self.pool.member_at(*addr).is_some_and(|m| m.profile.dc == self.me.dc);
            if !fellow || report.link != Link::Up {
                continue;
            }
            let (endpoint, target) = (self.endpoint.clone(), self.pool.target(*addr));
            let deadline = Instant::now() + SIGHT_MAX;
            let request = Request { kind: SIGHT, deadline, body: body.clone() };
            self.pool.spawn(async move {
                if let Err(error) = endpoint.call(&target, request).await {
                    debug!(fellow = %target.addr, %error, "fellow server not told what is seen");
                }
                None
            });
        }
    }

    /// Asks servers what their datacenters hold of the others.
    fn ask_rows(&mut self, wanted: &[(Datacenter, SocketAddr)]) {
        for (dc, addr) in wanted {
            let Some(member) = self.pool.member_at(*addr) else { continue };
            let (dc, by) = (dc.clone(), member.profile.name.clone());
            let (endpoint, target) = (self.endpoint.clone(), self.pool.target(*addr));
            let deadline = Instant::now() + ROW_MAX;
            let request = Request { kind: ROW, deadline, body: Bytes::new() };
            self.pool.spawn(async move {
                match endpoint.call(&target, request).await {
                    Ok(reply) => Some(Message::Row { dc, by, row: reply.body }),
                    Err(error) => {
                        debug!(server = %target.addr, %error, "row of the matrix not read");
                        None
                    }
                }
            });
        }
    }

    /// Joins the servers of the own LAN that are missing in the WAN pool.
    fn flood(&mut self) {
        let wan = self.inside.lan_servers().into_iter().filter_map(|profile| profile.wan);
        self.join(wan.collect());
    }
}

/// Looks up a name to join by.
async fn resolve(host: String) -> Option<Message> {
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return Some(Message::Resolved { host, addrs: vec![addr] });
    }
    let lookup = async { Ok(tokio::net::lookup_host(&host).await?.collect::<Vec<_>>()) };
    let found: Result<io::Result<_>, _> = timeout(RESOLVE_MAX, lookup).await;
    match found {
        Ok(Ok(addrs)) => Some(Message::Resolved { host, addrs }),
        Ok(Err(error)) => {
            warn!(host, %error, "name to join the WAN pool by not found");
            None
        }
        Err(_) => {
            warn!(host, "name to join the WAN pool by not found in time");
            None
        }
    }
}

fn log(change: &Change) {
    let Change { dc, before, verdict } = change;
    info!(%dc, %before, after = %verdict.health, evidence = verdict.evidence, "verdict changed");
}
