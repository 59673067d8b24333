//! The sockets: datagrams and connections, each within its bounds.
//!
//! ```text
//! UDP socket, one for each core (SO_REUSEPORT)
//!   `-> loop: receive, answer at once what is at hand; else a task of its own answers later
//! TCP listener
//!   `-> a task for each connection: questions may overtake each other (RFC 7766)
//! ```
//!
//! The loops are our own, and only the codec is hickory's: its server starts a task for each
//! datagram, which is a third of what an answer costs when the agent is a server and has the answer
//! at hand.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, SinkExt, StreamExt, stream::FuturesUnordered};
use hickory_proto::op::ResponseCode;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::{
    codec::{Framed, LengthDelimitedCodec},
    sync::CancellationToken,
    task::TaskTracker,
};
use tracing::{debug, warn};

use super::{
    BindError,
    datagrams::{Client, Datagrams, Room},
    message::Transport,
    request::{self, Incoming},
    resolve::Resolver,
};
use crate::metrics::DnsMetrics;

/// Most sockets at one address: more cores than that have other things to do.
const SOCKETS_MAX: usize = 8;

/// Most questions of one socket that wait for the catalog. A waiting one takes a few KiB and is
/// answered within 2 s; those beyond are told at once that they can't be answered.
const WAITING_MAX: usize = 2048;

/// Most connections at once, of all clients together: few clients use them, and only for answers
/// that do not fit into a datagram.
const CONNECTIONS_MAX: usize = 1024;

/// Most questions of one connection that are answered at once.
const PIPELINED_MAX: usize = 32;

/// How long a connection may be without a question, as in Consul.
const IDLE_MAX: Duration = Duration::from_secs(8);

/// How long a client may take to read an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// How long to wait after a socket failed, which is usually a lack of memory or descriptors.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What all sockets have in common.
struct Server {
    resolver: Arc<Resolver>,
    metrics: DnsMetrics,
    connections: AtomicUsize,
    stop: CancellationToken,
}

