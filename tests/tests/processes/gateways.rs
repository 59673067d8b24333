//! Datacenters that show each other nothing but gateways, with gateways killed and strangers at them.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    gateway::Gateway,
    until,
};

use crate::cut_off::nodes;

/// How long until everything goes on after a gateway was killed, or all were.
const SETTLED_MAX: Duration = Duration::from_secs(60);

/// A ClientHello for `dc2-s1`, whom nobody wants to speak to.
const INITIAL: &[u8] = include_bytes!("../../corpus/initial/classic");

/// Two datacenters and their gateways: one of dc1, two of dc2.
struct Scene {
    cluster: Cluster,
    gateways: [Gateway; 3],
}

impl Scene {
    async fn start() -> Self {
        let shape = |dc, servers, clients| Shape { dc, servers, clients };
        let mut cluster = Cluster::plan(&[shape("dc1", 1, 1), shape("dc2", 2, 0)]);
        let hosts = [201, 202, 203].map(|number| cluster.spare_host(number));
        for (dc, hosts) in [("dc1", &hosts[..1]), ("dc2", &hosts[1..])] {
            for server in cluster.servers(dc) {
                let gateways = json!({ "gateways": hosts });
                cluster.agents[server].configure(json!({ "federation": gateways }));
            }
        }
        let first = cluster.servers("dc1")[0];
        cluster.agents[first].configure(json!({ "failover": { "min_healthy": 1 } }));
        let dcs = ["dc1", "dc2", "dc2"].into_iter().zip(hosts);
        let gateways: Vec<_> = dcs.map(|(dc, host)| Gateway::new(&cluster, dc, host)).collect();
        let mut gateways: [Gateway; 3] = gateways.try_into().expect("three");
        gateways.iter_mut().for_each(Gateway::spawn);
        cluster.launch().await;
        Self { cluster, gateways }
    }

    fn client(&self, dc: &str) -> Client {
        self.cluster.agents[self.cluster.servers(dc)[0]].client()
    }

    /// Waits until both datacenters read and write in each other, and the mirror of dc2 is fresh.
    async fn works(&self, what: &str) {
        for (from, to) in [("dc1", "dc2"), ("dc2", "dc1")] {
            let client = self.client(from).patient(Duration::from_secs(5));
            let (path, key) = (format!("{what}-{from}?dc={to}"), format!("{what}-{from}"));
            until(SETTLED_MAX, &format!("{what}: {from} writes in {to}"), async || {
                let put = client.kv_put(&path, what).await.map_err(|error| format!("{error:#}"))?;
                let read = client.kv_get(&path).await.map_err(|error| format!("{error:#}"))?;
                let there = self.client(to).kv_get(&key).await;
                let there = there.map_err(|error| format!("{error:#}"))?;
                if put && read.is_some() && there.is_some() { Ok(()) } else { Err("not".into()) }
            })
            .await;
        }
        let client = self.client("dc1");
        until(SETTLED_MAX, &format!("{what}: the mirror is fresh"), async || {
            let response = client.get("/v1/health/service/web?dc=dc2&stale").await;
            let response = response.map_err(|error| format!("{error:#}"))?;
            let is_mirror = response.header("x-causeway-source") == "mirror";
            let is_fresh = response.last_contact() < Duration::from_secs(5);
            match nodes(&response)?.as_slice() {
                [node] if node == "ext" && is_mirror && is_fresh => Ok(()),
                found => Err(format!("{found:?} {:?}", response.last_contact())),
            }
        })
        .await;
    }

