//! How commands reach an agent: its address, tokens and TLS from flags and the environment.
//!
//! Variables are Consul's: `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_TOKEN`, `CONSUL_HTTP_TOKEN_FILE`,
//! `CONSUL_HTTP_AUTH`, and those of TLS: `CONSUL_HTTP_SSL`, `CONSUL_HTTP_SSL_VERIFY`,
//! `CONSUL_CACERT`, `CONSUL_CAPATH`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`,
//! `CONSUL_TLS_SERVER_NAME`. One connection serves all requests of a command; each has a deadline.
//! Errors read as those of Consul's Go client, which scripts know.

mod target;

use std::{collections::BTreeMap, fmt, io::Write, time::Duration};

use anyhow::{Context, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use certs::https;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming, header};
use serde::de::DeserializeOwned;

pub use self::target::plain;
use self::target::{Sender, Setting, Target};
use super::{
    Api,
    flags::{Flag, Line},
};

/// Longest wait for an answer: that of the longest blocking query.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Largest answer that is read: all the keys of a large store, exported.
const ANSWER_LEN_MAX: usize = 1 << 30;
/// Where an agent is, unless said otherwise.
const DEFAULT_ADDR: &str = "127.0.0.1:8500";

const AGENT_FLAGS: &[Flag] = &[
    Flag::value(
        "http-addr",
        "address",
        "Address of the agent: host:port, http://host:port, https://host:port or unix:///path. CONSUL_HTTP_ADDR does the same. The default is http://127.0.0.1:8500.",
    ),
    Flag::value("token", "value", "Token to send. CONSUL_HTTP_TOKEN does the same."),
    Flag::value(
        "token-file",
        "path",
        "File with the token to send. CONSUL_HTTP_TOKEN_FILE does the same.",
    ),
    Flag::value(
        "ca-file",
        "path",
        "CA file for https://. CONSUL_CACERT does the same. The default are the CAs of the system.",
    ),
    Flag::value(
        "ca-path",
        "path",
        "Directory of CA files for https://. CONSUL_CAPATH does the same.",
    ),
    Flag::value(
        "client-cert",
        "path",
        "Client certificate for https://. CONSUL_CLIENT_CERT does the same.",
    ),
    Flag::value(
        "client-key",
        "path",
        "Key of the client certificate. CONSUL_CLIENT_KEY does the same.",
    ),
    Flag::value(
        "tls-server-name",
        "name",
        "Name to expect in the agent's certificate. CONSUL_TLS_SERVER_NAME does the same.",
    ),
];

const DATACENTER_FLAGS: &[Flag] = &[
    Flag::value("datacenter", "name", "Datacenter to ask. The default is the agent's own."),
    Flag::bool(
        "stale",
        "Let any server answer, not only the leader: faster, but maybe out of date.",
    ),
    Flag::value(
        "namespace",
        "name",
        "Accepted and ignored: namespaces belong to Consul Enterprise.",
    ),
    Flag::value(
        "partition",
        "name",
        "Accepted and ignored: partitions belong to Consul Enterprise.",
    ),
];

/// Returns the flags that commands of a kind share.
pub fn flags(api: Api) -> Vec<Flag> {
    match api {
        Api::None => Vec::new(),
        Api::Agent => AGENT_FLAGS.to_vec(),
        Api::Datacenter => [AGENT_FLAGS, DATACENTER_FLAGS].concat(),
    }
}

/// A client of one agent, for commands that do one thing after the other.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    target: Target,
    headers: HeaderMap,
    query: Vec<(&'static str, String)>,
    sender: Option<Sender>,
}

/// What an agent answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An answer that comes bit by bit.
pub struct Opened {
    /// Held, so that the connection stays.
    _sender: Sender,
    answer: Response<Incoming>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The agent ended it, or is gone.
    Far,
    /// Ctrl-C.
    Interrupted,
}

impl Answer {
    /// Returns the body of an answer that is no error.
    pub fn ok(self) -> anyhow::Result<Bytes> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let text = String::from_utf8_lossy(&self.body);
        bail!("Unexpected response code: {} ({})", self.status.as_u16(), text.trim_end())
    }

    /// Reads the body of an answer that is no error as JSON.
    pub fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.ok()?).context("the agent's answer is not what was asked for")
    }
}

