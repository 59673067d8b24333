//! What operators are shown of the federation: status and timeline, through a loss and a return.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hyper::StatusCode;
use serde_json::Value;
use tests::harness::{
    agent::Agent,
    binary,
    client::Client,
    cluster::{Cluster, Shape},
    until,
};

/// How long until a lost datacenter is known to be lost, and one that is back to be back.
const VERDICT_MAX: Duration = Duration::from_secs(60);

fn two() -> [Shape; 2] {
    [Shape { dc: "dc1", servers: 2, clients: 1 }, Shape { dc: "dc2", servers: 1, clients: 0 }]
}

/// Returns what a status says of a datacenter.
fn datacenter<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["Datacenters"].as_array().expect("a list");
    all.iter().find(|dc| dc["Name"] == name).unwrap_or(&Value::Null)
}

/// Waits with blocking queries until a datacenter is held for something.
async fn held(client: &Client, dc: &str, health: &str) -> Value {
    let mut index = 0;
    let what = format!("{dc} is held for {health}");
    until(VERDICT_MAX, &what, async || {
        let path = format!("/v1/federation/status?index={index}&wait=10s");
        let response = client.get(&path).await.map_err(|error| format!("{error:#}"))?;
        assert_eq!(response.status, StatusCode::OK, "{}", response.text());
        index = response.index();
        let status: Value = serde_json::from_slice(&response.body).unwrap();
        let found = datacenter(&status, dc)["Health"].clone();
        if found == health { Ok(status) } else { Err(found.to_string()) }
    })
    .await
}

fn list<'a>(timeline: &'a Value, name: &str) -> &'a [Value] {
    timeline[name].as_array().expect("a list")
}

/// Tells which servers have an event of a kind whose text begins like this.
fn tellers(timeline: &Value, kind: &str, text: &str) -> Vec<String> {
    let begins = |event: &&Value| {
        event["Kind"] == kind && event["Text"].as_str().is_some_and(|it| it.starts_with(text))
    };
    let names = list(timeline, "Events").iter().filter(begins).map(|event| &event["Server"]);
    names.map(|name| name.as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_and_a_return_are_in_the_status_and_on_the_timeline_of_all_servers() {
    let mut cluster = Cluster::start(&two()).await;
    let (lost, client) = (cluster.servers("dc2")[0], cluster.agents[2].client());
    let status = held(&client, "dc2", "healthy").await;
    let (dc1, dc2) = (datacenter(&status, "dc1"), datacenter(&status, "dc2"));
    assert_eq!((&dc1["Own"], &dc1["Health"]), (&true.into(), &"healthy".into()));
    assert_eq!(dc1["Servers"].as_array().unwrap().len(), 2, "{dc1}");
    assert_eq!((&dc2["Leader"], &dc2["Servers"][0]["Status"]), (&"dc2-s1".into(), &"alive".into()));
    assert!(dc2["RTTMillis"].is_number(), "{dc2}");

    cluster.agents[lost].kill();
    let status = held(&client, "dc2", "lost").await;
    let dc2 = datacenter(&status, "dc2");
    assert!(dc2["Evidence"].as_str().unwrap().contains("seen by dc1-s1, dc1-s2"), "{dc2}");
    assert_eq!(dc2["Servers"][0]["Path"], "down", "{dc2}");
    let row = status["Matrix"].as_array().unwrap().iter().find(|row| row["From"] == "dc1");
    assert_eq!(row.unwrap()["To"][0]["Health"], "lost", "{status}");

    let both = ["dc1-s1", "dc1-s2"];
    let timeline = until(VERDICT_MAX, "both servers tell of the loss", async || {
        let found = client.json("/v1/federation/timeline?dc=dc2").await;
        let found = found.map_err(|error| format!("{error:#}"))?;
        let mut told = tellers(&found, "verdict", "healthy -> lost");
        told.sort();
        if told == both { Ok(found) } else { Err(found.to_string()) }
    })
    .await;
    assert_eq!(list(&timeline, "Unreachable")[0]["Datacenter"], "dc2", "{timeline}");
    assert!(list(&timeline, "Events").iter().all(|event| event["About"] == "dc2"), "{timeline}");
    let times: Vec<_> = list(&timeline, "Events").iter().map(|it| it["TimeMs"].as_u64()).collect();
    assert!(times.is_sorted(), "{timeline}");
    let effects = tellers(&timeline, "effect", "requests are no longer sent there");
    assert_eq!(effects.len(), 2, "{timeline}");

    cluster.run(lost).await;
    let mut index = 0;
    until(VERDICT_MAX, "the return is told by all three", async || {
        let path = format!("/v1/federation/timeline?index={index}&wait=10s");
        let response = client.get(&path).await.map_err(|error| format!("{error:#}"))?;
        response.ok().map_err(|error| format!("{error:#}"))?;
        index = response.index();
        let found: Value = serde_json::from_slice(&response.body).unwrap();
        let mut told = tellers(&found, "recovery", "lost -> healthy after");
        told.sort();
        let own = list(&found, "Events").iter().any(|event| event["Server"] == "dc2-s1");
        let all = told == both && own && list(&found, "Unreachable").is_empty();
        if all { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Starts a command that goes on until it is interrupted.
fn follow(agent: &Agent, words: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.args(words).env("CONSUL_HTTP_ADDR", agent.http_addr().to_string());
    command.stdout(Stdio::piped()).spawn().expect("the command starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_the_datacenters_and_follows_what_happens() {
    let mut cluster = Cluster::start(&two()).await;
    let lost = cluster.servers("dc2")[0];
    held(&cluster.agents[2].client(), "dc2", "healthy").await;
    let (code, out, err) = cluster.agents[2].run(&["federation", "status"]);
    assert_eq!(code, Some(0), "{err}");
    let says = |words: &[&str]| out.lines().any(|line| words.iter().all(|it| line.contains(it)));
    assert!(says(&["dc2", "healthy", "dc2-s1", "1/1", "closed"]), "{out}");

    let mut child = follow(&cluster.agents[2], &["federation", "timeline", "-dc=dc2", "-follow"]);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = |text: &str| {
        let found = lines.by_ref().map(|line| line.expect("text")).find(|it| it.contains(text));
        found.unwrap_or_else(|| panic!("the command ended before it wrote {text:?}"))
    };
    next("-> healthy: 1 of 1 servers up");
    cluster.agents[lost].kill();
    next("healthy -> lost: 1 of 1 servers down");
    cluster.run(lost).await;
    // It may be heard before it is reached.
    next("-> healthy after");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("there is kill").success());
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_datacenter_shows_how_it_sees_the_others() {
    let cluster = Cluster::start(&two()).await;
    let client = cluster.agents[2].client();
    until(VERDICT_MAX, "dc2 sees dc1", async || {
        let status = client.json("/v1/federation/status?dc=dc2").await;
        let status = status.map_err(|error| format!("{error:#}"))?;
        let seen = &datacenter(&status, "dc1")["Health"];
        let is_so = status["Server"] == "dc2-s1" && seen == "healthy";
        if is_so { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let refused = client.get("/v1/federation/timeline?dc=a/b").await.unwrap();
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}
