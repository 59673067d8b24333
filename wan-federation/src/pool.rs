//! The WAN pool: carries out what the gossip engine wants, over the link.
//!
//! A packet goes out as a datagram, or as a call when it does not fit or when there is no connection yet:
//! only watched servers ([`crate::watch`]) are kept connected, others are for as long as they are spoken to. Full states are pulled by calls. A packet that
//! is lost is the engine's business, which expects that.
//!
//! Members prove by their certificates who they are: connections to a member are only made to
//! the server that its profile names, and packets from a member's address with another's
//! certificate are dropped.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use certs::{
    error::{CallError, DatagramError},
    identity::Identity,
    link::{Endpoint, Expect, Kind, Request, Routes, Target},
};
use tokio::{task::JoinSet, time::Instant};
use topology::{
    Datacenter, Member, NodeName, Profile, Status,
    gossip::{Engine, Event, Input, Output, Removal, Rival, Timer},
};
use tracing::{debug, info, warn};

use crate::{
    answer::{REFUSED_CLUSTER, REFUSED_REMOVED},
    driver::Board,
    gateways::Gateways,
    inbox::Message,
    timeline::{self, Note},
};

/// A full state of the pool; answered with the other side's.
pub const ROSTER: Kind = Kind(2);

/// A gossip packet that does not fit in a datagram; answered with nothing.
pub const PACKET: Kind = Kind(3);

/// How long a packet or a full state may take.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Most calls under way for the pool; what is over is dropped, and gossip repairs it.
const ERRANDS_MAX: usize = 256;

/// How often a packet with the wrong certificate is logged at most.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is told at most that the same server keeps this one out, for the same reason.
const EXCLUDED_INTERVAL: Duration = Duration::from_secs(600);

/// Most servers that keep this one out of which that is remembered.
const EXCLUDED_MAX: usize = 256;

/// How many members the pool holds for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Alive, this server included.
    pub alive: usize,
    /// Stopped answering.
    pub failed: usize,
    /// Left, or about to.
    pub left: usize,
}

impl Census {
    /// Counts members.
    pub fn of(members: &[Member]) -> Self {
        let mut census = Self::default();
        for member in members {
            match member.status {
                Status::Alive => census.alive += 1,
                Status::Failed => census.failed += 1,
                Status::Leaving | Status::Left => census.left += 1,
            }
        }
        census
    }
}

/// Drives the WAN pool's engine.
pub(crate) struct Pool {
    engine: Engine,
    endpoint: Endpoint,
    me: SocketAddr,
    start: Instant,
    timers: BTreeMap<(Duration, u64), Timer>,
    serial: u64,
    errands: JoinSet<Option<Message>>,
    /// Members that did not leave, by address; those that are alive win.
    by_addr: BTreeMap<SocketAddr, Member>,
    /// Who is reached by which gateways, and what was made of it.
    gateways: Gateways,
    routes: Routes,
    members: Arc<ArcSwap<Vec<Member>>>,
    removals: Arc<ArcSwap<Vec<Removal>>>,
    rivals: Arc<ArcSwap<Vec<Rival>>>,
    /// Why this server was kept out by whom, and when that was told.
    excluded: BTreeMap<SocketAddr, (String, Duration)>,
    warned: Option<Duration>,
    notes: Vec<Note>,
}

impl Pool {
    pub(crate) fn new(
        engine: Engine,
        endpoint: Endpoint,
        me: &Profile,
        start: Instant,
        board: &Board,
    ) -> Self {
        Self {
            engine,
            endpoint,
            me: me.addr,
            start,
            timers: BTreeMap::new(),
            serial: 0,
            errands: JoinSet::new(),
            by_addr: BTreeMap::new(),
            gateways: Gateways::new(me),
            routes: Routes::default(),
            members: board.members.clone(),
            removals: board.removals.clone(),
            rivals: board.rivals.clone(),
            excluded: BTreeMap::new(),
            warned: None,
            notes: Vec::new(),
        }
    }

