//! A small HTTP/1.1 client: how the command line, a topology's start and a drill's workload talk
//! to agents.
//!
//! Connections are kept and used again. Every request has a deadline and every answer a bound on
//! its size. An error tells apart what certainly had no effect (no connection) from what may have
//! had one (the connection or the time ran out after the request was sent).

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// Largest answer that is read: a whole key space of a drill fits many times over.
const ANSWER_LEN_MAX: usize = 256 << 20;

/// How long an idle connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Sends requests to agents. Clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// What an agent answered, whatever its status.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Says why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection came about: the request had no effect.
    #[error("no connection to {to}: {reason}")]
    Connect {
        /// Whom it was for.
        to: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// The connection was lost after the request was sent: its effect is unknown.
    #[error("connection to {to} lost: {reason}")]
    Lost {
        /// Whom it was for.
        to: SocketAddr,
        /// What was seen.
        reason: String,
    },
    /// No answer came in time: the effect is unknown.
    #[error("no answer from {to} within {within:?}")]
    Deadline {
        /// Whom it was for.
        to: SocketAddr,
        /// How long was waited.
        within: Duration,
    },
    /// The request can't be sent: its path is not one.
    #[error("bad request: {reason}")]
    Request {
        /// What is wrong.
        reason: String,
    },
}

impl HttpAnswer {
    /// Returns the body as text, for errors and plain answers.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

impl HttpClient {
    /// Makes a client without any connection.
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Self { inner }
    }

    /// Asks for `path` (with its query) of the agent that listens at `to`.
    pub async fn get(
        &self,
        to: SocketAddr,
        path: &str,
        within: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        self.send(to, Method::GET, path, Bytes::new(), within).await
    }

    /// Puts a body to `path` of the agent that listens at `to`.
    pub async fn put(
        &self,
        to: SocketAddr,
        path: &str,
        body: impl Into<Bytes>,
        within: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        self.send(to, Method::PUT, path, body.into(), within).await
    }

    async fn send(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{to}{path}"))
            .body(Full::new(body))
            .map_err(|error| HttpError::Request { reason: error.to_string() })?;
        tokio::time::timeout(within, self.exchange(to, request))
            .await
            .unwrap_or(Err(HttpError::Deadline { to, within }))
    }

    async fn exchange(
        &self,
        to: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<HttpAnswer, HttpError> {
        let answer = self.inner.request(request).await.map_err(|error| {
            let reason = innermost(&error);
            match error.is_connect() {
                true => HttpError::Connect { to, reason },
                false => HttpError::Lost { to, reason },
            }
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_LEN_MAX)
            .collect()
            .await
            .map_err(|error| HttpError::Lost { to, reason: innermost(error.as_ref()) })?;
        Ok(HttpAnswer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the last error of a chain: what the system said, without what was made of it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