impl Client {
    /// Makes a client from a command's flags and the environment; connects at the first request.
    pub fn new(line: &Line, env: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let setting = |flag: &str, variable: &str| {
            let given = line.value(flag).or_else(|| env.get(variable).map(String::as_str));
            given.filter(|text| !text.is_empty())
        };
        let address = setting("http-addr", "CONSUL_HTTP_ADDR").unwrap_or(DEFAULT_ADDR);
        let target = Target::new(address, &setting)?;
        let mut headers = HeaderMap::new();
        let host = target.host();
        headers
            .insert(header::HOST, host.parse().with_context(|| format!("bad address {host:?}"))?);
        if let Some(token) = token(&setting)? {
            let value = token.parse().context("the token holds a character that no header can")?;
            headers.insert("x-consul-token", value);
        }
        if let Some(auth) = setting("", "CONSUL_HTTP_AUTH") {
            headers
                .insert(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(auth)).parse()?);
        }
        let mut query = Vec::new();
        if let Some(dc) = line.value("datacenter").filter(|dc| !dc.is_empty()) {
            query.push(("dc", dc.to_owned()));
        }
        if line.is_set("stale") {
            query.push(("stale", String::new()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, target, headers, query, sender: None })
    }

    /// Asks for a path; `query` is added to what the flags say.
    pub fn get(&mut self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, query, Bytes::new())
    }

    /// Puts a body to a path.
    pub fn put(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, query, body.into())
    }

    /// Deletes what a path names.
    pub fn delete(&mut self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, query, Bytes::new())
    }

    /// Asks for a path; `None` when somebody interrupts before there is an answer.
    pub fn get_unless_interrupted(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Option<Answer>> {
        let (uri, request) = self.request(&Method::GET, path, query, Bytes::new())?;
        let Self { runtime, target, sender, .. } = self;
        let exchange = async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => Ok(None),
                answer = tokio::time::timeout(ANSWER_WITHIN, exchange(target, sender, request)) => {
                    answer.unwrap_or_else(|_| Err(late())).map(Some)
                }
            }
        };
        runtime.block_on(exchange).map_err(|error| failed(&Method::GET, target, &uri, &error))
    }

    /// Waits, unless somebody interrupts.
    pub fn pause(&mut self, pause: Duration) -> End {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => End::Interrupted,
                () = tokio::time::sleep(pause) => End::Far,
            }
        })
    }

    /// Asks for a path whose answer is read by [`Client::follow`].
    pub fn open(&mut self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Opened> {
        let (uri, request) = self.request(&Method::GET, path, query, Bytes::new())?;
        let Self { runtime, target, sender, .. } = self;
        let opened = runtime.block_on(async {
            let answer = tokio::time::timeout(ANSWER_WITHIN, head(target, sender, request));
            let (sender, answer) = answer.await.unwrap_or_else(|_| Err(late()))?;
            if answer.status().is_success() {
                return Ok(Ok(Opened { _sender: sender, answer }));
            }
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LEN_MAX).collect().await.map_err(broken)?;
            Ok(Err(Answer { status: head.status, headers: head.headers, body: body.to_bytes() }))
        });
        match opened.map_err(|error| failed(&Method::GET, target, &uri, &error))? {
            Ok(opened) => Ok(opened),
            Err(answer) => match answer.ok() {
                Err(error) => Err(error),
                Ok(_) => bail!("the agent's answer is not what was asked for"),
            },
        }
    }

    /// Writes what comes as it comes, until it ends or somebody interrupts.
    pub fn follow(&mut self, opened: Opened, out: &mut dyn Write) -> anyhow::Result<End> {
        let mut body = opened.answer.into_body();
        self.runtime.block_on(async {
            let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
            loop {
                let frame = tokio::select! {
                    biased;
                    _ = &mut interrupted => return Ok(End::Interrupted),
                    frame = body.frame() => frame,
                };
                let Some(Ok(frame)) = frame else { return Ok(End::Far) };
                if let Ok(bytes) = frame.into_data() {
                    out.write_all(&bytes)?;
                    out.flush()?;
                }
            }
        })
    }

    fn send(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let (uri, request) = self.request(&method, path, query, body)?;
        let Self { runtime, target, sender, .. } = self;
        let exchange = async {
            tokio::time::timeout(ANSWER_WITHIN, exchange(target, sender, request))
                .await
                .unwrap_or_else(|_| Err(late()))
        };
        runtime.block_on(exchange).map_err(|error| failed(&method, target, &uri, &error))
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<(String, Request<Full<Bytes>>)> {
        let own = self.query.iter().map(|(name, value)| (*name, value.as_str()));
        let pairs: Vec<String> = own.chain(query.iter().copied()).map(pair).collect();
        let mut uri = escaped(path);
        if !pairs.is_empty() {
            uri = format!("{uri}?{}", pairs.join("&"));
        }
        let mut request = Request::builder().method(method).uri(&uri).body(Full::new(body))?;
        *request.headers_mut() = self.headers.clone();
        Ok((uri, request))
    }
}

