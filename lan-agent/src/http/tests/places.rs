//! The interface over TLS and at socket files.

use std::{net::SocketAddr, path::Path, time::Duration};

use certs::{
    ca::{Algorithm, Authority, Subject},
    https::{Acceptor, Callers, Config, Connector, HANDSHAKE_TIMEOUT, Server, Trust},
    identity::Identity,
    store::{Bundle, Clock},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use topology::Role;

use super::{
    fake::{Fake, Rig, found, raw_exchange},
    meta,
};
use crate::http::listen::{Listen, Socket};

const REQUEST: &[u8] = b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn answering() -> Fake {
    Fake::answering(found(meta(1), "[]"))
}

/// Takes callers with a certificate of an authority of its own.
fn acceptor(callers: Callers, handshake_timeout: Duration) -> Acceptor {
    let now = Clock::System.now();
    let authority = Authority::create("test", Algorithm::EcdsaP256, now, 2).unwrap();
    let me = Identity::new("dc1".parse().unwrap(), Role::Server, None);
    let issued = authority.issue(&Subject::new(me), now, 2).unwrap();
    let bundle = Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: vec![authority.certificate_pem().to_owned()],
    };
    Acceptor::memory(bundle, Config { callers, handshake_timeout, clock: Clock::System }).unwrap()
}

fn over_tls(callers: Callers, handshake_timeout: Duration) -> Rig {
    let acceptor = acceptor(callers, handshake_timeout);
    Rig::with(answering(), |config| {
        config.listen = vec![Listen::Https("127.0.0.1:0".parse().unwrap(), acceptor)];
    })
}

/// Speaks TLS with whoever is there; what can't be read is a text too.
async fn exchange_in_private(addr: SocketAddr) -> String {
    let trust = Trust { server: Server::Any, own: None, name: None };
    let connector = Connector::new(&trust, Clock::System).unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    match connector.connect("localhost", stream).await {
        Ok(stream) => exchange(stream).await,
        Err(error) => error.to_string(),
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let mut text = String::new();
    let said = async {
        stream.write_all(REQUEST).await?;
        stream.flush().await?;
        stream.read_to_string(&mut text).await
    };
    match said.await {
        Ok(_) => text,
        Err(error) => error.to_string(),
    }
}

fn socket(path: &Path) -> Listen {
    Listen::Unix(Socket { path: path.to_owned(), mode: None, user: None, group: None })
}

#[tokio::test]
async fn requests_are_answered_inside_tls() {
    let rig = over_tls(Callers::Anyone, HANDSHAKE_TIMEOUT);
    let text = exchange_in_private(rig.addr).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn a_caller_without_a_certificate_gets_no_answer_where_one_is_wanted() {
    let rig = over_tls(Callers::Certified, HANDSHAKE_TIMEOUT);
    let text = exchange_in_private(rig.addr).await;
    assert!(text.contains("CertificateRequired"), "{text}");
    assert_eq!(rig.fake.count(), 0);
}

#[tokio::test]
async fn who_speaks_http_to_an_address_for_https_is_told_so() {
    let rig = over_tls(Callers::Anyone, HANDSHAKE_TIMEOUT);
    let text = raw_exchange(rig.addr, REQUEST).await;
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("https://"), "{text}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
}

#[tokio::test]
async fn who_does_not_shake_hands_in_time_is_gone() {
    let rig = over_tls(Callers::Anyone, Duration::from_millis(50));
    let began = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(rig.addr).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let mut halfway = TcpStream::connect(rig.addr).await.unwrap();
    halfway.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(halfway.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(began.elapsed() < HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_handshake() {
    let rig = over_tls(Callers::Anyone, HANDSHAKE_TIMEOUT);
    let _silent = TcpStream::connect(rig.addr).await.unwrap();
    rig.stop.cancel();
    tokio::time::timeout(HANDSHAKE_TIMEOUT / 2, rig.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_are_answered_at_a_socket_file_which_goes_when_the_interface_ends() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("agent.sock");
    let rig = Rig::with(answering(), |config| config.listen = vec![socket(&path)]);
    let text = exchange(UnixStream::connect(&path).await.unwrap()).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    rig.stop.cancel();
    rig.server.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn connections_to_a_socket_file_are_bounded_together() {
    let home = tempfile::tempdir().unwrap();
    let [one, other] = ["one.sock", "other.sock"].map(|name| home.path().join(name));
    let _rig = Rig::with(answering(), |config| {
        config.listen = vec![socket(&one), socket(&other)];
        config.connections_per_client_max = crate::http::Most::new(1);
    });
    let mut first = UnixStream::connect(&one).await.unwrap();
    first.write_all(b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    first.read_u8().await.unwrap();
    let text = exchange(UnixStream::connect(&one).await.unwrap()).await;
    assert!(text.starts_with("HTTP/1.1 429 ") || text.contains("os error"), "{text}");
    let text = exchange(UnixStream::connect(&other).await.unwrap()).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[tokio::test]
async fn a_peer_without_an_address_may_not_write_where_only_networks_may() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("agent.sock");
    let _rig = Rig::with(answering(), |config| {
        config.listen = vec![socket(&path)];
        config.rules.writers = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let put = b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(put).await.unwrap();
    let mut text = String::new();
    let reading = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
}
