//! Where agents listen and what they let nobody do there: HTTPS, socket files, rules and bounds,
//! and starts that come to nothing.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use certs::store::Clock;
use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    agent::{Agent, run},
    binary,
    cluster::Cluster,
    until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::Instant,
};

use crate::dc1;

/// How long until replaced files count: they are looked at every three seconds.
const RENEWED_MAX: Duration = Duration::from_secs(20);

/// How long an agent may take to find out that it can't start, attempts to join included.
const REFUSED_MAX: Duration = Duration::from_secs(30);

const HTTPS_PORT: u16 = 8501;

/// Makes an authority and certificates as operators do; returns their directory's `tls.https`.
fn issue(dir: &Path, host: IpAddr) -> Value {
    fs::create_dir_all(dir).unwrap();
    let host = format!("-additional-ipaddress={host}");
    for words in [
        &["tls", "ca", "create"][..],
        &["tls", "cert", "create", "-server", "-dc=dc1", &host],
        &["tls", "cert", "create", "-cli", "-dc=dc1"],
    ] {
        let (code, out, err) = run(dir, None, words);
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
    }
    json!({
        "ca_file": dir.join("consul-agent-ca.pem"),
        "cert_file": dir.join("dc1-server-consul-0.pem"),
        "key_file": dir.join("dc1-server-consul-0-key.pem"),
    })
}

/// Runs a command of the binary with an environment of its own: exit code, and all that it said.
fn command(env: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_string_lossy().into_owned()
}

/// Sends one request from an address and reads all that comes back.
async fn from_address(from: &str, to: SocketAddr, request: String) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn put(key: &str, value: &str) -> String {
    let len = value.len();
    format!(
        "PUT /v1/kv/{key} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{value}"
    )
}

/// One server, whose configuration is changed before it starts.
async fn server(changes: impl FnOnce(&Cluster) -> Value) -> Cluster {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let changes = changes(&cluster);
    cluster.agents[0].configure(changes);
    cluster.launch().await;
    cluster
}

