//! The federation's task: the one owner of the pool, the watch, the paths and the addresses to join by.
//!
//! It reacts to messages and timers, and looks around at an interval short enough that silence
//! is noticed in time: now and then while nothing happens, often while something does. It ends when the
//! last handle is gone.

pub(crate) mod lan;

pub(crate) mod paths;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use certs::link::Request;
use tokio::{
    sync::{Notify, mpsc, watch as signal},
    time::{Instant, sleep_until, timeout},
};
use topology::{Datacenter, Member, gossip::Input};
use tracing::{debug, info, warn};

use self::{lan::Lan, paths::Paths};
use crate::{
    answer::{Inside, ROW},
    inbox::Message,
    matrix::Written,
    metrics::Metrics,
    pool::{Census, Pool},
    seeds::Seeds,
    table::Table,
    watch::{Change, Scene, Watch},
};

/// How often the paths are looked at while something happens: the resolution of what is noticed by
/// silence.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The same while nothing does: a heartbeat that is late is noticed long before its path is dead.
const REST_INTERVAL: Duration = Duration::from_millis(500);

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
    pub(crate) start: Instant,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) inbox: mpsc::Receiver<Message>,
    pub(crate) pool: Pool,
    pub(crate) watch: Watch,
    pub(crate) paths: Paths,
    pub(crate) lan: Lan,
    pub(crate) seeds: Seeds,
    pub(crate) board: Board,
    pub(crate) metrics: Arc<Metrics>,
    /// Notified when a datacenter begins to be asked.
    pub(crate) wake: Arc<Notify>,
    pub(crate) due: Due,
}

/// When the next things are due.
#[derive(Default)]
pub(crate) struct Due {
    look: Duration,
    flood: Duration,
    count: Duration,
}

impl Driver {
    /// Drives the federation until its handles are gone.
    pub(crate) async fn run(mut self) {
        self.pool.begin();
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
                () = sleep_until(self.start + self.due.look) => self.look(),
                () = self.wake.notified() => self.look(),
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
                self.watch.told(self.start.elapsed(), from, sight);
                // What a fellow sees may decide.
                self.due.look = Duration::ZERO;
            }
            Message::Missed { fellow } => self.watch.missed(&fellow),
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
        let reports = self.paths.reports(|addr| self.pool.member_at(addr));
        let members = self.board.members.load_full();
        let lost_fellows = self.lan.look();
        let scene = Scene { members: &members, reports: &reports, fellows: self.lan.up() };
        let step = self.watch.step(now, scene);
        for addr in self.paths.closed(&reports).into_iter().chain(lost_fellows) {
            self.input(Input::PathDown(addr));
        }
        self.paths.keep(step.wishes, |addr| self.pool.member_at(addr).is_some());
        self.due.look = now + if step.restless { LOOK_INTERVAL } else { REST_INTERVAL };
        if now >= self.due.count {
            self.due.count = now + COUNT_INTERVAL;
            self.metrics.datacenters(&step.table);
        }
        self.board.table.store(Arc::new(step.table));
        self.board.row.store(step.row);
        self.ask_rows(&step.wanted);
        if !step.changes.is_empty() {
            step.changes.iter().for_each(log);
            self.changed();
        }
        for (fellow, body) in step.said {
            if let Some(told) = self.lan.tell(&fellow, body) {
                self.pool.spawn(told);
            }
        }
        self.join_as_due(now);
    }

    /// Joins by what is due: the servers of the own LAN, the addresses that were given.
    fn join_as_due(&mut self, now: Duration) {
        if now >= self.due.flood {
            self.flood();
        }
        let pool = &self.pool;
        for host in self.seeds.due(now, |addr| pool.is_alive(addr)) {
            self.pool.spawn(resolve(host));
        }
    }

    /// Asks servers what their datacenters hold of the others.
    fn ask_rows(&mut self, wanted: &[(Datacenter, SocketAddr)]) {
        for (dc, addr) in wanted {
            let Some(member) = self.pool.member_at(*addr) else { continue };
            let (dc, by) = (dc.clone(), member.profile.name.clone());
            let (endpoint, target) = (self.paths.endpoint(), self.pool.target(*addr));
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
        self.due.flood = self.start.elapsed() + FLOOD_INTERVAL;
        let servers = self.inside.lan_servers();
        self.lan.follow(&servers);
        self.join(servers.into_iter().filter_map(|profile| profile.wan).collect());
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
