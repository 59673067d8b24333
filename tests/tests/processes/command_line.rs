//! The command line: round trips against a running agent, and errors that name what is wrong.

use std::{fs, path::Path};

use serde_json::Value;
use tests::harness::{agent::run, cluster::Cluster, until};

use crate::dc1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_in_and_come_out() {
    let cluster = Cluster::start(&dc1(1, 1)).await;
    let agent = &cluster.agents[1];
    let (code, out, err) = agent.run(&["kv", "put", "config/a", "one"]);
    assert_eq!((code, out.contains("config/a")), (Some(0), true), "{out}{err}");
    let (code, out, _) = agent.run(&["kv", "get", "config/a"]);
    assert_eq!((code, out.trim()), (Some(0), "one"));
    let (code, out, _) = agent.run(&["kv", "export", "config/"]);
    assert_eq!(code, Some(0));
    let file = agent.dir.join("export.json");
    fs::write(&file, &out).unwrap();

    let (code, _, _) = agent.run(&["kv", "delete", "config/a"]);
    assert_eq!(code, Some(0));
    let (code, _, err) = agent.run(&["kv", "get", "config/a"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("config/a"), "{err}");

    let (code, _, err) = agent.run(&["kv", "import", &format!("@{}", file.display())]);
    assert_eq!(code, Some(0), "{err}");
    let (_, out, _) = agent.run(&["kv", "get", "config/a"]);
    assert_eq!(out.trim(), "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_peers_are_listed() {
    let cluster = Cluster::start(&dc1(3, 1)).await;
    let agent = &cluster.agents[3];
    let (code, out, err) = agent.run(&["members"]);
    assert_eq!(code, Some(0), "{err}");
    for fellow in &cluster.agents {
        assert!(out.lines().any(|l| l.contains(&fellow.name) && l.contains("alive")), "{out}");
    }
    let (code, out, err) = agent.run(&["operator", "raft", "list-peers"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().filter(|line| line.contains("leader")).count(), 1, "{out}");
    assert_eq!(out.lines().filter(|line| line.contains("follower")).count(), 2, "{out}");
    let (code, out, err) = agent.run(&["info"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("agent"), "{out}");
}

#[test]
fn version_and_keygen_need_no_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(dir.path(), None, &["version"]);
    assert_eq!(code, Some(0));
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    let (code, out, _) = run(dir.path(), None, &["keygen"]);
    assert_eq!((code, out.trim().len()), (Some(0), 44), "32 bytes in base64: {out}");
}

#[test]
fn an_agent_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = "127.0.0.1:1".parse().unwrap();
    let (code, out, err) = run(dir.path(), Some(nobody), &["members"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("127.0.0.1:1"), "{err}");
}

fn agent_error(dir: &Path, name: &str, config: &str) -> String {
    let file = dir.join(name);
    fs::write(&file, config).unwrap();
    let flag = format!("-config-file={}", file.display());
    let (code, out, err) = run(dir, None, &["agent", &flag]);
    assert_eq!(code, Some(1), "{out}{err}");
    format!("{out}{err}")
}

#[test]
fn configuration_errors_name_file_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let said = agent_error(dir.path(), "typo.hcl", "data_dri = \"/tmp/x\"\n");
    for word in ["typo.hcl", "data_dri", "data_dir"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = agent_error(dir.path(), "bad.json", "{ \"ports\": { \"http\": \"many\" } }");
    for word in ["bad.json", "http"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = agent_error(dir.path(), "broken.json", "{ \"server\": tru");
    assert!(said.contains("broken.json"), "{said}");
}

#[test]
fn an_unknown_command_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = run(dir.path(), None, &["frobnicate"]);
    assert_eq!(code, Some(127), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_says_how_servers_and_agents_are() {
    let cluster = Cluster::start(&crate::dc1(1, 1)).await;
    let info = |agent: usize| -> Value {
        let (code, out, err) = cluster.agents[agent].run(&["info", "-format=json"]);
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).unwrap()
    };
    // What servers and agents have in common with Consul's.
    let server = info(0);
    for (section, key, value) in [
        ("consul", "known_datacenters", "1"),
        ("consul", "leader", "true"),
        ("consul", "server", "true"),
        ("raft", "last_contact", "0"),
        ("raft", "num_peers", "0"),
        ("raft", "protocol_version", "3"),
        ("raft", "state", "Leader"),
        ("serf_lan", "members", "2"),
        ("serf_wan", "members", "1"),
        ("serf_wan", "encrypted", "true"),
    ] {
        assert_eq!(server[section][key], value, "{section} {key}: {server}");
    }
    let configuration = server["raft"]["latest_configuration"].as_str().unwrap();
    let address = format!("Address:{}:8300}}]", cluster.agents[0].host);
    assert!(configuration.starts_with("[{Suffrage:Voter ID:"), "{configuration}");
    assert!(configuration.ends_with(&address), "{configuration}");

    let body = r#"{"Name":"web","Checks":[{"TTL":"1h","Status":"passing"},{"TTL":"1h"}]}"#;
    let client = cluster.agents[1].client();
    client.put("/v1/agent/service/register", body).await.unwrap().ok().unwrap();
    let synced = until(std::time::Duration::from_secs(30), "the servers know", async || {
        let info = info(1);
        let agent = &info["agent"];
        let known = agent["sync_pending"] == "0" && agent["sync_failures"] == "0";
        let told = ["sync_last", "sync_last_full"].map(|key| agent[key].to_string());
        if known && told.iter().all(|it| it.ends_with(" ago\"")) {
            Ok(info)
        } else {
            Err(info.to_string())
        }
    })
    .await;
    for (section, key, value) in [
        ("agent", "services", "1"),
        ("agent", "checks_passing", "1"),
        ("agent", "checks_critical", "1"),
        ("consul", "known_servers", "1"),
        ("consul", "server", "false"),
    ] {
        assert_eq!(synced[section][key], value, "{section} {key}: {synced}");
    }
    assert!(synced.get("raft").is_none(), "{synced}");
}