    /// Hands an input to the engine and carries out what it wants; tells whether members changed.
    pub(crate) fn handle(&mut self, input: Input) -> bool {
        let now = self.start.elapsed();
        let mut outputs = Vec::new();
        self.engine.handle(now, input, &mut outputs);
        let changed = outputs
            .iter()
            .any(|output| matches!(output, Output::Event(event) if changes_members(event)));
        if changed {
            self.publish();
        }
        for output in outputs {
            match output {
                Output::Send { to, data } => self.send(to, data),
                Output::Schedule { after, timer } => {
                    self.serial += 1;
                    self.timers.insert((now + after, self.serial), timer);
                }
                Output::Event(event) => {
                    tell(&event);
                    self.notes.extend(note(&event));
                }
                Output::Pull { from } => self.pull(from.addr),
            }
        }
        changed
    }

    /// Returns what happened to members since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Starts the engine with what was said of removed datacenters before.
    pub(crate) fn begin(&mut self, removed: Vec<Removal>) {
        self.handle(Input::Removals(removed));
        self.handle(Input::Start);
        self.publish();
    }

    /// Returns when the next timer fires.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| self.start + *at)
    }

    /// Fires the timers whose time has come; tells whether members changed.
    pub(crate) fn fire(&mut self) -> bool {
        let now = self.start.elapsed();
        let mut changed = false;
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            changed |= self.handle(Input::Timer(timer));
        }
        changed
    }

    /// Takes in a packet, unless its sender's certificate is not that of the member it comes from.
    /// Returns `None` for such a packet, else whether members changed.
    pub(crate) fn packet(
        &mut self,
        peer: &Identity,
        from: SocketAddr,
        data: Bytes,
    ) -> Option<bool> {
        if self.engine.is_removed(&peer.dc) {
            return Some(false);
        }
        if let Some(member) = self.by_addr.get(&from).filter(|member| member.is_alive())
            && !expect(&member.profile).matches(peer)
        {
            let profile = &member.profile;
            let claimed = profile.name.in_wan(&profile.dc);
            if self.may_warn() {
                warn!(%from, certificate = %peer, %claimed, "gossip with another's certificate dropped");
            }
            return None;
        }
        Some(self.handle(Input::Packet { from, data }))
    }

    /// Takes in that this server of a datacenter is kept out; tells whether there is something to tell of it.
    pub(crate) fn excluded(&mut self, dc: &Datacenter, by: SocketAddr, why: String) -> bool {
        let now = self.start.elapsed();
        let is_old =
            |(said, at): &(String, Duration)| *said == why && now < *at + EXCLUDED_INTERVAL;
        if self.excluded.get(&by).is_some_and(is_old) {
            return false;
        }
        if self.excluded.len() >= EXCLUDED_MAX {
            self.excluded.clear();
        }
        warn!(%by, why, "kept out of the WAN pool");
        let text = format!("{by} keeps this server out: {why}");
        self.notes.push(Note { about: dc.clone(), kind: timeline::Kind::Refusal, text });
        self.excluded.insert(by, (why, now));
        true
    }

    /// Tells whether the last warning was long enough ago for another one.
    fn may_warn(&mut self) -> bool {
        let now = self.start.elapsed();
        let may = self.warned.is_none_or(|at| now >= at + WARN_INTERVAL);
        if may {
            self.warned = Some(now);
        }
        may
    }

    /// Tells whether a datacenter was removed, wherever its servers are.
    pub(crate) fn was_removed(&self, dc: &Datacenter) -> bool {
        self.engine.removals().any(|removal| removal.dc == *dc && !removal.is_lifted)
    }

    /// Returns the full state for another member.
    pub(crate) fn export(&self) -> Bytes {
        self.engine.export()
    }

    /// Waits for the next call of the pool to end; forever when there is none.
    pub(crate) async fn errand(&mut self) -> Option<Message> {
        match self.errands.join_next().await {
            Some(done) => done.ok().flatten(),
            None => std::future::pending().await,
        }
    }

    /// Does something on the side that may end with a message, unless too much is under way.
    pub(crate) fn spawn(&mut self, errand: impl Future<Output = Option<Message>> + Send + 'static) {
        if self.errands.len() < ERRANDS_MAX {
            self.errands.spawn(errand);
        }
    }

    /// Tells whether a member that is alive has this address.
    pub(crate) fn is_alive(&self, addr: SocketAddr) -> bool {
        addr == self.me || self.by_addr.get(&addr).is_some_and(Member::is_alive)
    }

    /// Returns the member of this address, unless it left.
    pub(crate) fn member_at(&self, addr: SocketAddr) -> Option<&Member> {
        self.by_addr.get(&addr)
    }

    /// Returns whom to expect at an address.
    pub(crate) fn target(&self, addr: SocketAddr) -> Target {
        let known = self.by_addr.get(&addr).filter(|member| member.is_alive());
        let expect = known.map_or_else(Expect::any_server, |member| expect(&member.profile));
        Target { addr, expect }
    }

    fn send(&mut self, to: SocketAddr, data: Bytes) {
        let target = self.target(to);
        let sent = self.endpoint.datagram(&target, data.clone());
        match sent {
            Ok(()) => {}
            // A call makes the connection first.
            Err(DatagramError::NoPath | DatagramError::TooLarge { .. }) => {
                let endpoint = self.endpoint.clone();
                let request =
                    Request { kind: PACKET, deadline: Instant::now() + CALL_MAX, body: data };
                self.spawn(async move {
                    let error = endpoint.call(&target, request).await.err()?;
                    debug!(%to, %error, "gossip packet not delivered");
                    excluded(to, error)
                });
            }
        }
    }

    fn pull(&mut self, addr: SocketAddr) {
        let (endpoint, target) = (self.endpoint.clone(), self.target(addr));
        let body = self.export();
        self.spawn(async move {
            let request = Request { kind: ROSTER, deadline: Instant::now() + CALL_MAX, body };
            match endpoint.call(&target, request).await {
                Ok(reply) => Some(Message::Roster { state: reply.body, reply: None }),
                Err(error) => {
                    debug!(%addr, %error, "full state not pulled");
                    excluded(addr, error)
                }
            }
        });
    }

    /// Takes in who the servers of the own datacenter are.
    pub(crate) fn follow(&mut self, fellows: &[Profile]) {
        self.gateways.follow(fellows);
        self.route(&self.members.load_full());
    }

    /// Returns the host names of gateways to look up now.
    pub(crate) fn hosts_due(&mut self, now: Duration) -> Vec<String> {
        self.gateways.due(now)
    }

    /// Takes in where gateways are.
    pub(crate) fn found(&mut self, now: Duration, host: &str, addrs: Vec<SocketAddr>) {
        if self.gateways.resolved(now, host, addrs) {
            self.route(&self.members.load_full());
        }
    }

    /// Tells whether an address is that of a member that is alive, or a gateway's of one.
    pub(crate) fn leads_in(&self, addr: SocketAddr) -> bool {
        self.is_alive(addr) || self.gateways.leads(addr, &self.members.load())
    }

    fn route(&mut self, members: &[Member]) {
        let routes = self.gateways.routes(members);
        if routes != self.routes {
            self.endpoint.route(routes.clone());
            self.routes = routes;
        }
    }

    /// Shows the members to everyone else.
    fn publish(&mut self) {
        let members: Vec<Member> = self.engine.members().cloned().collect();
        let mut by_addr: BTreeMap<SocketAddr, Member> = BTreeMap::new();
        for member in &members {
            let stays = matches!(member.status, Status::Alive | Status::Failed);
            let addr = member.profile.addr;
            if stays && addr != self.me && !by_addr.get(&addr).is_some_and(Member::is_alive) {
                by_addr.insert(addr, member.clone());
            }
        }
        self.by_addr = by_addr;
        // Whoever is new is spoken to at once.
        self.route(&members);
        self.removals.store(Arc::new(self.engine.removals().cloned().collect()));
        self.rivals.store(Arc::new(self.engine.rivals().cloned().collect()));
        self.members.store(Arc::new(members));
    }
}

