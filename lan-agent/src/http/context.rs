//! A request as handlers see it, and the parameters that all endpoints share.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Uri, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::Instant;
use topology::Datacenter;
use uuid::Uuid;

use super::{
    error::Failure,
    lookup::Cache,
    rules::{Bounds, Peer, Rules},
    union::{Many, parse_seen},
    wait::parse_wait,
};
use crate::{
    agent::Agent,
    ask::{Answer, Ask, Blocking, Consistency, Question, TraceId},
    cache::{Key, rules::Control},
    caller::Promise,
    catalog::Lookup,
    lookup::{Inquiry, Served},
};

/// Carries the id that follows a request everywhere, both ways.
pub(super) const TRACE: &str = "x-causeway-trace";

/// Carries such an id in the form of W3C's Trace Context.
const PARENT: &str = "traceparent";

/// Carries the token of who asks.
const TOKEN: &str = "x-consul-token";

/// How long a client may take to send a body, which is small.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a blocking query takes beyond its wait: the jitter of a sixteenth, and this for the way.
const BLOCKING_SLACK: Duration = Duration::from_secs(10);

/// What all requests to an interface have in common.
pub(super) struct Interface {
    pub(super) agent: Arc<Agent>,
    pub(super) rules: Rules,
    pub(super) bounds: Bounds,
}

/// A request on its way to its handler.
pub(super) struct Context {
    pub(super) agent: Arc<Agent>,
    pub(super) bounds: Bounds,
    pub(super) parts: Parts,
    pub(super) trace: TraceId,
    body: Body,
}

/// What comes of a question.
type Asking = Promise<Result<Answer, Failure>>;

/// What comes of a lookup.
type LookingUp = Promise<Result<Served, Failure>>;

/// What any question may be asked with.
#[derive(Debug, PartialEq, Eq)]
struct Manner {
    dc: Option<Datacenter>,
    many: Option<Many>,
    consistency: Consistency,
    max_stale: Option<Duration>,
    blocking: Option<Blocking>,
    cached: Option<Control>,
    token: String,
}

impl Context {
    pub(super) fn new(interface: &Interface, request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let agent = interface.agent.clone();
        let trace = trace_of(&parts.headers).unwrap_or_else(|| agent.new_trace());
        Self { agent, bounds: interface.bounds, parts, trace, body }
    }

