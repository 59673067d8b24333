//! A link between an agent and all its servers that comes and goes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::json;
use tests::{
    harness::{
        agent::{Agent, Usage},
        client::Client,
        cluster::Cluster,
        dns::{Asker, said},
        until,
    },
    seeds,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    cut_off::{CACHED, DNS, STALE, WEB, finds, nodes, register, stands},
    dc1,
};

/// How long the link comes and goes unless `FLAP_SECONDS` says otherwise. The test waits for most of that,
/// beside another one.
const FLAPS: Duration = Duration::from_secs(60);

/// The shortest and the longest time in which the link stays as it is: shorter than it takes to notice
/// that it is down (2 s), and longer.
const STAYS: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(6);

/// How long after the last change everything has to be as it was, on a busy machine: shorter than
/// pauses between attempts would be that had grown with every change.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// How long what is left over may take to go: connections are given up after seconds.
const LEFTOVERS_MAX: Duration = Duration::from_secs(40);

/// By how much a process may have grown: caches of libraries, and pages of freed memory.
const GROWTH_MAX_KIB: usize = 24 * 1024;

/// How long packets are counted for while nothing happens.
const QUIET: Duration = Duration::from_secs(5);

/// Pause between two questions of one client.
const PACE: Duration = Duration::from_millis(20);

/// What clients of the agent have been told so far.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    answers: AtomicU64,
    written: AtomicU64,
    refused: AtomicU64,
    failures: Mutex<BTreeSet<String>>,
}

impl Told {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, what: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => drop(self.answers.fetch_add(1, Ordering::Relaxed)),
            Err(why) => drop(self.failures.lock().unwrap().insert(format!("{what}: {why}"))),
        }
    }
}

/// Asks for what was asked for before, again and again: it must be answered whatever the link does.
async fn look_up(told: Arc<Told>, client: Client, path: &str, own: String) {
    while told.goes_on() {
        let answered = async {
            let response = client.get(path).await.map_err(|error| format!("{error:#}"))?;
            let found = nodes(&response)?;
            if found.contains(&own) { Ok(()) } else { Err(format!("{found:?}")) }
        };
        told.note(path, answered.await);
        sleep(PACE).await;
    }
}

/// The same by DNS.
async fn resolve(told: Arc<Told>, asker: Asker) {
    while told.goes_on() {
        let answered = async {
            let (code, answers) = said(&asker.ask("web.service.consul", RecordType::A).await?);
            let good = code == ResponseCode::NoError && !answers.is_empty();
            if good { Ok(()) } else { Err(format!("{code}: {answers:?}")) }
        };
        told.note("DNS", answered.await);
        sleep(PACE).await;
    }
}

