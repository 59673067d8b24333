//! A caller that answers what it is told to, an agent around it, and a client.

use std::{
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::fixture::{self, Fixture},
    ask::{Answer, Ask, AskError, Meta, Outcome},
    caller::{Caller, Promise, ServerSide},
    http::{self, listen::Place},
    pool,
    standing::{Reach, Standing},
};

pub(in crate::http) fn found(meta: Meta, body: &str) -> Result<Answer, AskError> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Ok(Answer { outcome: Outcome::Found, meta, body })
}

/// Answers all asks alike, and keeps them.
pub(in crate::http) struct Fake {
    answer: Option<Result<Answer, AskError>>,
    server: Option<Box<dyn ServerSide>>,
    asks: Mutex<Vec<Ask>>,
    asked: Semaphore,
    cancelled: Arc<Semaphore>,
    standing: watch::Sender<Standing>,
}

impl Fake {
    pub(in crate::http) fn answering(answer: Result<Answer, AskError>) -> Self {
        Self { answer: Some(answer), ..Self::never() }
    }

    pub(in crate::http) fn never() -> Self {
        Self {
            answer: None,
            server: None,
            asks: Mutex::default(),
            asked: Semaphore::new(0),
            cancelled: Arc::new(Semaphore::new(0)),
            standing: watch::Sender::new(Standing { reach: Reach::Led, since: Instant::now() }),
        }
    }

    pub(in crate::http) fn with_server(self, server: impl ServerSide + 'static) -> Self {
        Self { server: Some(Box::new(server)), ..self }
    }

    pub(in crate::http) fn last(&self) -> Ask {
        self.asks.lock().unwrap().last().unwrap().clone()
    }

    pub(in crate::http) fn count(&self) -> usize {
        self.asks.lock().unwrap().len()
    }

    pub(in crate::http) async fn asked(&self) {
        self.asked.acquire().await.unwrap().forget();
    }

    pub(in crate::http) async fn cancelled(&self) {
        self.cancelled.acquire().await.unwrap().forget();
    }
}

/// Tells that the future that holds it is no more.
struct Gone(Arc<Semaphore>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Caller for Fake {
    fn ask(&self, ask: Ask) -> Promise<Result<Answer, AskError>> {
        self.asks.lock().unwrap().push(ask);
        self.asked.add_permits(1);
        let gone = Gone(self.cancelled.clone());
        let answer = self.answer.clone();
        Box::pin(async move {
            let _gone = gone;
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    fn server(&self) -> Option<&dyn ServerSide> {
        self.server.as_deref()
    }
}

/// An agent with its HTTP interface at a free port, and a client of it.
pub(in crate::http) struct Rig {
    pub(in crate::http) addr: SocketAddr,
    pub(in crate::http) fake: Arc<Fake>,
    pub(in crate::http) client: Client,
    pub(in crate::http) stop: CancellationToken,
    pub(in crate::http) server: JoinHandle<()>,
    pub(in crate::http) pool: pool::Publisher,
    pub(in crate::http) orders: tokio::sync::mpsc::Receiver<pool::Order>,
}

impl Rig {
    pub(in crate::http) fn start(fake: Fake) -> Self {
        Self::with(fake, |_| {})
    }

    pub(in crate::http) fn with(fake: Fake, change: impl FnOnce(&mut http::Config)) -> Self {
        Self::build(fake, Duration::ZERO, change)
    }

    /// An agent that goes on answering for a while when it leaves.
    pub(in crate::http) fn draining(fake: Fake, drain_time: Duration) -> Self {
        Self::build(fake, drain_time, |_| {})
    }

    fn build(fake: Fake, drain_time: Duration, change: impl FnOnce(&mut http::Config)) -> Self {
        let fake = Arc::new(fake);
        let Fixture { agent, stop, pool, orders } =
            fixture::agent(fake.clone(), |config| config.drain_time = drain_time);
        let mut config = http::Config::new(vec!["127.0.0.1:0".parse().unwrap()]);
        change(&mut config);
        let (places, run) = http::bind(config, agent).unwrap();
        let server = tokio::spawn(run);
        let addr = match places[0] {
            Place::Http(addr) | Place::Https(addr) => addr,
            Place::Unix(_) => "127.0.0.1:0".parse().unwrap(),
        };
        let client = Client::http1(addr);
        Self { addr, fake, client, stop, server, pool, orders }
    }
}

/// A response, read to its end.
pub(in crate::http) struct Got {
    pub(in crate::http) status: u16,
    pub(in crate::http) headers: HeaderMap,
    pub(in crate::http) body: String,
    bytes: Bytes,
}

impl Got {
    pub(in crate::http) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(in crate::http) fn unzipped(&self) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(self.bytes.as_ref()).read_to_string(&mut text).unwrap();
        text
    }
}

type Payload = BoxBody<Bytes, std::convert::Infallible>;

/// A client that opens a connection when the one it has was closed.
pub(in crate::http) struct Client {
    inner: hyper_util::client::legacy::Client<
        hyper_util::client::legacy::connect::HttpConnector,
        Payload,
    >,
    addr: SocketAddr,
}

impl Client {
    pub(in crate::http) fn http1(addr: SocketAddr) -> Self {
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { inner, addr }
    }

    pub(in crate::http) fn http2(addr: SocketAddr) -> Self {
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        Self { inner, addr }
    }

    pub(in crate::http) async fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], "").await
    }

    pub(in crate::http) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Got {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        self.exchange(method, path, headers, body.boxed()).await
    }

    /// Sends a body whose length is not said beforehand.
    pub(in crate::http) async fn send_chunked(&self, path: &str, body: &str) -> Got {
        let frame = Bytes::copy_from_slice(body.as_bytes());
        let stream = futures::stream::iter([Ok(hyper::body::Frame::data(frame))]);
        let body = http_body_util::StreamBody::new(stream);
        self.exchange("PUT", path, &[], BodyExt::boxed(body)).await
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Payload,
    ) -> Got {
        let uri = format!("http://{}{path}", self.addr);
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.inner.request(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = Body::new(body).collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Got { status: parts.status.as_u16(), headers: parts.headers, body, bytes }
    }
}

/// Sends bytes and returns all that comes back until the far side closes.
pub(in crate::http) async fn raw_exchange(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
