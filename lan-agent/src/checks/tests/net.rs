//! Servers of all kinds for checks to call, good and bad.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use certs::{
    ca::{Algorithm, Authority, San, Subject},
    https::{Acceptor, Callers, Config, HANDSHAKE_TIMEOUT},
    identity::Identity,
    store::{Bundle, Clock},
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use topology::Role;

use crate::checks::{Credentials, exchange::Wire};

/// A port where nobody listens, as long as the socket that holds it lives.
pub(in crate::checks) fn closed_port() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// A port where somebody listens and never takes a connection: those that wait fill its queue.
pub(in crate::checks) async fn full_backlog() -> (SocketAddr, impl Sized) {
    let (addr, socket) = closed_port();
    socket.listen(0).unwrap();
    let first = TcpStream::connect(addr).await.unwrap();
    (addr, (socket, first))
}

/// Tasks that end with the test.
#[derive(Default)]
pub(in crate::checks) struct Server {
    pub(in crate::checks) addr: Option<SocketAddr>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(in crate::checks) fn at(&self) -> SocketAddr {
        self.addr.unwrap()
    }

    pub(in crate::checks) fn port(&self) -> u16 {
        self.at().port()
    }
}

/// Takes connections, with TLS if there is an acceptor, and does this with each.
pub(in crate::checks) async fn serve<F>(
    acceptor: Option<Acceptor>,
    handle: impl Fn(Box<dyn Duplex>) -> F + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = Some(listener.local_addr().unwrap());
    let handle = Arc::new(handle);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, handle) = (acceptor.clone(), handle.clone());
            connections.spawn(async move {
                match acceptor {
                    None => handle(Box::new(stream)).await,
                    Some(acceptor) => {
                        // Callers may think better of it.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            handle(Box::new(stream)).await;
                        }
                    }
                }
            });
        }
    });
    Server { addr, _tasks: tasks }
}

/// A connection of any kind.
pub(in crate::checks) trait Duplex: Wire {}

impl<T: Wire> Duplex for T {}

/// What a web server was asked.
#[derive(Debug, Clone)]
pub(in crate::checks) struct Asked {
    pub(in crate::checks) head: Arc<hyper::http::request::Parts>,
    pub(in crate::checks) body: Bytes,
}

impl Asked {
    pub(in crate::checks) fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A web server that keeps what it was asked.
pub(in crate::checks) struct Web {
    pub(in crate::checks) server: Server,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// Answers so, over HTTP/1.1 and HTTP/2.
    pub(in crate::checks) async fn answering(
        acceptor: Option<Acceptor>,
        answer: impl Fn(&Asked) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (keep, answer) = (asked.clone(), Arc::new(answer));
        let server = serve(acceptor, move |stream| {
            let (keep, answer) = (keep.clone(), answer.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (keep, answer) = (keep.clone(), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let asked = Asked { head: Arc::new(head), body };
                    keep.lock().unwrap().push(asked.clone());
                    Ok::<_, Infallible>(answer(&asked))
                }
            });
            async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                // Checks close their connections as they like.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { server, asked }
    }

    pub(in crate::checks) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(in crate::checks) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.at())
    }
}

/// Says these bytes to whoever asks something, then nothing more, and keeps the connection.
pub(in crate::checks) async fn canned(acceptor: Option<Acceptor>, bytes: &'static [u8]) -> Server {
    serve(acceptor, move |mut stream| async move {
        let mut piece = [0; 1024];
        if stream.read(&mut piece).await.is_ok() && stream.write_all(bytes).await.is_ok() {
            let _ = stream.flush().await;
            std::future::pending().await
        }
    })
    .await
}

/// An authority, as its file.
pub(in crate::checks) struct Trusted {
    home: TempDir,
    authority: Authority,
}

impl Trusted {
    pub(in crate::checks) fn new() -> Self {
        let now = Clock::System.now();
        let authority = Authority::create("test", Algorithm::EcdsaP256, now, 2).unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("ca.pem"), authority.certificate_pem()).unwrap();
        Self { home, authority }
    }

    /// Shows a certificate for `localhost`.
    pub(in crate::checks) fn acceptor(&self, callers: Callers) -> Acceptor {
        let now = Clock::System.now();
        let identity = Identity::new("dc1".parse().unwrap(), Role::Server, None);
        let sans = vec![San::Dns("localhost".to_owned())];
        let subject = Subject { identity, domain: "consul".to_owned(), sans };
        let issued = self.authority.issue(&subject, now, 2).unwrap();
        let bundle = Bundle {
            certificates: issued.certificate_pem,
            key: issued.key_pem,
            authorities: vec![self.authority.certificate_pem().to_owned()],
        };
        let handshake_timeout = HANDSHAKE_TIMEOUT;
        let config = Config { callers, handshake_timeout, clock: Clock::System };
        Acceptor::memory(bundle, config).unwrap()
    }

    /// Believes this authority.
    pub(in crate::checks) fn credentials(&self) -> Credentials {
        Credentials { authorities: vec![self.home.path().join("ca.pem")], own: None }
    }

    /// Believes this authority and shows a certificate of it.
    pub(in crate::checks) fn own(&self) -> Credentials {
        let now = Clock::System.now();
        let issued = self.authority.issue_for_tool("check.dc1.consul", &[], now, 2).unwrap();
        let own: [PathBuf; 2] = ["own.pem", "own-key.pem"].map(|name| self.home.path().join(name));
        std::fs::write(&own[0], issued.certificate_pem).unwrap();
        std::fs::write(&own[1], issued.key_pem).unwrap();
        let [certificate, key] = own;
        Credentials { own: Some((certificate, key)), ..self.credentials() }
    }
}
