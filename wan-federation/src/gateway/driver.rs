//! A gateway's sockets: one towards the world, one for each flow towards its server.
//!
//! A task reads from the world and hands each datagram to [`Flows`]; each flow has a task that reads from
//! its server. What can't be sent at once is lost: those who speak QUIC send it again.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, interval, sleep},
};
use topology::{Datacenter, NodeName};
use tracing::{debug, info, warn};

pub use super::metrics::Totals;
use super::{
    flows::{Bounds, Client, FlowId, Flows, Reason, Step},
    map::{Map, Place},
    metrics::Metrics,
    resolve::resolve,
    socket::{Joined, Room, Rooms, Socket, Way},
};

/// How often flows are looked at for those that are over.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the addresses of servers are looked up.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);

/// How soon that is done again for those that were not found.
const LOOKUP_AGAIN: Duration = Duration::from_secs(3);

/// How often it is logged what was done.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// How long nothing is read after an error that reading again may not mend.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen (UDP); port 0 takes any free one.
    pub bind: SocketAddr,
    /// The datacenter that it stands before.
    pub dc: Datacenter,
    /// Its servers: their names and where their WAN addresses are (`host:port`).
    pub servers: Vec<(NodeName, String)>,
    /// Bounds on what clients may take.
    pub bounds: Bounds,
}

/// A handle to a gateway; clones are handles to the same one.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    world: Socket,
    flows: Mutex<Flows>,
    rooms: Rooms,
    metrics: Metrics,
    start: Instant,
}

/// The task that reads from the world.
struct Driver {
    shared: Arc<Shared>,
    sockets: BTreeMap<FlowId, (Arc<Socket>, AbortHandle)>,
    tasks: JoinSet<()>,
}

/// What becomes of datagrams that came joined: parts of them that go to the same flow, in their order.
#[derive(Default)]
struct Sorted {
    runs: Vec<(FlowId, Range<usize>)>,
    opened: Vec<(FlowId, SocketAddr, Vec<Vec<u8>>)>,
}

impl Gateway {
    /// Binds the address. The gateway works while the returned future runs. To be called within a tokio runtime.
    pub fn bind(
        config: Config,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let world = Socket::bind(config.bind)?;
        let (names, hosts): (Vec<_>, Vec<_>) = config.servers.into_iter().unzip();
        let map = Map::new(config.dc, names);
        for twin in map.twins() {
            warn!(server = %twin, "another server has its tag: their clients can't move");
        }
        let places: Vec<(Place, String)> = map.places().zip(hosts).collect();
        let start = Instant::now();
        let shared = Arc::new(Shared {
            world,
            flows: Mutex::new(Flows::new(map, config.bounds, Duration::ZERO)),
            rooms: Rooms::default(),
            metrics: Metrics::resolve(),
            start,
        });
        for (place, host) in &places {
            if let Ok(addr) = host.parse() {
                shared.flows().map().move_to(*place, addr);
            }
        }
        let driver =
            Driver { shared: shared.clone(), sockets: BTreeMap::new(), tasks: JoinSet::new() };
        let (lookups, summaries) = (look_up(shared.clone(), places), summarize(shared.clone()));
        let run = async move {
            tokio::join!(driver.run(), lookups, summaries);
        };
        Ok((Self(shared), run))
    }

    /// Returns the address that it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.world.local_addr()
    }

    /// Returns what it has done since it was started.
    pub fn totals(&self) -> Totals {
        self.0.metrics.totals()
    }

    /// Counts the flows that there are.
    pub fn open_flows(&self) -> usize {
        self.0.flows().len()
    }
}

impl Shared {
    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Sends what came from a server to the client.
    fn answer(&self, flow: FlowId, room: &Room) {
        for joined in room.joined() {
            let mut runs: Vec<(Client, Range<usize>)> = Vec::new();
            let mut flows = self.flows();
            for range in segments(&joined) {
                match flows.server(flow, &joined.bytes[range.clone()]) {
                    Ok(client) => append(&mut runs, client, range),
                    Err(reason) => self.metrics.dropped(reason),
                }
            }
            drop(flows);
            for (client, range) in runs {
                let way = Way { to: client.addr, from: client.asked, ecn: joined.ecn };
                self.metrics.to_clients.add(range.len().div_ceil(joined.stride));
                let unsent = self.world.send(&joined.bytes[range], joined.stride, way);
                self.metrics.unsent.add(unsent);
            }
        }
    }
}

impl Driver {
    async fn run(mut self) {
        let mut expire = interval(EXPIRE_INTERVAL);
        loop {
            tokio::select! {
                biased;
                _ = expire.tick() => self.expire(),
                ready = self.shared.world.readable() => {
                    let mut room = self.shared.rooms.take();
                    match ready.and_then(|()| self.shared.world.receive(&mut room)) {
                        Ok(()) => self.relay(&room),
                        Err(error) => {
                            debug!(%error, "can't read from the world");
                            sleep(ERROR_PAUSE).await;
                        }
                    }
                    self.shared.rooms.give(room);
                }
            }
        }
    }

    /// Passes on what came from clients.
    fn relay(&mut self, room: &Room) {
        for joined in room.joined() {
            let Sorted { runs, opened } = self.sort(&joined);
            for (flow, server, first) in opened {
                self.open(flow, server);
                for datagram in first {
                    self.forward(flow, &datagram, datagram.len(), &joined);
                }
            }
            for (flow, range) in runs {
                self.forward(flow, &joined.bytes[range], joined.stride, &joined);
            }
        }
        self.sweep();
    }