/// The sockets of one address.
pub(super) struct Sockets {
    udp: Vec<Datagrams>,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds them; returns where, too.
    pub(super) fn bind(addr: SocketAddr) -> Result<(Self, SocketAddr), BindError> {
        let failed = |source| BindError { addr, source };
        // TCP first: it is refused when somebody else is there, who could share a UDP port.
        let tcp = bind_tcp(addr).map_err(failed)?;
        let addr = tcp.local_addr().map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let udp =
            (0..cores.min(SOCKETS_MAX)).map(|_| Datagrams::bind(addr)).collect::<io::Result<_>>();
        Ok((Self { udp: udp.map_err(failed)?, tcp }, addr))
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted agent takes its port although connections of its predecessor linger.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Serves until the agent stops.
pub(super) async fn run(resolver: Arc<Resolver>, sockets: Vec<Sockets>) {
    let stop = resolver.agent().stopping().clone();
    let connections = AtomicUsize::new(0);
    let metrics = DnsMetrics::resolve();
    let server = Arc::new(Server { resolver, metrics, connections, stop });
    let tasks = TaskTracker::new();
    for Sockets { udp, tcp } in sockets {
        for socket in udp {
            tasks.spawn(server.clone().datagrams(Arc::new(socket)));
        }
        tasks.spawn(server.clone().connections(tcp));
    }
    tasks.close();
    tasks.wait().await;
}

impl Server {
    /// Answers the datagrams of a socket.
    async fn datagrams(self: Arc<Self>, socket: Arc<Datagrams>) {
        let waiting = TaskTracker::new();
        let mut room = Room::new();
        loop {
            let received = tokio::select! {
                biased;
                received = socket.receive(&mut room) => received,
                () = self.stop.cancelled() => return,
            };
            match received {
                Ok(()) => {
                    for (bytes, from) in room.datagrams() {
                        self.datagram(&socket, &waiting, bytes, from).await;
                    }
                }
                Err(error) => {
                    // A client that is gone is told of here, too.
                    debug!(%error, "receiving a question");
                    if error.kind() != io::ErrorKind::ConnectionRefused {
                        tokio::time::sleep(FAILURE_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn datagram(
        self: &Arc<Self>,
        socket: &Arc<Datagrams>,
        waiting: &TaskTracker,
        bytes: &[u8],
        from: Client,
    ) {
        let request = match request::parse(bytes) {
            Incoming::Question(request) => request,
            Incoming::Broken(header) => {
                self.metrics.broken.increment(1);
                return send(socket, &header, from).await;
            }
            Incoming::Noise => return self.metrics.broken.increment(1),
        };
        if waiting.len() >= WAITING_MAX {
            self.metrics.count(ResponseCode::ServFail);
            return send(socket, &request.bare(ResponseCode::ServFail), from).await;
        }
        let mut answer = Box::pin(self.clone().answer(request, Transport::Udp));
        match (&mut answer).now_or_never() {
            Some(bytes) => send(socket, &bytes, from).await,
            None => {
                let socket = socket.clone();
                waiting.spawn(async move { send(&socket, &answer.await, from).await });
            }
        }
    }

    /// Answers a question, counting it.
    async fn answer(self: Arc<Self>, request: Box<request::Request>, by: Transport) -> Vec<u8> {
        let began = Instant::now();
        let (code, bytes) = self.resolver.clone().answer(request, by).await;
        self.metrics.count(code);
        self.metrics.seconds.record(began.elapsed());
        bytes
    }

    /// Takes connections.
    async fn connections(self: Arc<Self>, listener: TcpListener) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    if self.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                        self.connections.fetch_sub(1, Ordering::Relaxed);
                        self.metrics.connections_refused.increment(1);
                        debug!(%from, "too many DNS connections");
                        continue;
                    }
                    let open = Open(self.clone());
                    open.0.metrics.connections.increment(1);
                    tasks.spawn(async move {
                        tokio::select! {
                            biased;
                            () = open.0.stop.cancelled() => {}
                            ended = open.0.connection(stream) => {
                                if let Err(error) = ended {
                                    debug!(%from, %error, "DNS connection");
                                }
                            }
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "accepting a DNS connection");
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }

    /// Answers the questions of a connection until it ends or is silent for too long.
    async fn connection(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut frames: Framed<TcpStream, LengthDelimitedCodec> =
            LengthDelimitedCodec::builder().length_field_length(2).new_framed(stream);
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                Some(answer) = under_way.next() => write(&mut frames, answer).await?,
                frame = timeout(IDLE_MAX, frames.next()), if open && under_way.len() < PIPELINED_MAX => {
                    match frame {
                        Ok(Some(frame)) => match self.frame(&frame?) {
                            Some(Ok(request)) => {
                                under_way.push(self.clone().answer(request, Transport::Tcp));
                            }
                            Some(Err(header)) => write(&mut frames, header).await?,
                            // Who sends what is no question has nothing to say.
                            None => open = false,
                        },
                        Ok(None) | Err(_) => open = false,
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a message: a question, or what is to be said to a broken one.
    fn frame(&self, bytes: &BytesMut) -> Option<Result<Box<request::Request>, Vec<u8>>> {
        let request = request::parse(bytes);
        if !matches!(request, Incoming::Question(_)) {
            self.metrics.broken.increment(1);
        }
        match request {
            Incoming::Question(request) => Some(Ok(request)),
            Incoming::Broken(header) => Some(Err(header.to_vec())),
            Incoming::Noise => None,
        }
    }
}

/// A connection that counts as long as this lives.
struct Open(Arc<Server>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.decrement(1);
    }
}

async fn send(socket: &Datagrams, bytes: &[u8], to: Client) {
    // A datagram that is not taken is one that is lost: the client asks again.
    if let Err(error) = socket.send(bytes, to).await {
        debug!(to = %to.addr, %error, "sending an answer");
    }
}

async fn write(
    frames: &mut Framed<TcpStream, LengthDelimitedCodec>,
    bytes: Vec<u8>,
) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, frames.send(Bytes::from(bytes))).await?
}
