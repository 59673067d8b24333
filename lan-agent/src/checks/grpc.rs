//! Finds out by gRPC's health protocol: passing when the server says that it, or the service that
//! is named after a slash, is serving, else critical.
//!
//! ```text
//! POST /grpc.health.v1.Health/Check     { 1: service }  ──▶
//!                                       ◀──  { 1: status }, then grpc-status 0
//! ```
//!
//! A message is one byte (not compressed), its length in four, and two or three bytes of
//! protobuf: too little for a library.

use bytes::Bytes;
use hyper::{
    HeaderMap, Request, StatusCode, Version,
    header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT},
};

use super::{
    Finding,
    dial::Target,
    exchange::{Reply, Wire, over_http2},
    http,
    prober::Tools,
    tls::Offer,
};
use crate::{catalog::Text, definition::Tls};

/// Longest answer that is read; one that says a status has 7 bytes.
const ANSWER_LEN_MAX: usize = 4 * 1024;

/// What stands before a message: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grpc {
    /// `host:port`, or `host:port/service`.
    pub(super) target: Text,
    /// How to speak TLS, if at all (`grpc_use_tls`).
    pub(super) tls: Option<Tls>,
}

/// Asks once. The caller has a deadline.
pub(super) async fn find(grpc: &Grpc, tools: &Tools) -> Finding {
    match ask(grpc, tools).await {
        Ok("SERVING") => Finding::passing(format!("gRPC check {}: success", grpc.target)),
        Ok(status) => Finding::critical(format!("gRPC {} serving status: {status}", grpc.target)),
        Err(reason) => Finding::critical(format!("gRPC check {}: {reason}", grpc.target)),
    }
}

async fn ask(grpc: &Grpc, tools: &Tools) -> Result<&'static str, String> {
    let (place, service) = grpc.target.split_once('/').unwrap_or((&grpc.target, ""));
    let target = Target::parse(place).map_err(|error| error.to_string())?;
    let stream = target.connect().await.map_err(|error| error.to_string())?;
    match &grpc.tls {
        None => call(stream, "http", &target, service).await,
        Some(settings) => {
            let shaken = tools.tls.connect(settings, Offer::Http2, &target.host, stream).await;
            let stream = shaken.map_err(|error| error.to_string())?;
            call(stream, "https", &target, service).await
        }
    }
}

async fn call(
    wire: impl Wire,
    scheme: &str,
    target: &Target,
    service: &str,
) -> Result<&'static str, String> {
    let mut request = Request::new(request(service));
    *request.method_mut() = hyper::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("{scheme}://{target}/grpc.health.v1.Health/Check")
        .parse()
        .map_err(|_| format!("{target} is no authority"))?;
    let fields =
        [(CONTENT_TYPE, "application/grpc"), (TE, "trailers"), (USER_AGENT, http::USER_AGENT)];
    let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
    request.headers_mut().extend(fields);
    let mut reply = over_http2(wire, request).await.map_err(|error| error.to_string())?;
    if reply.head.status != StatusCode::OK {
        return Err(format!("the server answered {}: it may not speak gRPC", reply.head.status));
    }
    // A server that has nothing else to say says what is wrong in the head.
    succeeded(&reply.head.headers)?;
    let answer = read(&mut reply).await?;
    let trailers = reply.trailers().await.map_err(|error| error.to_string())?;
    succeeded(&trailers.unwrap_or_default())?;
    status(&answer).ok_or_else(|| "the answer can't be read".to_owned())
}

async fn read(reply: &mut Reply) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    while let Some(piece) = reply.piece().await {
        answer.extend_from_slice(&piece.map_err(|error| error.to_string())?);
        if answer.len() > ANSWER_LEN_MAX {
            return Err("the answer is too long".to_owned());
        }
    }
    Ok(answer)
}

/// Fails with what the server says went wrong.
fn succeeded(fields: &HeaderMap) -> Result<(), String> {
    let text = |name| fields.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status").as_deref() {
        None | Some("0") => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(format!("rpc error: code = {} desc = {message}", code_name(code)))
        }
    }
}

/// Returns a request for the health of a service, or of the server for an empty name.
fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, length-delimited.
        message.push(0x0A);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &len.to_be_bytes(), &message].concat().into()
}

/// Reads the status of an answer; `None` when it is none.
fn status(answer: &[u8]) -> Option<&'static str> {
    let (prefix, mut rest) = answer.split_at_checked(PREFIX_LEN)?;
    let len = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(len).ok()? != rest.len() {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, wire_type) => skip(&mut rest, wire_type)?,
        }
    }
    Some(match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status that nobody knows",
    })
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Passes over a field that nobody here knows.
fn skip(rest: &mut &[u8], wire_type: u64) -> Option<()> {
    let len = match wire_type {
        0 => return take_varint(rest).map(drop),
        1 => 8,
        2 => take_varint(rest)?,
        5 => 4,
        _ => return None,
    };
    take(rest, usize::try_from(len).ok()?).map(drop)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, more) = rest.split_at_checked(len)?;
    *rest = more;
    Some(taken)
}

/// Returns the name of a gRPC status as its libraries print it.
fn code_name(code: &str) -> &str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    code.parse().ok().and_then(|code: usize| NAMES.get(code).copied()).unwrap_or(code)
}

#[cfg(test)]
mod tests;
