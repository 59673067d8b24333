//! A small HTTP client that never repeats a request by itself.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// How long a request may take, unless the test says otherwise. Longer than a server's own
/// deadline for what does not block, so that it is the server that gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Speaks to one agent. Clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    addr: SocketAddr,
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    patience: Duration,
}

/// What an agent answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An entry of the key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value, taken for text.
    pub value: String,
    /// `ModifyIndex`.
    pub modify_index: u64,
}

impl Client {
    /// Makes a client for an agent's HTTP address.
    pub fn new(addr: SocketAddr) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build_http();
        Self { addr, inner, patience: PATIENCE }
    }

    /// Makes a client that sends all requests over one connection (HTTP/2 without TLS).
    pub fn multiplexed(addr: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        // Frames that wait for an acknowledgement of those before would look like a slow agent.
        connector.set_nodelay(true);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .http2_only(true)
            .build(connector);
        Self { addr, inner, patience: PATIENCE }
    }

    /// Returns a client that waits this long for an answer.
    pub fn patient(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Sends a request; an error means that there was no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response> {
        self.send_with(method, path, &[], body).await
    }

    /// Sends a request with headers of its own.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response> {
        let uri = format!("http://{}{path}", self.addr);
        let mut request = Request::builder().method(method).uri(&uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        let answer = async {
            let response = self.inner.request(request).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Response { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(self.patience, answer)
            .await
            .with_context(|| format!("{uri}: no answer in {:?}", self.patience))?
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends a GET and reads the answer, which has to be 200, as JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        let response = self.get(path).await?;
        response.ok()?;
        Ok(serde_json::from_slice(&response.body)?)
    }

    /// Sends a PUT.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Result<Response> {
        self.send(Method::PUT, path, body).await
    }

    /// Sends a POST.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Response> {
        self.send(Method::POST, path, body).await
    }

    /// Sends a DELETE.
    pub async fn delete(&self, path: &str) -> Result<Response> {
        self.send(Method::DELETE, path, Bytes::new()).await
    }

    /// Sets a key; the path may carry a query. `false`: a comparison failed.
    pub async fn kv_put(&self, path: &str, value: &str) -> Result<bool> {
        let response = self.put(&format!("/v1/kv/{path}"), value.to_owned()).await?;
        response.ok()?;
        match response.text().trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => bail!("neither true nor false: {other:?}"),
        }
    }

    /// Reads a key; the path may carry a query.
    pub async fn kv_get(&self, path: &str) -> Result<Option<Entry>> {
        let response = self.get(&format!("/v1/kv/{path}")).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        response.ok()?;
        Entry::read(&response.body).map(Some)
    }
}

impl Entry {
    /// Reads the first of a list of entries.
    pub fn read(body: &[u8]) -> Result<Self> {
        let list: Value = serde_json::from_slice(body)?;
        let entry = &list[0];
        let value = entry["Value"].as_str().unwrap_or_default();
        Ok(Entry {
            value: String::from_utf8(STANDARD.decode(value)?)?,
            modify_index: entry["ModifyIndex"].as_u64().context("no ModifyIndex")?,
        })
    }
}

impl Response {
    /// Fails unless the status is 200.
    pub fn ok(&self) -> Result<()> {
        match self.status {
            StatusCode::OK => Ok(()),
            status => bail!("{status}: {}", self.text()),
        }
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a header, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns `X-Consul-Index`.
    pub fn index(&self) -> u64 {
        self.header("x-consul-index").parse().unwrap_or_default()
    }

    /// Returns `X-Consul-LastContact`.
    pub fn last_contact(&self) -> Duration {
        Duration::from_millis(self.header("x-consul-lastcontact").parse().unwrap_or_default())
    }
}