/// Returns what to tell the federation's task when a call was refused because this server is kept out.
pub(crate) fn excluded(by: SocketAddr, error: CallError) -> Option<Message> {
    match error {
        CallError::Refused { code: REFUSED_REMOVED | REFUSED_CLUSTER, message: why, .. } => {
            Some(Message::Excluded { by, why })
        }
        _ => None,
    }
}

/// Expects the server of a profile.
pub(crate) fn expect(profile: &Profile) -> Expect {
    expect_server(&profile.dc, &profile.name)
}

/// Expects a server by its datacenter and name.
pub(crate) fn expect_server(dc: &Datacenter, name: &NodeName) -> Expect {
    Expect::server_of(dc.clone()).named(name.clone())
}

fn changes_members(event: &Event) -> bool {
    match event {
        Event::Joined(_)
        | Event::Updated(_)
        | Event::Failed(_)
        | Event::Left(_)
        | Event::Reaped(_)
        | Event::Removal(_)
        | Event::Rival(_)
        | Event::RivalGone(_) => true,
        Event::JoinedPool
        | Event::Answered(_)
        | Event::Unreadable { .. }
        | Event::Refused { .. } => false,
    }
}

/// Returns what of it belongs on the timeline. Whatever it is, members changed.
fn note(event: &Event) -> Option<Note> {
    let (member, what) = match event {
        Event::Removal(Removal { dc, is_lifted, by, .. }) => {
            let what = if *is_lifted { "may come back" } else { "was removed from the federation" };
            let (about, text) = (dc.clone(), format!("{dc} {what}, says {by}"));
            return Some(Note { about, kind: timeline::Kind::Removal, text });
        }
        Event::Rival(rival) => {
            let text = format!("{} is refused: {rival}", rival.profile.addr);
            return Some(refusal(rival, text));
        }
        Event::RivalGone(rival) => {
            let Profile { name, addr, .. } = &rival.profile;
            let text =
                format!("{addr} ({name}, of cluster {}) is refused no more", rival.cluster());
            return Some(refusal(rival, text));
        }
        Event::Joined(member) => (member, "joined the pool"),
        Event::Failed(member) => (member, "failed: it does not answer gossip"),
        Event::Left(member) => (member, "left the pool"),
        Event::Reaped(member) => (member, "is forgotten"),
        Event::Updated(_)
        | Event::JoinedPool
        | Event::Answered(_)
        | Event::Unreadable { .. }
        | Event::Refused { .. } => return None,
    };
    let (about, text) = (member.profile.dc.clone(), format!("{} {what}", member.profile.name));
    Some(Note { about, kind: timeline::Kind::Member, text })
}

