//! Responses: bodies, Consul's headers, compression.

use std::io::Write;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use topology::Datacenter;

use super::{context::Context, context::TRACE, error::Failure, json};
use crate::ask::{Answer, Consistency, Meta, Outcome, TraceId};

/// Smaller bodies fit in one packet anyway.
const GZIP_LEN_MIN: usize = 1024;

/// How much is compressed before other tasks get their turn.
const GZIP_TURN_LEN: usize = 64 * 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const FALSE: HeaderValue = HeaderValue::from_static("false");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");
const EFFECTIVE: HeaderName = HeaderName::from_static("x-consul-effective-consistency");
const SOURCE: HeaderName = HeaderName::from_static("x-causeway-source");
const MIRROR: HeaderValue = HeaderValue::from_static("mirror");
const PATH: HeaderName = HeaderName::from_static("x-causeway-path");
const SERVED: HeaderName = HeaderName::from_static("x-causeway-served-dc");

/// What a handler answers with.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Content,
}

/// A body, by what may be done with it.
#[derive(Debug)]
enum Content {
    /// Nothing, without a content type.
    Empty,
    /// Compact JSON; `?pretty` indents it.
    Json(Bytes),
    /// Anything else; its content type is among the headers.
    Bytes(Bytes),
    /// What is not there yet.
    Stream(Body),
}

/// Whether an answer has an `X-Consul-Index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexed {
    Yes,
    No,
}

impl Reply {
    /// 200 with nothing.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Content::Empty }
    }

    /// 200 with compact JSON.
    pub(super) fn json(body: impl Into<Bytes>) -> Self {
        Self { body: Content::Json(body.into()), ..Self::empty() }
    }

    /// 200 with a value as JSON.
    pub(super) fn value(value: &serde_json::Value) -> Self {
        Self::json(value.to_string())
    }

    /// 200 with plain text of a content type.
    pub(super) fn text(content_type: &'static str, body: String) -> Self {
        let mut reply = Self { body: Content::Bytes(body.into()), ..Self::empty() };
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply
    }

    /// 200 with what comes as it comes.
    pub(super) fn stream(body: Body) -> Self {
        Self { body: Content::Stream(body), ..Self::empty() }
    }

    /// The JSON of a server's answer with the headers of its freshness and of its way. What is absent is a 404
    /// with these headers.
    pub(super) fn answer(answer: Answer, indexed: Indexed) -> Self {
        let (status, body) = match answer.outcome {
            Outcome::Found => (StatusCode::OK, Content::Json(answer.body)),
            Outcome::Absent => (StatusCode::NOT_FOUND, Content::Empty),
            Outcome::Conflict => (StatusCode::CONFLICT, Content::Json(answer.body)),
        };
        Self { status, headers: freshness(&answer.meta, indexed), body }
    }

    /// The bytes of a key's value, so that no browser takes them for a page.
    pub(super) fn raw(answer: Answer) -> Self {
        let mut reply = Self::answer(answer, Indexed::Yes);
        if let Content::Json(bytes) = reply.body {
            let headers = &mut reply.headers;
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            let policy = HeaderValue::from_static("sandbox");
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            reply.body = Content::Bytes(bytes);
        }
        reply
    }

    /// Changes the status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Says in a sentence what there is not.
    pub(super) fn with_sentence(mut self, sentence: String) -> Self {
        self.headers.insert(header::CONTENT_TYPE, TEXT);
        Self { body: Content::Bytes(sentence.into()), ..self }
    }

    /// Adds a header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, TEXT);
        if let Some(allow) = failure.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if failure.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let body = match failure.text {
            std::borrow::Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            std::borrow::Cow::Owned(text) => Bytes::from(text),
        };
        Self { status: failure.status, headers, body: Content::Bytes(body) }
    }
}

/// What of the request its response depends on.
pub(super) struct Wish {
    pretty: bool,
    gzip: bool,
    /// Whether the client traces, and wants the id back.
    traced: bool,
    trace: TraceId,
}

