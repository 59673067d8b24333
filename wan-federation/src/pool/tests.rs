//! Whose gossip counts: a packet says by its certificate who sent it.

use std::collections::BTreeMap;

use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::{Domains, Identity},
    link::{Accept, Answering, Config, Limits, Profile as Network, Refusal, Service, sockets},
    store::{Bundle, Clock, Keys},
};
use topology::{NodeId, Role, gossip};
use uuid::Uuid;

use super::*;

/// Takes nothing and says nothing.
struct Deaf;

impl Service for Deaf {
    fn call(&self, _: Arc<Identity>, _: SocketAddr, _: Request) -> Answering {
        Box::pin(std::future::ready(Err(Refusal::new(99, "deaf"))))
    }

    fn datagram(&self, _: &Identity, _: SocketAddr, _: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

fn identity(dc: &str, role: Role, name: &str) -> Identity {
    Identity::new(dc.parse().unwrap(), role, Some(name.parse().unwrap()))
}

fn profile(dc: &str, name: &str, number: u8) -> Profile {
    Profile {
        name: name.parse().unwrap(),
        id: NodeId(Uuid::from_u128(number.into())),
        dc: dc.parse().unwrap(),
        role: Role::Server,
        addr: SocketAddr::from(([127, 0, 1, number], 8302)),
        link: None,
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    }
}

/// A pool that never runs: what it would send goes nowhere.
fn pool(me: &Profile) -> Pool {
    let now = Clock::System.now();
    let authority = Authority::create("test", Algorithm::EcdsaP256, now, 1).unwrap();
    let who = identity(me.dc.as_str(), me.role, me.name.as_str());
    let issued = authority.issue(&Subject::new(who.clone()), now, 1).unwrap();
    let bundle = Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: vec![authority.certificate_pem().to_owned()],
    };
    let config = Config {
        addr: "127.0.0.1:0".parse().unwrap(),
        me: who,
        keys: Keys::memory(bundle, Domains::default(), Clock::System).unwrap(),
        accept: Accept::Servers,
        profile: Network::Wan,
        seed: Some(1),
        limits: Limits::default(),
    };
    let (endpoint, _run) = Endpoint::bind(config, &sockets::Kernel, Arc::new(Deaf)).unwrap();
    let engine = Engine::new(gossip::Config::wan(), me.clone(), 1, 1);
    Pool::new(engine, endpoint, me, Instant::now(), &Board::new(1))
}

/// What a server that knows a pool says to one of it when it leaves.
fn farewell(leaver: &Profile, pool: Bytes, to: SocketAddr) -> Vec<Bytes> {
    let mut engine = Engine::new(gossip::Config::wan(), leaver.clone(), 1, 2);
    let mut out = Vec::new();
    for input in [Input::Start, Input::Sync(pool), Input::Leave] {
        engine.handle(Duration::ZERO, input, &mut out);
    }
    let said = out.into_iter().filter_map(|output| match output {
        Output::Send { to: other, data } if other == to => Some(data),
        _ => None,
    });
    said.collect()
}

#[tokio::test]
async fn gossip_from_a_members_address_counts_with_its_certificate_only() {
    let (a1, b1) = (profile("dc1", "a1", 1), profile("dc2", "b1", 2));
    let mut pool = pool(&a1);
    let newcomer = Engine::new(gossip::Config::wan(), b1.clone(), 1, 2);
    assert!(pool.handle(Input::Sync(newcomer.export())));
    let held = |pool: &Pool| {
        let members = pool.members.load();
        members.iter().find(|member| member.profile.name == b1.name).map(|member| member.status)
    };
    assert_eq!(held(&pool), Some(Status::Alive));

    let packets = farewell(&b1, pool.export(), a1.addr);
    assert!(!packets.is_empty(), "a farewell says something");
    for other in [
        identity("dc3", Role::Server, "b1"),
        identity("dc2", Role::Server, "b2"),
        identity("dc2", Role::Client, "b1"),
    ] {
        for packet in &packets {
            assert_eq!(pool.packet(&other, b1.addr, packet.clone()), None, "{other}");
        }
        assert_eq!(held(&pool), Some(Status::Alive), "{other}");
    }
    for packet in packets {
        pool.packet(&identity("dc2", Role::Server, "b1"), b1.addr, packet);
    }
    assert_eq!(held(&pool), Some(Status::Left));
}
