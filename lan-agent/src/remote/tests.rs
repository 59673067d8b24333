//! A client agent and servers over real links on loopback.

use std::collections::BTreeMap;

use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::{Domains, Identity},
    link::{self, Accept, Limits, sockets::Kernel},
    store::{Bundle, Clock, Keys},
};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use topology::{Member, NodeId, Role, Status};
use uuid::Uuid;

use super::*;
use crate::{
    ask::{Blocking, Consistency, Question, RequestId, TraceId},
    pool::{self, Publisher},
};

fn dc() -> Datacenter {
    "dc1".parse().unwrap()
}

fn endpoint(authority: &Authority, me: Identity, service: Arc<dyn Service>) -> Endpoint {
    let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let issued = authority.issue(&Subject::new(me.clone()), start, 30).unwrap();
    let bundle = Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: vec![authority.certificate_pem().to_owned()],
    };
    let start = start + Duration::from_secs(60);
    let clock = Clock::Simulated { start, at: Instant::now() };
    let config = link::Config {
        addr: "127.0.0.1:0".parse().unwrap(),
        me,
        keys: Keys::memory(bundle, Domains::default(), clock).unwrap(),
        accept: Accept::OwnDatacenter(dc()),
        profile: link::Profile::Lan,
        seed: None,
        limits: Limits::default(),
    };
    let (endpoint, run) = Endpoint::bind(config, &Kernel, service).unwrap();
    tokio::spawn(run);
    endpoint
}

/// A server that answers with its name; keys that begin with `hang` are never answered.
struct Named {
    name: &'static str,
    reply: Result<(), AskError>,
    hanging: Arc<Semaphore>,
}

impl Service for Named {
    fn call(&self, _peer: Arc<Identity>, _from: SocketAddr, request: Request) -> Answering {
        assert_eq!(request.kind, ASK);
        let reply = self.reply.clone().map(|()| Answer::plain(self.name));
        let hanging = self.hanging.clone();
        Box::pin(async move {
            let ask = wire::decode_ask(&request.body, Instant::now()).unwrap();
            if ask.blocking.is_some_and(|blocking| blocking.index == 1) {
                hanging.add_permits(1);
                std::future::pending::<()>().await;
            }
            Ok(wire::encode_reply(&reply))
        })
    }

