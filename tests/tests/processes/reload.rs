//! An agent that reads its configuration again: what changes, what stays, what is refused.

use std::{fs, path::Path, time::Duration};

use certs::{
    https::{Connector, Server, Trust},
    store::Clock,
};
use serde_json::{Value, json};
use tests::harness::{
    agent::{Agent, run},
    cluster::Cluster,
    until,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::dc1;

/// How long a change may take until the catalog shows it.
const SHOWN_MAX: Duration = Duration::from_secs(30);

const HTTPS_PORT: u16 = 8501;

/// One server that is started with these keys.
async fn started_with(keys: Value) -> Cluster {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    cluster.agents[0].configure(keys);
    cluster.launch().await;
    cluster
}

/// Waits until the catalog shows something of the agent's node.
async fn shown(agent: &Agent, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let client = agent.client();
    until(SHOWN_MAX, path, async || {
        let answer = client.json(path).await.map_err(|error| format!("{error:#}"))?;
        if wanted(&answer) { Ok(answer) } else { Err(answer.to_string()) }
    })
    .await
}

fn web(port: u16, ttl: &str) -> Value {
    json!({ "name": "web", "port": port, "check": { "id": "up", "ttl": ttl } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_files_say_counts_at_once_and_what_checks_said_stays() {
    let services = json!([web(80, "1h"), { "name": "old" }]);
    let mut cluster = started_with(json!({ "services": services, "log_level": "info" })).await;
    let agent = &mut cluster.agents[0];
    let client = agent.client();
    client.put("/v1/agent/check/pass/up", "").await.unwrap().ok().unwrap();
    shown(agent, "/v1/health/service/web?passing", |list| list[0]["Service"]["Port"] == 80).await;

    let services = json!([web(81, "2h"), { "name": "new" }]);
    agent.configure(json!({
        "services": services,
        "check": { "id": "node-up", "name": "up", "ttl": "1h", "status": "passing" },
        "node_meta": { "rack": "7" },
        "log_level": "debug",
    }));
    agent.write_config();
    let (code, out, err) = agent.run(&["reload"]);
    assert_eq!((code, out.trim(), err.as_str()), (Some(0), "Configuration reload triggered", ""));
    let listed = client.json("/v1/agent/services").await.unwrap();
    let names: Vec<&String> = listed.as_object().unwrap().keys().collect();
    assert_eq!(names, ["new", "web"], "the answer comes when it counts");
    let own = client.json("/v1/agent/self").await.unwrap();
    assert_eq!(own["Meta"]["rack"], "7");
    assert_eq!(own["DebugConfig"]["log"]["level"], "DEBUG");

    let passing = "/v1/health/service/web?passing&node-meta=rack:7";
    shown(agent, passing, |list| list[0]["Service"]["Port"] == 81).await;
    shown(agent, "/v1/health/state/passing", |list| list.to_string().contains("node-up")).await;
    shown(agent, "/v1/catalog/services", |it| it.get("old").is_none() && it.get("new").is_some())
        .await;
    client.get("/v1/agent/self").await.unwrap();
    assert!(agent.full_log().contains("HTTP answer"), "what is logged at debug only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reloads_too_and_what_needs_a_restart_is_named() {
    let mut cluster = started_with(json!({})).await;
    let agent = &mut cluster.agents[0];
    agent.configure(json!({
        "service": { "name": "web" },
        "domain": "example",
        "limits": { "kv_max_value_size": 9 },
    }));
    agent.write_config();
    agent.signal("HUP");
    shown(agent, "/v1/agent/services", |it| it.get("web").is_some()).await;
    let warning = "needs a restart: domain, limits.kv_max_value_size";
    until(SHOWN_MAX, "a warning", async || {
        let log = agent.full_log();
        if log.contains(warning) { Ok(()) } else { Err(log) }
    })
    .await;
    // It is named as long as it is so, in the answer too.
    let (code, _, err) = agent.run(&["reload"]);
    assert_eq!((code, err.trim()), (Some(0), warning));
    let own = agent.client().json("/v1/agent/self").await.unwrap();
    assert_eq!(own["DebugConfig"]["domain"], "consul", "what is shown is what counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing_and_the_answer_says_why() {
    let mut cluster = started_with(json!({ "services": [web(80, "1h")] })).await;
    let agent = &mut cluster.agents[0];
    let client = agent.client();
    let good = agent.config.clone();
    let missing = json!({ "cert_file": "/nowhere/c.pem", "key_file": "/nowhere/k.pem" });
    let mut tls = good["tls"].clone();
    tls["defaults"]["cert_file"] = missing["cert_file"].clone();
    for (keys, sentence) in [
        (json!({ "servic": {} }), "servic"),
        (json!({ "services": [{ "port": 1 }] }), "name"),
        (json!({ "tls": tls }), "/nowhere/c.pem"),
    ] {
        agent.config = good.clone();
        agent.configure(json!({ "services": [web(81, "1h")], "log_level": "trace" }));
        agent.configure(keys);
        agent.write_config();
        let (code, out, err) = agent.run(&["reload"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.starts_with("Error reloading: Unexpected response code: 500 ("), "{err}");
        assert!(err.contains(sentence), "{sentence}: {err}");
        let listed = client.json("/v1/agent/services").await.unwrap();
        assert_eq!(listed["web"]["Port"], 80, "{sentence}");
        let own = client.json("/v1/agent/self").await.unwrap();
        assert_eq!(own["DebugConfig"]["log"]["level"], "DEBUG", "{sentence}");
        let log = agent.full_log();
        assert!(log.contains("everything stays as it was") && log.contains(sentence), "{log}");
    }
}

/// Makes an authority and a certificate of it; returns the `tls.https` that names them.
fn issue(dir: &Path, agent: &Agent) -> Value {
    fs::create_dir_all(dir).unwrap();
    let host = format!("-additional-ipaddress={}", agent.host);
    for words in
        [&["tls", "ca", "create"][..], &["tls", "cert", "create", "-server", "-dc=dc1", &host]]
    {
        let (code, out, err) = run(dir, None, words);
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    }
    json!({
        "ca_file": dir.join("consul-agent-ca.pem"),
        "cert_file": dir.join("dc1-server-consul-0.pem"),
        "key_file": dir.join("dc1-server-consul-0-key.pem"),
    })
}

async fn connect(
    agent: &Agent,
    authority: &Path,
) -> std::io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let server = Server::VouchedBy(vec![authority.join("consul-agent-ca.pem")]);
    let connector = Connector::new(&Trust { server, own: None, name: None }, Clock::System);
    let stream = TcpStream::connect((agent.host, HTTPS_PORT)).await?;
    connector.unwrap().connect(&agent.host.to_string(), stream).await
}

/// Asks for the leader on a connection that stays open.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<String> {
    stream.write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    stream.flush().await?;
    let mut text = String::new();
    while !text.contains(":8300") {
        let mut bytes = [0; 1024];
        let len = stream.read(&mut bytes).await?;
        assert!(len > 0, "it was closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_shows_the_certificate_of_other_files_and_open_connections_go_on() {
    let home = tempfile::tempdir().unwrap();
    let (first, next) = (home.path().join("first"), home.path().join("next"));
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let mut tls = cluster.agents[0].config["tls"].clone();
    tls["https"] = issue(&first, &cluster.agents[0]);
    let ports = json!({ "https": HTTPS_PORT, "dns": -1 });
    cluster.agents[0].configure(json!({ "tls": tls.clone(), "ports": ports }));
    cluster.launch().await;
    let agent = &mut cluster.agents[0];
    let mut open = connect(agent, &first).await.unwrap();
    ask(&mut open).await.unwrap();
    tls["https"] = issue(&next, agent);
    agent.configure(json!({ "tls": tls }));
    agent.write_config();
    let (code, _, err) = agent.run(&["reload"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    ask(&mut open).await.unwrap();
    ask(&mut connect(agent, &next).await.unwrap()).await.unwrap();
    assert!(connect(agent, &first).await.is_err(), "the former certificate is gone");
}
