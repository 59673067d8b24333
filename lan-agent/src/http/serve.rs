//! Listeners and connections: accepts, bounds, and ends them.
//!
//! A connection is HTTP/1.1 or HTTP/2, with TLS or without, found out from its first bytes. One
//! that sends no request for [`IDLE_MAX`] or reads nothing for [`STALL_MAX`] is closed; a client
//! address with too many of them is told so with 429. When the agent stops, listeners close
//! first, connections end after the request that they are in, and what is left after the grace is
//! dropped.

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use certs::{
    complaints::Complaints,
    https::{Acceptor, HandshakeError},
};
use hyper::{Request, body::Incoming as Body, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    BindError, Config, Most, Place,
    context::Interface,
    listen::{Incoming, Listener},
    routes,
    rules::Peer,
    stall::Unstalled,
};
use crate::{agent::Agent, metrics::Metrics};

/// How long a connection may be without a whole request head. More than the 90 s for which Go's
/// clients keep idle connections, so that they close first.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// How long a client may take nothing of a response.
const STALL_MAX: Duration = Duration::from_secs(60);

/// The shortest buffer that hyper takes.
const BUFFER_LEN_MIN: usize = 8 * 1024;

/// Most requests at once on one HTTP/2 connection: as many as one client has connections, twice.
const STREAMS_MAX: u32 = 400;

/// How long to wait after a failed accept, which is usually a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused client may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// What who has too many connections reads.
const TOO_MANY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 82\r\n\r\n\
    Your IP is issuing too many concurrent connections, please rate limit your calls\r\n";

/// What who speaks HTTP to an address for HTTPS reads.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 56\r\n\r\n\
    This address speaks HTTPS: call it with https:// please\n";

struct Server {
    agent: Arc<Agent>,
    router: Router,
    connections: Arc<Connections>,
    protocol: auto::Builder<TokioExecutor>,
    complaints: Mutex<Complaints>,
    tasks: TaskTracker,
    /// Ends what is left when the grace is over.
    dropped: CancellationToken,
}

pub(super) fn bind(
    config: Config,
    agent: Arc<Agent>,
) -> Result<(Vec<Place>, impl Future<Output = ()> + Send + use<>), BindError> {
    let mut listeners = Vec::new();
    let mut places = Vec::new();
    for listen in &config.listen {
        let (listener, place) = Listener::bind(listen)?;
        listeners.push(listener);
        places.push(place);
    }
    let Config { rules, headers, .. } = config;
    let bounds = config.bounds.held();
    let interface = Interface { agent: agent.clone(), rules, bounds };
    let server = Arc::new(Server {
        router: routes::table(interface, headers.into()),
        connections: Arc::new(Connections::new(config.connections_per_client_max)),
        protocol: protocol(bounds.head_len_max),
        complaints: Mutex::default(),
        tasks: TaskTracker::new(),
        dropped: CancellationToken::new(),
        agent,
    });
    Ok((places, run(server, listeners, config.shutdown_grace)))
}

fn protocol(head_len_max: usize) -> auto::Builder<TokioExecutor> {
    let head_len_max = head_len_max.max(BUFFER_LEN_MIN);
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(head_len_max)
        // As Go writes them: scripts look for `X-Consul-Index`.
        .title_case_headers(true);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(head_len_max).unwrap_or(u32::MAX))
        .keep_alive_interval(IDLE_MAX)
        .keep_alive_timeout(ACCEPT_PAUSE * 100);
    protocol
}

async fn run(server: Arc<Server>, listeners: Vec<Listener>, grace: Duration) {
    for listener in listeners {
        server.tasks.spawn(accept(server.clone(), listener));
    }
    server.agent.stopping().cancelled().await;
    server.tasks.close();
    if tokio::time::timeout(grace, server.tasks.wait()).await.is_err() {
        warn!(connections = server.tasks.len(), "HTTP requests dropped because the agent stops");
        server.dropped.cancel();
        server.tasks.wait().await;
    }
}

async fn accept(server: Arc<Server>, listener: Listener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.agent.stopping().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((incoming, peer)) => admit(&server, incoming, peer),
            Err(error) => {
                warn!(%error, "HTTP can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(server: &Arc<Server>, incoming: Incoming, peer: Peer) {
    let Some(seat) = server.connections.enter(Client::of(&peer)) else {
        server.agent.metrics.http_connections_refused.increment(1);
        match incoming {
            Incoming::Http(stream) => drop(server.tasks.spawn(refuse(stream, TOO_MANY))),
            Incoming::Unix(stream) => drop(server.tasks.spawn(refuse(stream, TOO_MANY))),
            // Saying why would cost the handshake that it is refused.
            Incoming::Https(..) => {}
        }
        return;
    };
    let server = server.clone();
    let tasks = server.tasks.clone();
    match incoming {
        Incoming::Http(stream) => {
            no_delay(&stream, &peer);
            tasks.spawn(converse(server, stream, peer, seat));
        }
        Incoming::Unix(stream) => {
            tasks.spawn(converse(server, stream, peer, seat));
        }
        Incoming::Https(stream, acceptor) => {
            no_delay(&stream, &peer);
            tasks.spawn(converse_in_private(server, stream, acceptor, peer, seat));
        }
    }
}

fn no_delay(stream: &TcpStream, peer: &Peer) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "no TCP_NODELAY");
    }
}

