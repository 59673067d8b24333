//! One UDP socket, all connections over it, and the handle that others use.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use quinn::{Incoming, SendDatagramError, TokioRuntime, VarInt};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::{
    complaints::Complaints,
    error::{CallError, DatagramError, LinkError},
    identity::Identity,
    link::{
        Config, Pace, Path, Reply, Request, Service, Sockets, Target,
        admission::{Admission, Verdict},
        backoff::Backoff,
        call,
        connection::{self, Close, Connection, Refused},
        frame::{Datagram, TAG_LEN},
        heartbeat::Side,
        routes::{Doubts, Routes},
        table::{Displaced, Live, Table},
        transport::{self, Timing},
    },
    metrics::Reason,
};

/// How long a shutdown waits until the peers know.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(1);

/// How long a connection stays after it was replaced or retired, so that the peer knows of it, too, and
/// who is about to use it still can.
const DRAIN_MIN: Duration = Duration::from_secs(3);

/// Speaks to peers over one UDP socket. Clones are handles to the same one.
#[derive(Clone)]
pub struct Endpoint(Arc<Shared>);

/// What the endpoint's tasks share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) quic: quinn::Endpoint,
    pub(super) service: Arc<dyn Service>,
    /// Drawn when the endpoint starts; tells a restarted peer from a second connection.
    pub(super) instance: u64,
    pub(super) live: ArcSwap<Live>,
    pub(super) closing: CancellationToken,
    pub(super) routes: ArcSwap<Routes>,
    doubts: Mutex<Doubts>,
    table: Mutex<Table>,
    complaints: Mutex<Complaints>,
    admission: Mutex<Admission>,
    changes: watch::Sender<u64>,
}

