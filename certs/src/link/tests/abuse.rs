//! Peers that trickle, lie, flood or speak nonsense: each costs its own stream or connection.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, ReadError, RecvStream, SendStream, TokioRuntime, VarInt};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{task::JoinSet, time::Instant};
use topology::Role;

use super::nodes::{ECHO, HANG, Node, authority, bundle, fabric, identity, keys, server};
use crate::{
    ca::Authority,
    fabric::Fabric,
    link::{
        Profile, REQUEST_LEN_MAX, Refusal, Sockets,
        call::{Stopped, read_to_end},
        frame::Header,
        sockets::Kernel,
        transport,
    },
};

/// A server and a peer with a good certificate and bad manners.
struct Scene {
    fabric: Fabric,
    ca: Authority,
    node: Node,
    peer: Connection,
}

async fn scene() -> Scene {
    let fabric = fabric();
    let ca = authority();
    let me = server("dc1", "a");
    let node = Node::start(&fabric, "10.0.0.1:8300", &me, keys(bundle(&ca, &me, &[&ca])), 1);
    let bad = identity("dc1", Role::Client, "bad");
    let keys = keys(bundle(&ca, &bad, &[&ca]));
    let socket = fabric.udp("10.0.0.9:0".parse().unwrap()).unwrap();
    let settings = transport::endpoint(&bad, &keys, &mut SmallRng::seed_from_u64(9));
    let runtime = std::sync::Arc::new(TokioRuntime);
    let quic = quinn::Endpoint::new_with_abstract_socket(settings, None, socket, runtime).unwrap();
    let target = node.target();
    let client = transport::client(&keys, Profile::Lan, &target.expect).unwrap();
    let peer = quic.connect_with(client, target.addr, "server").unwrap().await.unwrap();
    Scene { fabric, ca, node, peer }
}

fn header(kind: u16) -> Bytes {
    Header { kind: crate::link::Kind(kind), left: Duration::from_secs(60) }.encode()
}

/// Reads a refusal's code, or what became of the stream instead.
async fn code(receive: &mut RecvStream) -> Result<u16, ReadError> {
    match read_to_end(receive, 1 << 20).await {
        Ok(reply) => Ok(u16::from_be_bytes([reply[0], reply[1]])),
        Err(Stopped::Read(error)) => Err(error),
        Err(Stopped::TooLong) => panic!("a long refusal"),
    }
}

impl Scene {
    async fn send(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.peer.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        (send, receive)
    }

