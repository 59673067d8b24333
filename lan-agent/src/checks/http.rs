//! Finds out by an HTTP request: 2xx is passing, 429 warning, everything else critical.
//!
//! Each run makes a connection of its own, without a proxy, and follows redirections unless told
//! not to, as browsers do. The end of the body is the check's output, after a line like Consul's
//! that says what was asked and answered. Whatever the body does, the status decides: one that
//! does not end in time, or is longer than anybody would read, is cut off.

mod url;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use certs::https::Protocol;
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri, Version,
    ext::ReasonPhrase,
    header::{self, HeaderName, HeaderValue},
};
use tokio::time::{Instant, timeout_at};

use self::url::{Scheme, Url};
use super::{
    Finding,
    exchange::{Reply, over_http1, over_http2},
    output::Tail,
    prober::Tools,
    tls::Offer,
};
use crate::{
    catalog::{Health, Text},
    definition::Tls,
    duration,
};

/// Who asks, unless the check says something else; as Consul, since servers know it.
pub(super) const USER_AGENT: &str = "Consul Health Check";

/// What is wanted, unless the check says something else; as Consul.
const ACCEPT: &str = "text/plain, text/*, */*";

/// Most redirections that are followed.
const REDIRECTIONS_MAX: usize = 10;

/// Most bytes of a body that are read to find its end.
const BODY_READ_MAX: u64 = 4 << 20;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Http {
    /// Where, `http://` or `https://`.
    pub(super) url: Text,
    /// Empty for GET.
    pub(super) method: Text,
    /// The values of each header field; `Host` is the server's name.
    pub(super) header: BTreeMap<Text, Vec<Text>>,
    /// What to send.
    pub(super) body: Text,
    /// What to do when the server sends elsewhere.
    pub(super) redirects: Redirects,
    /// How to speak TLS.
    pub(super) tls: Tls,
}

/// What to do when a server sends elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// Go there.
    Follow,
    /// The answer counts as it is, so it is critical (`disable_redirects`).
    Refuse,
}

/// What is asked now; redirections change it.
#[derive(Debug, Clone)]
struct Asked {
    url: Url,
    method: Method,
    header: HeaderMap,
    body: Bytes,
}

/// Asks once.
pub(super) async fn find(
    http: &Http,
    tools: &Tools,
    patience: Duration,
    output_len_max: usize,
) -> Finding {
    let deadline = Instant::now() + patience;
    let method = if http.method.is_empty() { "GET" } else { &http.method };
    let asked = format!("HTTP {method} {}", http.url);
    match timeout_at(deadline, ask(http, method, tools)).await {
        Ok(Ok(mut reply)) => {
            let mut output = Tail::new(output_len_max);
            // The status is there: what happens to the body changes nothing.
            let _ = timeout_at(deadline, read(&mut reply, &mut output)).await;
            let status = reply.head.status;
            let reason = reason(&reply);
            let output = output.text();
            let text = format!("{asked}: {} {reason} Output: {output}", status.as_str());
            Finding { health: health(status), output: text }
        }
        Ok(Err(reason)) => Finding::critical(format!("{asked}: {reason}")),
        Err(_) => {
            Finding::critical(format!("{asked}: no answer within {}", duration::format(patience)))
        }
    }
}

fn health(status: StatusCode) -> Health {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Health::Warning,
        status if status.is_success() => Health::Passing,
        _ => Health::Critical,
    }
}

/// Returns the words after the status, those of the server if it has its own.
fn reason(reply: &Reply) -> String {
    match reply.head.extensions.get::<ReasonPhrase>() {
        Some(own) => String::from_utf8_lossy(own.as_bytes()).into_owned(),
        None => reply.head.status.canonical_reason().unwrap_or_default().to_owned(),
    }
}

async fn read(reply: &mut Reply, output: &mut Tail) {
    while output.seen() < BODY_READ_MAX
        && let Some(Ok(piece)) = reply.piece().await
    {
        output.push(&piece);
    }
}

