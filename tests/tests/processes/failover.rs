//! Plain lookups of a service whose instances die, then whose datacenter, then whose next one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use hickory_proto::{op::ResponseCode, rr::RecordType};
use hyper::Method;
use serde_json::{Value, json};
use tests::harness::{
    client::{Client, Response},
    cluster::{Cluster, Shape},
    dns::{Asker, said},
    until,
};

/// How long until a change, a loss or a return has reached everyone.
const SETTLED_MAX: Duration = Duration::from_secs(40);

/// For how long a service has to be well again before lookups go back.
const HOLD_DOWN: Duration = Duration::from_secs(3);

const DNS_PORT: u16 = 8600;

const WEB: &str = "/v1/health/service/web?passing";

/// The addresses of the instances, one in each datacenter.
const AT: [&str; 3] = ["10.9.0.1", "10.9.0.2", "10.9.0.3"];

/// Starts three datacenters of one server; only the first one has a policy, if any, and a client agent.
async fn start(policy: Value) -> Cluster {
    let dc = |dc, clients| Shape { dc, servers: 1, clients };
    let mut cluster = Cluster::plan(&[dc("dc1", 1), dc("dc2", 0), dc("dc3", 0)]);
    for agent in &mut cluster.agents {
        agent.configure(json!({ "ports": { "dns": DNS_PORT, "https": -1 } }));
        if agent.name.starts_with("dc1") && !policy.is_null() {
            agent.configure(json!({ "failover": policy }));
        }
    }
    cluster.launch().await;
    cluster
}

fn server(cluster: &Cluster, dc: &str) -> usize {
    cluster.servers(dc)[0]
}

/// Says how the instance of a datacenter is.
async fn report(cluster: &Cluster, dc: usize, status: &str) {
    let client = cluster.agents[server(cluster, &format!("dc{}", dc + 1))].client();
    let body = json!({
        "Node": format!("node-{}", AT[dc]),
        "Address": AT[dc],
        "Service": { "ID": "web", "Service": "web", "Port": 80 },
        "Checks": [{ "Name": "alive", "CheckID": "alive", "ServiceID": "web", "Status": status }],
    });
    client.put("/v1/catalog/register", body.to_string()).await.unwrap().ok().unwrap();
}

async fn get(client: &Client, path: &str) -> Result<Response, String> {
    client.get(path).await.map_err(|error| format!("{error:#}"))
}

/// Returns the addresses in an answer.
fn addresses(response: &Response) -> Result<Vec<String>, String> {
    let rows: Vec<Value> =
        serde_json::from_slice(&response.body).map_err(|_| response.text().to_owned())?;
    let at = |row: &Value| {
        row["Node"]["Address"].as_str().or(row["Address"].as_str()).map(str::to_owned)
    };
    rows.iter().map(|row| at(row).ok_or_else(|| row.to_string())).collect()
}

/// Waits until a lookup is answered with the instances of these datacenters.
async fn is_served_by(client: &Client, path: &str, dcs: &[usize]) -> Response {
    let expected: Vec<String> = dcs.iter().map(|dc| AT[*dc].to_owned()).collect();
    let served: Vec<String> = dcs.iter().map(|dc| format!("dc{}", dc + 1)).collect();
    let what = format!("{path} is served by {}", served.join(", "));
    let mut last = None;
    until(SETTLED_MAX, &what, async || {
        let found = get(client, path).await?;
        let right = addresses(&found)? == expected
            && found.header("x-causeway-served-dc") == served.join(", ");
        let seen = format!("{:?} by {}", addresses(&found), found.header("x-causeway-served-dc"));
        last = Some(found);
        if right { Ok(()) } else { Err(seen) }
    })
    .await;
    last.unwrap()
}

