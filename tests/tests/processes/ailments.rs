//! What clients see, second by second, while another datacenter is ill: killed, frozen, heard but not reached, without
//! a leader, far away. Each test prints its table.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    dns::{Asker, said},
    until,
};
use tokio::{task::JoinSet, time::Instant};

/// How long until the other datacenter is held for what it is, or is well again.
const KNOWN_MAX: Duration = Duration::from_secs(60);

/// How long it is watched being well, and being ill once that is known.
const LOOK: Duration = Duration::from_secs(3);

/// No request of any kind takes longer, whatever happens: its deadline of 7 s and what a busy machine adds.
const HANG: Duration = Duration::from_secs(20);

/// How often each kind of request is made, whatever became of those before.
const PACE: Duration = Duration::from_millis(150);

/// Clients that ask a frozen datacenter at the same time.
const CROWD: usize = 1000;

const DNS_PORT: u16 = 8600;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A write in the own datacenter.
    Local,
    /// A default read in the other one.
    Fresh,
    /// A stale lookup in the other one.
    Stale,
    /// A name of the other one.
    Name,
    /// A write in the other one.
    Write,
}

const KINDS: [Kind; 5] = [Kind::Local, Kind::Fresh, Kind::Stale, Kind::Name, Kind::Write];

/// A request that ended.
#[derive(Debug)]
struct Seen {
    kind: Kind,
    began: Duration,
    took: Duration,
    outcome: Result<(), String>,
}

/// What clients see of a datacenter.
struct View {
    start: Instant,
    seen: Arc<Mutex<Vec<Seen>>>,
    running: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

/// When what happened, since the view began.
struct Times {
    hurt: Duration,
    known: Duration,
    healed: Duration,
    well: Duration,
}

impl View {
    /// Lets clients of an agent make requests of all kinds.
    fn begin(client: &Client, asker: Asker) -> Self {
        let mut view = Self {
            start: Instant::now(),
            seen: Arc::default(),
            running: JoinSet::new(),
            stop: Arc::<AtomicBool>::default(),
        };
        for kind in KINDS {
            let (start, seen, stop) = (view.start, view.seen.clone(), view.stop.clone());
            let client = client.clone();
            view.running.spawn(async move {
                let mut under_way = JoinSet::new();
                while !stop.load(Relaxed) {
                    let (client, seen) = (client.clone(), seen.clone());
                    under_way.spawn(async move {
                        let began = start.elapsed();
                        let outcome = ask(kind, &client, asker).await;
                        let took = start.elapsed() - began;
                        let one = Seen { kind, began, took, outcome };
                        seen.lock().expect("nobody panics in here").push(one);
                    });
                    tokio::time::sleep(PACE).await;
                }
                while under_way.join_next().await.is_some() {}
            });
        }
        view
    }

