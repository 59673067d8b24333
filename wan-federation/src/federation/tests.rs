//! Federations of two and three datacenters on loopback, with the real link and real gossip.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::Domains,
    link::{Answering, Service, sockets::Kernel},
    store::{Bundle, Clock},
};
use tokio::task::JoinHandle;
use topology::{NodeId, NodeName, Role};
use uuid::Uuid;

use super::*;
use crate::{envelope::Consistency, sight::SIGHT, word::Word};

/// How long anything may take: far longer than it does, because machines are busy.
const LIVENESS: Duration = Duration::from_secs(60);

/// A server's inside: answers with its name and the payload.
#[derive(Default)]
struct Fake {
    name: String,
    is_leader: bool,
    leaderless: AtomicBool,
    lan: Mutex<Vec<Profile>>,
}

impl Inside for Fake {
    fn answer(&self, from: Arc<Identity>, envelope: Envelope) -> Promise<Result<Bytes, Refusal>> {
        let payload = String::from_utf8_lossy(&envelope.payload).into_owned();
        let answer = format!("{} to {}: {payload}", self.name, from.dc);
        Box::pin(async move {
            match payload.as_str() {
                "hang" => std::future::pending().await,
                "refuse" => Err(Refusal::new(99, "I refuse")),
                _ => Ok(answer.into()),
            }
        })
    }

    fn word(&self) -> Word {
        let leader_known = !self.leaderless.load(Ordering::Relaxed);
        Word { leader_known, is_leader: self.is_leader && leader_known, ..Word::default() }
    }

    fn lan_servers(&self) -> Vec<Profile> {
        self.lan.lock().unwrap().clone()
    }
}

/// What comes in over the link of a datacenter: sights of fellow servers.
#[derive(Default)]
struct Lan(OnceLock<Federation>);

impl Service for Lan {
    fn call(&self, peer: Arc<Identity>, _: SocketAddr, request: Request) -> Answering {
        let fellow = peer.node.clone().unwrap();
        let taken = request.kind == SIGHT && self.0.get().unwrap().told(&fellow, &request.body);
        let answer = if taken { Ok(Bytes::new()) } else { Err(Refusal::new(99, "what?")) };
        Box::pin(std::future::ready(answer))
    }