    /// Returns who sent the request.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.parts.extensions.get()
    }

    /// Returns the query's parameters.
    pub(super) fn query(&self) -> Query<'_> {
        Query(self.parts.uri.query().unwrap_or_default())
    }

    /// Returns what follows a prefix in the path, percent-decoded.
    pub(super) fn path_after(&self, prefix: &str) -> Result<String, Failure> {
        let rest = self.parts.uri.path().strip_prefix(prefix).unwrap_or_default();
        match decoded_path(rest) {
            Some(text) => Ok(text.into_owned()),
            None => Err(Failure::bad("The path is not UTF-8")),
        }
    }

    /// Asks in the manner that the parameters and headers say, with blocking where they want it.
    pub(super) fn read(&self, question: Question) -> Asking {
        self.ask(question, |manner| manner)
    }

    /// Asks in that manner, but in the own datacenter: `dc` means something else here.
    pub(super) fn read_here(&self, question: Question) -> Asking {
        self.ask(question, |manner| Manner { dc: None, ..manner })
    }

    /// Looks something up in the catalog in the manner that the parameters and headers say.
    pub(super) fn look_up(&self, lookup: Lookup, cache: Cache) -> LookingUp {
        let manner = Manner::parse(self.query(), &self.parts.headers, &self.bounds);
        let agent = self.agent.clone();
        let trace = self.trace;
        Box::pin(async move {
            let inquiry = manner?.for_one()?.inquiry(&agent, trace, lookup, cache);
            Ok(agent.look_up(inquiry).await?)
        })
    }

    /// Looks something up in the catalogs of the datacenters that the parameters name.
    pub(super) fn unite(&self, lookup: Lookup) -> Asking {
        let manner = Manner::parse(self.query(), &self.parts.headers, &self.bounds);
        let agent = self.agent.clone();
        let trace = self.trace;
        Box::pin(async move {
            let mut manner = manner?;
            let many = manner.many.take().unwrap_or_default();
            let question = many.question(lookup, agent.config.translate_wan);
            Ok(agent.ask(manner.ask(&agent, trace, question)).await?)
        })
    }

    /// Asks without blocking, whatever the parameters say.
    pub(super) fn ask_now(&self, question: Question) -> Asking {
        self.ask(question, |manner| Manner { blocking: None, ..manner })
    }

    /// Asks without blocking in a datacenter, or in the one that the parameters say.
    pub(super) fn ask_in(&self, dc: Option<Datacenter>, question: Question) -> Asking {
        self.ask(question, |manner| Manner { blocking: None, dc: dc.or(manner.dc), ..manner })
    }

    /// Reads the body, or refuses one over `len_max` bytes; `setting` says where the bound is set.
    pub(super) async fn take_body(
        &mut self,
        len_max: usize,
        setting: &str,
    ) -> Result<Bytes, Failure> {
        let declared = self.parts.headers.get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|len| len > len_max as u64) {
            return Err(Failure::body_too_large(declared, len_max, setting));
        }
        let body = std::mem::take(&mut self.body);
        match tokio::time::timeout(BODY_TIMEOUT, collect(body, len_max)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(Failure::body_too_large(None, len_max, setting)),
            Ok(Err(error)) => Err(Failure::bad(format!("Failed to read the body: {error}"))),
            Err(_) => {
                let status = axum::http::StatusCode::REQUEST_TIMEOUT;
                let late = Failure::new(status, "The body did not arrive in time");
                Err(Failure { close: true, ..late })
            }
        }
    }

    /// The future does not borrow the context, whose body can't be shared between threads.
    fn ask(&self, question: Question, change: impl FnOnce(Manner) -> Manner) -> Asking {
        let manner = Manner::parse(self.query(), &self.parts.headers, &self.bounds).map(change);
        let agent = self.agent.clone();
        let trace = self.trace;
        Box::pin(async move {
            let ask = manner?.for_one()?.ask(&agent, trace, question);
            Ok(agent.ask(ask).await?)
        })
    }
}

impl Manner {
    fn parse(query: Query<'_>, headers: &HeaderMap, bounds: &Bounds) -> Result<Self, Failure> {
        let mut index = 0;
        let mut wait = Duration::ZERO;
        let mut max_stale = None;
        let mut seen = None;
        let (mut dc, mut many) = (None, None);
        let mut token = None;
        let (mut stale, mut consistent, mut cached) = (false, false, false);
        for (name, value) in query.pairs() {
            match name.as_ref() {
                "index" if !value.is_empty() => match parse_seen(&value) {
                    Some(vector) => seen = Some(vector),
                    None => index = value.parse().map_err(|_| Failure::bad("Invalid index"))?,
                },
                "wait" if !value.is_empty() => {
                    wait = parse_wait(&value).ok_or_else(|| Failure::bad("Invalid wait time"))?;
                }
                "dc" if Many::is_meant(&value) => many = Some(Many::parse(&value)?),
                "dc" if !value.is_empty() => {
                    let name = Datacenter::new(value.as_ref());
                    dc = Some(name.map_err(|error| Failure::bad(error.to_string()))?);
                }
                "token" if !value.is_empty() => token = Some(value.into_owned()),
                "stale" => stale = true,
                "max_stale" if !value.is_empty() => {
                    let text = || Failure::bad(format!("Invalid max_stale value {value:?}"));
                    max_stale = Some(parse_wait(&value).ok_or_else(text)?);
                }
                "consistent" => consistent = true,
                "cached" => cached = true,
                _ => {}
            }
        }
        let stale = stale || max_stale.is_some_and(|max| !max.is_zero());
        let consistency = match (stale, consistent) {
            (true, true) => {
                let text = "Cannot specify ?stale with ?consistent, conflicting semantics.";
                return Err(Failure::bad(text));
            }
            (false, true) if cached => {
                let text = "Cannot specify ?cached with ?consistent, conflicting semantics.";
                return Err(Failure::bad(text));
            }
            (true, false) => Consistency::Stale,
            (false, true) => Consistency::Consistent,
            (false, false) => Consistency::Default,
        };
        if let Some(seen) = seen {
            let many = many.as_mut().ok_or_else(|| Failure::bad("Invalid index"))?;
            // There is something to wait for; what it is, the vector says.
            (many.seen, index) = (seen, 1);
        }
        let blocking = (index > 0).then(|| Blocking { index, wait: bounds.wait(wait) });
        let token = token.or_else(|| header_token(headers)).unwrap_or_default();
        let cached = if cached { Some(control(headers)?) } else { None };
        Ok(Self { dc, many, consistency, max_stale, blocking, cached, token })
    }