impl Endpoint {
    /// Binds the address. The endpoint works while the returned future runs, and closes all
    /// connections when that is dropped. To be called within a tokio runtime.
    pub fn bind(
        config: Config,
        sockets: &dyn Sockets,
        service: Arc<dyn Service>,
    ) -> Result<(Endpoint, impl Future<Output = ()> + Send + 'static + use<>), LinkError> {
        check_identity(&config)?;
        let mut random = match config.seed {
            Some(seed) => SmallRng::seed_from_u64(seed ^ occasion(&config)),
            None => rand::make_rng(),
        };
        let instance = random.next_u64();
        let settings = transport::endpoint(&config.me, &config.keys, &mut random);
        let server = transport::server(&config)?;
        let bind_error = |source| LinkError::Bind { addr: config.addr, source };
        let socket = sockets.udp(config.addr).map_err(bind_error)?;
        let runtime = Arc::new(TokioRuntime);
        let quic =
            quinn::Endpoint::new_with_abstract_socket(settings, Some(server), socket, runtime)
                .map_err(bind_error)?;
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(Backoff::new(config.profile), random)),
            config,
            quic,
            service,
            instance,
            live: ArcSwap::default(),
            closing: CancellationToken::new(),
            routes: ArcSwap::default(),
            doubts: Mutex::default(),
            complaints: Mutex::default(),
            admission: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let guard = Running { _tasks: shared.closing.clone().drop_guard(), shared };
        let endpoint = Endpoint(Arc::clone(&guard.shared));
        Ok((endpoint, async move { guard.shared.accept().await }))
    }

    /// Returns the address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        // The socket is open as long as the endpoint lives.
        self.0.quic.local_addr().unwrap_or(self.0.config.addr)
    }

    /// Asks a peer and waits for its reply until the request's deadline; connects first if there
    /// is no connection. Dropping the future cancels the work at the peer.
    pub async fn call(&self, to: &Target, request: Request) -> Result<Reply, CallError> {
        let connection = match self.0.open(to) {
            Some(open) => open?,
            None => self.0.reach(to, request.deadline).await?,
        };
        call::call(&connection, request).await
    }

    /// Goes these ways from now on to the peers that they lead to. Connections that there are stay.
    pub fn route(&self, routes: Routes) {
        locked(&self.0.doubts).keep(&routes);
        let before = self.0.routes.swap(Arc::new(routes.clone()));
        let mut table = self.0.table();
        for addr in routes.led_anew(&before) {
            table.hurry(addr);
        }
        let live = table.live().clone();
        drop(table);
        // Who came by a gateway before it was known comes anew, so that both sides know the connection.
        let is_elsewhere = |connection: &&Arc<Connection>| {
            let known = routes.addr_of(&connection.peer);
            connection.side == Side::ByPeer && known.is_some_and(|known| known != connection.addr)
        };
        for connection in live.values().filter(is_elsewhere).cloned() {
            let why = "its peer is known by another address now";
            self.0.spawn(drain(connection, Close::Duplicate, why, || false));
        }
    }

    /// Returns by which addresses a peer is reached; `None` if by its own.
    pub fn ways(&self, addr: SocketAddr) -> Option<Arc<[SocketAddr]>> {
        self.0.routes.load().ways(addr)
    }

    /// Keeps a connection to a peer, made again whenever it is lost, until
    /// [`Endpoint::disconnect`].
    pub fn connect(&self, to: &Target) {
        if let Some(token) = self.0.table().keep(to) {
            self.0.spawn(Arc::clone(&self.0).keep(to.clone(), token));
        }
    }

    /// Keeps a connection to a peer of a WAN and watches it at this pace, until
    /// [`Endpoint::release`] or [`Endpoint::disconnect`].
    pub fn watch(&self, to: &Target, pace: Pace) {
        self.connect(to);
        self.0.table().pace(to.addr, pace);
    }

    /// Takes [`Endpoint::watch`] back. The connection goes on as long as anybody uses it.
    pub fn release(&self, to: &Target) {
        self.0.table().release(to.addr);
    }

    /// Takes [`Endpoint::connect`] back. Calls under way on the connection end.
    pub fn disconnect(&self, to: &Target) {
        let connection = self.0.table().forget(to.addr);
        if let Some(connection) = connection {
            connection.end(Close::Unwanted, "not needed any more");
        }
        self.0.changed();
    }

    /// Takes [`Endpoint::connect`] back. A connection that this node made ends when nothing is under
    /// way on it, unless it is wanted again by then.
    pub fn retire(&self, to: &Target) {
        let Some(connection) = self.0.table().retire(to.addr) else { return };
        let (shared, addr) = (Arc::clone(&self.0), to.addr);
        let is_kept = move || shared.table().is_kept(addr);
        self.0.spawn(drain(connection, Close::Unwanted, "not needed any more", is_kept));
    }

    /// Sends a datagram to a peer, without any promise that it arrives. Without a connection it
    /// is dropped and one is made.
    pub fn datagram(&self, to: &Target, data: Bytes) -> Result<(), DatagramError> {
        let Some(Ok(connection)) = self.0.open(to) else {
            // Who wants to know why the attempt fails finds it in `paths`.
            let _ = self.0.way(to);
            return Err(DatagramError::NoPath);
        };
        let packet = connection.quic.max_datagram_size().ok_or(DatagramError::NoPath)?;
        let len_max = packet.saturating_sub(TAG_LEN);
        if data.len() > len_max {
            return Err(DatagramError::TooLarge { len_max });
        }
        connection.quic.send_datagram(Datagram::Application(data).encode()).map_err(|error| {
            match error {
                SendDatagramError::TooLarge => DatagramError::TooLarge { len_max },
                _ => DatagramError::NoPath,
            }
        })
    }

    /// Returns how many packets came from a peer on the connection there is to it; `None` without
    /// one. A living peer acknowledges a request within milliseconds, however long the answer
    /// takes it.
    pub fn packets(&self, to: &Target) -> Option<u64> {
        let connection = self.0.open(to)?.ok()?;
        Some(connection.quic.stats().udp_rx.datagrams)
    }

    /// Describes the way to every peer that is connected, kept connected or was tried lately, in
    /// the order of their addresses.
    pub fn paths(&self) -> Vec<Path> {
        self.0.table().paths()
    }

    /// Counts the connections, those that are about to end included.
    pub fn open_connections(&self) -> usize {
        self.0.quic.open_connections()
    }

    /// Returns a counter that grows when a path goes up or down or its peer says something new
    /// of itself.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Closes all connections; the peers are told why. Takes a second at most.
    pub async fn shutdown(&self, reason: &str) {
        self.0.close(reason);
        // A peer that is gone need not know.
        let _ = timeout(SHUTDOWN_WITHIN, self.0.quic.wait_idle()).await;
    }
}

