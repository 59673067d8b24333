//! The log of a running agent, listened to from outside.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tests::harness::{binary, cluster::Cluster, until};

use crate::dc1;

/// How long a line may take on its way.
const HEARD_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_agent_is_listened_to_at_debug_until_ctrl_c() {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    cluster.agents[0].configure(json!({ "log_level": "warn" }));
    cluster.launch().await;
    let agent = &cluster.agents[0];
    let heard = agent.dir.join("heard");
    let mut monitor = Command::new(binary())
        .args(["monitor", "-log-level=debug", "-log-json"])
        .env("CONSUL_HTTP_ADDR", agent.http_addr().to_string())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&heard).unwrap())
        .spawn()
        .unwrap();
    let wanted = |line: &Value| {
        line["fields"]["message"] == "HTTP request" && line["fields"]["path"] == "/v1/kv/listened"
    };
    until(HEARD_MAX, "the request is heard of", async || {
        agent.client().get("/v1/kv/listened").await.unwrap();
        let text = fs::read_to_string(&heard).unwrap();
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if lines.iter().any(wanted) { Ok(()) } else { Err(text) }
    })
    .await;
    let pid = monitor.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(monitor.wait().unwrap().code(), Some(0));
    assert!(!agent.full_log().contains("HTTP request"), "its own log is as quiet as before");
    let refused = agent.client().get("/v1/agent/monitor?loglevel=loud").await.unwrap();
    assert_eq!(
        (refused.status.as_u16(), refused.text().as_str()),
        (400, "Bad request: Unknown log level: loud")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_stops_ends_the_streams_of_its_log() {
    let mut cluster = Cluster::start(&dc1(1, 0)).await;
    let agent = &mut cluster.agents[0];
    let addr = agent.http_addr().to_string();
    let dir = agent.dir.clone();
    let heard = dir.join("heard");
    let mut monitor = Command::new(binary())
        .args(["monitor", "-log-level=debug"])
        .env("CONSUL_HTTP_ADDR", addr)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&heard).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(HEARD_MAX, "something is heard", async || {
        agent.client().get("/v1/kv/a").await.unwrap();
        match fs::metadata(&heard).unwrap().len() {
            0 => Err("nothing".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    agent.signal("TERM");
    agent.wait_for_exit(HEARD_MAX).await;
    assert!(!agent.full_log().contains("HTTP requests dropped"), "{}", agent.full_log());
    assert_eq!(monitor.wait().unwrap().code(), Some(1), "nobody asked for the end");
}