fn late() -> anyhow::Error {
    anyhow!("no answer within {ANSWER_WITHIN:?}")
}

fn broken(error: impl fmt::Display) -> anyhow::Error {
    anyhow!("the answer broke off: {error}")
}

fn failed(method: &Method, target: &Target, uri: &str, error: &anyhow::Error) -> anyhow::Error {
    let title = title(method);
    match https::refusal(error.as_ref()) {
        Some(refusal) => anyhow!("{title} \"{target}{uri}\": tls: {refusal}"),
        None => anyhow!("{title} \"{target}{uri}\": {error:#}"),
    }
}

/// Finds the token; a file counts more than a value, as in Consul.
fn token(setting: Setting<'_>) -> anyhow::Result<Option<String>> {
    if let Some(path) = setting("token-file", "CONSUL_HTTP_TOKEN_FILE") {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("Error loading token file {path}"))?;
        return Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()));
    }
    Ok(setting("token", "CONSUL_HTTP_TOKEN").map(str::to_owned))
}

async fn exchange(
    target: &Target,
    sender: &mut Option<Sender>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Answer> {
    let (open, answer) = head(target, sender, request).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_LEN_MAX).collect().await.map_err(broken)?;
    *sender = Some(open);
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

/// Sends a request; returns its answer's head, and the connection that the rest comes by.
async fn head(
    target: &Target,
    sender: &mut Option<Sender>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(Sender, Response<Incoming>)> {
    let mut open = match sender.take().filter(|sender| !sender.is_closed()) {
        Some(open) => open,
        None => tokio::time::timeout(CONNECT_WITHIN, target.connect())
            .await
            .unwrap_or_else(|_| Err(anyhow!("no connection within {CONNECT_WITHIN:?}")))?,
    };
    open.ready().await?;
    let answer = open.send_request(request).await?;
    Ok((open, answer))
}

fn title(method: &Method) -> &'static str {
    match *method {
        Method::GET => "Get",
        Method::PUT => "Put",
        _ => "Delete",
    }
}

fn pair((name, value): (&str, &str)) -> String {
    match value {
        "" => name.to_owned(),
        value => format!("{name}={}", escaped(value).replace('/', "%2F")),
    }
}

/// Escapes what can't stand in a path; slashes stay.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                text.push(byte as char);
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_counts_more_than_a_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let both = |flag: &str, _: &str| match flag {
            "token-file" => Some(path),
            _ => Some("from-flag"),
        };
        assert_eq!(token(&both).unwrap().as_deref(), Some("from-file"));
        let one = |flag: &str, _: &str| (flag == "token").then_some("from-flag");
        assert_eq!(token(&one).unwrap().as_deref(), Some("from-flag"));
    }

    #[test]
    fn keys_are_escaped_and_slashes_stay() {
        assert_eq!(escaped("/v1/kv/a b/ü?%"), "/v1/kv/a%20b/%C3%BC%3F%25");
        assert_eq!(pair(("separator", "/")), "separator=%2F");
        assert_eq!(pair(("keys", "")), "keys");
    }
}