    /// Refuses to ask several datacenters at once.
    fn for_one(self) -> Result<Self, Failure> {
        match self.many {
            None => Ok(self),
            Some(_) => Err(Failure::bad(
                "Several datacenters can be asked at once for lists of /v1/catalog and /v1/health only: name one in ?dc",
            )),
        }
    }

    fn deadline(&self, agent: &Agent) -> Instant {
        let time = match self.blocking {
            Some(Blocking { wait, .. }) => wait + wait / 16 + BLOCKING_SLACK,
            None => agent.config.ask_timeout,
        };
        Instant::now() + time
    }

    fn inquiry(self, agent: &Agent, trace: TraceId, lookup: Lookup, cache: Cache) -> Inquiry {
        let deadline = self.deadline(agent);
        let dc = self.dc.filter(|dc| *dc != agent.config.me.dc);
        Inquiry {
            key: Key { dc, token: self.token, lookup },
            consistency: self.consistency,
            max_stale: self.max_stale,
            blocking: self.blocking,
            cached: self.cached.filter(|_| cache == Cache::IfAsked),
            trace,
            deadline,
        }
    }

    fn ask(self, agent: &Agent, trace: TraceId, question: Question) -> Ask {
        let deadline = self.deadline(agent);
        Ask {
            dc: self.dc.filter(|dc| *dc != agent.config.me.dc),
            consistency: self.consistency,
            max_stale: self.max_stale,
            blocking: self.blocking,
            token: self.token,
            trace,
            request: agent.new_request(),
            deadline,
            question,
        }
    }
}

/// Reads a target and headers, one on each line, as requests are read.
pub(super) fn understands(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return false };
    let mut headers = HeaderMap::new();
    for (name, line) in [header::CACHE_CONTROL.as_str(), PARENT, TOKEN].into_iter().zip(lines) {
        let Ok(value) = HeaderValue::from_bytes(line) else { return false };
        headers.insert(name, value);
    }
    let query = Query(uri.query().unwrap_or_default());
    let manner = Manner::parse(query, &headers, &Bounds::default());
    let path = decoded_path(uri.path());
    manner.is_ok() && path.is_some() && trace_of(&headers).is_some()
}

/// The parameters after a path's question mark, decoded as they are read.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Returns the names and values in order; those that are not UTF-8 are left out.
    pub(super) fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name, Plus::Space)?, decoded(value, Plus::Space)?))
        })
    }

    /// Returns the first value of a name.
    pub(super) fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Tells whether a name is there, with or without a value.
    pub(super) fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// What a plus sign stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    /// Itself, in paths.
    Literal,
    /// A space, in queries.
    Space,
}

/// Undoes the percent-encoding of a path; `None` when what comes out is not UTF-8.
pub(super) fn decoded_path(path: &str) -> Option<Cow<'_, str>> {
    decoded(path, Plus::Literal)
}

