//! The federation's task: the one owner of the pool, the watch, the paths and the addresses to join by.
//!
//! It reacts to messages and timers, and looks around at an interval short enough that silence
//! is noticed in time: now and then while nothing happens, often while something does. It ends when the
//! last handle is gone.

pub(crate) mod lan;

pub(crate) mod paths;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use certs::link::Request;
use tokio::{
    sync::{Notify, mpsc, watch as signal},
    time::{Instant, sleep_until},
};
use topology::{
    Datacenter, Member,
    gossip::{Input, Removal, Rival},
};
use tracing::{debug, info, warn};

use self::{lan::Lan, paths::Paths};
use crate::{
    answer::{Inside, ROW},
    gate::Gate,
    gateway::resolve,
    gateways,
    inbox::Message,
    matrix::Written,
    metrics::Metrics,
    pool::{self, Census, Pool},
    removal::{self, RemovalError, Wish},
    report::Report,
    seeds::Seeds,
    table::Table,
    timeline::{Note, Timeline},
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

/// Most messages taken in before timers and paths get their turn.
const MESSAGES_MAX: usize = 64;

/// What handles read.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) members: Arc<ArcSwap<Vec<Member>>>,
    pub(crate) table: Arc<ArcSwap<Table>>,
    pub(crate) row: Arc<ArcSwap<Written>>,
    /// What was said of removed datacenters.
    pub(crate) removals: Arc<ArcSwap<Vec<Removal>>>,
    /// Who is refused for its cluster.
    pub(crate) rivals: Arc<ArcSwap<Vec<Rival>>>,
    /// Goes up when members, verdicts, breakers or the matrix changed.
    pub(crate) changes: Arc<signal::Sender<u64>>,
}