    /// Ends the requests; returns all that there were.
    async fn end(mut self) -> Vec<Seen> {
        self.stop.store(true, Relaxed);
        while self.running.join_next().await.is_some() {}
        std::mem::take(&mut *self.seen.lock().expect("nobody panics in here"))
    }
}

async fn ask(kind: Kind, client: &Client, asker: Asker) -> Result<(), String> {
    let sent = match kind {
        Kind::Local => client.put("/v1/kv/own", "x").await,
        Kind::Fresh => client.get("/v1/kv/far?dc=dc2").await,
        Kind::Stale => client.get("/v1/health/service/web?dc=dc2&stale").await,
        Kind::Write => client.put("/v1/kv/far?dc=dc2", "x").await,
        Kind::Name => {
            let answer = asker.ask("web.service.dc2.consul.", RecordType::A).await?;
            let is_there = said(&answer) == (ResponseCode::NoError, vec!["10.9.0.1".to_owned()]);
            return if is_there { Ok(()) } else { Err(format!("{:?}", said(&answer))) };
        }
    };
    let response = sent.map_err(|error| format!("{error:#}"))?;
    let known = kind != Kind::Stale || response.text().contains("10.9.0.1");
    match response.status == StatusCode::OK && known {
        true => Ok(()),
        false => Err(response.text()),
    }
}

/// Prints a line for each second: how many requests of each kind were answered and failed, and the slowest.
fn print(what: &str, seen: &[Seen], times: &Times) {
    println!("{what}: hurt at {:.1?}, known at {:.1?}", times.hurt, times.known);
    println!("healed at {:.1?}, well at {:.1?}", times.healed, times.well);
    println!("{:>6} {}", "second", KINDS.map(|kind| format!("{kind:>22?}")).join(" "));
    let last = seen.iter().map(|one| one.began.as_secs()).max().unwrap_or_default();
    for second in 0..=last {
        let cell = |kind| {
            let in_it = || seen.iter().filter(|it| it.kind == kind && it.began.as_secs() == second);
            let failed = in_it().filter(|one| one.outcome.is_err()).count();
            let slowest = in_it().map(|one| one.took.as_millis()).max().unwrap_or_default();
            format!("{:>3} ok {failed:>2} err {slowest:>5} ms", in_it().count() - failed)
        };
        println!("{second:>6} {}", KINDS.map(|kind| format!("{:>22}", cell(kind))).join(" "));
    }
}

/// Starts dc1 with two servers and an agent, and dc2 with three, all behind a relay.
async fn two() -> Cluster {
    let dc1 = Shape { dc: "dc1", servers: 2, clients: 1 };
    let dc2 = Shape { dc: "dc2", servers: 3, clients: 0 };
    let mut cluster = Cluster::plan_relayed(&[dc1, dc2]).await;
    for agent in &mut cluster.agents {
        agent.configure(json!({
            "ports": { "dns": DNS_PORT, "https": -1 },
            // Who has had no leader for so long says so at once: sooner than it is known elsewhere.
            "performance": { "rpc_hold_timeout": "1s" },
        }));
    }
    cluster.launch().await;
    let source = cluster.agents[cluster.servers("dc2")[0]].client();
    let web = json!({ "Node": "n", "Address": "10.9.0.1", "Service": { "Service": "web" } });
    source.put("/v1/catalog/register", web.to_string()).await.unwrap().ok().unwrap();
    assert!(source.kv_put("far", "x").await.unwrap());
    let (client, asker) = eyes(&cluster);
    for kind in KINDS {
        until(KNOWN_MAX, "everything works", async || ask(kind, &client, asker).await).await;
    }
    cluster
}

/// Returns what requests are made through: the client agent of dc1.
fn eyes(cluster: &Cluster) -> (Client, Asker) {
    let agent = &cluster.agents[cluster.clients("dc1")[0]];
    let client = Client::multiplexed(agent.http_addr()).patient(HANG);
    (client, Asker((agent.host, DNS_PORT).into()))
}

fn hosts(cluster: &Cluster, dc: &str) -> Vec<IpAddr> {
    let places = [cluster.servers(dc), cluster.clients(dc)].concat();
    places.iter().map(|place| cluster.agents[*place].host).collect()
}

/// Waits until both servers of dc1 hold dc2 for one of these.
async fn is_held(cluster: &Cluster, healths: &[&str]) {
    for server in cluster.servers("dc1") {
        let client = cluster.agents[server].client();
        until(KNOWN_MAX, "dc1 knows how dc2 is", async || {
            let status = client.json("/v1/federation/status").await;
            let status = status.map_err(|error| format!("{error:#}"))?;
            let all = status["Datacenters"].as_array().expect("a list");
            let dc2 = all.iter().find(|dc| dc["Name"] == "dc2").unwrap_or(&Value::Null);
            let health = dc2["Health"].as_str().unwrap_or_default();
            if healths.contains(&health) { Ok(()) } else { Err(dc2.to_string()) }
        })
        .await;
    }
}

/// Lets dc2 fall ill and get well, and looks at what clients see. `known_as` is what it is held for meanwhile.
async fn through(
    what: &str,
    cluster: &mut Cluster,
    known_as: &[&str],
    mut hurt: impl AsyncFnMut(&mut Cluster),
    mut heal: impl AsyncFnMut(&mut Cluster),
) -> (Vec<Seen>, Times) {
    is_held(cluster, &["healthy"]).await;
    let (client, asker) = eyes(cluster);
    let view = View::begin(&client, asker);
    tokio::time::sleep(LOOK).await;
    let hurt_at = view.start.elapsed();
    hurt(cluster).await;
    is_held(cluster, known_as).await;
    let known = view.start.elapsed();
    tokio::time::sleep(LOOK).await;
    let healed = view.start.elapsed();
    heal(cluster).await;
    is_held(cluster, &["healthy"]).await;
    for kind in KINDS {
        until(KNOWN_MAX, "everything works again", async || ask(kind, &client, asker).await).await;
    }
    let times = Times { hurt: hurt_at, known, healed, well: view.start.elapsed() };
    tokio::time::sleep(LOOK).await;
    let seen = view.end().await;
    print(what, &seen, &times);
    never_matters_here(&seen, &times);
    (seen, times)
}

/// Checks what holds whatever happens to another datacenter: nothing hangs, local work goes on, and so do names and
/// stale reads; and everything goes on where nothing is wrong.
fn never_matters_here(seen: &[Seen], times: &Times) {
    for one in seen {
        let well = one.began + one.took < times.hurt || one.began > times.well;
        let spared = matches!(one.kind, Kind::Local | Kind::Stale | Kind::Name);
        assert!(one.outcome.is_ok() || !(well || spared), "{one:?}");
        assert!(one.took < HANG, "{one:?}");
    }
    let mut by_kind: BTreeMap<Kind, usize> = BTreeMap::new();
    seen.iter().for_each(|one| *by_kind.entry(one.kind).or_default() += 1);
    assert!(by_kind.values().all(|count| *count > 20), "{by_kind:?}");
}

/// Checks that requests for what is not there failed while it was known not to be.
fn all_failed_once_known(seen: &[Seen], times: &Times) {
    let meanwhile = |one: &&Seen| one.began > times.known && one.began + one.took < times.healed;
    let mut failed = 0;
    for one in seen.iter().filter(meanwhile) {
        let wants_dc2 = matches!(one.kind, Kind::Fresh | Kind::Write);
        assert_eq!(one.outcome.is_err(), wants_dc2, "{one:?}");
        failed += u32::from(wants_dc2);
    }
    assert!(failed > 10, "{failed} requests failed in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_is_killed() {
    let mut cluster = two().await;
    let servers = cluster.servers("dc2");
    let kill = async |cluster: &mut Cluster| {
        servers.iter().for_each(|server| cluster.agents[*server].kill());
    };
    let (seen, times) = through("killed", &mut cluster, &["lost"], kill, async |cluster| {
        for server in &servers {
            cluster.run(*server).await;
        }
    })
    .await;
    all_failed_once_known(&seen, &times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_freezes_while_a_thousand_ask_it() {
    let mut cluster = two().await;
    let servers = cluster.servers("dc2");
    let signal = |cluster: &Cluster, name| {
        servers.iter().for_each(|server| cluster.agents[*server].signal(name));
    };
    let agent = &cluster.agents[cluster.servers("dc1")[0]];
    let crowd = Client::multiplexed(agent.http_addr()).patient(HANG);
    let stop = Arc::<AtomicBool>::default();
    let mut asking = JoinSet::new();
    let freeze = async |cluster: &mut Cluster| {
        signal(cluster, "STOP");
        for _ in 0..CROWD {
            let (crowd, stop) = (crowd.clone(), stop.clone());
            asking.spawn(async move {
                while !stop.load(Relaxed) {
                    // What they get is none of the others' business.
                    let _ = crowd.get("/v1/kv/far?dc=dc2").await;
                    tokio::time::sleep(PACE * 5).await;
                }
            });
        }
    };
    let (seen, times) = through("frozen", &mut cluster, &["lost"], freeze, async |cluster| {
        stop.store(true, Relaxed);
        signal(cluster, "CONT");
    })
    .await;
    asking.shutdown().await;
    all_failed_once_known(&seen, &times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_hears_but_is_not_heard() {
    let mut cluster = two().await;
    let (ours, theirs) = (hosts(&cluster, "dc1"), hosts(&cluster, "dc2"));
    let from_there: BTreeSet<_> =
        theirs.iter().flat_map(|their| ours.iter().map(|our| (*their, *our))).collect();
    let deaf = async |cluster: &mut Cluster| {
        cluster.relay.as_ref().unwrap().only(&from_there, Duration::ZERO);
    };
    let known_as = ["lost", "one-way"];
    let (seen, times) = through("cut in one direction", &mut cluster, &known_as, deaf, {
        async |cluster: &mut Cluster| cluster.relay.as_ref().unwrap().heal()
    })
    .await;
    all_failed_once_known(&seen, &times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_without_a_leader() {
    let mut cluster = two().await;
    let dead = cluster.servers("dc2").split_off(1);
    let behead = async |cluster: &mut Cluster| {
        dead.iter().for_each(|server| cluster.agents[*server].kill());
    };
    let (seen, times) = through("leaderless", &mut cluster, &["leaderless"], behead, async |it| {
        for server in &dead {
            it.run(*server).await;
        }
    })
    .await;
    all_failed_once_known(&seen, &times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_that_is_far_away_for_a_while() {
    let mut cluster = two().await;
    let theirs = hosts(&cluster, "dc2");
    let delay = |cluster: &Cluster, by| cluster.relay.as_ref().unwrap().delay(&theirs, by);
    let (seen, _) = through(
        "slow",
        &mut cluster,
        &["healthy"],
        async |cluster| {
            delay(cluster, Duration::from_millis(200));
            tokio::time::sleep(2 * LOOK).await;
        },
        async |cluster| delay(cluster, Duration::ZERO),
    )
    .await;
    assert!(seen.iter().all(|one| one.outcome.is_ok()), "only slower");
}