fn refusal(rival: &Rival, text: String) -> Note {
    Note { about: rival.profile.dc.clone(), kind: timeline::Kind::Refusal, text }
}

/// Logs what the engine has to tell.
fn tell(event: &Event) {
    let name = |member: &Member| member.profile.name.in_wan(&member.profile.dc);
    match event {
        Event::Joined(member) => {
            info!(member = name(member), addr = %member.profile.addr, "member joined the WAN pool");
        }
        Event::Updated(member) => {
            debug!(member = name(member), status = %member.status, "WAN pool member updated");
        }
        Event::Failed(member) => info!(member = name(member), "member of the WAN pool failed"),
        Event::Left(member) => info!(member = name(member), "member left the WAN pool"),
        Event::Reaped(member) => info!(member = name(member), "member of the WAN pool forgotten"),
        Event::Removal(Removal { dc, is_lifted: false, by, .. }) => {
            warn!(%dc, by, "datacenter removed from the federation: its servers are not let in");
        }
        Event::Removal(Removal { dc, by, .. }) => {
            info!(%dc, by, "datacenter that was removed may come back");
        }
        Event::Rival(rival) => {
            let member = rival.profile.name.in_wan(&rival.profile.dc);
            warn!(member, addr = %rival.profile.addr, why = %rival, "refused in the WAN pool");
        }
        Event::RivalGone(rival) => {
            let member = rival.profile.name.in_wan(&rival.profile.dc);
            info!(member, addr = %rival.profile.addr, "refused no more in the WAN pool");
        }
        Event::JoinedPool => info!("in the WAN pool"),
        Event::Answered(addr) => info!(%addr, "address to join by answered"),
        Event::Unreadable { records, why } => {
            debug!(records, why, "WAN pool: records of another version passed over");
        }
        Event::Refused { profile, reason } => {
            let member = profile.name.in_wan(&profile.dc);
            warn!(member, addr = %profile.addr, %reason, "not let into the WAN pool");
        }
    }
}

#[cfg(test)]
mod tests;