/// Undoes percent-encoding; `None` when what comes out is not UTF-8.
fn decoded(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    let encoded = |byte: u8| byte == b'%' || (byte == b'+' && plus == Plus::Space);
    if !text.bytes().any(encoded) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escape = match tail {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                out.push(high * 16 + low);
                rest = &tail[2..];
            }
            None if byte == b'+' && plus == Plus::Space => out.push(b' '),
            None => out.push(byte),
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

async fn collect(mut body: Body, len_max: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let so_far = first.as_ref().map_or(0, Bytes::len) + all.len();
        if so_far + data.len() > len_max {
            return Ok(None);
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            before => {
                all.extend_from_slice(&before.unwrap_or_default());
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(Some(first.unwrap_or_else(|| all.freeze())))
}

/// Reads what a client wants of the cache.
fn control(headers: &HeaderMap) -> Result<Control, Failure> {
    let header = headers.get(header::CACHE_CONTROL).map_or(Some(""), |value| value.to_str().ok());
    let control = header.and_then(Control::parse);
    control.ok_or_else(|| Failure::bad("Invalid Cache-Control header."))
}

fn header_token(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(token) = text(TOKEN).filter(|token| !token.is_empty()) {
        return Some(token.to_owned());
    }
    let (scheme, token) = text("authorization")?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Reads the trace id that a client sends: ours, or the one of W3C's `traceparent`.
fn trace_of(headers: &HeaderMap) -> Option<TraceId> {
    if let Some(own) = headers.get(TRACE) {
        return Uuid::try_parse(own.to_str().ok()?).ok().map(TraceId);
    }
    let parent = headers.get(PARENT)?.to_str().ok()?;
    let id = parent.split('-').nth(1).filter(|id| id.len() == 32)?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id != 0).map(|id| TraceId(Uuid::from_u128(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::rules::WAIT_DEFAULT;

    fn manner(query: &str) -> Result<Manner, Failure> {
        Manner::parse(Query(query), &HeaderMap::new(), &Bounds::default())
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Query("a=1%202&b=x+y&&flag&a=3&bad=%ff&half=%2");
        assert_eq!(query.get("a").as_deref(), Some("1 2"));
        assert_eq!(query.get("b").as_deref(), Some("x y"));
        assert!(query.has("flag"));
        assert!(!query.has("bad"));
        assert_eq!(query.get("half").as_deref(), Some("%2"));
    }

    #[test]
    fn index_zero_does_not_block() {
        assert_eq!(manner("index=0&wait=5s").unwrap().blocking, None);
        let wait = Duration::from_secs(5);
        let blocking = manner("index=7&wait=5s").unwrap().blocking;
        assert_eq!(blocking, Some(Blocking { index: 7, wait }));
        let blocking = manner("index=7").unwrap().blocking;
        assert_eq!(blocking, Some(Blocking { index: 7, wait: WAIT_DEFAULT }));
    }

    #[test]
    fn waits_are_held_to_what_the_operator_wants() {
        let [wait_default, wait_max] = [7, 20].map(Duration::from_secs);
        let bounds = Bounds { wait_default, wait_max, ..Bounds::default() };
        for (query, seconds) in [("index=1", 7), ("index=1&wait=9s", 9), ("index=1&wait=1m", 20)] {
            let manner = Manner::parse(Query(query), &HeaderMap::new(), &bounds).unwrap();
            let wait = Duration::from_secs(seconds);
            assert_eq!(manner.blocking, Some(Blocking { index: 1, wait }), "{query}");
        }
    }

    #[test]
    fn wrong_parameters_are_refused_in_the_words_of_consul() {
        for (query, text) in [
            ("index=x", "Invalid index"),
            ("index=-1", "Invalid index"),
            ("index=99999999999999999999999", "Invalid index"),
            ("wait=5", "Invalid wait time"),
            ("stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
        ] {
            assert_eq!(manner(query).unwrap_err(), Failure::bad(text), "{query}");
        }
        assert!(manner("dc=a/b").unwrap_err().text.contains("'/'"));
    }

    #[test]
    fn tokens_come_from_the_parameter_then_the_header_then_bearer() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer three".parse().unwrap());
        let bounds = Bounds::default();
        let token = |query, headers: &HeaderMap| {
            Manner::parse(Query(query), headers, &bounds).unwrap().token
        };
        assert_eq!(token("", &headers), "three");
        headers.insert("x-consul-token", "two".parse().unwrap());
        assert_eq!(token("", &headers), "two");
        assert_eq!(token("token=one", &headers), "one");
    }

    #[test]
    fn traces_are_read_from_both_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(trace_of(&headers), None);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", parent.parse().unwrap());
        let id = Uuid::from_u128(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(trace_of(&headers), Some(TraceId(id)));
        headers.insert(TRACE, "nonsense".parse().unwrap());
        assert_eq!(trace_of(&headers), None);
    }
}