/// Asks, and asks again where the server sends to.
async fn ask(http: &Http, method: &str, tools: &Tools) -> Result<Reply, String> {
    let mut asked = Asked::new(http, method)?;
    for _ in 0..=REDIRECTIONS_MAX {
        let reply = asked.send(&http.tls, tools).await?;
        let location = match http.redirects {
            Redirects::Follow => location(&reply),
            Redirects::Refuse => None,
        };
        match location {
            None => return Ok(reply),
            Some(location) => asked.redirect(reply.head.status, &location)?,
        }
    }
    Err(format!("it was sent elsewhere {REDIRECTIONS_MAX} times"))
}

/// Returns where a reply sends to.
fn location(reply: &Reply) -> Option<String> {
    let redirection = matches!(reply.head.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = reply.head.headers.get(header::LOCATION).filter(|_| redirection)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

impl Asked {
    fn new(http: &Http, method: &str) -> Result<Self, String> {
        let url = Url::parse(&http.url)?;
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("{method:?} is no method of HTTP"))?;
        let mut header = HeaderMap::new();
        for (name, values) in &http.header {
            let no_field = || format!("{name:?} is no header field, or one of its values is bad");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| no_field())?;
            for value in values {
                let value = HeaderValue::from_str(value).map_err(|_| no_field())?;
                header.append(&name, value);
            }
        }
        if let (Some(user), false) = (&url.user, header.contains_key(header::AUTHORIZATION)) {
            let basic = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(user)));
            header.extend(basic.ok().map(|basic| (header::AUTHORIZATION, basic)));
        }
        let defaults = [(header::USER_AGENT, USER_AGENT), (header::ACCEPT, ACCEPT)];
        for (name, value) in defaults {
            header.entry(name).or_insert(HeaderValue::from_static(value));
        }
        Ok(Self { url, method, header, body: Bytes::copy_from_slice(http.body.as_bytes()) })
    }

    /// Sends it over a connection of its own.
    async fn send(&self, tls: &Tls, tools: &Tools) -> Result<Reply, String> {
        let stream = self.url.target.connect().await.map_err(|error| error.to_string())?;
        if self.url.scheme == Scheme::Http {
            let reply = over_http1(stream, self.request(Version::HTTP_11)?).await;
            return reply.map_err(|error| error.to_string());
        }
        let host = &self.url.target.host;
        let shaken = tools.tls.connect(tls, Offer::Http, host, stream).await;
        let stream = shaken.map_err(|error| error.to_string())?;
        let reply = match stream.protocol() {
            Some(Protocol::Http2) => over_http2(stream, self.request(Version::HTTP_2)?).await,
            Some(Protocol::Http1) | None => {
                over_http1(stream, self.request(Version::HTTP_11)?).await
            }
        };
        reply.map_err(|error| error.to_string())
    }

    fn request(&self, version: Version) -> Result<Request<Bytes>, String> {
        let mut header = self.header.clone();
        let host = match header.remove(header::HOST) {
            Some(host) => host,
            None => HeaderValue::from_str(&self.url.authority)
                .map_err(|_| format!("{:?} is no host", self.url.authority))?,
        };
        let uri = if version == Version::HTTP_2 {
            let authority = host.to_str().map_err(|_| "the Host field is no host".to_owned())?;
            let path = self.url.path.as_str();
            Uri::builder().scheme("https").authority(authority).path_and_query(path).build()
        } else {
            header.insert(header::HOST, host);
            header.insert(header::CONNECTION, HeaderValue::from_static("close"));
            Uri::builder().path_and_query(self.url.path.as_str()).build()
        };
        let uri = uri.map_err(|error| format!("can't ask for {}: {error}", self.url.path))?;
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = header;
        Ok(request)
    }

    /// Asks elsewhere: as browsers do, by GET unless the server wants the same again, and without
    /// secrets on another host.
    fn redirect(&mut self, status: StatusCode, location: &str) -> Result<(), String> {
        let url = self.url.join(location)?;
        let same =
            matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if !same && self.method != Method::HEAD {
            self.method = Method::GET;
            self.body = Bytes::new();
            self.header.remove(header::CONTENT_TYPE);
        }
        if url.target != self.url.target {
            for secret in [header::AUTHORIZATION, header::COOKIE, header::HOST] {
                self.header.remove(secret);
            }
        }
        self.url = url;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