/// Shakes hands first.
async fn converse_in_private(
    server: Arc<Server>,
    stream: TcpStream,
    acceptor: Acceptor,
    peer: Peer,
    seat: Seat,
) {
    let shaken = tokio::select! {
        biased;
        shaken = shake_hands(stream, &acceptor) => shaken,
        () = server.agent.stopping().cancelled() => return,
    };
    match shaken {
        Ok(Some(stream)) => converse(server, stream, peer, seat).await,
        Ok(None) => {}
        Err(error) => server.complain(&peer, &error),
    }
}

/// Returns the stream inside TLS; `None` for a caller who spoke without, and was told so.
async fn shake_hands(
    stream: TcpStream,
    acceptor: &Acceptor,
) -> Result<Option<impl AsyncRead + AsyncWrite + Unpin + Send + use<>>, HandshakeError> {
    let mut first = [0];
    let patience = acceptor.handshake_timeout();
    match timeout(patience, stream.peek(&mut first)).await {
        Err(_) => return Err(HandshakeError::Timeout(patience)),
        Ok(Err(error)) => return Err(HandshakeError::Failed(error.to_string())),
        Ok(Ok(_)) => {}
    }
    // A record of TLS begins with a small number, a request with the name of its method.
    if first[0].is_ascii_uppercase() {
        refuse(stream, NO_TLS).await;
        return Ok(None);
    }
    acceptor.accept(stream).await.map(Some)
}

async fn converse<S>(server: Arc<Server>, stream: S, peer: Peer, _seat: Seat)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Open::count(&server.agent.metrics);
    let stream = Unstalled::new(stream, STALL_MAX);
    let router = TowerToHyperService::new(server.router.clone());
    let service = Conversation { router, peer: peer.clone() };
    let connection = server.protocol.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = server.agent.stopping().cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = server.dropped.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "HTTP connection ended");
    }
}

/// Answers the requests of one connection.
struct Conversation {
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl Service<Request<Body>> for Conversation {
    type Response = <TowerToHyperService<Router> as Service<Request<Body>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Body>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Body>>>::Future;

    fn call(&self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.router.call(request)
    }
}

async fn refuse(mut stream: impl AsyncWrite + Unpin, why: &'static [u8]) {
    let told = async {
        stream.write_all(why).await?;
        stream.shutdown().await
    };
    // The client is being refused: whether it read why is its own matter.
    let _told = timeout(REFUSAL_TIMEOUT, told).await;
}

impl Server {
    /// Logs why a handshake failed: certificates are an operator's affair, the rest is anybody's.
    fn complain(&self, peer: &Peer, error: &HandshakeError) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, peer) {
            (HandshakeError::Certificate(reason), Peer::Addr(addr))
                if complaints.is_new(Instant::now(), addr.ip(), reason) =>
            {
                warn!(%peer, reason, "HTTPS caller refused");
            }
            _ => debug!(%peer, %error, "HTTPS handshake failed"),
        }
    }
}

/// Counts a connection as open while it lives.
struct Open(metrics::Gauge);

impl Open {
    fn count(metrics: &Metrics) -> Self {
        metrics.http_connections.increment(1.0);
        Self(metrics.http_connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Whose connections are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    /// Those from an address.
    Addr(IpAddr),
    /// Those to a socket file, whose callers have no address.
    Socket(Arc<Path>),
}

impl Client {
    fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Addr(addr) => Self::Addr(addr.ip()),
            Peer::Socket(path) => Self::Socket(path.clone()),
        }
    }
}

/// How many connections each client has.
struct Connections {
    by_client: Mutex<HashMap<Client, usize>>,
    per_client_max: Most,
}

/// A connection's place among those of its client.
struct Seat {
    connections: Arc<Connections>,
    client: Client,
}

impl Connections {
    fn new(per_client_max: Most) -> Self {
        Self { by_client: Mutex::default(), per_client_max }
    }

    fn enter(self: &Arc<Self>, client: Client) -> Option<Seat> {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_client.entry(client.clone()).or_default();
        if *count >= self.per_client_max.get() {
            return None;
        }
        *count += 1;
        Some(Seat { connections: self.clone(), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_client =
            self.connections.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}