    fn sort(&self, joined: &Joined<'_>) -> Sorted {
        let (now, mut sorted) = (self.shared.now(), Sorted::default());
        let client = Client { addr: joined.from, asked: joined.asked };
        let mut flows = self.shared.flows();
        for range in segments(joined) {
            match flows.client(now, client, &joined.bytes[range.clone()]) {
                Step::Forward(flow) => append(&mut sorted.runs, flow, range),
                Step::Open { flow, server, first } => {
                    if first.is_empty() {
                        append(&mut sorted.runs, flow, range);
                    }
                    sorted.opened.push((flow, server, first));
                }
                Step::Hold => {}
                Step::Drop(reason) => self.shared.metrics.dropped(reason),
            }
        }
        sorted
    }

    fn forward(&self, flow: FlowId, bytes: &[u8], stride: usize, joined: &Joined<'_>) {
        let Some((socket, to)) =
            self.sockets.get(&flow).and_then(|(socket, _)| Some((socket, socket.peer()?)))
        else {
            return;
        };
        self.shared.metrics.to_servers.add(bytes.len().div_ceil(stride.max(1)));
        let unsent = socket.send(bytes, stride, Way { to, from: None, ecn: joined.ecn });
        self.shared.metrics.unsent.add(unsent);
    }

    /// Opens the socket of a flow that has none, and reads from it.
    fn open(&mut self, flow: FlowId, server: SocketAddr) {
        if self.sockets.contains_key(&flow) {
            return;
        }
        let socket = match Socket::connect(server) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                debug!(%server, %error, "no socket for a flow");
                self.shared.flows().close(self.shared.now(), flow);
                self.shared.metrics.dropped(Reason::Full);
                return;
            }
        };
        self.shared.metrics.opened.add(1);
        let task = self.tasks.spawn(listen(self.shared.clone(), socket.clone(), flow));
        self.sockets.insert(flow, (socket, task));
    }

    fn expire(&mut self) {
        let mut flows = self.shared.flows();
        flows.expire(self.shared.now());
        self.shared.metrics.flows(flows.len(), flows.unverified());
        drop(flows);
        self.sweep();
    }

    /// Closes the sockets of flows that ended.
    fn sweep(&mut self) {
        let ended = self.shared.flows().take_ended();
        for flow in ended {
            if let Some((_, task)) = self.sockets.remove(&flow) {
                task.abort();
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Reads what a server sends into a flow, until it is aborted.
async fn listen(shared: Arc<Shared>, socket: Arc<Socket>, flow: FlowId) {
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        let mut room = shared.rooms.take();
        // That nobody listens there is told once for each datagram; the server may be back for the next one.
        if socket.receive(&mut room).is_ok() {
            shared.answer(flow, &room);
        }
        shared.rooms.give(room);
    }
}

/// Looks up the names of servers, again and again: they may move.
async fn look_up(shared: Arc<Shared>, places: Vec<(Place, String)>) {
    let is_name = |(_, host): &(Place, String)| host.parse::<SocketAddr>().is_err();
    let names: Vec<(Place, String)> = places.into_iter().filter(is_name).collect();
    if names.is_empty() {
        return;
    }
    loop {
        let mut wait = LOOKUP_INTERVAL;
        for (place, host) in &names {
            match resolve(host).await {
                Ok(addrs) => settle(&shared, *place, &addrs),
                Err(error) => {
                    warn!(host, %error, "the address of a server was not found");
                    wait = LOOKUP_AGAIN;
                }
            }
        }
        sleep(wait).await;
    }
}

/// Goes on with the address of a server that is known, as long as the name stands for it.
fn settle(shared: &Shared, place: Place, addrs: &[SocketAddr]) {
    let mut flows = shared.flows();
    let map = flows.map();
    let Some(first) = addrs.first() else { return };
    if !map.addr(place).is_some_and(|known| addrs.contains(&known)) {
        let server = map.name(place).map(ToString::to_string).unwrap_or_default();
        info!(server, addr = %first, "address of a server");
        map.move_to(place, *first);
    }
}

/// Logs what was done, when something was.
async fn summarize(shared: Arc<Shared>) {
    let mut before = Totals::default();
    loop {
        sleep(SUMMARY_INTERVAL).await;
        let totals = shared.metrics.totals();
        if totals == before {
            continue;
        }
        let (flows, unverified) = {
            let flows = shared.flows();
            (flows.len(), flows.unverified())
        };
        let Totals { opened, to_servers, to_clients, dropped } = &totals;
        info!(flows, unverified, opened, to_servers, to_clients, ?dropped, "relayed so far");
        before = totals;
    }
}

/// Returns where the datagrams are that came joined.
fn segments(joined: &Joined<'_>) -> impl Iterator<Item = Range<usize>> + use<> {
    let (len, stride) = (joined.bytes.len(), joined.stride);
    (0..len).step_by(stride).map(move |start| start..len.min(start + stride))
}

/// Adds a datagram to the run before it, if it goes the same way and follows it.
fn append<T: PartialEq>(runs: &mut Vec<(T, Range<usize>)>, way: T, range: Range<usize>) {
    match runs.last_mut() {
        Some((last, run)) if *last == way && run.end == range.start => run.end = range.end,
        _ => runs.push((way, range)),
    }
}
