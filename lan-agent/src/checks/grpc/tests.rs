//! A server of gRPC made of HTTP/2, and all that can be wrong with one.

use bytes::Bytes;
use certs::https::Callers;
use h2::server;
use hyper::{HeaderMap, Response, http::request::Parts};

use super::*;
use crate::{
    catalog::Health,
    checks::{
        Credentials,
        tests::{
            self, IMPATIENCE, PATIENCE,
            net::{Duplex, Server, Trusted, canned, closed_port, serve},
        },
    },
    definition::{Probe, Tls},
};

/// What a server of gRPC answers: a body, and fields after it.
type Said = (Vec<u8>, Vec<(&'static str, &'static str)>);

fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    [&[0][..], &len.to_be_bytes(), bytes].concat()
}

/// Speaks HTTP/2 as gRPC's libraries do: fields after the body, or in the head without a body.
async fn speak(stream: Box<dyn Duplex>, answer: impl Fn(&Parts, Bytes) -> Said) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let mut asked = Vec::new();
        while let Some(Ok(piece)) = body.data().await {
            asked.extend_from_slice(&piece);
        }
        let (body, fields) = answer(&head, asked.into());
        let fields: HeaderMap = fields
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let mut head = Response::builder().header("content-type", "application/grpc");
        if body.is_empty() {
            head.headers_mut().unwrap().extend(fields);
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        } else {
            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
            stream.send_data(body.into(), false).unwrap();
            stream.send_trailers(fields).unwrap();
        }
    }
}

/// A server whose services `web` and (the empty one) the server itself are serving.
fn health(head: &Parts, asked: Bytes) -> Said {
    assert_eq!(head.uri.path(), "/grpc.health.v1.Health/Check");
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    let ok = vec![("grpc-status", "0")];
    match &asked[..] {
        b"\0\0\0\0\0" | b"\0\0\0\0\x05\x0a\x03web" => (message(&[8, 1]), ok),
        b"\0\0\0\0\x06\x0a\x04down" => (message(&[8, 2]), ok),
        b"\0\0\0\0\x05\x0a\x03new" => (message(&[]), ok),
        b"\0\0\0\0\x05\x0a\x03odd" => (b"\0\0\0".to_vec(), ok),
        b"\0\0\0\0\x05\x0a\x03bad" => (message(&[]), vec![("grpc-status", "13")]),
        _ => (Vec::new(), vec![("grpc-status", "5"), ("grpc-message", "unknown service")]),
    }
}

async fn server(trusted: Option<&Trusted>) -> Server {
    let acceptor = trusted.map(|trusted| trusted.acceptor(Callers::Anyone));
    serve(acceptor, |stream| speak(stream, health)).await
}

async fn find(target: String) -> Finding {
    let probe = Probe::Grpc { target: target.into(), use_tls: false, tls: Tls::default() };
    tests::find(probe, &Credentials::default(), PATIENCE).await
}

#[tokio::test]
async fn serving_is_passing_and_all_else_critical() {
    let addr = server(None).await;
    let addr = addr.at();
    for (service, output) in [
        ("", format!("gRPC check {addr}: success")),
        ("/web", format!("gRPC check {addr}/web: success")),
    ] {
        let finding = find(format!("{addr}{service}")).await;
        assert_eq!(finding, Finding::passing(output));
    }
    for (service, said) in [
        ("down", "serving status: NOT_SERVING"),
        ("new", "serving status: UNKNOWN"),
        ("other", "rpc error: code = NotFound desc = unknown service"),
        ("odd", "the answer can't be read"),
        ("bad", "rpc error: code = Internal desc = "),
    ] {
        let finding = find(format!("{addr}/{service}")).await;
        assert_eq!(finding.health, Health::Critical);
        assert!(finding.output.ends_with(said), "{}", finding.output);
    }
}

#[tokio::test]
async fn tls_is_spoken_if_that_is_wanted() {
    let (trusted, other) = (Trusted::new(), Trusted::new());
    let server = server(Some(&trusted)).await;
    let find = |credentials, tls| {
        let target = format!("localhost:{}", server.port()).into();
        let probe = Probe::Grpc { target, use_tls: true, tls };
        async move { tests::find(probe, &credentials, PATIENCE).await }
    };
    assert_eq!(find(trusted.credentials(), Tls::default()).await.health, Health::Passing);
    let refused = find(other.credentials(), Tls::default()).await;
    assert!(refused.output.contains("no authority that is trusted"), "{}", refused.output);
    let skip = Tls { skip_verify: true, ..Tls::default() };
    assert_eq!(find(other.credentials(), skip).await.health, Health::Passing);
    let plain = super::tests::find(format!("localhost:{}", server.port())).await;
    assert_eq!(plain.health, Health::Critical);
}

#[tokio::test]
async fn who_does_not_speak_it_is_critical() {
    let web = canned(None, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let (refusing, _held) = closed_port();
    for (target, reason) in [
        (web.at().to_string(), "gRPC check"),
        (refusing.to_string(), "refused"),
        ("nowhere".to_owned(), "is no host:port"),
    ] {
        let finding = find(target).await;
        assert_eq!(finding.health, Health::Critical);
        assert!(finding.output.contains(reason), "{}", finding.output);
    }
    let silent = canned(None, b"").await;
    let target = silent.at().to_string();
    let probe = Probe::Grpc { target: target.as_str().into(), use_tls: false, tls: Tls::default() };
    let finding = tests::find(probe, &Credentials::default(), IMPATIENCE).await;
    assert_eq!(finding, Finding::critical(format!("no answer from {target} within 300ms")));
}

#[test]
fn messages_are_those_of_protobuf() {
    assert_eq!(&request("")[..], b"\0\0\0\0\0");
    let long = "x".repeat(300);
    let request = request(&long);
    assert_eq!(&request[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
    assert_eq!(&request[8..], long.as_bytes());
    // Fields that nobody here knows are passed over: a varint, 8 bytes, some bytes, 4 bytes.
    let unknown = b"\x10\x96\x01\x19abcdefgh\x22\x02hi\x2dabcd\x08\x01";
    assert_eq!(status(&message(unknown)), Some("SERVING"));
    for bad in [&b""[..], b"\0\0\0\0\x02\x08", b"\x01\0\0\0\x02\x08\x01", b"\0\0\0\0\x01\x08"] {
        assert_eq!(status(bad), None, "{bad:?}");
    }
    assert_eq!(status(&message(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")), None);
    assert_eq!(status(&message(b"\x22\xff\xff\xff\xff\x0fhi")), None);
}
