//! Certificates that are foreign, expired or of the wrong kind; garbage on every port.

use std::{
    io::Write,
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::Identity,
    store::Clock,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;
use tests::harness::{
    cluster::{Cluster, issue},
    relay::PORTS,
    until,
};
use topology::Role;

use crate::dc1;

/// How long until a refused handshake shows in a log.
const LOGGED_MAX: Duration = Duration::from_secs(30);

/// Connections that say nothing, at one time.
const HALF_OPEN: usize = 200;

fn client_identity(name: &str) -> Identity {
    let name = name.parse().unwrap();
    Identity::new("dc1".parse().unwrap(), Role::Client, Some(name))
}

/// Starts the client agent of a datacenter with other certificates; nobody may answer it.
async fn refused(cluster: &mut Cluster, tls: serde_json::Value) {
    cluster.agents[0].configure(json!({ "log_level": "debug" }));
    cluster.agents[1].configure(json!({ "tls": tls }));
    cluster.run(0).await;
    cluster.run(1).await;
    let server = cluster.agents[0].client();
    until(LOGGED_MAX, "the server works", async || {
        server.kv_put("a", "1").await.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await;
    let intruder = cluster.agents[1].client();
    until(LOGGED_MAX, "both sides log a refused certificate", async || {
        // What it is asked makes it dial.
        if let Ok(entry) = intruder.kv_get("a").await {
            panic!("it was answered: {entry:?}");
        }
        for agent in &cluster.agents {
            if !agent.full_log().to_lowercase().contains("certificate") {
                return Err(format!("{} says nothing:\n{}", agent.name, agent.log()));
            }
        }
        Ok(())
    })
    .await;
    assert!(server.kv_put("a", "2").await.unwrap(), "the others don't mind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_certificate_is_refused_with_a_reason_on_both_sides() {
    let mut cluster = Cluster::plan(&dc1(1, 1));
    let dir = cluster.dir().join("foreign");
    let foreign = Authority::create("foreign", Algorithm::EcdsaP256, Clock::System.now(), 2);
    let foreign = foreign.unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    // It trusts the right authority, so that it is the server who refuses.
    let ca_file = cluster.ca_file();
    let host = cluster.agents[1].host;
    let tls = issue(&foreign, &ca_file, &dir, client_identity("dc1-c1"), host);
    refused(&mut cluster, tls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_gets_nobody_in() {
    let mut cluster = Cluster::plan(&dc1(1, 1));
    let dir = cluster.dir().join("expired");
    std::fs::create_dir_all(&dir).unwrap();
    let long_ago = Clock::System.now() - Duration::from_secs(30 * 24 * 3600);
    let subject = Subject::new(client_identity("dc1-c1"));
    let issued = cluster.authority().issue(&subject, long_ago, 1).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    issued.write(&cert, &key).unwrap();
    let files = json!({ "ca_file": cluster.ca_file(), "cert_file": cert, "key_file": key });
    cluster.agents[1].configure(json!({ "tls": { "defaults": files } }));
    cluster.run(0).await;
    cluster.spawn(1);
    // It may refuse to start, or be refused by everyone it talks to; it says why in both cases.
    until(LOGGED_MAX, "its log says that the certificate expired", async || {
        let log = cluster.agents[1].full_log();
        if log.to_lowercase().contains("expired") { Ok(()) } else { Err(log) }
    })
    .await;
    if cluster.agents[1].is_running() {
        let answer = cluster.agents[1].client().kv_get("a").await;
        assert!(answer.is_err(), "it was answered: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_does_not_make_a_server() {
    let mut cluster = Cluster::start(&dc1(3, 0)).await;
    let place = cluster.add("dc1", Role::Server);
    let dir = cluster.dir().join("pretender");
    let host = cluster.agents[place].host;
    let identity = client_identity("dc1-s4");
    let tls = issue(cluster.authority(), &cluster.ca_file(), &dir, identity, host);
    cluster.agents[place].configure(json!({ "tls": tls }));
    cluster.spawn(place);
    until(LOGGED_MAX, "its log says what is wrong with its certificate", async || {
        let log = cluster.agents[place].full_log();
        if log.to_lowercase().contains("certificate") { Ok(()) } else { Err(log) }
    })
    .await;
    let peers = cluster.agents[0].client().json("/v1/status/peers").await.unwrap();
    assert_eq!(peers.as_array().map(Vec::len), Some(3), "{peers}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_certificate_without_the_gossip_key_does_not_join() {
    let mut cluster = Cluster::start(&dc1(1, 0)).await;
    let place = cluster.add("dc1", Role::Client);
    let other_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    cluster.agents[place].configure(json!({ "encrypt": other_key }));
    cluster.run(place).await;
    let server = &cluster.agents[0];
    until(LOGGED_MAX, "the server logs that packets are refused", async || {
        let log = server.full_log();
        let refused = |line: &str| line.contains("packets refused") && line.contains("WrongKey");
        if log.lines().any(refused) { Ok(()) } else { Err(log) }
    })
    .await;
    for agent in &cluster.agents {
        let members = agent.client().json("/v1/agent/members").await.unwrap();
        assert_eq!(members.as_array().map(Vec::len), Some(1), "{}: {members}", agent.name);
    }
    let answer = cluster.agents[place].client().kv_get("a").await;
    assert!(answer.is_err(), "it found a server: {answer:?}");
    assert!(server.client().kv_put("a", "1").await.unwrap(), "the others don't mind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_open_connections_stop_nobody() {
    let mut cluster = Cluster::start(&dc1(3, 0)).await;
    let host = cluster.agents[0].host;
    let mut rng = SmallRng::seed_from_u64(1);
    let socket = UdpSocket::bind((cluster.agents[0].host, 0)).unwrap();
    let mut garbage = vec![0; 1400];
    for round in 0..2000_usize {
        rng.fill_bytes(&mut garbage);
        // Some of it looks like the long header of QUIC version 1 (RFC 9000, section 17.2).
        if round % 3 == 0 {
            garbage[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
        }
        for port in PORTS {
            let len = if round % 7 == 0 { round % 40 } else { 1200 + round % 200 };
            let _full_buffers_are_fine = socket.send_to(&garbage[..len], (host, port));
        }
    }
    let mut open = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = TcpStream::connect((host, 8500)).unwrap();
        match number % 4 {
            0 => {}
            1 => stream.write_all(b"GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n").unwrap(),
            2 => stream.write_all(b"PUT /v1/kv/a HTTP/1.1\r\nContent-Length: 99\r\n\r\nx").unwrap(),
            _ => stream.write_all(&garbage[..200]).unwrap(),
        }
        open.push(stream);
    }
    for number in 0..20 {
        for agent in &cluster.agents {
            let put = agent.client().kv_put("still", &number.to_string()).await;
            assert!(put.unwrap(), "{}", agent.name);
        }
    }
    let running = cluster.agents.iter_mut().all(|agent| agent.is_running());
    assert!(running, "an agent died of garbage");
    drop(open);
}