    fn datagram(&self, _peer: &Identity, _from: SocketAddr, _data: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

struct Rig {
    caller: RemoteCaller,
    servers: BTreeMap<&'static str, Endpoint>,
    hanging: Arc<Semaphore>,
    publisher: Publisher,
    _orders: tokio::sync::mpsc::Receiver<pool::Order>,
}

fn member(name: &str, link: SocketAddr) -> Member {
    let profile = Profile {
        name: name.parse().unwrap(),
        id: NodeId(Uuid::nil()),
        dc: dc(),
        role: Role::Server,
        addr: link,
        link: Some(link),
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    };
    Member { profile, status: Status::Alive }
}

impl Rig {
    async fn start(replies: &[(&'static str, Result<(), AskError>)]) -> Self {
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let authority = Authority::create("test", Algorithm::Ed25519, start, 30).unwrap();
        let identity = |role, name: &str| Identity::new(dc(), role, Some(name.parse().unwrap()));
        let hanging = Arc::new(Semaphore::new(0));
        let mut servers = BTreeMap::new();
        for (name, reply) in replies {
            let service = Arc::new(Named { name, reply: reply.clone(), hanging: hanging.clone() });
            let endpoint = endpoint(&authority, identity(Role::Server, name), service);
            servers.insert(*name, endpoint);
        }
        let me = identity(Role::Client, "c1");
        let client = endpoint(&authority, me, Arc::new(ClientService));
        let (pool, publisher, orders) = pool::channel();
        publisher.publish(servers.iter().map(|(name, e)| member(name, e.local_addr())).collect());
        let (caller, run) = RemoteCaller::new(dc(), client, pool, None, 7);
        tokio::spawn(run);
        let changes = caller.0.see_members();
        caller.0.carry_out(changes).await;
        Self { caller, servers, hanging, publisher, _orders: orders }
    }

    fn preferred(&self) -> String {
        self.caller.0.servers().next(&[], Instant::now()).unwrap().name.to_string()
    }
}

fn ask(index: Option<u64>) -> Ask {
    Ask {
        dc: None,
        consistency: Consistency::Default,
        max_stale: None,
        blocking: index.map(|index| Blocking { index, wait: Duration::from_secs(60) }),
        token: String::new(),
        trace: TraceId(Uuid::from_u128(1)),
        request: RequestId(Uuid::from_u128(2)),
        deadline: Instant::now() + Duration::from_secs(60),
        question: Question::StatusLeader,
    }
}

#[tokio::test]
async fn the_preferred_server_answers() {
    let rig = Rig::start(&[("s1", Ok(())), ("s2", Ok(()))]).await;
    for _ in 0..3 {
        let answer = rig.caller.ask(ask(None)).await.unwrap();
        assert_eq!(answer.body, rig.preferred());
    }
}

#[tokio::test]
async fn errors_of_servers_come_back_as_they_are() {
    let error = AskError::NoPath { dc: "dc9".parse().unwrap() };
    let rig = Rig::start(&[("s1", Err(error.clone()))]).await;
    assert_eq!(rig.caller.ask(ask(None)).await, Err(error));
}

#[tokio::test]
async fn without_a_leader_every_server_is_asked() {
    let rig = Rig::start(&[("s1", Err(AskError::NoLeader)), ("s2", Ok(()))]).await;
    assert_eq!(rig.caller.ask(ask(None)).await.unwrap().body, "s2");
    let rig = Rig::start(&[("s1", Err(AskError::NoLeader)), ("s2", Err(AskError::NoLeader))]).await;
    assert_eq!(rig.caller.ask(ask(None)).await, Err(AskError::NoLeader));
}

#[tokio::test]
async fn an_ask_moves_on_when_its_server_goes() {
    let mut rig = Rig::start(&[("s1", Ok(())), ("s2", Ok(()))]).await;
    let first = rig.preferred();
    // Hangs on the first server, and on the second one too: that shows that it arrived there.
    let caller = rig.caller.clone();
    let asking = tokio::spawn(async move { caller.ask(ask(Some(1))).await });
    rig.hanging.acquire().await.unwrap().forget();
    let gone = rig.servers.remove(first.as_str()).unwrap();
    gone.shutdown("test").await;
    rig.hanging.acquire().await.unwrap().forget();
    asking.abort();
    let answer = rig.caller.ask(ask(None)).await.unwrap();
    assert_ne!(answer.body, first);
}

#[tokio::test]
async fn who_waits_for_a_server_that_is_silent_is_answered_by_another() {
    let rig = Rig::start(&[("s1", Ok(()))]).await;
    // Takes packets and never says anything.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let alive = member("s1", rig.servers["s1"].local_addr());
    for number in 2.. {
        let silent = member(&format!("s{number}"), silent.local_addr().unwrap());
        rig.publisher.publish(vec![alive.clone(), silent]);
        rig.caller.0.see_members();
        if rig.preferred() != "s1" {
            break;
        }
    }
    assert_eq!(rig.caller.ask(ask(None)).await.unwrap().body, "s1");
}

#[tokio::test]
async fn with_no_server_left_an_ask_fails_at_once_with_the_reason() {
    let mut rig = Rig::start(&[("s1", Ok(()))]).await;
    rig.caller.ask(ask(None)).await.unwrap();
    let gone = rig.servers.remove("s1").unwrap();
    gone.shutdown("test").await;
    let error = rig.caller.ask(ask(None)).await.unwrap_err();
    assert!(matches!(&error, AskError::CutOff(why) if why.contains("s1")), "{error}");
}

#[test]
fn an_error_after_a_lost_write_does_not_say_that_nothing_happened() {
    let outcome = Effect::Possible.on(Err(AskError::NoLeader)).unwrap_err();
    assert!(!outcome.had_no_effect(), "{outcome}");
    assert_eq!(Effect::None.on(Err(AskError::NoLeader)), Err(AskError::NoLeader));
    let write = Ask { question: Question::KvDeleteTree { prefix: "k".into() }, ..ask(None) };
    let refused = || Err(AskError::Busy("full".into()));
    assert_eq!(Round::new(&write).conclude(refused(), 0), refused());
    let with_another_under_way = Round::new(&write).conclude(refused(), 1).unwrap_err();
    assert!(!with_another_under_way.had_no_effect(), "{with_another_under_way}");
}