/// Writes, which only works while the link is up.
async fn write(told: Arc<Told>, client: Client) {
    while told.goes_on() {
        let counter = match client.kv_put("flap", "x").await {
            Ok(_) => &told.written,
            Err(_) => &told.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        sleep(5 * PACE).await;
    }
}

#[allow(clippy::disallowed_methods, reason = "whoever wants it longer has no other way in")]
fn flaps_for() -> Duration {
    let given = std::env::var("FLAP_SECONDS").ok();
    given.map_or(FLAPS, |given| Duration::from_secs(given.parse().expect("a number of seconds")))
}

/// Has the link come and go, and leaves it up.
async fn flap(cluster: &Cluster, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (relay, host) = (cluster.relay.as_ref().unwrap(), cluster.agents[3].host);
    let end = Instant::now() + flaps_for();
    while Instant::now() < end {
        relay.isolate(&[host]);
        sleep(rng.random_range(STAYS)).await;
        relay.heal();
        sleep(rng.random_range(STAYS)).await;
    }
}

/// Counts what is sent while nothing happens.
async fn packets(cluster: &Cluster) -> u64 {
    let relay = cluster.relay.as_ref().unwrap();
    let before = relay.relayed();
    sleep(QUIET).await;
    relay.relayed() - before
}

fn usage(cluster: &Cluster) -> Vec<Usage> {
    cluster.agents.iter().map(Agent::usage).collect()
}

/// Waits until nothing is left over of what processes opened since.
async fn nothing_is_left(cluster: &Cluster, before: &[Usage]) {
    until(LEFTOVERS_MAX, "all files are closed", async || {
        let after = usage(cluster);
        let closed = before.iter().zip(&after).all(|(before, after)| after.files <= before.files);
        if closed { Ok(()) } else { Err(format!("{before:?}, then {after:?}")) }
    })
    .await;
    for (agent, (before, after)) in cluster.agents.iter().zip(before.iter().zip(usage(cluster))) {
        let grown = after.resident_kib.saturating_sub(before.resident_kib);
        assert!(grown < GROWTH_MAX_KIB, "{}: {before:?}, then {after:?}", agent.name);
        assert!(after.threads <= before.threads + 1, "{}: {before:?}, then {after:?}", agent.name);
    }
}

async fn comes_and_goes(seed: u64) {
    let mut cluster = Cluster::plan_relayed(&dc1(3, 1)).await;
    cluster.agents[3].configure(json!({ "ports": { "dns": DNS, "https": -1 } }));
    cluster.launch().await;
    let agent = &cluster.agents[3];
    let (client, own) = (agent.client(), agent.name.clone());
    let asker = Asker((agent.host, DNS).into());
    // On both sides: when the link is down for long, each side holds the other for dead.
    let both = [own.as_str(), cluster.agents[0].name.as_str()];
    for place in [0, 3] {
        register(&cluster.agents[place], "web").await;
    }
    for path in [WEB, STALE, CACHED] {
        finds(&client, path, &both).await;
    }
    asker.ask("web.service.consul", RecordType::A).await.unwrap();
    // What is made at the first cut and kept is no leftover.
    let relay = cluster.relay.as_ref().unwrap();
    relay.isolate(&[agent.host]);
    stands(&client, "cut off").await;
    relay.heal();
    stands(&client, "connected").await;
    // A client may hold one idle connection or two, so none is there when files are counted.
    drop(client);
    let (packets_before, before) = (packets(&cluster).await, usage(&cluster));

    let told = Arc::new(Told::default());
    let mut clients = JoinSet::new();
    for path in [STALE, CACHED] {
        clients.spawn(look_up(told.clone(), agent.client(), path, own.clone()));
    }
    clients.spawn(resolve(told.clone(), asker));
    clients.spawn(write(told.clone(), agent.client()));
    flap(&cluster, seed).await;
    let (client, ended) = (agent.client(), Instant::now());
    until(AGAIN_MAX, "a write is taken", async || {
        client.kv_put("flap", "y").await.map_err(|error| format!("{error:#}"))
    })
    .await;
    stands(&client, "connected").await;
    finds(&client, "/v1/health/service/web?consistent", &both).await;
    assert!(ended.elapsed() < AGAIN_MAX, "it took {:?}", ended.elapsed());
    told.stop.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let failures = std::mem::take(&mut *told.failures.lock().unwrap());
    assert!(failures.is_empty(), "beside {:?} good answers: {failures:#?}", told.answers);
    assert!(told.answers.load(Ordering::Relaxed) > 500, "only {:?} answers", told.answers);
    let (written, refused) = (&told.written, &told.refused);
    let flapped = written.load(Ordering::Relaxed) > 0 && refused.load(Ordering::Relaxed) > 0;
    assert!(flapped, "{written:?} writes were taken and {refused:?} refused: did the link flap?");

    // It still notices both within its bounds, and holds on to nothing.
    let relay = cluster.relay.as_ref().unwrap();
    let changed = Instant::now();
    relay.isolate(&[agent.host]);
    stands(&client, "cut off").await;
    relay.heal();
    stands(&client, "connected").await;
    assert!(changed.elapsed() < AGAIN_MAX, "it took {:?}", changed.elapsed());
    drop(client);
    nothing_is_left(&cluster, &before).await;
    let packets_after = packets(&cluster).await;
    assert!(packets_after < packets_before * 3 / 2, "{packets_before}, then {packets_after}");
}

#[test]
fn a_link_that_flaps_costs_no_answer_and_leaves_nothing_behind() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    seeds::each(1..2, |seed| runtime.block_on(comes_and_goes(seed)));
}
