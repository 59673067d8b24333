//! Handlers of watches: those of an agent's configuration, and the program of `watch`.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tests::harness::{binary, cluster::Cluster, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::dc1;

/// How long a change may take to its handler.
const HEARD_MAX: Duration = Duration::from_secs(20);

/// A line for a shell that adds index and value to a file.
fn noting(file: &Path) -> String {
    format!("printf '%s ' \"$CONSUL_INDEX\" >> {0}; cat >> {0}", file.display())
}

/// Waits until a line of a file is about a value of the key; `null` for none.
async fn heard(file: &Path, wanted: impl Fn(&Value) -> bool) -> String {
    until(HEARD_MAX, &file.display().to_string(), async || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let values = text.lines().filter_map(|line| line.split_once(' '));
        let found = values.filter_map(|(index, json)| {
            let known = index.parse::<u64>().is_ok_and(|index| index > 0);
            known.then(|| serde_json::from_str::<Value>(json).ok()).flatten()
        });
        let found = found.into_iter().any(|value| wanted(&value));
        if found { Ok(text) } else { Err(text) }
    })
    .await
}

fn watch(cluster: &Cluster, args: &[&str]) -> Child {
    Command::new(binary())
        .arg("watch")
        .args(args)
        .env("CONSUL_HTTP_ADDR", cluster.agents[0].http_addr().to_string())
        .env_remove("SHELL")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_hears_of_what_is_there_and_of_each_change() {
    let cluster = Cluster::start(&dc1(1, 0)).await;
    let agent = &cluster.agents[0];
    let (client, file) = (agent.client(), agent.dir.join("noted"));
    let line = noting(&file);
    let mut child = watch(&cluster, &["-type=key", "-key=a", &line]);
    heard(&file, Value::is_null).await;
    assert!(client.kv_put("a", "1").await.unwrap());
    heard(&file, |value| value["Value"] == "MQ==").await;
    assert!(client.kv_put("b", "none of its business").await.unwrap());
    assert!(client.kv_put("a", "2").await.unwrap());
    let text = heard(&file, |value| value["Value"] == "Mg==").await;
    assert_eq!(text.lines().count(), 3, "{text}");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Takes one request, answers it, and returns all that came.
async fn taken(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    let mut bytes = [0; 4096];
    while !text.ends_with("}]") && !text.ends_with("]\n") {
        let len = stream.read(&mut bytes).await.unwrap();
        assert!(len > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_of_the_configuration_hear_and_a_reload_brings_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/changed", listener.local_addr().unwrap());
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let files = ["key", "services", "later"].map(|name| cluster.agents[0].dir.join(name));
    let [key, services, later] = &files;
    let http = json!({ "path": url, "method": "PUT", "header": { "x-foo": ["bar"] } });
    let by_http = json!({ "type": "nodes", "handler_type": "http", "http_handler_config": http });
    cluster.agents[0].configure(json!({ "watches": [
        { "type": "key", "key": "a", "args": ["/bin/sh", "-c", noting(key)] },
        { "type": "services", "handler": noting(services) },
        by_http.clone(),
    ] }));
    cluster.launch().await;
    let agent = &mut cluster.agents[0];
    let client = agent.client();
    heard(services, |value| value.get("consul").is_some()).await;
    assert!(client.kv_put("a", "1").await.unwrap());
    heard(key, |value| value["Value"] == "MQ==").await;
    let mut text = taken(&listener).await;
    while !text.contains("\"Node\"") {
        text = taken(&listener).await;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for line in [
        "put /changed http/1.1",
        "x-foo: bar",
        "x-consul-index: ",
        "content-type: application/json",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let nodes: Value = serde_json::from_str(body).unwrap();
    assert_eq!(nodes[0]["Node"], "dc1-s1");

    agent.configure(json!({ "watches": [{ "type": "event", "args": ["x"] }] }));
    agent.write_config();
    let (code, _, err) = agent.run(&["reload"]);
    assert!(code == Some(1) && err.contains("Causeway has no user events"), "{err}");
    agent.configure(json!({ "watches": [
        { "type": "key", "key": "a", "args": ["/bin/sh", "-c", noting(later)] },
    ] }));
    agent.write_config();
    assert_eq!(agent.run(&["reload"]).0, Some(0));
    heard(later, |value| value["Value"] == "MQ==").await;
    let before = fs::read_to_string(key).unwrap();
    assert!(client.kv_put("a", "2").await.unwrap());
    heard(later, |value| value["Value"] == "Mg==").await;
    assert_eq!(fs::read_to_string(key).unwrap(), before, "the former handler is gone");
}