impl Board {
    /// Starts with nobody known. `boot` is as large as at no other server and no earlier start, so that
    /// nobody takes the changes of another one for these.
    pub(crate) fn new(boot: u64) -> Self {
        let changes = Arc::new(signal::Sender::new(boot.max(1)));
        let (members, table, row) = (Arc::default(), Arc::default(), Arc::default());
        let (removals, rivals) = (Arc::default(), Arc::default());
        Self { members, table, row, removals, rivals, changes }
    }
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
    /// What was said of removed datacenters before the start.
    pub(crate) removed: Vec<Removal>,
    pub(crate) timeline: Timeline,
    /// The present when the task was made, in milliseconds since 1970.
    pub(crate) wall_ms: u64,
    /// What goes home through other datacenters.
    pub(crate) home: Arc<Gate>,
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
        self.pool.begin(std::mem::take(&mut self.removed));
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
                        self.moved();
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
                Some(true) => self.moved(),
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
            Message::Report { reply } => {
                if self.due.look.is_zero() {
                    self.look();
                }
                let _ = reply.send(self.report());
            }
            Message::Remove { dc, wish, reply } => {
                let _ = reply.send(self.remove(dc, wish));
            }
            Message::Events { reply } => {
                let _ = reply.send(self.timeline.events().cloned().collect());
            }
            Message::Excluded { by, why } => {
                if self.pool.excluded(self.watch.dc(), by, why) {
                    self.moved();
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
            Message::Gateways { host, addrs } => {
                self.pool.found(self.start.elapsed(), &host, addrs);
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
            self.moved();
        }
    }

    fn join(&mut self, addrs: Vec<SocketAddr>) {
        let missing: Vec<_> = addrs.into_iter().filter(|addr| !self.pool.leads_in(*addr)).collect();
        if !missing.is_empty() {
            self.input(Input::Join(missing));
        }
    }

    /// Removes a datacenter, or lets it in again, unless that makes no sense.
    fn remove(&mut self, dc: Datacenter, wish: Wish) -> Result<(), RemovalError> {
        let table = self.board.table.load();
        let held = table.remotes.get(&dc).map(|remote| remote.verdict.health);
        let was_removed = self.pool.was_removed(&dc);
        removal::check(wish, self.watch.dc(), &dc, held, was_removed)?;
        let is_lifted = wish == Wish::Restore;
        if was_removed == is_lifted {
            let (at_ms, by) = (self.now_ms(), self.watch.name_in_wan());
            self.input(Input::Removal(Removal { dc, at_ms, is_lifted, by }));
        }
        Ok(())
    }

    /// Returns the present in milliseconds since 1970.
    fn now_ms(&self) -> u64 {
        self.at_ms(self.start.elapsed())
    }

    /// Returns a time since the start in milliseconds since 1970.
    fn at_ms(&self, time: Duration) -> u64 {
        self.wall_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// Keeps what happened.
    fn note(&mut self, notes: Vec<Note>) {
        let now_ms = self.now_ms();
        for note in notes {
            self.timeline.note(now_ms, note);
        }
    }

    /// Returns all that is known.
    fn report(&self) -> Report {
        let now = self.start.elapsed();
        let members = self.board.members.load();
        let dc = self.watch.dc();
        let home = members.iter().map(|member| (&member.profile, member.status));
        let home = home.filter(|(profile, _)| profile.dc == *dc);
        let matrix = self.board.table.load().matrix.clone();
        let rows = matrix.rows.iter();
        let rivals = self.board.rivals.load();
        let refused = rivals.iter().map(|rival| (self.at_ms(rival.since), rival.clone()));
        Report {
            index: *self.board.changes.borrow(),
            home: home.map(|(it, status)| (it.name.clone(), (it.addr, status))).collect(),
            sites: self.watch.shown(now, &members),
            removals: self.board.removals.load_full(),
            refused: refused.collect(),
            told: rows.map(|(dc, told)| (dc.clone(), now.saturating_sub(told.at))).collect(),
            matrix,
        }
    }

    /// Tells handles that members, verdicts or what else there is to see changed.
    fn changed(&mut self) {
        let notes = self.pool.take_notes();
        self.note(notes);
        self.metrics.members(&Census::of(&self.board.members.load()));
        self.board.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Does the same when it was the pool that changed: nobody is routed to who is not in it any more.
    fn moved(&mut self) {
        self.changed();
        self.due.look = Duration::ZERO;
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
        let rows_changed = !Arc::ptr_eq(&step.table.matrix, &self.board.table.load().matrix);
        self.board.table.store(Arc::new(step.table));
        self.board.row.store(step.row);
        self.ask_rows(&step.wanted);
        step.changes.iter().for_each(log);
        let mut notes = step.notes;
        notes.extend(self.watch.home(now, &self.home));
        if rows_changed || !notes.is_empty() {
            self.note(notes);
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
        for host in self.seeds.due(now, |addr| pool.leads_in(addr)) {
            self.pool.spawn(look_up(host));
        }
        for host in self.pool.hosts_due(now) {
            self.pool.spawn(find(host));
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
                        pool::excluded(target.addr, error)
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
        self.pool.follow(&servers);
        self.join(servers.iter().filter_map(gateways::in_pool).map(|(known, _)| known).collect());
    }
}

/// Looks up a name to join by.
async fn look_up(host: String) -> Option<Message> {
    match resolve(&host).await {
        Ok(addrs) => Some(Message::Resolved { host, addrs }),
        Err(error) => {
            warn!(host, %error, "name to join the WAN pool by not found");
            None
        }
    }
}

/// Looks up where gateways are.
async fn find(host: String) -> Option<Message> {
    match resolve(&host).await {
        Ok(addrs) => Some(Message::Gateways { host, addrs }),
        Err(error) => {
            debug!(host, %error, "gateway not found");
            None
        }
    }
}

fn log(change: &Change) {
    let Change { dc, before, verdict, .. } = change;
    info!(%dc, %before, after = %verdict.health, evidence = verdict.evidence, "verdict changed");
}
