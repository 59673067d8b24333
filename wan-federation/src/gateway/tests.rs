//! Gateways between real endpoints, and between sockets of those who mean no good.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::{Domains, Identity},
    link::{
        self, Accept, Answering, Endpoint, Expect, Kind, Limits, Reply, Request, Routes, Service,
        Target, sockets::Kernel,
    },
    store::{Bundle, Clock, Keys},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use topology::{NodeName, Role, gateway::virtual_addr};

use super::{Config, Gateway, flows::Bounds};

const CLASSIC: &[u8] = include_bytes!("../../../tests/corpus/initial/classic");
const FIRST: &[u8] = include_bytes!("../../../tests/corpus/initial/post_quantum_first");
const SECOND: &[u8] = include_bytes!("../../../tests/corpus/initial/post_quantum_second");

/// How long anything that has to happen may take on a busy machine.
const LIVENESS: Duration = Duration::from_secs(20);

/// Answers with its name.
struct Named(&'static str);

impl Service for Named {
    fn call(&self, _: Arc<Identity>, _: SocketAddr, request: Request) -> Answering {
        let answer = [self.0.as_bytes(), b" ", &request.body].concat();
        Box::pin(std::future::ready(Ok(Bytes::from(answer))))
    }

    fn datagram(&self, _: &Identity, _: SocketAddr, _: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn node(authority: &Authority, dc: &str, name: &'static str) -> (Endpoint, JoinHandle<()>) {
    let me = Identity::new(dc.parse().unwrap(), Role::Server, Some(name.parse().unwrap()));
    let issued = authority.issue(&Subject::new(me.clone()), Clock::System.now(), 1).unwrap();
    let bundle = Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: vec![authority.certificate_pem().to_owned()],
    };
    let config = link::Config {
        addr: any(),
        me,
        keys: Keys::memory(bundle, Domains::default(), Clock::System).unwrap(),
        accept: Accept::Servers,
        profile: link::Profile::Wan,
        seed: None,
        limits: Limits::default(),
    };
    let (endpoint, run) = Endpoint::bind(config, &Kernel, Arc::new(Named(name))).unwrap();
    (endpoint, tokio::spawn(run))
}

/// A running gateway.
struct Running {
    gateway: Gateway,
    addr: SocketAddr,
    run: JoinHandle<()>,
}

fn gateway(servers: &[(&str, SocketAddr)]) -> Running {
    let named = servers.iter().map(|(name, addr)| (NodeName::new(name).unwrap(), addr.to_string()));
    let config = Config {
        bind: any(),
        dc: "dc2".parse().unwrap(),
        servers: named.collect(),
        bounds: Bounds::default(),
    };
    let (gateway, run) = Gateway::bind(config).unwrap();
    Running { addr: gateway.local_addr().unwrap(), gateway, run: tokio::spawn(run) }
}

impl Running {
    /// Waits until so many datagrams were dropped for a reason.
    async fn dropped(&self, reason: &str, count: u64) {
        until(|| self.gateway.totals().dropped.get(reason).copied().unwrap_or_default() >= count)
            .await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIVENESS, waiting).await.expect("it happens in time");
}

/// Two servers of dc2 behind a gateway, and a server of dc1.
struct Scene {
    client: Endpoint,
    servers: [Endpoint; 2],
    gateway: Running,
    _runs: Vec<JoinHandle<()>>,
}

fn scene() -> Scene {
    let authority =
        Authority::create("test", Algorithm::EcdsaP256, Clock::System.now(), 2).unwrap();
    let (client, run) = node(&authority, "dc1", "dc1-s1");
    let (first, run_first) = node(&authority, "dc2", "dc2-s1");
    let (second, run_second) = node(&authority, "dc2", "dc2-s2");
    let gateway = gateway(&[("dc2-s1", first.local_addr()), ("dc2-s2", second.local_addr())]);
    let runs = vec![run, run_first, run_second];
    Scene { client, servers: [first, second], gateway, _runs: runs }
}

fn target(name: &str, addr: SocketAddr) -> Target {
    Target::server(&"dc2".parse().unwrap(), &name.parse().unwrap(), addr)
}

async fn ask(client: &Endpoint, to: &Target, body: &'static [u8]) -> Bytes {
    let deadline = Instant::now() + LIVENESS;
    let request = Request { kind: Kind(16), deadline, body: body.into() };
    let Reply { body } = client.call(to, request).await.unwrap();
    body
}

/// What a client is behind that changes its address, or the gateway that it gets to.
struct Nat {
    addr: SocketAddr,
    way: watch::Sender<(u32, SocketAddr)>,
    _run: JoinHandle<()>,
}

impl Nat {
    /// Leads to a gateway.
    async fn to(gateway: SocketAddr) -> Self {
        let front = UdpSocket::bind(any()).await.unwrap();
        let addr = front.local_addr().unwrap();
        let (way, mut ways) = watch::channel((0, gateway));
        let run = tokio::spawn(async move {
            let (mut out, mut back) = ([0; 2048], [0; 2048]);
            let mut client = addr;
            loop {
                let (_, gateway) = *ways.borrow_and_update();
                // Another socket has another port.
                let behind = UdpSocket::bind(any()).await.unwrap();
                loop {
                    tokio::select! {
                        changed = ways.changed() => match changed {
                            Ok(()) => break,
                            Err(_) => return,
                        },
                        Ok((len, from)) = front.recv_from(&mut out) => {
                            client = from;
                            behind.send_to(&out[..len], gateway).await.unwrap();
                        }
                        Ok((len, _)) = behind.recv_from(&mut back) => {
                            front.send_to(&back[..len], client).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { addr, way, _run: run }
    }

    /// Gives the client another address, on the way to this gateway.
    fn rebind(&self, gateway: SocketAddr) {
        self.way.send_modify(|(turn, way)| (*turn, *way) = (*turn + 1, gateway));
    }
}

#[tokio::test]
async fn servers_are_reached_by_their_names_from_one_port_to_one_port() {
    let scene = scene();
    for name in ["dc2-s1", "dc2-s2", "dc2-s1"] {
        // An address of its own for each: the link keeps one connection for an address.
        let nat = Nat::to(scene.gateway.addr).await;
        let answer = ask(&scene.client, &target(name, nat.addr), b"hello").await;
        assert_eq!(answer, format!("{name} hello"));
    }
    let direct = target("dc2-s2", scene.gateway.addr);
    assert_eq!(ask(&scene.client, &direct, b"hello").await, "dc2-s2 hello");
    let totals = scene.gateway.gateway.totals();
    assert!(totals.opened == 4 && totals.to_clients > 0, "{totals:?}");
}

#[tokio::test]
async fn who_asks_for_any_server_gets_one_after_the_other() {
    let scene = scene();
    let mut answers = BTreeMap::<Bytes, usize>::new();
    for _ in 0..4 {
        let nat = Nat::to(scene.gateway.addr).await;
        let target = Target { addr: nat.addr, expect: Expect::any_server() };
        *answers.entry(ask(&scene.client, &target, b"").await).or_default() += 1;
    }
    assert_eq!(answers.into_values().collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    let scene = scene();
    let body: &'static [u8] = vec![7; 4 << 20].leak();
    let answer = ask(&scene.client, &target("dc2-s1", scene.gateway.addr), body).await;
    assert_eq!(answer.len(), "dc2-s1 ".len() + body.len());
}

#[tokio::test]
async fn a_connection_goes_on_when_the_address_of_the_client_changes() {
    let scene = scene();
    let nat = Nat::to(scene.gateway.addr).await;
    let target = target("dc2-s1", nat.addr);
    ask(&scene.client, &target, b"").await;
    let connected = scene.servers[0].open_connections();
    for _ in 0..3 {
        let flows = scene.gateway.gateway.totals().opened;
        nat.rebind(scene.gateway.addr);
        assert_eq!(ask(&scene.client, &target, b"moved").await, "dc2-s1 moved");
        assert_eq!(scene.gateway.gateway.totals().opened, flows + 1);
    }
    assert_eq!(scene.servers[0].open_connections(), connected, "the same connection");
}

#[tokio::test]
async fn a_connection_goes_on_through_another_gateway() {
    let scene = scene();
    let servers = ["dc2-s1", "dc2-s2"].into_iter().zip(&scene.servers);
    let servers: Vec<_> = servers.map(|(name, it)| (name, it.local_addr())).collect();
    let other = gateway(&servers);
    let nat = Nat::to(scene.gateway.addr).await;
    let target = target("dc2-s1", nat.addr);
    ask(&scene.client, &target, b"").await;
    scene.gateway.run.abort();
    nat.rebind(other.addr);
    assert_eq!(ask(&scene.client, &target, b"taken over").await, "dc2-s1 taken over");
    assert_eq!(scene.servers[0].open_connections(), 1, "the same connection");
    assert!(other.gateway.totals().opened == 1);
}

#[tokio::test]
async fn garbage_gets_no_answer_and_harms_nobody() {
    let scene = scene();
    let target = target("dc2-s1", scene.gateway.addr);
    ask(&scene.client, &target, b"").await;
    let stranger = UdpSocket::bind(any()).await.unwrap();
    let mut changed = CLASSIC.to_vec();
    changed[600] ^= 1;
    let version = [&CLASSIC[..1], &[0xba; 4], &CLASSIC[5..]].concat();
    let garbage: [&[u8]; 6] =
        [&[0xc0; 1200], &[0x40; 60], &[1], &changed, &CLASSIC[..1100], &version];
    for datagram in garbage {
        stranger.send_to(datagram, scene.gateway.addr).await.unwrap();
    }
    until(|| scene.gateway.gateway.totals().dropped.values().sum::<u64>() == 6).await;
    let mut buffer = [0; 2048];
    assert!(stranger.try_recv(&mut buffer).is_err(), "no answer");
    assert_eq!(ask(&scene.client, &target, b"well").await, "dc2-s1 well");
    assert_eq!(scene.gateway.gateway.open_flows(), 1);
}

#[tokio::test]
async fn a_name_of_nobody_here_gets_no_answer() {
    let scene = scene();
    let alone = gateway(&[("dc2-s9", scene.servers[0].local_addr())]);
    let stranger = UdpSocket::bind(any()).await.unwrap();
    stranger.send_to(CLASSIC, alone.addr).await.unwrap();
    alone.dropped("unknown_name", 1).await;
    let mut buffer = [0; 2048];
    assert!(stranger.try_recv(&mut buffer).is_err(), "no answer");
}

#[tokio::test]
async fn packets_that_are_sent_again_from_elsewhere_get_no_answer() {
    let scene = scene();
    // What the client sends passes by somebody who keeps a copy.
    let watcher = UdpSocket::bind(any()).await.unwrap();
    let nat = Nat::to(watcher.local_addr().unwrap()).await;
    let behind = UdpSocket::bind(any()).await.unwrap();
    let addr = scene.gateway.addr;
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let copies = kept.clone();
    tokio::spawn(async move {
        let (mut out, mut back, mut client) = ([0; 2048], [0; 2048], addr);
        loop {
            tokio::select! {
                Ok((len, from)) = watcher.recv_from(&mut out) => {
                    client = from;
                    copies.lock().unwrap().push(out[..len].to_vec());
                    behind.send_to(&out[..len], addr).await.unwrap();
                }
                Ok((len, _)) = behind.recv_from(&mut back) => {
                    watcher.send_to(&back[..len], client).await.unwrap();
                }
            }
        }
    });
    let target = target("dc2-s1", nat.addr);
    ask(&scene.client, &target, b"").await;
    let copies: Vec<Vec<u8>> = kept.lock().unwrap().clone();
    let before = scene.gateway.gateway.totals();
    let stranger = UdpSocket::bind(any()).await.unwrap();
    for copy in &copies {
        stranger.send_to(copy, addr).await.unwrap();
    }
    let done = |totals: super::driver::Totals| {
        let dropped = totals.dropped.values().sum::<u64>() - before.dropped.values().sum::<u64>();
        totals.to_servers - before.to_servers + dropped >= copies.len() as u64
    };
    until(|| done(scene.gateway.gateway.totals())).await;
    // The server has had time to answer when it has answered somebody else.
    assert_eq!(ask(&scene.client, &target, b"well").await, "dc2-s1 well");
    let mut buffer = [0; 2048];
    assert!(stranger.try_recv(&mut buffer).is_err(), "no answer");
}

#[tokio::test]
async fn a_client_hello_in_two_packets_goes_to_its_server_whole() {
    let server = UdpSocket::bind(any()).await.unwrap();
    let gateway = gateway(&[("dc2-s1", server.local_addr().unwrap())]);
    let client = UdpSocket::bind(any()).await.unwrap();
    let mut buffer = [0; 2048];
    client.send_to(FIRST, gateway.addr).await.unwrap();
    client.send_to(SECOND, gateway.addr).await.unwrap();
    let mut from = Vec::new();
    for wanted in [FIRST, SECOND] {
        let (len, addr) = timeout(LIVENESS, server.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..len], wanted);
        from.push(addr);
    }
    assert_eq!(from[0], from[1]);
    // What the server says comes from where the client asked.
    server.send_to(b"answer", from[0]).await.unwrap();
    let (len, addr) = timeout(LIVENESS, client.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..len], addr), (&b"answer"[..], gateway.addr));
}

#[tokio::test]
async fn a_spoofed_source_gets_three_times_what_it_sent_at_most() {
    let server = UdpSocket::bind(any()).await.unwrap();
    let gateway = gateway(&[("dc2-s1", server.local_addr().unwrap())]);
    let victim = UdpSocket::bind(any()).await.unwrap();
    victim.send_to(CLASSIC, gateway.addr).await.unwrap();
    let mut buffer = [0; 2048];
    let (_, flow) = timeout(LIVENESS, server.recv_from(&mut buffer)).await.unwrap().unwrap();
    for _ in 0..20 {
        server.send_to(&[0x40; 1200], flow).await.unwrap();
    }
    gateway.dropped("unverified", 17).await;
    let mut received = 0;
    while let Ok(len) = victim.try_recv(&mut buffer) {
        received += len;
    }
    assert_eq!(received, 3 * 1200);
}

#[tokio::test]
async fn a_flood_from_one_source_leaves_the_others_alone() {
    let scene = scene();
    let target = target("dc2-s1", scene.gateway.addr);
    ask(&scene.client, &target, b"").await;
    let sockets: Vec<_> =
        (0..300).map(|_| std::net::UdpSocket::bind("127.0.0.66:0").unwrap()).collect();
    for socket in &sockets {
        socket.send_to(CLASSIC, scene.gateway.addr).unwrap();
        // As fast as the gateway reads: the kernel would drop the rest.
        tokio::task::yield_now().await;
    }
    until(|| {
        let totals = scene.gateway.gateway.totals();
        let refused = ["rate", "source"].map(|it| totals.dropped.get(it).copied().unwrap_or(0));
        totals.opened + refused.iter().sum::<u64>() >= 301
    })
    .await;
    assert!(scene.gateway.gateway.open_flows() <= 130, "{}", scene.gateway.gateway.open_flows());
    assert_eq!(ask(&scene.client, &target, b"well").await, "dc2-s1 well");
    let nat = Nat::to(scene.gateway.addr).await;
    let newcomer = self::target("dc2-s2", nat.addr);
    assert_eq!(ask(&scene.client, &newcomer, b"new").await, "dc2-s2 new");
}

#[tokio::test]
async fn a_server_is_reached_by_the_gateway_that_answers() {
    let scene = scene();
    let to = |name: &str| {
        let addr = virtual_addr(&"dc2".parse().unwrap(), &name.parse().unwrap(), 8302);
        target(name, addr)
    };
    let silent = UdpSocket::bind(any()).await.unwrap();
    let ways = [silent.local_addr().unwrap(), scene.gateway.addr];
    let mut routes = Routes::default();
    for name in ["dc2-s1", "dc2-s2"] {
        routes.lead(to(name).addr, ways);
    }
    let lost = ask_soon(&scene.client, &to("dc2-s1")).await.unwrap_err();
    assert!(lost.contains("where its gateways are is not known"), "{lost}");
    scene.client.route(routes);
    for name in ["dc2-s1", "dc2-s2"] {
        assert_eq!(ask(&scene.client, &to(name), b"well").await, format!("{name} well"));
        let paths = scene.client.paths();
        assert!(paths.iter().any(|path| path.addr == to(name).addr && path.is_up()), "{paths:?}");
    }
}

/// Asks until the attempt before it is long enough ago; returns why there is no answer.
async fn ask_soon(client: &Endpoint, to: &Target) -> Result<Bytes, String> {
    let deadline = Instant::now() + LIVENESS;
    let request = Request { kind: Kind(16), deadline, body: Bytes::new() };
    client.call(to, request).await.map(|reply| reply.body).map_err(|error| error.to_string())
}

#[tokio::test]
async fn who_comes_by_a_gateway_is_known_by_its_own_address() {
    let scene = scene();
    let (dc, name) = ("dc1".parse().unwrap(), "dc1-s1".parse().unwrap());
    let known = virtual_addr(&dc, &name, 8302);
    let mut routes = Routes::default();
    routes.know(&dc, &name, known);
    scene.servers[0].route(routes);
    ask(&scene.client, &target("dc2-s1", scene.gateway.addr), b"").await;
    // What goes the other way takes the connection that there is.
    let back = Target::server(&dc, &name, known);
    assert_eq!(ask(&scene.servers[0], &back, b"back").await, "dc1-s1 back");
    assert_eq!(scene.servers[0].open_connections(), 1);
}
