//! Handshakes over streams in memory, between an acceptor and a connector.

use std::{net::Ipv4Addr, path::PathBuf};

use time::{Duration as Days, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use topology::{Datacenter, Role};

use super::*;
use crate::{
    ca::{Algorithm, Authority, Issued, San, Subject},
    identity::Identity,
};

/// Bytes that a stream holds.
const STREAM_LEN: usize = 64 * 1024;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn clock() -> Clock {
    let start = now() + std::time::Duration::from_secs(3600);
    Clock::Simulated { start, at: tokio::time::Instant::now() }
}

/// An authority with a directory for files.
struct Place {
    home: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let authority = Authority::create("test", Algorithm::EcdsaP256, now(), 100).unwrap();
        let place = Self { home: tempfile::tempdir().unwrap(), authority };
        place.put("ca.pem", place.authority.certificate_pem());
        let issued = place.issue(30);
        place.put("cert.pem", &issued.certificate_pem);
        place.put("key.pem", &issued.key_pem);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Issues what `tls cert create -server` does.
    fn issue(&self, days: u32) -> Issued {
        let identity = Identity::new(Datacenter::new("dc1").unwrap(), Role::Server, None);
        let sans = vec![San::Dns("localhost".to_owned()), San::Ip(Ipv4Addr::LOCALHOST.into())];
        let subject = Subject { identity, domain: "consul".to_owned(), sans };
        self.authority.issue(&subject, now(), days).unwrap()
    }

    fn acceptor(&self, callers: Callers) -> Acceptor {
        let files = Files {
            certificate: self.path("cert.pem"),
            key: self.path("key.pem"),
            authorities: vec![self.path("ca.pem")],
        };
        let handshake_timeout = HANDSHAKE_TIMEOUT;
        Acceptor::files(files, Config { callers, handshake_timeout, clock: clock() }).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust { server: Server::VouchedBy(vec![self.path("ca.pem")]), own: None, name: None }
    }

    /// Issues what `tls cert create -cli` does; returns its files.
    fn tool(&self, name: &str) -> (PathBuf, PathBuf) {
        let issued = self.authority.issue_for_tool("cli.dc1.consul", &[], now(), 30).unwrap();
        let (cert, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
        self.put(&cert, &issued.certificate_pem);
        self.put(&key, &issued.key_pem);
        (self.path(&cert), self.path(&key))
    }
}

/// Sends a word each way; returns what went wrong on the side of the server and of the caller.
async fn meet(
    acceptor: &Acceptor,
    trust: &Trust,
    host: &str,
) -> (Result<(), String>, Result<(), String>) {
    let connector = Connector::new(trust, clock()).unwrap();
    let (near, far) = duplex(STREAM_LEN);
    let serving = async {
        let mut stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.map_err(|error| error.to_string())?;
        stream.write_all(&word).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())
    };
    let calling = async {
        let mut stream = connector.connect(host, near).await.map_err(|error| error.to_string())?;
        let said = async {
            stream.write_all(b"ping").await?;
            stream.flush().await?;
            stream.read_exact(&mut [0; 4]).await
        };
        said.await.map(drop).map_err(|error| refusal(&error).unwrap_or_default())
    };
    tokio::join!(serving, calling)
}

#[tokio::test]
async fn names_and_addresses_of_the_certificate_are_good_and_others_are_not() {
    let place = Place::new();
    let acceptor = place.acceptor(Callers::Anyone);
    for host in ["localhost", "127.0.0.1", "server.dc1.consul"] {
        assert_eq!(meet(&acceptor, &place.trust(), host).await, (Ok(()), Ok(())), "{host}");
    }
    let (_, refused) = meet(&acceptor, &place.trust(), "127.0.0.2").await;
    assert!(refused.unwrap_err().contains("another name"));
    let named = Trust { name: Some("server.dc1.consul".to_owned()), ..place.trust() };
    assert_eq!(meet(&acceptor, &named, "127.0.0.2").await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_unless_any_is_good() {
    let (place, other) = (Place::new(), Place::new());
    let acceptor = place.acceptor(Callers::Anyone);
    let (served, refused) = meet(&acceptor, &other.trust(), "localhost").await;
    assert!(refused.unwrap_err().contains("no authority that is trusted here"));
    assert!(served.is_err());
    let any = Trust { server: Server::Any, ..other.trust() };
    assert_eq!(meet(&acceptor, &any, "127.0.0.2").await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn the_best_protocol_that_both_speak_is_agreed_on() {
    let place = Place::new();
    let acceptor = place.acceptor(Callers::Anyone);
    for (offered, agreed) in [
        (&[Protocol::Http2, Protocol::Http1][..], Some(Protocol::Http2)),
        (&[Protocol::Http1], Some(Protocol::Http1)),
        (&[], None),
    ] {
        let connector = Connector::to_anyone(&place.trust(), clock(), offered).unwrap();
        let (near, far) = duplex(STREAM_LEN);
        let (served, called) =
            tokio::join!(acceptor.accept(far), connector.connect("localhost", near));
        assert!(served.is_ok());
        assert_eq!(called.unwrap().protocol(), agreed, "{offered:?}");
    }
}

#[tokio::test]
async fn callers_show_a_certificate_of_the_authority_where_one_is_wanted() {
    let (place, other) = (Place::new(), Place::new());
    let acceptor = place.acceptor(Callers::Certified);
    let (refused, called) = meet(&acceptor, &place.trust(), "localhost").await;
    assert!(refused.unwrap_err().contains("no certificate"), "nobody without one");
    assert!(called.unwrap_err().contains("wants a certificate"));
    let stranger = Trust { own: Some(other.tool("cli")), ..place.trust() };
    let (refused, called) = meet(&acceptor, &stranger, "localhost").await;
    assert!(refused.unwrap_err().contains("no authority that is trusted here"));
    assert!(called.unwrap_err().contains("refuses the certificate that it was shown"));
    let known = Trust { own: Some(place.tool("cli")), ..place.trust() };
    assert_eq!(meet(&acceptor, &known, "localhost").await, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_replaced_certificate_counts_from_the_next_handshake_on() {
    let place = Place::new();
    let acceptor = place.acceptor(Callers::Anyone);
    assert_eq!(acceptor.reload().unwrap(), Reload::Unchanged);
    let new = place.issue(60);
    place.put("cert.pem", &new.certificate_pem);
    assert!(matches!(acceptor.reload(), Err(KeyError::Mismatch)));
    assert_eq!(acceptor.validity().not_after, now() + Days::days(30));
    place.put("key.pem", &new.key_pem);
    assert_eq!(acceptor.reload().unwrap(), Reload::Changed);
    assert_eq!(acceptor.validity().not_after, now() + Days::days(60));
    assert_eq!(meet(&acceptor, &place.trust(), "localhost").await, (Ok(()), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_shake_hands_is_given_up() {
    let place = Place::new();
    let acceptor = place.acceptor(Callers::Anyone);
    let (_silent, far) = duplex(STREAM_LEN);
    let began = tokio::time::Instant::now();
    let error = acceptor.accept(far).await.err().unwrap();
    assert!(matches!(error, HandshakeError::Timeout(_)), "{error}");
    assert_eq!(began.elapsed(), HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn garbage_ends_the_handshake() {
    let place = Place::new();
    let acceptor = place.acceptor(Callers::Anyone);
    let (mut near, far) = duplex(STREAM_LEN);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = acceptor.accept(far).await.err().unwrap();
    assert!(matches!(error, HandshakeError::Failed(_)), "{error}");
}

#[test]
fn callers_can_only_be_checked_by_an_authority() {
    let place = Place::new();
    let issued = place.issue(30);
    let bundle = Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: Vec::new(),
    };
    let config = Config {
        callers: Callers::Certified,
        handshake_timeout: HANDSHAKE_TIMEOUT,
        clock: Clock::System,
    };
    let error = Acceptor::memory(bundle.clone(), config).err().unwrap();
    assert!(matches!(error, KeyError::NoAuthority), "{error}");
    Acceptor::memory(bundle, Config { callers: Callers::Anyone, ..config }).unwrap();
}

#[test]
fn the_authorities_of_the_system_can_be_read() {
    let Some(file) = system_authorities() else { return };
    let trust = Trust { server: Server::VouchedBy(vec![file]), own: None, name: None };
    Connector::new(&trust, Clock::System).unwrap();
}