    /// Another peer is served as if nothing had happened.
    async fn others_are_served(&self, seed: u64) {
        let me = server("dc1", "good");
        let keys = keys(bundle(&self.ca, &me, &[&self.ca]));
        let other = Node::start(&self.fabric, "10.0.0.2:0", &me, keys, seed);
        let began = Instant::now();
        assert_eq!(other.ask(&self.node, ECHO, b"fine").await.unwrap(), "fine");
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_one_is_refused_with_the_reason() {
    let scene = scene().await;
    for bytes in [&b""[..], &[1, 0, 1], &[9, 0, 1, 0, 0, 0, 9, 1]] {
        let (mut send, mut receive) = scene.send(bytes).await;
        send.finish().unwrap();
        assert_eq!(code(&mut receive).await, Ok(Refusal::MALFORMED), "{bytes:?}");
    }
    assert_eq!(scene.node.service.answered.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_trickles_loses_its_stream() {
    let scene = scene().await;
    let began = Instant::now();
    let (_send, mut receive) = scene.send(&[1]).await;
    assert!(matches!(code(&mut receive).await, Err(ReadError::Reset(_))));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    scene.others_are_served(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_loses_its_stream() {
    let scene = scene().await;
    let (mut send, mut receive) = scene.send(&header(ECHO.0)).await;
    let trickle = async {
        while send.write_all(b"x").await.is_ok() {
            // Heartbeats of a peer that means well would keep the connection.
            let _ = scene.peer.send_datagram(ping());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let began = Instant::now();
    tokio::join!(trickle, async {
        assert!(matches!(code(&mut receive).await, Err(ReadError::Reset(_))));
    });
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
    assert_eq!(scene.node.service.answered.load(Ordering::SeqCst), 0);
}

fn ping() -> Bytes {
    let mut ping = BytesMut::from(&[0][..]);
    ping.put_u64(4711);
    ping.put_u64(1);
    ping.freeze()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_off_is_not_served() {
    let scene = scene().await;
    let (mut send, mut receive) = scene.send(&header(ECHO.0)).await;
    send.write_all(b"delete every").await.unwrap();
    send.reset(VarInt::from_u32(1)).unwrap();
    assert!(code(&mut receive).await.is_err());
    assert_eq!(scene.node.service.answered.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_its_bound_is_refused() {
    let scene = scene().await;
    let (mut send, mut receive) = scene.send(&header(ECHO.0)).await;
    let chunk = vec![0; 1 << 20];
    let mut sent = 0;
    while sent <= REQUEST_LEN_MAX + chunk.len() && send.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
    }
    assert_eq!(code(&mut receive).await, Ok(Refusal::TOO_LARGE));
    assert_eq!(scene.node.service.answered.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_that_stall_leave_the_small_ones_and_the_others_alone() {
    let scene = scene().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let (mut send, receive) = scene.send(&header(ECHO.0)).await;
        send.write_all(&vec![0; 200 << 10]).await.unwrap();
        stalled.push((send, receive));
    }
    let (mut send, mut receive) = scene.send(&header(ECHO.0)).await;
    send.finish().unwrap();
    assert_eq!(code(&mut receive).await, Ok(0));
    scene.others_are_served(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_heartbeats_is_given_up() {
    let scene = scene().await;
    let began = Instant::now();
    let error = scene.peer.closed().await;
    assert!(error.to_string().contains("no packet for"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn streams_beyond_their_bound_wait_at_the_peer() {
    let scene = scene().await;
    let mut request = header(HANG.0).to_vec();
    request.extend_from_slice(b"body");
    let mut open = Vec::new();
    for _ in 0..transport::STREAMS_START {
        let (mut send, receive) = scene.send(&request).await;
        send.finish().unwrap();
        open.push(receive);
    }
    scene.others_are_served(2).await;
    assert!(scene.node.service.hanging.load(Ordering::SeqCst) <= open.len());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_that_dial_at_once_are_all_served() {
    let fabric = fabric();
    let ca = authority();
    let me = server("dc1", "a");
    let node = Node::start(&fabric, "10.0.0.1:8300", &me, keys(bundle(&ca, &me, &[&ca])), 1);
    let mut dialling = JoinSet::new();
    for n in 0..100 {
        let me = identity("dc1", Role::Client, &format!("c{n}"));
        let client = Node::start(&fabric, "10.0.0.2:0", &me, keys(bundle(&ca, &me, &[&ca])), n);
        let target = node.target();
        dialling.spawn(async move {
            let reply = client.ask_at(&target, ECHO, Bytes::from_static(b"x")).await;
            (client, reply)
        });
    }
    let served = dialling.join_all().await;
    for (client, reply) in &served {
        assert_eq!(reply.as_ref().unwrap(), "x", "{}", client.me);
    }
    assert_eq!(node.endpoint.paths().len(), 100);
}

#[tokio::test]
async fn the_kernels_sockets_carry_calls_too() {
    let ca = authority();
    let open = |name: &str, seed| {
        let me = server("dc1", name);
        Node::over(&Kernel, "127.0.0.1:0", &me, keys(bundle(&ca, &me, &[&ca])), seed)
    };
    let (a, b) = (open("a", 1), open("b", 2));
    assert_ne!(a.endpoint.local_addr().port(), 0);
    assert_eq!(a.ask(&b, ECHO, b"hello").await.unwrap(), "hello");
    let body = vec![7; 1 << 20];
    assert_eq!(b.ask(&a, ECHO, &body).await.unwrap(), body);
}