/// Starts an agent that can't start; returns its exit code and its log.
async fn fails_to_start(agent: &mut Agent) -> (Option<i32>, String) {
    agent.spawn();
    let status = agent.wait_for_exit(REFUSED_MAX).await;
    (status.code(), agent.full_log())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_is_for_those_whom_the_authority_knows() {
    let ca = tempfile::tempdir().unwrap();
    let foreign = tempfile::tempdir().unwrap();
    let cluster = server(|cluster| {
        let host = cluster.agents[0].host;
        let mut https = issue(ca.path(), host);
        https["verify_incoming"] = json!(true);
        issue(foreign.path(), host);
        let mut tls = cluster.agents[0].config["tls"].clone();
        tls["https"] = https;
        json!({ "tls": tls, "ports": { "https": HTTPS_PORT, "dns": -1 } })
    })
    .await;
    let agent = &cluster.agents[0];
    let addr = format!("https://{}:{HTTPS_PORT}", agent.host);
    let authority = path(ca.path(), "consul-agent-ca.pem");
    let files = |dir: &Path| {
        let (cert, key) = ("dc1-cli-consul-0.pem", "dc1-cli-consul-0-key.pem");
        (path(dir, cert), path(dir, key))
    };
    let (cert, key) = files(ca.path());
    let known = [
        ("CONSUL_HTTP_ADDR", addr.as_str()),
        ("CONSUL_CACERT", &authority),
        ("CONSUL_CLIENT_CERT", &cert),
        ("CONSUL_CLIENT_KEY", &key),
    ];
    let (code, said) = command(&known, &["kv", "put", "a", "over-tls"]);
    assert_eq!(code, Some(0), "{said}");
    let flags = [
        &format!("-http-addr={addr}"),
        &format!("-ca-file={authority}"),
        &format!("-client-cert={cert}"),
        &format!("-client-key={key}"),
        "-tls-server-name=server.dc1.consul",
    ];
    let words: Vec<&str> = ["kv", "get"].into_iter().chain(flags).chain(["a"]).collect();
    let (code, said) = command(&[], &words);
    assert_eq!((code, said.trim()), (Some(0), "over-tls"));

    let (code, said) = command(&known[..2], &["kv", "get", "a"]);
    assert_eq!(code, Some(1), "nobody without a certificate: {said}");
    assert!(said.contains("wants a certificate"), "{said}");
    let (cert, key) = files(foreign.path());
    let stranger = [known[0], known[1], ("CONSUL_CLIENT_CERT", &cert), ("CONSUL_CLIENT_KEY", &key)];
    let (code, said) = command(&stranger, &["kv", "get", "a"]);
    assert_eq!(code, Some(1), "nobody with a foreign one: {said}");
    let distrusting = [
        known[0],
        ("CONSUL_CACERT", &path(foreign.path(), "consul-agent-ca.pem")),
        known[2],
        known[3],
    ];
    let (code, said) = command(&distrusting, &["kv", "get", "a"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no authority that is trusted here"), "{said}");
    let trusting_all = [known[0], ("CONSUL_HTTP_SSL_VERIFY", "false"), known[2], known[3]];
    let (code, said) = command(&trusting_all, &["kv", "get", "a"]);
    assert_eq!(code, Some(0), "{said}");
    let log = agent.full_log();
    for reason in ["the caller showed no certificate", "no authority that is trusted here"] {
        assert!(log.contains(reason), "{reason}:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_https_certificate_counts_without_a_restart() {
    let ca = tempfile::tempdir().unwrap();
    let next = tempfile::tempdir().unwrap();
    let cluster = server(|cluster| {
        let mut tls = cluster.agents[0].config["tls"].clone();
        tls["https"] = issue(ca.path(), cluster.agents[0].host);
        json!({ "tls": tls, "ports": { "https": HTTPS_PORT, "dns": -1 } })
    })
    .await;
    let addr = format!("https://{}:{HTTPS_PORT}", cluster.agents[0].host);
    let trusting = |dir: &Path| {
        let authority = path(dir, "consul-agent-ca.pem");
        command(&[("CONSUL_HTTP_ADDR", &addr), ("CONSUL_CACERT", &authority)], &["members"])
    };
    assert_eq!(trusting(ca.path()).0, Some(0));
    issue(next.path(), cluster.agents[0].host);
    for name in ["dc1-server-consul-0.pem", "dc1-server-consul-0-key.pem"] {
        fs::copy(next.path().join(name), ca.path().join(name)).unwrap();
    }
    until(RENEWED_MAX, "the new certificate is shown", async || match trusting(next.path()) {
        (Some(0), _) => Ok(()),
        (_, said) => Err(said),
    })
    .await;
    assert_eq!(trusting(ca.path()).0, Some(1), "the old one is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_loopback_has_a_development_certificate_for_https() {
    let cluster =
        server(|_| json!({ "tls": {}, "ports": { "https": HTTPS_PORT, "dns": -1 } })).await;
    let agent = &cluster.agents[0];
    let addr = format!("https://{}:{HTTPS_PORT}", agent.host);
    let state = ".local/state/causeway/development-ca/causeway-agent-ca.pem";
    let authority = path(&agent.dir, state);
    let env = [("CONSUL_HTTP_ADDR", addr.as_str()), ("CONSUL_CACERT", &authority)];
    let (code, said) = command(&env, &["kv", "put", "a", "b"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_file_is_spoken_to_like_an_address_and_survives_no_process() {
    let mut cluster = Cluster::plan(&dc1(2, 0));
    let socket = cluster.dir().join("agent.sock");
    let unix = format!("unix://{}", socket.display());
    let host = cluster.agents[0].host;
    cluster.agents[0].configure(json!({
        "addresses": { "http": format!("{host} {unix}") },
        "unix_sockets": { "mode": "0600" },
    }));
    cluster.launch().await;
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(put("a", "by file").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("true"), "{text}");
    let (code, said) = command(&[("CONSUL_HTTP_ADDR", &unix)], &["kv", "get", "a"]);
    assert_eq!((code, said.trim()), (Some(0), "by file"));

    let other = cluster.agents[1].host;
    cluster.agents[1].kill();
    cluster.agents[1].configure(json!({ "addresses": { "http": format!("{other} {unix}") } }));
    let (code, log) = fails_to_start(&mut cluster.agents[1]).await;
    assert_eq!(code, Some(1));
    assert!(log.contains("another process listens there"), "{log}");

    cluster.agents[0].kill();
    assert!(socket.exists(), "a killed process leaves its file");
    cluster.run(0).await;
    UnixStream::connect(&socket).unwrap();
    cluster.agents[0].signal("TERM");
    cluster.agents[0].wait_for_exit(REFUSED_MAX).await;
    assert!(!socket.exists(), "a stopped one does not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_forbids_is_refused() {
    let cluster = server(|_| {
        json!({
            "http_config": {
                "block_endpoints": ["/v1/agent/metrics"],
                "allow_write_http_from": ["127.0.0.7/32"],
                "response_headers": { "X-Frame-Options": "DENY" },
                "max_header_bytes": 10_000,
            },
            "limits": { "kv_max_value_size": 10, "txn_max_req_len": 30 },
        })
    })
    .await;
    let agent = &cluster.agents[0];
    let (client, addr) = (agent.client(), agent.http_addr());
    let blocked = client.get("/v1/agent/metrics").await.unwrap();
    assert_eq!(blocked.status, StatusCode::FORBIDDEN);
    assert_eq!(blocked.text(), "Endpoint is blocked by agent configuration");
    assert_eq!(blocked.header("x-frame-options"), "DENY");

    let text = from_address("127.0.0.8", addr, put("a", "1")).await;
    assert!(text.starts_with("HTTP/1.1 403 ") && text.ends_with("Access is restricted"), "{text}");
    let text = from_address("127.0.0.7", addr, put("a", "1")).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert_eq!(client.kv_get("a").await.unwrap().unwrap().value, "1", "everybody may read");

    let text = from_address("127.0.0.7", addr, put("a", "12345678901")).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.contains("limits.kv_max_value_size"), "{text}");
    let body = " ".repeat(31);
    let text =
        from_address("127.0.0.7", addr, put("a", &body).replace("/v1/kv/a", "/v1/txn")).await;
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    let long = client.get(&format!("/v1/kv/{}", "k".repeat(30_000))).await.unwrap();
    assert_eq!(long.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_wait_as_long_as_the_operator_wants() {
    let cluster = server(|_| json!({ "default_query_time": "1s", "max_query_time": "2s" })).await;
    let client = cluster.agents[0].client();
    assert!(client.kv_put("a", "1").await.unwrap());
    let index = client.get("/v1/kv/a").await.unwrap().index();
    for (wait, at_least) in [("", 1), ("&wait=90s", 2)] {
        let began = Instant::now();
        client.get(&format!("/v1/kv/a?index={index}{wait}")).await.unwrap().ok().unwrap();
        let (took, at_least) = (began.elapsed(), Duration::from_secs(at_least));
        assert!(took >= at_least && took < at_least * 5, "{took:?} for {wait:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_answers_takes_as_long_as_the_operator_wants() {
    let mut cluster = Cluster::plan(&dc1(3, 0));
    cluster.agents[0].configure(json!({ "limits": { "rpc_client_timeout": "1s" } }));
    cluster.run(0).await;
    let began = Instant::now();
    let refused = cluster.agents[0].client().get("/v1/kv/a").await.unwrap();
    let took = began.elapsed();
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_can_not_be_used_are_errors_at_the_start() {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let dir = cluster.dir().join("bad");
    let tls = cluster.agents[0].config["tls"].clone();
    let pair = issue(&dir, cluster.agents[0].host);
    let with = |https: Value| {
        let mut tls = tls.clone();
        tls["https"] = https;
        json!({ "tls": tls, "ports": { "https": HTTPS_PORT, "dns": -1 } })
    };
    let missing = json!({ "cert_file": "/nowhere/cert.pem", "key_file": pair["key_file"] });
    let foreign_key = dir.join("dc1-cli-consul-0-key.pem");
    let mismatched = json!({ "cert_file": pair["cert_file"], "key_file": foreign_key });
    let garbage = json!({ "cert_file": pair["key_file"], "key_file": pair["key_file"] });
    for (https, sentence) in [
        (missing, "/nowhere/cert.pem"),
        (mismatched, "the private key does not belong to the certificate"),
        (garbage, "holds no certificate"),
    ] {
        cluster.agents[0].configure(with(https));
        let (code, log) = fails_to_start(&mut cluster.agents[0]).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(sentence), "{sentence}:\n{log}");
    }
    cluster.agents[0].configure(json!({
        "tls": {},
        "bind_addr": "0.0.0.0",
        "advertise_addr": "10.0.0.1",
        "ports": { "https": HTTPS_PORT, "dns": -1 },
    }));
    let (code, log) = fails_to_start(&mut cluster.agents[0]).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("ports.https needs tls.https.cert_file"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_for_links_is_an_error_at_the_start() {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let dir = cluster.dir().join("expired");
    fs::create_dir_all(&dir).unwrap();
    let identity = certs::identity::Identity::new(
        "dc1".parse().unwrap(),
        topology::Role::Server,
        Some("dc1-s1".parse().unwrap()),
    );
    let long_ago = Clock::System.now() - Duration::from_secs(30 * 24 * 3600);
    let subject = certs::ca::Subject::new(identity);
    let issued = cluster.authority().issue(&subject, long_ago, 1).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    issued.write(&cert, &key).unwrap();
    let files = json!({ "ca_file": cluster.ca_file(), "cert_file": cert, "key_file": key });
    cluster.agents[0].configure(json!({ "tls": { "defaults": files } }));
    let (code, log) = fails_to_start(&mut cluster.agents[0]).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("the certificate for links expired on"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_that_can_not_be_joined_end_the_agent_when_it_is_told_so() {
    let mut cluster = Cluster::plan(&dc1(1, 0));
    let itself = cluster.agents[0].host.to_string();
    let (block, _) = itself.rsplit_once('.').unwrap();
    let nobody = &format!("{block}.99");
    for (join, sentence) in [
        (json!({ "start_join": [nobody] }), "can't join the LAN pool at the start"),
        (json!({ "start_join_wan": [nobody] }), "can't join the WAN pool at the start"),
        (
            json!({ "retry_join": [nobody], "retry_max": 1 }),
            "the LAN pool could not be joined in 2 attempts",
        ),
        (
            json!({ "retry_join_wan": [nobody], "retry_max_wan": 1 }),
            "the WAN pool could not be joined in 2 attempts",
        ),
    ] {
        let mut alone = json!({ "start_join": [], "start_join_wan": [], "retry_join": [] });
        alone["retry_join_wan"] = json!([]);
        cluster.agents[0].configure(alone);
        cluster.agents[0].configure(join);
        let (code, log) = fails_to_start(&mut cluster.agents[0]).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains(sentence), "{sentence}:\n{log}");
    }
    cluster.agents[0].configure(json!({
        "start_join": [itself],
        "start_join_wan": [itself],
        "retry_join": [nobody],
        "retry_join_wan": [nobody],
        "retry_max": 0,
        "retry_max_wan": 0,
    }));
    cluster.agents[0].start().await;
    cluster.ready().await;
    assert!(cluster.agents[0].is_running(), "retries without a bound go on");
}