    fn datagram(&self, _: &Identity, _: SocketAddr, _: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

struct Site {
    federation: Federation,
    inside: Arc<Fake>,
    lan: SocketAddr,
    runs: [JoinHandle<()>; 2],
}

/// Several datacenters; node `b2` is the second server of dc2. The first of each is the leader.
struct World {
    authority: Authority,
    sites: BTreeMap<String, Site>,
}

impl World {
    fn new() -> Self {
        let authority =
            Authority::create("test", Algorithm::EcdsaP256, Clock::System.now(), 2).unwrap();
        Self { authority, sites: BTreeMap::new() }
    }

    /// Opens an endpoint with a certificate of this world's authority, which trusts another's too.
    fn endpoint(
        &self,
        role: Role,
        trusted: &World,
    ) -> (Endpoint, impl Future<Output = ()> + Send + 'static + use<>) {
        let me = Identity::new("dc9".parse().unwrap(), role, Some("x".parse().unwrap()));
        let now = Clock::System.now();
        let issued = self.authority.issue(&Subject::new(me.clone()), now, 1).unwrap();
        let bundle = Bundle {
            certificates: issued.certificate_pem,
            key: issued.key_pem,
            authorities: vec![trusted.authority.certificate_pem().to_owned()],
        };
        let config = link::Config {
            addr: "127.0.0.1:0".parse().unwrap(),
            me,
            keys: Keys::memory(bundle, Domains::default(), Clock::System).unwrap(),
            accept: Accept::Servers,
            profile: link::Profile::Wan,
            seed: None,
            limits: Limits::default(),
        };
        let door = Door {
            dc: "dc9".parse().unwrap(),
            inside: Arc::new(Fake::default()),
            inbox: mpsc::channel(1).0,
            row: Arc::default(),
            removals: Arc::default(),
            rivals: Arc::default(),
            metrics: Arc::new(Metrics::resolve()),
            forwarder: Arc::default(),
        };
        Endpoint::bind(config, &Kernel, Arc::new(door)).unwrap()
    }

    fn start(&mut self, name: &str, bind: SocketAddr, join: Vec<String>) {
        let dc = Datacenter::new(format!("dc{}", name.as_bytes()[0] - b'a' + 1)).unwrap();
        let node = NodeName::new(name).unwrap();
        let me = Identity::new(dc.clone(), Role::Server, Some(node.clone()));
        let now = Clock::System.now();
        let issued = self.authority.issue(&Subject::new(me.clone()), now, 1).unwrap();
        let bundle = Bundle {
            certificates: issued.certificate_pem,
            key: issued.key_pem,
            authorities: vec![self.authority.certificate_pem().to_owned()],
        };
        let keys = Keys::memory(bundle, Domains::default(), Clock::System).unwrap();
        let service = Arc::new(Lan::default());
        let lan = link::Config {
            addr: "127.0.0.1:0".parse().unwrap(),
            me,
            keys: keys.clone(),
            accept: Accept::OwnDatacenter(dc.clone()),
            profile: link::Profile::Lan,
            seed: None,
            limits: Limits::default(),
        };
        let (lan, run_lan) = Endpoint::bind(lan, &Kernel, service.clone()).unwrap();
        let boot = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap();
        let config = Config {
            me: Profile {
                name: node,
                id: NodeId(Uuid::from_u128(boot.into())),
                dc,
                role: Role::Server,
                addr: bind,
                link: None,
                wan: None,
                version: "0.1.0".to_owned(),
                tags: BTreeMap::new(),
            },
            bind,
            lan: lan.clone(),
            keys,
            join,
            retry_interval: Duration::from_secs(2),
            gossip: gossip::Config::wan(),
            seed: boot,
            boot,
            wall_ms: 1_700_000_000_000,
            removed: Vec::new(),
            randomness: Randomness::System,
            detours: Detours::On,
        };
        let inside =
            Fake { name: name.to_owned(), is_leader: name.ends_with('1'), ..Fake::default() };
        let inside = Arc::new(inside);
        let (federation, run) = Federation::bind(config, &Kernel, inside.clone()).unwrap();
        assert!(service.0.set(federation.clone()).is_ok());
        let runs = [tokio::spawn(run), tokio::spawn(run_lan)];
        let site = Site { federation, inside, lan: lan.local_addr(), runs };
        self.sites.insert(name.to_owned(), site);
    }

    /// Starts servers on free ports; those of one datacenter know each other by their LAN, and
    /// the first of each datacenter joins the very first.
    fn with(names: &[&str]) -> Self {
        let mut world = Self::new();
        for name in names {
            let first = name.ends_with('1').then(|| world.sites.values().next()).flatten();
            let join = first.map(|site| site.federation.me().addr.to_string());
            world.start(name, "127.0.0.1:0".parse().unwrap(), join.into_iter().collect());
        }
        for (name, site) in &world.sites {
            let fellows = world.sites.iter().filter(|(other, _)| other[..1] == name[..1]);
            let profiles = fellows.map(|(_, fellow)| {
                let me = fellow.federation.me().clone();
                Profile { wan: Some(me.addr), link: Some(fellow.lan), ..me }
            });
            *site.inside.lan.lock().unwrap() = profiles.collect();
            site.federation.flood();
        }
        world
    }

    fn at(&self, name: &str) -> &Federation {
        &self.sites[name].federation
    }

    /// Ends a server that has not left. Returns where it was, once that is free again.
    async fn kill(&mut self, name: &str) -> SocketAddr {
        let site = self.sites.remove(name).unwrap();
        let addr = site.federation.me().addr;
        site.runs.iter().for_each(JoinHandle::abort);
        drop(site);
        let freed = async {
            while std::net::UdpSocket::bind(addr).is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIVENESS, freed).await.unwrap();
        addr
    }

    /// Waits until a server knows this many members that are alive.
    async fn until_alive(&self, name: &str, count: usize) {
        let mut changes = self.at(name).changes();
        let waiting = async {
            while Census::of(&self.at(name).members()).alive != count {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LIVENESS, waiting).await.unwrap();
    }

    /// Waits until a server holds a datacenter for something.
    async fn until(&self, name: &str, dc: &str, wanted: Health) -> Verdict {
        let mut changes = self.at(name).changes();
        let waiting = async {
            loop {
                if let Some(verdict) = self.held(name, dc).filter(|v| v.health == wanted) {
                    return verdict;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(LIVENESS, waiting).await {
            Ok(verdict) => verdict,
            Err(_) => panic!(
                "{name} holds {dc} for {:?}, not for {wanted}; members {:?}",
                self.held(name, dc),
                self.at(name).members()
            ),
        }
    }

    async fn until_all(&self, dc: &str, wanted: Health) {
        let own = |name: &str| format!("dc{}", name.as_bytes()[0] - b'a' + 1);
        for name in self.sites.keys().filter(|name| own(name) != dc) {
            self.until(name, dc, wanted).await;
        }
    }

    fn held(&self, name: &str, dc: &str) -> Option<Verdict> {
        let all = self.at(name).datacenters();
        all.into_iter().find(|(known, _)| known.as_str() == dc).map(|(_, verdict)| verdict)
    }

    /// Asks until the answer is the wanted one: who is asked depends on what is known yet.
    async fn until_answer(&self, name: &str, dc: &str, wanted: &str) {
        let asking = async {
            while self.ask(name, dc, "hello").await.ok().as_deref() != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIVENESS, asking).await.unwrap();
    }

    async fn ask(&self, name: &str, dc: &str, payload: &str) -> Result<String, ForwardError> {
        let envelope = Envelope {
            dc: Datacenter::new(dc).unwrap(),
            path: Vec::new(),
            deadline: Instant::now() + LIVENESS,
            request: Uuid::from_u128(7),
            read: true,
            waits: false,
            consistency: Consistency::Leader,
            trace: Uuid::from_u128(8),
            payload: Bytes::from(payload.to_owned()),
        };
        let forwarded = self.at(name).forward(envelope).await?;
        Ok(String::from_utf8_lossy(&forwarded.answer).into_owned())
    }
}

#[tokio::test]
async fn joining_one_server_makes_all_known_to_all_and_requests_find_the_leader() {
    let world = World::with(&["a1", "a2", "b1", "b2"]);
    world.until_all("dc1", Health::Healthy).await;
    world.until_all("dc2", Health::Healthy).await;
    world.until_answer("a2", "dc2", "b1 to dc1: hello").await;
    world.until_answer("b2", "dc1", "a1 to dc2: hello").await;
    let refused = world.ask("a1", "dc2", "refuse").await.unwrap_err();
    assert_eq!(refused.to_string(), "b1.dc2 refused: I refuse");
    let unknown = world.ask("a1", "dc9", "hello").await.unwrap_err();
    assert!(matches!(unknown, ForwardError::UnknownDatacenter { .. }), "{unknown}");
    world.until_alive("a1", 4).await;
    let stats = world.at("a1").stats();
    assert!(stats.contains(&("serf_wan", "alive".to_owned(), "4".to_owned())), "{stats:?}");
}

#[tokio::test]
async fn a_killed_datacenter_is_lost_everywhere_and_returns() {
    let mut world = World::with(&["a1", "a2", "b1", "b2", "c1"]);
    for dc in ["dc1", "dc2", "dc3"] {
        world.until_all(dc, Health::Healthy).await;
    }
    let addrs = [world.kill("b1").await, world.kill("b2").await];
    let early = world.ask("a1", "dc2", "hello").await.unwrap_err();
    assert!(!matches!(early, ForwardError::UnknownDatacenter { .. }), "{early}");
    world.until_all("dc2", Health::Lost).await;
    let lost = world.ask("a2", "dc2", "hello").await.unwrap_err();
    assert!(matches!(lost, ForwardError::Lost { .. }), "{lost}");
    assert_eq!(world.ask("a2", "dc3", "still there").await.unwrap(), "c1 to dc1: still there");
    for (name, addr) in ["b1", "b2"].into_iter().zip(addrs) {
        world.start(name, addr, vec![world.at("a1").me().addr.to_string()]);
    }
    world.until_all("dc2", Health::Healthy).await;
    world.until_answer("a1", "dc2", "b1 to dc1: hello").await;
}

#[tokio::test]
async fn who_has_no_right_certificate_is_not_heard() {
    let world = World::with(&["a1", "b1"]);
    world.until_alive("a1", 2).await;
    let foreign = Authority::create("foreign", Algorithm::EcdsaP256, Clock::System.now(), 2);
    let foreign = World { authority: foreign.unwrap(), sites: BTreeMap::new() };
    let strangers = [
        // A server by an authority that nobody trusts, and a client by the right one.
        (foreign.endpoint(Role::Server, &world), "issued by no authority that is trusted here"),
        (world.endpoint(Role::Client, &world), "only servers may ask here"),
    ];
    let members = world.at("a1").members();
    for ((endpoint, run), reason) in strangers {
        let run = tokio::spawn(run);
        let to = Target { addr: world.at("a1").me().addr, expect: link::Expect::any_server() };
        for kind in [ROSTER, pool::PACKET, ENVELOPE] {
            let deadline = Instant::now() + LIVENESS;
            let body = Bytes::from_static(b"\x01 whatever");
            let error = endpoint.call(&to, Request { kind, deadline, body }).await.unwrap_err();
            assert!(error.had_no_effect() && error.to_string().contains(reason), "{error}");
        }
        // Whether or not it is sent, nobody takes it for a member's.
        let _ = endpoint.datagram(&to, Bytes::from_static(b"whatever"));
        run.abort();
    }
    assert_eq!(world.at("a1").members(), members);
}

#[tokio::test]
async fn a_stranger_s_request_is_passed_on_once_and_never_to_where_it_was() {
    let world = World::with(&["a1", "b1"]);
    world.until_all("dc2", Health::Healthy).await;
    world.until_all("dc1", Health::Healthy).await;
    let (endpoint, run) = world.endpoint(Role::Server, &world);
    let run = tokio::spawn(run);
    let call = async |to: &str, path: &[&str], payload: &'static str| {
        let deadline = Instant::now() + LIVENESS;
        let envelope = Envelope {
            dc: Datacenter::new(to).unwrap(),
            path: path.iter().map(|dc| Datacenter::new(*dc).unwrap()).collect(),
            deadline,
            request: Uuid::from_u128(7),
            read: true,
            waits: false,
            consistency: Consistency::Leader,
            trace: Uuid::from_u128(8),
            payload: Bytes::from_static(payload.as_bytes()),
        };
        let body = envelope.encode().unwrap();
        let to = Target { addr: world.at("a1").me().addr, expect: link::Expect::any_server() };
        let reply = endpoint.call(&to, Request { kind: RELAY, deadline, body }).await;
        match reply {
            Ok(reply) => Relayed::decode(reply.body).map_err(|error| format!("{error:?}")),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(call("dc2", &["dc9"], "hello").await.unwrap(), "b1 to dc1: hello");
    for (to, path, payload, why) in [
        ("dc2", &["dc9"][..], "refuse", "b1.dc2: I refuse"),
        ("dc2", &["dc4", "dc9"], "hello", "passed 3 datacenters"),
        ("dc1", &["dc9"], "hello", "this server is of dc1 itself"),
        ("dc2", &["dc1", "dc9"], "hello", "has already been in dc1"),
        ("dc7", &["dc9"], "hello", "no server of it is known"),
        ("dc2", &["dc8"], "hello", "says it comes from dc8"),
    ] {
        let error = call(to, path, payload).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    run.abort();
}

#[tokio::test]
async fn one_server_lost_is_partial_and_requests_go_to_the_other() {
    let mut world = World::with(&["a1", "a2", "b1", "b2"]);
    // The other one must be known before the first is gone.
    for name in ["a1", "a2", "b2"] {
        world.until_alive(name, 4).await;
    }
    world.until_all("dc2", Health::Healthy).await;
    world.kill("b1").await;
    world.until_answer("a1", "dc2", "b2 to dc1: hello").await;
    let verdict = world.until("a1", "dc2", Health::Degraded(crate::verdict::Degradation::Partial));
    assert!(verdict.await.evidence.contains("b1"));
    world.until_answer("a2", "dc2", "b2 to dc1: hello").await;
}

#[tokio::test]
async fn a_datacenter_without_a_leader_is_leaderless() {
    let world = World::with(&["a1", "b1"]);
    world.until_all("dc2", Health::Healthy).await;
    world.sites["b1"].inside.leaderless.store(true, Ordering::Relaxed);
    world.until("a1", "dc2", Health::Degraded(crate::verdict::Degradation::Leaderless)).await;
    world.sites["b1"].inside.leaderless.store(false, Ordering::Relaxed);
    world.until("a1", "dc2", Health::Healthy).await;
}

#[tokio::test]
async fn a_datacenter_that_leaves_is_no_longer_known() {
    let world = World::with(&["a1", "b1"]);
    world.until_all("dc2", Health::Healthy).await;
    world.at("b1").leave().await.unwrap();
    let mut changes = world.at("a1").changes();
    let gone = async {
        while world.held("a1", "dc2").is_some() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LIVENESS, gone).await.unwrap();
    let error = world.ask("a1", "dc2", "hello").await.unwrap_err();
    assert!(matches!(error, ForwardError::UnknownDatacenter { .. }), "{error}");
}

#[tokio::test]
async fn joining_says_how_many_answered_and_why_the_others_did_not() {
    let world = World::with(&["a1"]);
    let mut other = World { authority: world.authority, sites: world.sites };
    other.start("b1", "127.0.0.1:0".parse().unwrap(), Vec::new());
    let here = other.at("b1").me().addr;
    assert_eq!(other.at("a1").join(vec![here]).await, Ok(1));
    other.until("a1", "dc2", Health::Healthy).await;
    let nobody = other.kill("b1").await;
    let error = other.at("a1").join(vec![nobody]).await.unwrap_err();
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    let error = other.at("a1").force_leave("x.dc2", false).await.unwrap_err();
    assert!(matches!(error, PoolError::UnknownMember { .. }), "{error}");
}

#[tokio::test]
async fn whoever_is_said_to_be_refused_gets_no_requests_any_more() {
    let mut world = World::with(&["a1", "b1"]);
    let say = async |world: &World, name: &str, cluster: &str| {
        let mut me = world.at(name).me().clone();
        me.tags.insert(topology::member::CLUSTER_TAG.to_owned(), cluster.to_owned());
        world.at(name).update(me).await.unwrap();
    };
    world.until("a1", "dc2", Health::Healthy).await;
    say(&world, "b1", "the first").await;
    let join = world.at("a1").me().addr.to_string();
    world.start("b2", "127.0.0.1:0".parse().unwrap(), vec![join]);
    let servers = |world: &World| {
        let table = world.at("a1").0.board.table.load();
        table.remotes["dc2"].servers.iter().map(|it| it.name.to_string()).collect::<Vec<_>>()
    };
    let mut changes = world.at("a1").changes();
    while servers(&world).len() < 2 {
        tokio::time::timeout(LIVENESS, changes.changed()).await.unwrap().unwrap();
    }
    say(&world, "b2", "the second").await;
    let refused = async {
        while world.at("a1").report().await.unwrap().refused.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIVENESS, refused).await.unwrap();
    assert_eq!(servers(&world), ["b1"]);
}
