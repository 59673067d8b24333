//! The task that owns the gossip engine: carries out what the engine wants, and orders.

use std::{collections::BTreeSet, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use topology::{
    Member, Profile,
    gossip::{Engine, Event, Input, Output, Timer},
};
use tracing::{debug, info, warn};

use super::{
    Order, PoolError, Publisher, Puller,
    join::resolve_all,
    measure::Meter,
    packets::{Socket, recv},
    roster::{Roster, worth_keeping},
    seal::{KeyRing, Sealer},
    timers::Timers,
};
use crate::metrics::PoolMetrics;

/// Longest packet of UDP.
const PACKET_LEN_MAX: usize = 65_536;

/// Members are published at once, but not more often than this: publishing costs a copy of all,
/// and a join storm changes them thousands of times.
const PUBLISH_PAUSE: Duration = Duration::from_millis(50);

/// How long an order to join waits for an answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Most joins that wait for an answer at once.
const JOINS_MAX: usize = 16;

/// Most full states that are fetched at once.
const PULLS_MAX: usize = 4;

/// How long the engine says farewell.
const FAREWELL: Duration = Duration::from_millis(1200);

/// How often kept addresses are written when they change.
const KEEP_PAUSE: Duration = Duration::from_secs(5);

/// How often undecryptable packets are logged while they come.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// What a driver starts with.
pub(super) struct Parts {
    pub(super) me: Profile,
    pub(super) socket: Box<dyn Socket>,
    pub(super) engine: Engine,
    pub(super) ring: KeyRing,
    pub(super) seed: u64,
    pub(super) join: Vec<String>,
    pub(super) retry_interval: Duration,
    pub(super) roster_path: Option<PathBuf>,
    pub(super) rejoin: bool,
    pub(super) puller: Arc<dyn Puller>,
    pub(super) meter: Option<Meter>,
    pub(super) publisher: Publisher,
}

/// What comes of work that the task does not wait for.
enum Done {
    /// Configured names were resolved.
    Resolved(Vec<SocketAddr>),
    /// The names of an order were resolved.
    Wanted(Vec<SocketAddr>, Vec<String>, oneshot::Sender<Result<usize, PoolError>>),
    /// A full state was fetched, or could not be.
    Pulled(Option<Bytes>),
    /// Kept addresses were written.
    Kept,
}

/// An order to join that waits for an answer.
struct Waiting {
    addrs: Vec<SocketAddr>,
    until: Instant,
    done: oneshot::Sender<Result<usize, PoolError>>,
}

/// What the task is called back for.
enum Alarm {
    Engine(Timer),
    RetryJoin,
    Publish,
    Keep,
    JoinsLate,
    Measure,
}

/// Whether a change of the members waits to be published.
#[derive(PartialEq, Eq)]
enum Published {
    Now,
    Soon,
}

/// The pool's task.
pub(super) struct Driver {
    me: Profile,
    socket: Box<dyn Socket>,
    engine: Engine,
    sealer: Sealer,
    join: Vec<String>,
    retry_interval: Duration,
    roster: Option<Roster>,
    rejoin: bool,
    kept: Vec<SocketAddr>,
    puller: Arc<dyn Puller>,
    meter: Option<Meter>,
    publisher: Publisher,
    metrics: PoolMetrics,
    started: Instant,
    timers: Timers<Alarm>,
    work: JoinSet<Done>,
    pulls: usize,
    waiting: Vec<Waiting>,
    published: Published,
    last_publish: Option<Instant>,
    refused: u64,
    next_complaint: Instant,
    travelling: Vec<u8>,
    /// The engine's wishes, kept to be filled again.
    out: Vec<Output>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            sealer: Sealer::new(&parts.me.dc, parts.ring, parts.seed),
            me: parts.me,
            socket: parts.socket,
            engine: parts.engine,
            join: parts.join,
            retry_interval: parts.retry_interval,
            roster: parts.roster_path.map(Roster::new),
            rejoin: parts.rejoin,
            kept: Vec::new(),
            puller: parts.puller,
            meter: parts.meter,
            publisher: parts.publisher,
            metrics: PoolMetrics::resolve(),
            started: now,
            timers: Timers::new(),
            work: JoinSet::new(),
            pulls: 0,
            waiting: Vec::new(),
            published: Published::Now,
            last_publish: None,
            refused: 0,
            next_complaint: now,
            travelling: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Runs until the node has left or all handles are gone.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        self.start();
        let mut buf = vec![0; PACKET_LEN_MAX];
        loop {
            let next = self.timers.next().unwrap_or_else(|| Instant::now() + PUBLISH_PAUSE);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Leave { done }) => return self.leave(done).await,
                    Some(order) => self.order(order),
                },
                () = tokio::time::sleep_until(next) => self.alarms(),
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => warn!(%error, "LAN pool: work failed"),
                },
                packet = recv(self.socket.as_ref(), &mut buf) => self.packet(packet, &buf),
            }
        }
    }

    fn start(&mut self) {
        self.feed(Input::Start);
        self.publish();
        if let Some(roster) = &self.roster {
            match roster.load() {
                Ok(addrs) => {
                    self.kept = addrs.clone();
                    self.feed(Input::Join(addrs));
                }
                Err(error) => warn!(%error, "LAN pool: the kept roster is ignored"),
            }
            self.alarm(KEEP_PAUSE, Alarm::Keep);
        }
        self.retry_join();
        if let Some(meter) = &mut self.meter {
            let pause = meter.pause();
            self.alarm(pause, Alarm::Measure);
        }
    }

    /// Hands something to the engine and carries out what it wants.
    fn feed(&mut self, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.engine.handle(self.started.elapsed(), input, &mut out);
        for output in out.drain(..) {
            match output {
                Output::Send { to, data } => self.send(to, &data),
                Output::Schedule { after, timer } => self.alarm(after, Alarm::Engine(timer)),
                Output::Event(event) => self.event(event),
                Output::Pull { from } => self.pull(from),
            }
        }
        self.out = out;
    }

    fn send(&mut self, to: SocketAddr, packet: &[u8]) {
        self.sealer.seal(packet, &mut self.travelling);
        match self.socket.send(to, &self.travelling) {
            Ok(()) => self.metrics.sent.increment(1),
            Err(error) => {
                self.metrics.send_failed.increment(1);
                debug!(%to, %error, "LAN pool: a packet was not sent");
            }
        }
    }

    fn packet(&mut self, received: io::Result<(usize, SocketAddr)>, buf: &[u8]) {
        let (len, from) = match received {
            Ok(received) => received,
            // UDP reports what earlier packets met with (ICMP); the socket goes on.
            Err(error) => return debug!(%error, "LAN pool: receiving failed"),
        };
        self.metrics.received.increment(1);
        match self.sealer.open(&buf[..len]) {
            Ok(data) if Meter::is_for(&data) => self.measured(from, &data),
            Ok(data) => self.feed(Input::Packet { from, data: data.into() }),
            Err(why) => {
                self.metrics.refused.increment(1);
                self.refused += 1;
                let now = Instant::now();
                if now >= self.next_complaint {
                    self.next_complaint = now + COMPLAINT_PAUSE;
                    let packets = std::mem::take(&mut self.refused);
                    warn!(%from, ?why, packets, "LAN pool: packets refused");
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        let name = |member: &Member| member.profile.name.clone();
        match &event {
            Event::Joined(member) => {
                info!(node = %name(member), addr = %member.profile.addr, "member joined");
            }
            Event::Updated(member) => {
                debug!(node = %name(member), status = %member.status, "member updated");
            }
            Event::Failed(member) => warn!(node = %name(member), "member failed"),
            Event::Left(member) => info!(node = %name(member), "member left"),
            Event::Reaped(member) => info!(node = %name(member), "member forgotten"),
            Event::JoinedPool => info!("joined the LAN pool"),
            Event::Answered(addr) => {
                self.answered(*addr);
                return;
            }
            // Datacenters are removed, and clusters told apart, in the WAN pool.
            Event::Removal(_) | Event::Rival(_) | Event::RivalGone(_) => return,
            Event::Unreadable { records, why } => {
                debug!(records, why, "LAN pool: records of another version passed over");
                return;
            }
            Event::Refused { profile, reason } => {
                warn!(node = %profile.name, addr = %profile.addr, %reason, "member refused");
                return;
            }
        }
        self.publish_soon();
    }

    fn publish_soon(&mut self) {
        if self.published == Published::Now {
            self.published = Published::Soon;
            let pause = self.last_publish.map_or(Duration::ZERO, |last| {
                (last + PUBLISH_PAUSE).saturating_duration_since(Instant::now())
            });
            self.alarm(pause, Alarm::Publish);
        }
    }

    fn publish(&mut self) {
        self.published = Published::Now;
        self.last_publish = Some(Instant::now());
        self.metrics.alive.set(self.engine.alive() as f64);
        self.publisher.publish(self.engine.members().cloned().collect());
    }

    fn alarm(&mut self, after: Duration, alarm: Alarm) {
        self.timers.schedule(Instant::now() + after, alarm);
    }

    fn alarms(&mut self) {
        let now = Instant::now();
        while let Some(alarm) = self.timers.pop(now) {
            match alarm {
                Alarm::Engine(timer) => self.feed(Input::Timer(timer)),
                Alarm::RetryJoin => self.retry_join(),
                Alarm::Publish => self.publish(),
                Alarm::Keep => self.keep(),
                Alarm::JoinsLate => self.joins_late(),
                Alarm::Measure => self.measure(),
            }
        }
    }

    /// Measures the round trip to somebody.
    fn measure(&mut self) {
        let Some(meter) = &mut self.meter else { return };
        let ping = meter.ping(self.started.elapsed(), &self.engine, self.me.addr);
        let pause = meter.pause();
        self.alarm(pause, Alarm::Measure);
        if let Some((to, ping)) = ping {
            self.send(to, &ping);
        }
    }

    fn measured(&mut self, from: SocketAddr, data: &[u8]) {
        let Some(meter) = &mut self.meter else { return };
        let now = self.started.elapsed();
        if let Some(pong) = meter.packet(now, from, data, &self.engine, &self.publisher) {
            self.send(from, &pong);
        }
    }

    /// Resolves the configured names again and again as long as this node is alone.
    fn retry_join(&mut self) {
        if self.join.is_empty() {
            return;
        }
        if self.engine.alive() <= 1 {
            let names = self.join.clone();
            self.work.spawn(async move { Done::Resolved(resolve_all(&names).await.0) });
        }
        self.alarm(self.retry_interval, Alarm::RetryJoin);
    }

    fn pull(&mut self, from: Profile) {
        if self.pulls >= PULLS_MAX {
            return;
        }
        self.pulls += 1;
        let name = from.name.clone();
        let pulling = self.puller.pull(from, self.engine.export());
        self.work.spawn(async move {
            let pulled = pulling.await.inspect_err(|error| {
                debug!(from = %name, %error, "LAN pool: no full state");
            });
            Done::Pulled(pulled.ok())
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Resolved(addrs) => self.feed(Input::Join(addrs)),
            Done::Wanted(addrs, failures, done) => self.join_wanted(addrs, &failures, done),
            Done::Pulled(state) => {
                self.pulls -= 1;
                if let Some(state) = state {
                    self.feed(Input::Sync(state));
                }
            }
            Done::Kept => {}
        }
    }

    fn order(&mut self, order: Order) {
        // Whoever gave an order and went away does not want its outcome.
        match order {
            Order::Join { addrs, done } => {
                self.work.spawn(async move {
                    let (found, failures) = resolve_all(&addrs).await;
                    Done::Wanted(found, failures, done)
                });
            }
            Order::Leave { done } => drop(done),
            Order::ForceLeave { name, prune, done } => {
                let known = self.engine.members().any(|m| m.profile.name.as_str() == name);
                let _gone = done.send(if known {
                    self.feed(Input::ForceLeave { name, prune });
                    Ok(())
                } else {
                    Err(PoolError::NoMember { name })
                });
            }
            Order::Export { done } => {
                let _gone = done.send(self.engine.export());
            }
            Order::Sync { theirs, done } => {
                self.feed(Input::Sync(theirs));
                let _gone = done.send(self.engine.export());
            }
            Order::Update(profile) => self.feed(Input::Update(*profile)),
            Order::PathDown(addr) => self.feed(Input::PathDown(addr)),
            Order::Rekey(ring) => self.sealer.set_ring(ring),
        }
    }

    fn join_wanted(
        &mut self,
        addrs: Vec<SocketAddr>,
        failures: &[String],
        done: oneshot::Sender<Result<usize, PoolError>>,
    ) {
        if addrs.is_empty() || self.waiting.len() >= JOINS_MAX {
            let text = if addrs.is_empty() { failures.join("; ") } else { "too busy".to_owned() };
            let _gone = done.send(Err(PoolError::Join(text)));
            return;
        }
        let until = Instant::now() + JOIN_TIMEOUT;
        // Nodes are often told of all nodes, themselves included: that one has answered.
        if addrs.contains(&self.me.addr) {
            let _gone = done.send(Ok(1));
            return self.feed(Input::Join(addrs));
        }
        self.waiting.push(Waiting { addrs: addrs.clone(), until, done });
        self.alarm(JOIN_TIMEOUT, Alarm::JoinsLate);
        self.feed(Input::Join(addrs));
    }

    fn answered(&mut self, addr: SocketAddr) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.addrs.contains(&addr)) {
            let _gone = waiting.done.send(Ok(1));
        }
    }

    fn joins_late(&mut self) {
        let now = Instant::now();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let texts: BTreeSet<String> = waiting
                .addrs
                .iter()
                .map(|addr| format!("Failed to join {addr}: no answer"))
                .collect();
            let text = texts.into_iter().collect::<Vec<_>>().join("; ");
            let _gone = waiting.done.send(Err(PoolError::Join(text)));
        }
    }

    /// Writes the addresses of members down when they changed.
    fn keep(&mut self) {
        self.alarm(KEEP_PAUSE, Alarm::Keep);
        let Some(roster) = self.roster.clone() else { return };
        let members: Vec<Member> = self.engine.members().cloned().collect();
        let addrs = worth_keeping(&members, self.me.addr);
        // Nobody alive is no reason to forget who was.
        if addrs.is_empty() || addrs == self.kept {
            return;
        }
        self.kept = addrs.clone();
        self.work.spawn_blocking(move || {
            if let Err(error) = roster.save(&addrs) {
                warn!(%error, "LAN pool: the roster was not kept");
            }
            Done::Kept
        });
    }

    /// Says farewell, for as long as the engine needs.
    async fn leave(mut self, done: oneshot::Sender<()>) {
        let forgotten = self.roster.as_ref().filter(|_| !self.rejoin);
        if let Some(Err(error)) = forgotten.map(Roster::remove) {
            warn!(%error, "LAN pool: the kept roster was not removed");
        }
        self.feed(Input::Leave);
        let end = Instant::now() + FAREWELL;
        while let Some(next) = self.timers.next().filter(|next| *next < end) {
            tokio::time::sleep_until(next).await;
            self.alarms();
        }
        self.publish();
        let _gone = done.send(());
    }
}
