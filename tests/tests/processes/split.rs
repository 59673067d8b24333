//! A datacenter split in two: five servers and three client agents on hosts of their own, with a trunk
//! between two switches that is cut and mended.
//!
//! Where there can be no network namespaces (they need root and `ip`) the test says so and splits the
//! same agents by a relay. `NAMESPACES=required` makes it fail instead.

use std::collections::BTreeSet;

use serde_json::json;
use tests::{
    harness::{cluster::Cluster, dns::Asker, namespaces::Namespaces, until},
    workload::Workload,
};

use crate::{
    cut_off::{CACHED, DNS, KNOWN_MAX, STALE, WEB, finds, names_count, refuses, register, stands},
    dc1,
};

/// Agents on the smaller side of a split; all others are on the other one.
const MINORITY: [usize; 4] = [0, 1, INSIDE, DIES];

/// Client agents in the minority, one of which dies there, and one in the majority.
const INSIDE: usize = 5;
const DIES: usize = 6;
const OUTSIDE: usize = 7;

/// Keys that clients of all agents work on meanwhile: nothing that was acknowledged may be missing.
const KEYS: u64 = 4;

/// Makes a cluster of five servers and three clients that can be split: on hosts of their own, or,
/// where these can't be had, over a relay.
async fn splittable(hosts: Option<Namespaces>) -> Cluster {
    match hosts {
        Some(hosts) => Cluster::plan_on(hosts, &dc1(5, 3)),
        None => Cluster::plan_relayed(&dc1(5, 3)).await,
    }
}

fn split(cluster: &Cluster) {
    match (&cluster.relay, cluster.hosts()) {
        (Some(relay), _) => relay.isolate(&MINORITY.map(|place| cluster.agents[place].host)),
        (None, hosts) => hosts.unwrap().cut(),
    }
}

fn heal(cluster: &Cluster) {
    match (&cluster.relay, cluster.hosts()) {
        (Some(relay), _) => relay.heal(),
        (None, hosts) => hosts.unwrap().heal(),
    }
}

/// Tells whether a test may do without namespaces where these can't be had.
#[allow(clippy::disallowed_methods, reason = "a check of everything has no other way to say so")]
fn needs_namespaces() -> bool {
    std::env::var_os("NAMESPACES").is_some_and(|value| value == "required")
}

#[test]
fn a_minority_goes_on_with_what_may_be_stale_and_refuses_the_rest() {
    let run = |hosts| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(a_minority_goes_on(hosts));
    };
    let left = MINORITY.map(|place| u8::try_from(place).unwrap() + 1);
    match Namespaces::make(8, &BTreeSet::from(left)) {
        Ok(hosts) => Namespaces::at_desk(|| run(Some(hosts))),
        Err(why) if needs_namespaces() => panic!("no network namespaces: {why}"),
        Err(why) => {
            eprintln!("SKIPPED with network namespaces, run over a relay instead: {why}");
            run(None);
        }
    }
}

async fn a_minority_goes_on(hosts: Option<Namespaces>) {
    let mut cluster = splittable(hosts).await;
    for agent in &mut cluster.agents {
        agent.configure(json!({
            "performance": { "rpc_hold_timeout": "1s" },
            "ports": { "dns": DNS, "https": -1 },
        }));
    }
    cluster.launch().await;
    for place in [INSIDE, DIES, OUTSIDE] {
        register(&cluster.agents[place], "web").await;
    }
    let name = |place: usize| cluster.agents[place].name.clone();
    let names = [name(INSIDE), name(DIES), name(OUTSIDE)];
    let [inside_name, dies_name, outside_name] = names.each_ref().map(String::as_str);
    let here = cluster.agents[INSIDE].client();
    let there = cluster.agents[OUTSIDE].client();
    for path in [WEB, STALE, CACHED] {
        finds(&here, path, &[inside_name, dies_name, outside_name]).await;
    }
    let asker = Asker((cluster.agents[INSIDE].front, DNS).into());
    names_count(&asker, 3).await;
    let workload = Workload::start(cluster.agents.iter(), "load/", KEYS);

    split(&cluster);
    stands(&here, "leaderless").await;
    // Nodes beyond the cut are dead as far as anybody here can tell.
    for path in [STALE, CACHED] {
        let answer = finds(&here, path, &[inside_name, dies_name]).await;
        assert_eq!(answer.header("x-consul-knownleader"), "false", "{path}");
        assert_ne!(answer.header("x-consul-lastcontact"), "0", "{path}");
    }
    let cached = here.get(CACHED).await.unwrap();
    assert_eq!(cached.header("x-cache"), "HIT");
    refuses(&here, "No cluster leader").await;
    register(&cluster.agents[INSIDE], "late").await;
    cluster.agents[DIES].kill();
    for path in [STALE, CACHED] {
        finds(&here, path, &[inside_name]).await;
    }
    names_count(&asker, 1).await;
    // The majority goes on, without those it can't see.
    finds(&there, "/v1/health/service/web?passing", &[outside_name]).await;
    until(KNOWN_MAX, "the majority takes writes", async || {
        there.kv_put("majority", "yes").await.map_err(|error| format!("{error:#}"))
    })
    .await;

    heal(&cluster);
    stands(&here, "connected").await;
    finds(&here, "/v1/health/service/web?passing", &[inside_name, outside_name]).await;
    finds(&there, "/v1/health/service/late?consistent", &[inside_name]).await;
    assert_eq!(here.kv_get("majority").await.unwrap().unwrap().value, "yes");
    workload.finish(&cluster.agents[INSIDE]).await;
    for (place, agent) in cluster.agents.iter_mut().enumerate() {
        assert_eq!(agent.is_running(), place != DIES, "{}", agent.name);
    }
}
