//! ClientHellos of real clients, whole, in parts, cut, changed and made up.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proptest::prelude::*;
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::{
    RootCertStore,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{
            default_provider,
            kx_group::{X25519, X25519MLKEM768},
        },
    },
    version::TLS13,
};
use tokio::{net::UdpSocket, time::timeout};

use super::*;
use crate::link::Expect;

const NAME: &str = "dc2-s1.server.dc2.causeway";

/// Returns the datagrams with which a client begins that offers these key exchanges.
async fn first_flight(groups: Vec<&'static dyn SupportedKxGroup>, name: &str) -> Vec<Vec<u8>> {
    let provider = CryptoProvider { kx_groups: groups, ..default_provider() };
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"causeway-wan/1".to_vec()];
    let client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = UdpSocket::bind(any).await.unwrap();
    let endpoint = Endpoint::client(any).unwrap();
    let _connecting = endpoint.connect_with(client, server.local_addr().unwrap(), name).unwrap();
    let (mut datagrams, mut buffer) = (Vec::new(), [0; 2048]);
    // The client waits for an answer before it sends anything again.
    while let Ok(len) = timeout(Duration::from_millis(150), server.recv(&mut buffer)).await {
        datagrams.push(buffer[..len.unwrap()].to_vec());
    }
    datagrams
}

async fn classic() -> Vec<u8> {
    first_flight(vec![X25519], NAME).await.remove(0)
}

async fn post_quantum() -> Vec<Vec<u8>> {
    let mut datagrams = first_flight(vec![X25519MLKEM768, X25519], NAME).await;
    datagrams.truncate(2);
    datagrams
}

fn hello(datagram: &[u8]) -> Hello {
    let Some(Header::Long { kind: Kind::Initial, dcid, .. }) = Header::read(datagram) else {
        panic!("a client begins with an Initial packet");
    };
    Hello::new(dcid)
}

#[tokio::test]
async fn the_name_in_a_client_hello_is_read() {
    let datagram = classic().await;
    assert_eq!(hello(&datagram).take(&datagram), Ok(Some(NAME.to_owned())));
    assert!(understands(&datagram));
}

#[tokio::test]
async fn a_post_quantum_client_hello_comes_in_two_packets_in_either_order() {
    let parts = post_quantum().await;
    let [first, second] = &parts[..] else { panic!("{} datagrams", parts.len()) };
    for (one, other) in [(first, second), (second, first)] {
        let mut hello = hello(first);
        assert_eq!(hello.take(one), Ok(None));
        assert_eq!(hello.take(one), Ok(None), "the same one again");
        assert_eq!(hello.take(other), Ok(Some(NAME.to_owned())));
    }
}

#[tokio::test]
async fn a_client_hello_that_names_an_address_names_no_server() {
    let datagram = first_flight(vec![X25519], "127.0.0.1").await.remove(0);
    assert_eq!(hello(&datagram).take(&datagram), Err(Unreadable::Nameless));
}

#[tokio::test]
async fn a_cut_or_changed_packet_is_not_read() {
    let datagram = classic().await;
    for len in 0..datagram.len() {
        let cut = hello(&datagram).take(&datagram[..len]);
        assert_eq!(cut, Err(Unreadable::Packet), "{len} bytes");
    }
    for index in (0..datagram.len()).step_by(7) {
        let mut changed = datagram.clone();
        changed[index] ^= 0x10;
        assert_eq!(hello(&datagram).take(&changed), Err(Unreadable::Packet), "byte {index}");
    }
}

#[tokio::test]
async fn a_packet_of_another_handshake_is_not_read() {
    let (one, other) = (classic().await, classic().await);
    assert_eq!(hello(&one).take(&other), Err(Unreadable::Packet));
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let parts = post_quantum().await;
    let mut hello = hello(&parts[0]);
    let given_up = (0..100).find_map(|_| hello.take(&parts[0]).err());
    assert_eq!(given_up, Some(Unreadable::TooLong));
}

#[test]
fn headers_say_whom_a_packet_is_for() {
    let long = [0xc0, 0, 0, 0, 1, 2, 7, 8, 1, 9, 0];
    let wanted = Header::Long { kind: Kind::Initial, dcid: &[7, 8], scid: &[9] };
    assert_eq!(Header::read(&long), Some(wanted));
    let other = [0xc0, 0, 0, 0, 2, 2, 7, 8, 1, 9, 0];
    assert!(matches!(Header::read(&other), Some(Header::Long { kind: Kind::Foreign, .. })));
    assert_eq!(Header::read(&[0x40, 1, 2]), Some(Header::Short { rest: &[1, 2] }));
    assert_eq!(Header::read(&[]), None);
    assert_eq!(Header::read(&[0xc0, 0, 0, 0, 1, 21]), None);
}

#[test]
fn server_names_say_who_is_expected() {
    let dc = || topology::Datacenter::new("dc2").unwrap();
    let node = |name| topology::NodeName::new(name).unwrap();
    for expect in [
        Expect::any_server(),
        Expect::server_of(dc()),
        Expect::server_of(dc()).named(node("s1")),
        Expect::server_of(dc()).named(node("web.rack-1_a")),
        Expect::server_of(dc()).named(node("server")),
        Expect::server_of(topology::Datacenter::new("server").unwrap()),
    ] {
        assert_eq!(Expect::from_server_name(&expect.server_name()), Some(expect));
    }
    for nothing in ["", "causeway", "dc2.causeway", "s1.dc2.causeway", ".server.dc2.causeway"] {
        assert_eq!(Expect::from_server_name(nothing), None, "{nothing}");
    }
}

proptest! {
    #[test]
    fn no_bytes_do_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let _ = understands(&bytes);
    }

    #[test]
    fn no_bytes_behind_the_header_of_an_initial_do_any_harm(
        ids in (prop::collection::vec(any::<u8>(), 0..=20), prop::collection::vec(any::<u8>(), 0..=20)),
        rest in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let mut bytes = vec![0xc0, 0, 0, 0, 1, ids.0.len() as u8];
        bytes.extend(&ids.0);
        bytes.push(ids.1.len() as u8);
        bytes.extend(&ids.1);
        bytes.extend(rest);
        prop_assert!(!understands(&bytes));
    }
}
