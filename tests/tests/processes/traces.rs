//! One trace id follows a request through the logs of all agents that had a part in it.

use std::time::Duration;

use hyper::{Method, StatusCode};
use tests::harness::{
    cluster::{Cluster, Shape},
    until,
};

/// How long an agent may take to write what it has logged.
const WRITTEN_MAX: Duration = Duration::from_secs(5);

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_another_datacenter_has_one_id_in_the_logs_of_three_agents() {
    let shapes =
        [Shape { dc: "dc1", servers: 1, clients: 1 }, Shape { dc: "dc2", servers: 1, clients: 0 }];
    let cluster = Cluster::start(&shapes).await;
    let client = cluster.agents[1].client();
    let (path, headers) = ("/v1/kv/traced?dc=dc2", [("traceparent", PARENT)]);
    let put = client.send_with(Method::PUT, path, &headers, "value").await.unwrap();
    assert_eq!((put.status, put.header("x-causeway-trace")), (StatusCode::OK, TRACE));

    let span = format!("request{{trace={TRACE}}}");
    for (agent, said) in cluster.agents.iter().zip([
        ["way=Datacenter(", "handing over server=dc2-s1", "origin=Agent"],
        [
            "HTTP request method=PUT path=\"/v1/kv/traced\"",
            "asking a server server=dc1-s1",
            "status=200",
        ],
        ["way=Here", "origin=Federation", "ask"],
    ]) {
        let what = format!("{} logs the trace", agent.name);
        until(WRITTEN_MAX, &what, async || {
            let log = agent.full_log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&span)).collect();
            match said.iter().find(|words| !lines.iter().any(|line| line.contains(*words))) {
                None => Ok(()),
                Some(words) => Err(format!("nothing with {words:?}:\n{}", lines.join("\n"))),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_an_id_gets_one_of_its_own() {
    let cluster = Cluster::start(&[Shape { dc: "dc1", servers: 1, clients: 0 }]).await;
    let failed = cluster.agents[0].client().get("/v1/kv/a?dc=nowhere").await.unwrap();
    let trace = failed.header("x-causeway-trace").to_owned();
    assert_eq!(trace.len(), 32, "{trace:?}");
    until(WRITTEN_MAX, "the failure is logged", async || {
        let log = cluster.agents[0].full_log();
        let line = log.lines().find(|line| line.contains("request failed")).ok_or("no failure")?;
        let marked = line.contains(&format!("trace={trace} error=No path to datacenter"));
        if marked { Ok(()) } else { Err(line.to_owned()) }
    })
    .await;
}
