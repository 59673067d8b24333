//! Checks that an agent runs: what they find out reaches the catalog, and what they started ends.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tests::harness::{client::Client, cluster::Cluster, until};

/// How long a check that runs every second may take until the catalog shows it.
const SHOWN_MAX: Duration = Duration::from_secs(30);

/// How long an agent may take to end.
const END_MAX: Duration = Duration::from_secs(20);

/// Waits until the catalog shows what a check says.
async fn shown(client: &Client, check: &str, status: &str) -> String {
    until(SHOWN_MAX, &format!("{check} is {status}"), async || {
        let list = client.json("/v1/health/state/any").await.map_err(|e| format!("{e:#}"))?;
        let checks = list.as_array().map(Vec::as_slice).unwrap_or_default();
        match checks.iter().find(|it| it["CheckID"] == check) {
            Some(it) if it["Status"] == status => Ok(it["Output"].as_str().unwrap().to_owned()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Returns the processes that have put their ids into a file.
fn enrolled(file: &Path) -> Vec<u32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|id| id.parse().unwrap()).collect()
}

/// Tells whether a process runs; one that has ended and that nobody asked for does not.
fn runs(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_checks_find_out_is_in_the_catalog_and_what_they_started_ends_with_the_agent() {
    let mut cluster = Cluster::plan(&crate::dc1(1, 0));
    let addr = cluster.agents[0].http_addr();
    let file = cluster.agents[0].dir.join("enrolled");
    // A script with a child, both deaf to SIGTERM, that would run for ever.
    let hanging = format!(
        "trap '' TERM; echo $$ >> {0}; sh -c 'echo $$ >> {0}; exec sleep 1000' & wait; sleep 1000",
        file.display()
    );
    let check = |id: &str, how: Value| {
        let mut check = json!({ "id": id, "name": id, "interval": "1s", "timeout": "10m" });
        check.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        check
    };
    let shell = |line: &str| json!({ "args": ["/bin/sh", "-c", line] });
    cluster.agents[0].configure(json!({
        "enable_local_script_checks": true,
        "check_output_max_size": 20,
        "checks": [
            check("warns", shell("echo so-so; exit 1")),
            check("talks", shell("echo 0123456789; echo 0123456789")),
            check("hangs", shell(&hanging)),
            check("http", json!({ "http": format!("http://{addr}/v1/status/leader") })),
            check("tcp", json!({ "tcp": addr.to_string() })),
        ],
    }));
    cluster.launch().await;
    let client = cluster.agents[0].client();
    assert_eq!(shown(&client, "warns", "warning").await, "so-so\n");
    let talk = shown(&client, "talks", "passing").await;
    assert_eq!(talk, "Captured 20 of 22 bytes\n...\n23456789\n0123456789\n");
    shown(&client, "http", "passing").await;
    let tcp = shown(&client, "tcp", "passing").await;
    assert_eq!(tcp, format!("TCP connect {addr}: Success"));

    let ids = until(SHOWN_MAX, "the script and its child run", async || {
        let ids = enrolled(&file);
        if ids.len() == 2 { Ok(ids) } else { Err(format!("{ids:?}")) }
    })
    .await;
    assert!(ids.iter().all(|id| runs(*id)));
    cluster.agents[0].signal("TERM");
    cluster.agents[0].wait_for_exit(END_MAX).await;
    until(END_MAX, "nothing is left", async || {
        let left: Vec<u32> = ids.iter().copied().filter(|id| runs(*id)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}
