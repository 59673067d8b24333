//! Listeners and connections: accepts, bounds, and ends them.
//!
//! A connection is HTTP/1.1 or HTTP/2 without TLS, found out from its first bytes. One that
//! sends no request for [`IDLE_MAX`] or reads nothing for [`STALL_MAX`] is closed; a client address with too many of them is told
//! so with 429. When the agent stops, listeners close first, connections end after the request
//! that they are in, and what is left after the grace is dropped.

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{BindError, Config, routes, stall::Unstalled};
use crate::{agent::Agent, metrics::Metrics};

/// How long a connection may be without a whole request head. More than the 90 s for which Go's
/// clients keep idle connections, so that they close first.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// How long a client may take nothing of a response.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Longest head of a request: a path with a long key, and a token.
const HEAD_LEN_MAX: usize = 32 * 1024;

/// Most requests at once on one HTTP/2 connection: as many as one client has connections, twice.
const STREAMS_MAX: u32 = 400;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// How long to wait after a failed accept, which is usually a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a refused client may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

const REFUSAL: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 82\r\n\r\n\
    Your IP is issuing too many concurrent connections, please rate limit your calls\r\n";

struct Server {
    agent: Arc<Agent>,
    router: Router,
    connections: Arc<Connections>,
    protocol: auto::Builder<TokioExecutor>,
    tasks: TaskTracker,
    /// Ends what is left when the grace is over.
    dropped: CancellationToken,
}

pub(super) fn bind(
    config: Config,
    agent: Arc<Agent>,
) -> Result<(Vec<SocketAddr>, impl Future<Output = ()> + Send + use<>), BindError> {
    let mut listeners = Vec::new();
    let mut addrs = Vec::new();
    for addr in &config.addrs {
        let listener = listen(*addr).map_err(|source| BindError { addr: *addr, source })?;
        addrs.push(listener.local_addr().map_err(|source| BindError { addr: *addr, source })?);
        listeners.push(listener);
    }
    let server = Arc::new(Server {
        router: routes::table(agent.clone(), config.headers.into()),
        connections: Arc::new(Connections::new(config.connections_per_client_max)),
        protocol: protocol(),
        tasks: TaskTracker::new(),
        dropped: CancellationToken::new(),
        agent,
    });
    Ok((addrs, run(server, listeners, config.shutdown_grace)))
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restarted agent takes its port although connections of its predecessor linger.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        // As Go writes them: scripts look for `X-Consul-Index`.
        .title_case_headers(true);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_LEN_MAX as u32)
        .keep_alive_interval(IDLE_MAX)
        .keep_alive_timeout(ACCEPT_PAUSE * 100);
    protocol
}

async fn run(server: Arc<Server>, listeners: Vec<TcpListener>, grace: Duration) {
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

async fn accept(server: Arc<Server>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.agent.stopping().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&server, stream, peer),
            Err(error) => {
                warn!(%error, "HTTP can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    match server.connections.enter(peer.ip()) {
        Some(seat) => {
            server.tasks.spawn(converse(server.clone(), stream, peer, seat));
        }
        None => {
            server.agent.metrics.http_connections_refused.increment(1);
            server.tasks.spawn(refuse(stream));
        }
    }
}

async fn converse(server: Arc<Server>, stream: TcpStream, peer: SocketAddr, _seat: Seat) {
    let _open = Open::count(&server.agent.metrics);
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "no TCP_NODELAY");
    }
    let stream = Unstalled::new(stream, STALL_MAX);
    let service = TowerToHyperService::new(server.router.clone());
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

async fn refuse(mut stream: TcpStream) {
    let told = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    // The client is being refused: whether it read why is its own matter.
    let _told = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
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

/// How many connections each client address has.
struct Connections {
    by_client: Mutex<HashMap<IpAddr, usize>>,
    per_client_max: usize,
}

/// A connection's place among those of its client.
struct Seat {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Connections {
    fn new(per_client_max: usize) -> Self {
        Self { by_client: Mutex::default(), per_client_max }
    }

    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_client.entry(client).or_default();
        if *count >= self.per_client_max {
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
