//! Detours: by way of a third datacenter, and home by way of another one.

use std::{net::IpAddr, time::Duration};

use hyper::StatusCode;
use serde_json::json;
use tests::harness::{
    client::{Client, Response},
    cluster::{Cluster, Shape},
    until,
};
use tokio::time::Instant;

/// How long a change may take until everybody concerned knows of it.
const KNOWN_MAX: Duration = Duration::from_secs(60);

/// How long what is asked during a cut may take, the moment of the cut included: far longer than it
/// does on a machine that is not busy.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// How often the path is cut.
const ROUNDS: u32 = 6;

/// Writes in a row, in the middle of which it is.
const WRITES: u32 = 20;

const PATH: &str = "x-causeway-path";

async fn federation(shapes: &[Shape], detours: bool) -> Cluster {
    let mut cluster = Cluster::plan_relayed(shapes).await;
    for agent in &mut cluster.agents {
        agent.configure(json!({ "federation": { "detours": detours } }));
    }
    cluster.launch().await;
    cluster
}

fn three() -> [Shape; 3] {
    let one = |dc| Shape { dc, servers: 1, clients: 0 };
    [Shape { dc: "dc1", servers: 1, clients: 1 }, one("dc2"), one("dc3")]
}

fn two() -> [Shape; 2] {
    [Shape { dc: "dc1", servers: 3, clients: 0 }, Shape { dc: "dc2", servers: 1, clients: 0 }]
}

fn hosts(cluster: &Cluster, places: &[usize]) -> Vec<IpAddr> {
    places.iter().map(|place| cluster.agents[*place].host).collect()
}

/// Cuts dc1 and dc2 from each other.
fn cut_one_from_two(cluster: &Cluster) {
    let ones = [cluster.servers("dc1"), cluster.clients("dc1")].concat();
    let (ones, twos) = (hosts(cluster, &ones), hosts(cluster, &cluster.servers("dc2")));
    cluster.relay.as_ref().unwrap().cut(&ones, &twos);
}

/// Says what a server holds another datacenter for.
async fn held(client: &Client, dc: &str) -> Result<String, String> {
    let own = client.json("/v1/agent/self").await.map_err(|error| format!("{error:#}"))?;
    Ok(own["Stats"]["wan"][format!("{dc}_health")].as_str().unwrap_or_default().to_owned())
}

async fn is_lost(client: &Client, dc: &str) {
    until(KNOWN_MAX, "the loss is known", async || match held(client, dc).await? {
        held if held.starts_with("lost") => Ok(()),
        held => Err(held),
    })
    .await;
}