/// Ends everything when the endpoint's future is dropped.
struct Running {
    _tasks: DropGuard,
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.close("the endpoint stopped");
    }
}

/// Counts a handshake out when it ended.
struct Handshake {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        locked(&self.shared.admission).done(self.from);
    }
}

impl Shared {
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    pub(super) fn doubts(&self) -> MutexGuard<'_, Doubts> {
        locked(&self.doubts)
    }

    /// Asks the gateway last for a while by which a connection was made that fell silent.
    pub(super) fn doubt(&self, connection: &Connection) {
        let way = canonical(connection.quic.remote_address());
        if connection.side == Side::ByUs && way != connection.addr {
            self.doubts().failed(Instant::now(), way);
        }
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Runs a task that ends with the endpoint.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        tokio::spawn(async move { closing.run_until_cancelled(task).await });
    }

    fn close(&self, reason: &str) {
        self.closing.cancel();
        let code = VarInt::from_u32(Close::Shutdown as u32);
        self.quic.close(code, reason.as_bytes());
    }

    /// Takes a connection into use on which the peer was heard for the first time.
    pub(super) fn publish(self: &Arc<Self>, connection: &Arc<Connection>, instance: u64) {
        let displaced = {
            let mut table = self.table();
            let displaced = table.publish(Instant::now(), self.instance, connection, instance);
            self.live.store(Arc::new(table.live().clone()));
            displaced
        };
        match displaced {
            Displaced::None => {}
            Displaced::Drain(connection) => {
                let why = "another connection to the same peer stays";
                self.spawn(drain(connection, Close::Duplicate, why, || false));
            }
            Displaced::Close(connection) => {
                connection.end(Close::Replaced, "the peer was restarted");
            }
        }
        debug!(peer = %connection.peer, addr = %connection.addr, "connected");
        self.changed();
    }

    /// Takes a connection out of use that ended.
    pub(super) fn lost(&self, connection: &Arc<Connection>) {
        let reason = connection.reason();
        if connection.timed_out() {
            self.doubt(connection);
        }
        let used = {
            let mut table = self.table();
            let used = table.lost(Instant::now(), connection, Arc::clone(&reason));
            self.live.store(Arc::new(table.live().clone()));
            used
        };
        if used {
            debug!(peer = %connection.peer, addr = %connection.addr, %reason, "connection ended");
            self.changed();
        }
    }

    /// Logs a refusal, unless it was logged a moment ago.
    pub(super) fn complain(&self, addr: SocketAddr, what: &str, reason: &str) {
        if locked(&self.complaints).is_new(Instant::now(), addr.ip(), reason) {
            warn!(%addr, reason, me = %self.config.me, "{what}");
        }
    }

    /// Counts a refused handshake, if there is something to count.
    pub(super) fn count_refusal(&self, reason: Option<Reason>) {
        if let Some(reason) = reason {
            self.config.keys.metrics().refused(reason);
        }
    }

    /// Reads from a connection's certificate who the peer is.
    pub(super) fn peer_of(&self, quic: &quinn::Connection) -> Result<Identity, String> {
        let chain = quic.peer_identity().ok_or("the peer showed no certificate")?;
        let chain = chain
            .downcast::<Vec<CertificateDer<'static>>>()
            .map_err(|_| "the peer's certificate is of an unknown kind")?;
        let first = chain.first().ok_or("the peer showed no certificate")?;
        Identity::from_certificate(first, self.config.keys.domains())
            .map_err(|error| error.to_string())
    }

    /// Accepts connections until the endpoint closes.
    async fn accept(self: &Arc<Self>) {
        while let Some(incoming) = self.quic.accept().await {
            let from = incoming.remote_address().ip();
            let proven = incoming.remote_address_validated();
            let open = self.quic.open_connections();
            let verdict = locked(&self.admission).decide(&self.config.limits, open, from, proven);
            match verdict {
                Verdict::Admit => {
                    let handshake = Handshake { shared: Arc::clone(self), from };
                    self.spawn(Arc::clone(self).admit(incoming, handshake));
                }
                Verdict::Prove => {
                    // An address that can't be asked for a proof again has been proven.
                    let _ = incoming.retry();
                }
                Verdict::Refuse => {
                    let addr = SocketAddr::new(from, 0);
                    self.count_refusal(Some(Reason::Busy));
                    self.complain(addr, "connection refused", "too many connections or handshakes");
                    incoming.refuse();
                }
            }
        }
    }

    async fn admit(self: Arc<Self>, incoming: Incoming, handshake: Handshake) {
        let addr = canonical(incoming.remote_address());
        let edition = self.config.keys.current().edition;
        let within = Timing::new(self.config.profile).handshake;
        // What is left of a handshake with this node before its restart can't be read.
        let Ok(connecting) = incoming.accept() else { return };
        self.table().knocked(Instant::now(), addr);
        let quic = match timeout(within, connecting).await {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => {
                let reason = connection::describe(&error);
                self.count_refusal(connection::uncounted(&error));
                match connection::refused(&error) {
                    Some(Refused::Here) => {
                        self.complain(addr, "refused the certificate of a peer", &reason);
                    }
                    Some(Refused::There) => {
                        self.complain(addr, "a peer refused our certificate", &reason);
                    }
                    None => debug!(%addr, reason, "handshake failed"),
                }
                return;
            }
            Err(_) => return,
        };
        drop(handshake);
        match self.peer_of(&quic) {
            Ok(peer) => {
                // Who comes by a gateway comes from its address.
                let addr = self.routes.load().addr_of(&peer).unwrap_or(addr);
                let connection = Connection::new(&self, quic, addr, peer, Side::ByPeer, edition);
                tokio::spawn(connection::drive(self, connection));
            }
            // The verifier has read it before; it fails closed all the same.
            Err(reason) => quic.close(VarInt::from_u32(Close::Refused as u32), reason.as_bytes()),
        }
    }
}

/// Closes a connection once nothing is under way on it, unless it is wanted after all.
async fn drain(
    connection: Arc<Connection>,
    close: Close,
    why: &'static str,
    is_wanted: impl Fn() -> bool,
) {
    loop {
        tokio::time::sleep(DRAIN_MIN).await;
        if connection.quic.close_reason().is_some() || is_wanted() {
            return;
        }
        if connection.busy() == 0 {
            connection.end(close, why);
            return;
        }
    }
}

fn check_identity(config: &Config) -> Result<(), LinkError> {
    let certificate = config.keys.identity();
    let me = &config.me;
    if certificate.agrees(me) {
        return Ok(());
    }
    Err(LinkError::OtherIdentity { certificate: certificate.to_string(), node: me.to_string() })
}

/// Returns a number that differs between nodes and between starts of a node, so that a simulation
/// may give all of them the same seed.
fn occasion(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&config.me, config.addr, config.keys.clock().now()).hash(&mut hasher);
    hasher.finish()
}

/// Returns an address as paths know it: IPv4 as IPv4, also over a socket of both families.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