/// Looks a service up by HTTP and DNS again and again; whoever is told nothing is noted.
fn watch(client: Client, asker: Asker) -> (Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) {
    let (stop, failed) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<String>>>::default());
    let (stopped, notes) = (stop.clone(), failed.clone());
    tokio::spawn(async move {
        while !stopped.load(Relaxed) {
            for path in [WEB, "/v1/health/service/web?passing&stale"] {
                let found = get(&client, path).await.and_then(|found| addresses(&found));
                match found {
                    Ok(found) if !found.is_empty() => {}
                    other => notes.lock().unwrap().push(format!("{path}: {other:?}")),
                }
            }
            let answer = asker.ask("web.service.consul.", RecordType::A).await;
            match answer.as_ref().map(said) {
                Ok((ResponseCode::NoError, found)) if !found.is_empty() => {}
                other => notes.lock().unwrap().push(format!("DNS: {other:?}")),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    (stop, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_and_then_two_datacenters_cost_no_lookup() {
    let policy = json!({ "datacenters": ["dc2", "dc3"], "hold_down": "3s" });
    let mut cluster = start(policy).await;
    for dc in 0..3 {
        report(&cluster, dc, "passing").await;
    }
    let place = cluster.clients("dc1")[0];
    let (client, host) = (cluster.agents[place].client(), cluster.agents[place].host);
    let asker = Asker((host, DNS_PORT).into());
    is_served_by(&client, WEB, &[0]).await;
    // Both of the others are mirrored.
    for dc in ["dc2", "dc3"] {
        until(SETTLED_MAX, "it is mirrored", async || {
            let found = get(&client, &format!("{WEB}&stale&dc={dc}")).await?;
            let there = found.header("x-causeway-source") == "mirror";
            if there && !addresses(&found)?.is_empty() { Ok(()) } else { Err(found.text()) }
        })
        .await;
    }
    let (stop, failed) = watch(client.clone(), asker);

    // Who waits for a change is told when the service moves.
    let index = get(&client, WEB).await.unwrap().header("x-consul-index").to_owned();
    let waiting = tokio::spawn({
        let client = client.clone().patient(SETTLED_MAX);
        async move { get(&client, &format!("{WEB}&index={index}&wait=60s")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    report(&cluster, 0, "critical").await;
    let moved = waiting.await.unwrap().unwrap();
    assert_eq!(moved.header("x-causeway-served-dc"), "dc2", "{}", moved.text());
    let found = is_served_by(&client, WEB, &[1]).await;
    assert_eq!(found.header("x-causeway-source"), "mirror");
    assert!(found.text().contains(r#""Datacenter":"dc2""#), "{}", found.text());
    let target = asker.ask("web.service.consul.", RecordType::SRV).await.unwrap();
    assert!(format!("{target:?}").contains("node.dc2.consul"), "{target:?}");

    // Who names another datacenter is told about that one, well or not; so is who asks what the catalog holds.
    let second = server(&cluster, "dc2");
    let elsewhere = cluster.agents[second].client();
    let named = get(&elsewhere, &format!("{WEB}&dc=dc1")).await.unwrap();
    assert_eq!((named.text(), named.header("x-causeway-served-dc")), ("[]".to_owned(), ""));
    let held = get(&client, "/v1/catalog/service/web").await.unwrap();
    assert_eq!(
        (addresses(&held), held.header("x-causeway-served-dc")),
        (Ok(vec![AT[0].into()]), "")
    );

    cluster.agents[second].kill();
    is_served_by(&client, WEB, &[2]).await;
    let third = server(&cluster, "dc3");
    stop.store(true, Relaxed);
    let failures = std::mem::take(&mut *failed.lock().unwrap());
    assert!(failures.is_empty(), "{failures:#?}");

    // With nobody left, it is said what there is: nothing.
    cluster.agents[third].kill();
    until(SETTLED_MAX, "nobody serves it", async || {
        let found = get(&client, WEB).await?;
        let by = found.header("x-causeway-served-dc").to_owned();
        if found.text() == "[]" && by == "dc1" {
            Ok(())
        } else {
            Err(format!("{by}: {}", found.text()))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_come_home_after_the_hold_down_and_a_spill_fills_up() {
    let policy = json!({ "datacenters": ["dc2", "dc3"], "hold_down": "3s" });
    let mut cluster = start(policy).await;
    for dc in 0..3 {
        report(&cluster, dc, "passing").await;
    }
    let client = cluster.agents[cluster.clients("dc1")[0]].client();
    report(&cluster, 0, "critical").await;
    is_served_by(&client, WEB, &[1]).await;
    report(&cluster, 0, "passing").await;
    let well = tokio::time::Instant::now();
    is_served_by(&client, WEB, &[0]).await;
    assert!(well.elapsed() >= HOLD_DOWN - Duration::from_millis(200), "{:?}", well.elapsed());

    let place = server(&cluster, "dc1");
    let policy = json!({ "min_healthy": 2, "spill": true, "datacenters": ["dc3", "dc2"] });
    cluster.agents[place].configure(json!({ "failover": policy }));
    cluster.agents[place].kill();
    cluster.run(place).await;
    is_served_by(&client, WEB, &[0, 2]).await;
    report(&cluster, 2, "critical").await;
    is_served_by(&client, WEB, &[0, 1]).await;
    let asker = Asker((cluster.agents[place].host, DNS_PORT).into());
    let (_, mut found) = said(&asker.ask("web.service.consul.", RecordType::A).await.unwrap());
    found.sort();
    assert_eq!(found, [AT[0], AT[1]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolver_is_a_policy_for_its_service_as_long_as_it_is_there() {
    let cluster = start(Value::Null).await;
    for dc in 0..3 {
        report(&cluster, dc, "passing").await;
    }
    let client = cluster.agents[cluster.clients("dc1")[0]].client();
    report(&cluster, 0, "critical").await;
    until(SETTLED_MAX, "nobody serves it", async || {
        let found = get(&client, WEB).await?;
        let plain = found.header("x-causeway-served-dc").is_empty() && found.text() == "[]";
        if plain { Ok(()) } else { Err(found.text()) }
    })
    .await;
    let index = get(&client, WEB).await.unwrap().header("x-consul-index").to_owned();
    let entry = json!({
        "Kind": "service-resolver",
        "Name": "web",
        "Failover": { "*": { "Datacenters": ["dc3"] } },
    });
    client.put("/v1/config", entry.to_string()).await.unwrap().ok().unwrap();
    is_served_by(&client, WEB, &[2]).await;
    until(SETTLED_MAX, "dc2 is mirrored as well", async || {
        let found = get(&client, &format!("{WEB}&stale&dc=dc2")).await?;
        let is_there = found.header("x-causeway-source") == "mirror" && found.text() != "[]";
        if is_there { Ok(()) } else { Err(found.text()) }
    })
    .await;
    let away = get(&client, &format!("{WEB}&index={index}&wait=1s")).await.unwrap();
    assert_eq!(addresses(&away), Ok(vec![AT[2].into()]));
    // Who waits is told when the policy changes.
    let index = away.header("x-consul-index").to_owned();
    let waiting = tokio::spawn({
        let client = client.clone().patient(SETTLED_MAX);
        async move { get(&client, &format!("{WEB}&index={index}&wait=60s")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let entry = json!({
        "Kind": "service-resolver",
        "Name": "web",
        "Redirect": { "Service": "web", "Datacenter": "dc2" },
    });
    let redirected = client.put("/v1/config", entry.to_string()).await.unwrap();
    assert_eq!(redirected.text(), "true");
    let woken = waiting.await.unwrap().unwrap();
    assert_eq!(addresses(&woken), Ok(vec![AT[1].into()]), "{:?}", woken.headers);
    let path = "/v1/config/service-resolver/web";
    client.send(Method::DELETE, path, Bytes::new()).await.unwrap().ok().unwrap();
    let plain = get(&client, WEB).await.unwrap();
    assert_eq!((plain.text(), plain.header("x-causeway-served-dc")), ("[]".to_owned(), ""));

    // Of a datacenter that nobody knows it can't be said that it has nothing.
    let entry = json!({
        "Kind": "service-resolver", "Name": "web", "Redirect": { "Datacenter": "dc9" },
    });
    client.put("/v1/config", entry.to_string()).await.unwrap().ok().unwrap();
    let unknown = get(&client, WEB).await.unwrap();
    assert!(unknown.text().contains("nothing is mirrored of dc9"), "{}", unknown.text());
    assert!(unknown.status.is_server_error(), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_when_a_datacenter_comes_that_was_not_known_yet() {
    let mut cluster = start(json!({ "datacenters": ["dc2"] })).await;
    for dc in 0..2 {
        report(&cluster, dc, "passing").await;
    }
    report(&cluster, 0, "critical").await;
    let (home, away) = (server(&cluster, "dc1"), server(&cluster, "dc2"));
    let client = cluster.agents[home].client();
    is_served_by(&client, WEB, &[1]).await;
    cluster.agents[away].kill();
    cluster.agents[home].kill();
    cluster.run(home).await;
    let index = until(SETTLED_MAX, "nobody answers", async || {
        let found = get(&client, WEB).await?;
        let nobody = addresses(&found)?.is_empty();
        if nobody { Ok(found.header("x-consul-index").to_owned()) } else { Err(found.text()) }
    })
    .await;
    let waiting =
        tokio::spawn(async move { get(&client, &format!("{WEB}&wait=300s&index={index}")).await });
    cluster.run(away).await;
    let told = tokio::time::timeout(SETTLED_MAX, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(addresses(&told).unwrap(), [AT[1]]);
}

/// Explains, by the command line, where lookups go without a datacenter: the exit code and who would answer dc1.
fn explain(cluster: &Cluster, lost: &str) -> (i32, Value, Vec<String>) {
    let agent = &cluster.agents[cluster.clients("dc1")[0]];
    let lose = format!("-lose={lost}");
    let (code, out, err) =
        agent.run(&["failover", "explain", &lose, "-service=web", "-format=json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    let callers = report["Services"][0]["Callers"].as_array().cloned().unwrap_or_default();
    let home = callers.into_iter().find(|it| it["Datacenter"] == "dc1").unwrap_or_default();
    let then = home["Then"].as_array().cloned().unwrap_or_default();
    let then = then.iter().map(|it| it["Datacenter"].as_str().unwrap().to_owned()).collect();
    (code.unwrap(), report, then)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_explained_before_a_loss_is_what_comes_of_it() {
    let mut cluster = start(json!({ "datacenters": ["dc2", "dc3"], "hold_down": "3s" })).await;
    for dc in 1..3 {
        report(&cluster, dc, "passing").await;
    }
    let client = cluster.agents[cluster.clients("dc1")[0]].client();
    is_served_by(&client, WEB, &[1]).await;
    until(SETTLED_MAX, "dc3 is mirrored as well", async || {
        let (code, found, then) = explain(&cluster, "dc2");
        if (code, &*then) == (0, &["dc3".to_owned()]) { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    let (code, found, then) = explain(&cluster, "dc2,dc3");
    assert_eq!((code, then.len()), (2, 0), "{found}");
    assert_eq!(found["Nowhere"], json!(["web"]));
    let agent = &cluster.agents[server(&cluster, "dc1")];
    let (code, out, err) = agent.run(&["failover", "explain", "-lose=*", "-service=web"]);
    assert_eq!(code, Some(0), "{out}{err}");
    for lost in ["Without dc1:", "Without dc2:", "Without dc3:"] {
        assert!(out.contains(lost), "{out}");
    }
    let (code, _, err) = agent.run(&["failover", "explain", "-lose=dc9"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("no such datacenter: dc9; there are dc1, dc2, dc3"), "{err}");

    // It comes as it was said.
    let place = server(&cluster, "dc2");
    cluster.agents[place].kill();
    is_served_by(&client, WEB, &[2]).await;
    let (code, found, then) = explain(&cluster, "dc2");
    assert_eq!((code, then), (0, vec!["dc3".to_owned()]), "{found}");
    let place = server(&cluster, "dc3");
    let (code, _, then) = explain(&cluster, "dc3");
    assert_eq!((code, then.len()), (2, 0));
    cluster.agents[place].kill();
    until(SETTLED_MAX, "nobody answers", async || {
        let found = get(&client, WEB).await?;
        if addresses(&found)?.is_empty() { Ok(()) } else { Err(found.text()) }
    })
    .await;
}
