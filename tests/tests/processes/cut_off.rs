//! Agents that are cut off from all servers: what goes on, what is refused, and how it ends.

use std::{fs, time::Duration};

use hickory_proto::rr::RecordType;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tests::harness::{
    agent::Agent,
    client::{Client, Response},
    cluster::Cluster,
    dns::{Asker, said},
    until,
};
use tokio::task::JoinSet;

use crate::dc1;

/// How long a change may take until everybody concerned knows of it.
pub(crate) const KNOWN_MAX: Duration = Duration::from_secs(40);

/// Blocking queries that are under way at the moment of the cut.
const WAITING: usize = 1000;

pub(crate) const DNS: u16 = 8600;

pub(crate) const WEB: &str = "/v1/health/service/web";
pub(crate) const STALE: &str = "/v1/health/service/web?stale";
pub(crate) const CACHED: &str = "/v1/health/service/web?cached";

pub(crate) async fn register(agent: &Agent, service: &str) {
    let body = json!({ "ID": format!("{service}-{}", agent.name), "Name": service, "Port": 80 });
    let client = agent.client();
    client.put("/v1/agent/service/register", body.to_string()).await.unwrap().ok().unwrap();
}

/// The nodes in an answer of `health/service`, which has to be 200.
pub(crate) fn nodes(response: &Response) -> Result<Vec<String>, String> {
    response.ok().map_err(|error| format!("{error:#}"))?;
    let rows: Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
    let name = |row: &Value| row["Node"]["Node"].as_str().map(str::to_owned);
    Ok(rows.as_array().into_iter().flatten().filter_map(name).collect())
}

/// Waits until an agent finds exactly these nodes, and returns the answer.
pub(crate) async fn finds(client: &Client, path: &str, expected: &[&str]) -> Response {
    until(KNOWN_MAX, &format!("{expected:?} at {path}"), async || {
        let response = client.get(path).await.map_err(|error| format!("{error:#}"))?;
        let found = nodes(&response)?;
        if found == expected { Ok(response) } else { Err(format!("{found:?}")) }
    })
    .await
}

/// Waits until DNS knows so many instances.
pub(crate) async fn names_count(asker: &Asker, count: usize) {
    until(KNOWN_MAX, &format!("{count} addresses by DNS"), async || {
        let (code, answers) = said(&asker.ask("web.service.consul", RecordType::A).await?);
        if answers.len() == count { Ok(()) } else { Err(format!("{code}: {answers:?}")) }
    })
    .await;
}

/// How an agent says it stands.
async fn standing(client: &Client) -> Result<String, String> {
    let own = client.json("/v1/agent/self").await.map_err(|error| format!("{error:#}"))?;
    Ok(own["Stats"]["servers"]["standing"].as_str().unwrap_or_default().to_owned())
}

pub(crate) async fn stands(client: &Client, expected: &str) {
    until(KNOWN_MAX, expected, async || match standing(client).await? {
        standing if standing == expected => Ok(()),
        standing => Err(standing),
    })
    .await;
}