/// Sends a PUT that has to be accepted the first time.
async fn put(client: &Client, path: &str, value: &str) -> Response {
    let response = client.put(path, value.to_owned()).await.unwrap();
    response.ok().unwrap();
    assert_eq!(response.text().trim(), "true", "{path}");
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_datacenters_that_are_cut_from_each_other_go_on_by_way_of_a_third() {
    let cluster = federation(&three(), true).await;
    let [server, agent] = [&cluster.agents[0], &cluster.agents[1]];
    let clients = [server.client().patient(ANSWER_MAX), agent.client().patient(ANSWER_MAX)];
    for client in &clients {
        let direct = put(client, "/v1/kv/before?dc=dc2", "yes").await;
        assert_eq!(direct.header(PATH), "dc1, dc2");
        let home = put(client, "/v1/kv/before", "yes").await;
        assert_eq!(home.header(PATH), "", "it never left");
    }
    cut_one_from_two(&cluster);

    // Before anybody has judged, and after.
    for judged in [false, true] {
        if judged {
            is_lost(&clients[0], "dc2").await;
        }
        for client in &clients {
            let path = format!("/v1/kv/during-{judged}?dc=dc2");
            let written = put(client, &path, "yes").await;
            assert_eq!(written.header(PATH), "dc1, dc3, dc2");
            for consistency in ["", "&consistent", "&stale"] {
                let read = client.get(&format!("{path}{consistency}&raw")).await.unwrap();
                assert_eq!((read.text().as_str(), read.header(PATH)), ("yes", "dc1, dc3, dc2"));
            }
            let index = client.get(&path).await.unwrap().index();
            let waiting = format!("{path}&index={index}&wait=60s");
            let (changed, _) = tokio::join!(client.get(&waiting), put(client, &path, "more"));
            assert!(changed.unwrap().index() > index, "a blocking query waits at dc2");
        }
    }
    let there = cluster.agents[2].client().kv_get("during-true").await.unwrap();
    assert_eq!(there.expect("it was acknowledged").value, "more");

    cluster.relay.as_ref().unwrap().heal();
    until(KNOWN_MAX, "the way is straight again", async || {
        let read = clients[0].get("/v1/kv/before?dc=dc2").await.map_err(|e| e.to_string())?;
        if read.header(PATH) == "dc1, dc2" { Ok(()) } else { Err(read.header(PATH).to_owned()) }
    })
    .await;
}

/// Each write is a comparison with what the one before it left: one that was applied twice, because it
/// was sent again by another way when its answer was lost, would fail the second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_sent_again_by_another_way_are_applied_once() {
    let cluster = federation(&three(), true).await;
    let agent = cluster.agents[1].client().patient(ANSWER_MAX);
    let relay = cluster.relay.as_ref().unwrap();
    let mut detours = 0;
    for round in 0..ROUNDS {
        for number in 0..WRITES {
            let entry = agent.kv_get("count?dc=dc2").await.unwrap();
            let index = entry.map_or(0, |entry| entry.modify_index);
            let path = format!("/v1/kv/count?dc=dc2&cas={index}");
            let cutting = async {
                // Somewhere between the request and its answer.
                tokio::time::sleep(Duration::from_micros(300) * round).await;
                if number == WRITES / 2 {
                    cut_one_from_two(&cluster);
                }
            };
            let (written, ()) = tokio::join!(put(&agent, &path, "again"), cutting);
            detours += u32::from(written.header(PATH) == "dc1, dc3, dc2");
        }
        relay.heal();
    }
    assert!(detours >= ROUNDS, "{detours} writes took a detour");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_detours_a_datacenter_without_a_path_is_an_error() {
    let cluster = federation(&three(), false).await;
    let client = cluster.agents[0].client().patient(ANSWER_MAX);
    cut_one_from_two(&cluster);
    is_lost(&client, "dc2").await;
    for path in ["/v1/kv/a?dc=dc2", "/v1/kv/a?dc=dc2&stale"] {
        let response = client.get(path).await.unwrap();
        assert_eq!(response.status, StatusCode::INTERNAL_SERVER_ERROR);
        let text = response.text();
        assert!(text.contains("Remote DC has no server currently reachable"), "{text}");
    }
    put(&client, "/v1/kv/a?dc=dc3", "the others are well").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_cut_from_its_leader_reaches_it_by_way_of_another_datacenter() {
    let mut cluster = federation(&two(), true).await;
    let leader = cluster.leader("dc1", None).await;
    let others: Vec<usize> =
        cluster.servers("dc1").into_iter().filter(|it| *it != leader).collect();
    let cut_off = others[0];
    // First from the leader alone, then from everybody.
    for fellows in [vec![leader], vec![leader, others[1]]] {
        let (some, rest) = (hosts(&cluster, &[cut_off]), hosts(&cluster, &fellows));
        cluster.relay.as_ref().unwrap().cut(&some, &rest);
        let client = cluster.agents[cut_off].client().patient(ANSWER_MAX);
        let round = fellows.len();
        let key = format!("/v1/kv/round-{round}");
        let written = until(KNOWN_MAX, "writes go on", async || {
            let response = client.put(&key, "yes").await.map_err(|error| format!("{error:#}"))?;
            response.ok().map_err(|error| format!("{error:#}"))?;
            // The leader may have been reached a last time.
            let path = response.header(PATH).to_owned();
            if path == "dc1, dc2, dc1" { Ok(response) } else { Err(path) }
        })
        .await;
        assert_eq!(written.text().trim(), "true");
        let there = cluster.agents[leader].client();
        assert_eq!(there.get(&format!("{key}?raw")).await.unwrap().text(), "yes");
        put(&there, &key, "newer").await;
        for consistency in ["", "?consistent"] {
            let read = client.get(&format!("{key}{consistency}")).await.unwrap();
            read.ok().unwrap();
            assert_eq!(read.header(PATH), "dc1, dc2, dc1");
            assert_eq!(read.header("x-consul-knownleader"), "true");
            let entry = client.kv_get(&format!("round-{round}{consistency}")).await.unwrap();
            assert_eq!(entry.expect("it was acknowledged").value, "newer");
        }
        // A write that is a comparison is applied once: a second time it would fail.
        for number in 0..20 {
            let path = format!("/v1/kv/once-{round}-{number}?cas=0");
            put(&client, &path, "yes").await;
        }
        let stale = client.get(&format!("{key}?stale")).await.unwrap();
        assert_eq!(stale.header(PATH), "", "what is here needs no way");
        assert_eq!(stale.header("x-consul-knownleader"), "false");
    }
    cluster.relay.as_ref().unwrap().heal();
    let client = cluster.agents[cut_off].client();
    until(KNOWN_MAX, "the leader is back", async || {
        let read = client.get("/v1/kv/round-1").await.map_err(|error| error.to_string())?;
        if read.header(PATH).is_empty() { Ok(()) } else { Err(read.header(PATH).to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_anywhere_or_without_detours_a_server_says_so_at_once() {
    for detours in [true, false] {
        let mut cluster = Cluster::plan_relayed(&two()).await;
        for agent in &mut cluster.agents {
            agent.configure(json!({
                "federation": { "detours": detours },
                "performance": { "rpc_hold_timeout": "1s" },
            }));
        }
        cluster.launch().await;
        let leader = cluster.leader("dc1", None).await;
        let servers = cluster.servers("dc1");
        let alone = *servers.iter().find(|place| **place != leader).unwrap();
        let rest: Vec<usize> = servers.iter().copied().filter(|place| *place != alone).collect();
        if detours {
            rest.iter().for_each(|place| cluster.agents[*place].kill());
        } else {
            let (some, rest) = (hosts(&cluster, &[alone]), hosts(&cluster, &rest));
            cluster.relay.as_ref().unwrap().cut(&some, &rest);
        }
        let client = cluster.agents[alone].client().patient(ANSWER_MAX);
        until(KNOWN_MAX, "writes are refused at once", async || {
            let begin = Instant::now();
            let response = client.put("/v1/kv/a", "no").await.map_err(|error| error.to_string())?;
            let took = begin.elapsed();
            assert_ne!(response.status, StatusCode::OK, "{}", response.text());
            assert!(response.text().contains("No cluster leader"), "{}", response.text());
            if took < Duration::from_millis(50) { Ok(()) } else { Err(format!("{took:?}")) }
        })
        .await;
    }
}