impl Wish {
    pub(super) fn of(context: &Context) -> Self {
        let headers = &context.parts.headers;
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let traced = headers.contains_key(TRACE) || headers.contains_key("traceparent");
        Self {
            pretty: context.query().has("pretty"),
            gzip: accepted.is_some_and(takes_gzip),
            traced,
            trace: context.trace,
        }
    }

    /// Makes the response.
    pub(super) async fn respond(self, reply: Reply) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        *headers = reply.headers;
        let body = match reply.body {
            Content::Empty => Bytes::new(),
            Content::Stream(body) => {
                *response.body_mut() = body;
                return response;
            }
            Content::Json(body) => {
                headers.insert(header::CONTENT_TYPE, JSON);
                if self.pretty { json::pretty(&body) } else { body }
            }
            Content::Bytes(body) => body,
        };
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // A failure shows the id that the logs have, also when nobody asked for it.
        if (self.traced || reply.status.is_server_error())
            && let Ok(value) = HeaderValue::try_from(self.trace.to_string())
        {
            headers.insert(HeaderName::from_static(TRACE), value);
        }
        let body = if self.gzip && body.len() > GZIP_LEN_MIN {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            gzip(&body).await
        } else {
            body
        };
        *response.body_mut() = Body::from(body);
        response
    }
}

/// Lists datacenters. Their names are letters, digits, dashes and underscores.
fn names(dcs: &[Datacenter]) -> Option<HeaderValue> {
    match dcs {
        [] => None,
        [only] => HeaderValue::from_str(only.as_str()).ok(),
        several => {
            let names: Vec<&str> = several.iter().map(Datacenter::as_str).collect();
            HeaderValue::try_from(names.join(", ")).ok()
        }
    }
}

fn freshness(meta: &Meta, indexed: Indexed) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if meta.known_leader.is_some() {
        // Room for these and for what every response has, so that the map does not grow twice.
        headers.reserve(10);
    }
    for (header, dcs) in [(PATH, &meta.path), (SERVED, &meta.served)] {
        headers.extend(names(dcs).map(|names| (header, names)));
    }
    if meta.mirrored {
        headers.insert(SOURCE, MIRROR);
    }
    let Some(known_leader) = meta.known_leader else { return headers };
    if indexed == Indexed::Yes {
        // Clients pass the index back, and 0 would not block.
        headers.insert(INDEX, HeaderValue::from(meta.index.max(1)));
    }
    headers.insert(KNOWN_LEADER, if known_leader { TRUE } else { FALSE });
    let millis = u64::try_from(meta.last_contact.as_millis()).unwrap_or(u64::MAX);
    headers.insert(LAST_CONTACT, HeaderValue::from(millis));
    let effective = match meta.consistency {
        Consistency::Default => "leader",
        Consistency::Consistent => "consistent",
        Consistency::Stale => "stale",
    };
    headers.insert(EFFECTIVE, HeaderValue::from_static(effective));
    headers
}

/// Tells whether `gzip` or `*` is among the accepted encodings with a weight above 0.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f32>().ok());
        (name.eq_ignore_ascii_case("gzip") || name == "*") && weight.unwrap_or(1.0) > 0.0
    })
}

async fn gzip(body: &Bytes) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    for part in body.chunks(GZIP_TURN_LEN) {
        let written = encoder.write_all(part);
        assert!(written.is_ok(), "a vector takes all bytes");
        if part.len() == GZIP_TURN_LEN {
            tokio::task::yield_now().await;
        }
    }
    let finished = encoder.finish();
    assert!(finished.is_ok(), "a vector takes all bytes");
    finished.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::takes_gzip;

    #[test]
    fn gzip_is_used_only_when_accepted() {
        for accepted in ["gzip", "deflate, gzip;q=1.0", "GZIP", "*", "br;q=1, gzip; q=0.1"] {
            assert!(takes_gzip(accepted), "{accepted}");
        }
        for refused in ["", "deflate", "gzip;q=0", "identity, *;q=0", "gzipped"] {
            assert!(!takes_gzip(refused), "{refused}");
        }
    }
}