    /// Waits until dc1 holds dc2 for something.
    async fn holds(&self, health: &str) {
        let client = self.client("dc1");
        until(SETTLED_MAX, &format!("dc2 is {health}"), async || {
            let status = client.json("/v1/federation/status").await;
            let status = status.map_err(|error| format!("{error:#}"))?;
            let dcs = status["Datacenters"].as_array().cloned().unwrap_or_default();
            let found = dcs.iter().find(|dc| dc["Name"] == "dc2").cloned().unwrap_or(Value::Null);
            if found["Health"] == health { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }
}

async fn register(client: &Client) {
    let service = json!({ "ID": "web", "Service": "web", "Port": 80 });
    let node = json!({ "Node": "ext", "Address": "192.0.2.1", "Service": service });
    client.put("/v1/catalog/register", node.to_string()).await.unwrap().ok().unwrap();
}

/// Garbage, and beginnings of handshakes from addresses that are somebody else's, as long as this lives.
struct Strangers {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Strangers {
    fn at(gateways: Vec<SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut random = SmallRng::seed_from_u64(7);
            let (mut sent, mut garbage) = (0_u32, [0; 1300]);
            let mut victims: Vec<UdpSocket> = Vec::new();
            let quiet = UdpSocket::bind("127.0.0.1:0").unwrap();
            quiet.set_nonblocking(true).unwrap();
            while !stopped.load(Relaxed) {
                // Each beginning comes from an address of its own, where nobody answers: it may be anybody's.
                let newcomers: Vec<_> =
                    (0..20).map(|_| UdpSocket::bind(spoofed(random.next_u32())).unwrap()).collect();
                for gateway in &gateways {
                    for newcomer in &newcomers {
                        sent += u32::from(newcomer.send_to(INITIAL, gateway).is_ok());
                    }
                    for _ in 0..20 {
                        random.fill_bytes(&mut garbage);
                        let len = random.next_u32() as usize % garbage.len();
                        let _ = quiet.send_to(&garbage[..len], gateway);
                    }
                }
                assert!(quiet.recv(&mut garbage).is_err(), "garbage was answered");
                victims.extend(newcomers.into_iter().take(1).filter(|_| sent < 5_000));
                thread::sleep(Duration::from_millis(20));
            }
            let told: Vec<usize> = victims.iter().map(bytes_told).collect();
            let most = 3 * INITIAL.len() * gateways.len();
            assert!(told.iter().all(|bytes| *bytes <= most), "somebody was told {told:?}");
            u64::from(sent)
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; returns how many handshakes it began.
    fn end(mut self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.take().expect("it runs").join().expect("nobody answered it")
    }
}

/// An address that a stranger pretends to have.
fn spoofed(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([127, 128 | a, b, c.clamp(1, 254)], 0))
}

/// Returns how much somebody was sent who never asked for it.
fn bytes_told(victim: &UdpSocket) -> usize {
    victim.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2048];
    std::iter::from_fn(|| victim.recv(&mut buffer).ok()).sum()
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_behind_gateways_when_one_is_killed_and_strangers_are_at_them() {
    let mut scene = Scene::start().await;
    let client = scene.client("dc1");
    let members = client.json("/v1/agent/members?wan=1").await.unwrap();
    for member in members.as_array().unwrap() {
        let (addr, tags) = (member["Addr"].as_str().unwrap(), &member["Tags"]["gateways"]);
        assert!(addr.starts_with("fdca:") && tags.is_string(), "{member}");
    }
    register(&scene.client("dc2")).await;
    scene.works("all").await;
    let lookup = client.get("/v1/health/service/web").await.unwrap();
    assert_eq!(nodes(&lookup).unwrap(), ["ext"], "dc2 stands in");
    assert_eq!(lookup.header("x-causeway-served-dc"), "dc2");

    let strangers = Strangers::at(scene.gateways.iter().map(|it| it.addr).collect());
    scene.works("flooded").await;
    // From now on there is no way into dc1, so that all goes over connections into dc2.
    scene.gateways[0].kill();
    scene.works("one-way").await;
    scene.gateways[1].kill();
    scene.works("second").await;
    scene.holds("healthy").await;
    scene.gateways[1].spawn();
    scene.gateways[2].kill();
    scene.works("first").await;
    scene.holds("healthy").await;
    assert!(strangers.end() > 100, "there was a flood");
    assert!(scene.gateways[1].is_running());
    assert_eq!(scene.gateways[1].terminate(), Some(0), "{}", scene.gateways[1].log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_gateways_a_datacenter_is_lost_and_with_them_it_is_back() {
    let mut scene = Scene::start().await;
    register(&scene.client("dc2")).await;
    scene.works("before").await;
    scene.holds("healthy").await;
    scene.gateways.iter_mut().for_each(Gateway::kill);
    scene.holds("lost").await;
    let response = scene.client("dc1").get("/v1/health/service/web?dc=dc2&stale").await.unwrap();
    assert_eq!(nodes(&response).unwrap(), ["ext"]);
    scene.gateways.iter_mut().for_each(Gateway::spawn);
    scene.holds("healthy").await;
    scene.works("after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_cut_off_reads_in_a_datacenter_behind_gateways() {
    let mut scene = Scene::start().await;
    register(&scene.client("dc1")).await;
    let dc2 = scene.client("dc2");
    until(SETTLED_MAX, "dc2 mirrors dc1", async || {
        let found = dc2.get("/v1/health/service/web?dc=dc1&stale").await;
        let found = nodes(&found.map_err(|error| format!("{error:#}"))?)?;
        if found == ["ext"] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let agent = scene.cluster.clients("dc1")[0];
    let list = scene.cluster.agents[agent].data_dir().join("refuges.json");
    let gateway = scene.gateways[1].addr.to_string();
    until(SETTLED_MAX, "the agent is told of dc2 and its gateways", async || {
        let found = std::fs::read_to_string(&list).map_err(|error| error.to_string())?;
        if found.contains(&gateway) { Ok(()) } else { Err(found) }
    })
    .await;
    let server = scene.cluster.servers("dc1")[0];
    scene.cluster.agents[server].kill();
    let client = scene.cluster.agents[agent].client();
    until(SETTLED_MAX, "dc2 answers for dc1", async || {
        let found = client.get("/v1/health/service/web?stale").await;
        let found = found.map_err(|error| format!("{error:#}"))?;
        let is_mirrored = found.header("x-causeway-source") == "mirror";
        if is_mirrored && nodes(&found)? == ["ext"] { Ok(()) } else { Err(found.text()) }
    })
    .await;
}