/// What may not be stale is refused, with a reason.
pub(crate) async fn refuses(client: &Client, reason: &str) {
    let catalog = json!({ "Node": "ext", "Address": "192.0.2.1" }).to_string();
    for (method, path, body) in [
        (Method::GET, WEB, ""),
        (Method::GET, "/v1/health/service/web?consistent", ""),
        (Method::GET, "/v1/kv/k", ""),
        (Method::PUT, "/v1/kv/k", "no"),
        (Method::PUT, "/v1/catalog/register", catalog.as_str()),
    ] {
        let response = client.send(method.clone(), path, body.to_owned()).await.unwrap();
        let (status, text) = (response.status, response.text());
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {text}");
        assert!(text.contains(reason), "{method} {path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_servers_answers_from_its_cache_over_restarts_until_they_are_back() {
    let mut cluster = Cluster::plan(&dc1(1, 1));
    cluster.agents[1].configure(json!({ "ports": { "dns": DNS, "https": -1 } }));
    cluster.launch().await;
    let asker = Asker((cluster.agents[1].host, DNS).into());
    register(&cluster.agents[1], "web").await;
    names_count(&asker, 1).await;
    let client_name = cluster.agents[1].name.clone();
    let own = [client_name.as_str()];
    let client = cluster.agents[1].client();
    for path in [WEB, STALE, CACHED] {
        finds(&client, path, &own).await;
    }
    let index = client.get(WEB).await.unwrap().index();
    let mut waiting = JoinSet::new();
    let many = Client::multiplexed(cluster.agents[1].http_addr()).patient(2 * KNOWN_MAX);
    for number in 0..WAITING {
        let path = format!("{WEB}?index={index}&wait=300s&number={number}");
        let many = many.clone();
        waiting.spawn(async move { many.get(&path).await.unwrap().status });
    }
    // Those that are under way are at the server.
    assert_eq!(client.get(WEB).await.unwrap().status, StatusCode::OK);

    cluster.agents[0].kill();
    stands(&client, "cut off").await;
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    refuses(&client, "no server of datacenter dc1 has been reachable for").await;
    let never = client.get("/v1/health/service/never?stale").await.unwrap();
    assert_eq!(never.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", never.text());
    for path in [STALE, CACHED] {
        let answer = finds(&client, path, &own).await;
        assert_eq!(answer.header("x-cache"), "HIT", "{path}");
        assert_eq!(answer.header("x-consul-knownleader"), "false", "{path}");
    }
    // It answers and takes registrations after a restart, too.
    cluster.agents[1].signal("INT");
    cluster.agents[1].wait_for_exit(KNOWN_MAX).await;
    cluster.agents[1].start().await;
    register(&cluster.agents[1], "late").await;
    for path in [STALE, CACHED] {
        finds(&client, path, &own).await;
    }
    names_count(&asker, 1).await;

    // The server comes back with nothing: it learns what runs here.
    fs::remove_dir_all(cluster.agents[0].data_dir()).unwrap();
    cluster.run(0).await;
    stands(&client, "connected").await;
    for service in ["web", "late"] {
        finds(&client, &format!("/v1/health/service/{service}?consistent"), &own).await;
    }
    until(KNOWN_MAX, "the cache is kept fresh", async || {
        let answer = client.get(CACHED).await.map_err(|error| format!("{error:#}"))?;
        let age = answer.header("age").to_owned();
        if nodes(&answer)? == own && age == "0" { Ok(()) } else { Err(age) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_can_not_be_read_or_written_is_said_and_harms_nobody() {
    let mut cluster = Cluster::start(&dc1(1, 1)).await;
    register(&cluster.agents[1], "web").await;
    let name = cluster.agents[1].name.clone();
    let client = cluster.agents[1].client();
    finds(&client, CACHED, &[name.as_str()]).await;
    cluster.agents[1].signal("INT");
    cluster.agents[1].wait_for_exit(KNOWN_MAX).await;
    let file = cluster.agents[1].data_dir().join("cache");
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let truncated = whole[..whole.len() - 1].to_vec();
    let later = [b"causeway cache 2\n", &whole[17..]].concat();
    for (content, said) in [
        (truncated, "it ends within an entry"),
        (damaged, "it is damaged"),
        (later, "it is no cache, or one of another version"),
    ] {
        fs::write(&file, content).unwrap();
        cluster.agents[1].start().await;
        finds(&client, CACHED, &[name.as_str()]).await;
        cluster.agents[1].signal("INT");
        cluster.agents[1].wait_for_exit(KNOWN_MAX).await;
        let log = cluster.agents[1].full_log();
        assert!(log.contains(said), "{said}: {log}");
        assert_eq!(fs::read(&file).unwrap()[..17], whole[..17], "written anew");
    }
    // What is to be replaced can't be.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    cluster.agents[1].start().await;
    finds(&client, CACHED, &[name.as_str()]).await;
    cluster.agents[1].signal("INT");
    assert!(cluster.agents[1].wait_for_exit(KNOWN_MAX).await.success());
    assert!(cluster.agents[1].full_log().contains("the cache can't be written"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_fails_nobody_who_asks_its_agents() {
    let mut cluster = Cluster::start(&dc1(3, 1)).await;
    register(&cluster.agents[3], "web").await;
    let client = cluster.agents[3].client().patient(Duration::from_secs(15));
    let index = finds(&client, WEB, &["dc1-c1"]).await.index();
    // Among them are the leader and the one that the agent asks.
    for server in 0..3 {
        let waiting = client.clone();
        let path = format!("{WEB}?index={index}&wait=5s");
        let waiting = tokio::spawn(async move { waiting.get(&path).await });
        cluster.agents[server].signal("STOP");
        // Long enough that its heartbeats are missed, and not yet long enough that its path is dead.
        tokio::time::sleep(Duration::from_millis(1900)).await;
        let until = tokio::time::Instant::now() + Duration::from_secs(3);
        while tokio::time::Instant::now() < until {
            let found = client.get(WEB).await.unwrap();
            assert_eq!(nodes(&found), Ok(vec!["dc1-c1".to_owned()]), "{server} is frozen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let waited = waiting.await.unwrap().unwrap();
        assert_eq!(nodes(&waited), Ok(vec!["dc1-c1".to_owned()]), "{server} was frozen");
        cluster.agents[server].signal("CONT");
        cluster.leader("dc1", None).await;
    }
}
