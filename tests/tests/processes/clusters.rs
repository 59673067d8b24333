//! Two clusters under one datacenter's name: the second is refused, until the first is gone for good.

use std::time::Duration;

use certs::{
    ca::{Algorithm, Authority},
    identity::Identity,
    store::Clock,
};
use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape, issue},
    until,
};
use topology::Role;

/// How long until a refusal, a loss or a return is known to all.
const KNOWN_MAX: Duration = Duration::from_secs(60);

const KEY: &str = "config/who";

/// The places of dc1's server and client and of dc2's server.
const A1: usize = 0;
const CLIENT: usize = 1;
const B1: usize = 2;

/// Starts dc1, which mirrors the key, and dc2, whose key says that it was first.
async fn start() -> Cluster {
    let shapes =
        [Shape { dc: "dc1", servers: 1, clients: 1 }, Shape { dc: "dc2", servers: 1, clients: 0 }];
    let mut cluster = Cluster::plan(&shapes);
    for agent in &mut cluster.agents {
        agent.configure(json!({ "federation": { "mirror_kv": ["config/"] } }));
    }
    cluster.launch().await;
    assert!(cluster.agents[B1].client().kv_put(KEY, "first").await.unwrap());
    cluster
}

/// Describes a server of another cluster called dc2, which knows dc1 and nobody else; returns its place.
fn stranger(cluster: &mut Cluster) -> usize {
    let place = cluster.add("dc2", Role::Server);
    let dc1 = cluster.agents[A1].host.to_string();
    cluster.agents[place].configure(json!({
        "bootstrap_expect": 1, "retry_join": [], "retry_join_wan": [dc1],
    }));
    place
}

/// Starts it and writes into its key that it was second.
async fn found(cluster: &mut Cluster, place: usize) {
    cluster.agents[place].start().await;
    let client = cluster.agents[place].client();
    until(KNOWN_MAX, "the second cluster takes writes", async || {
        client.kv_put(KEY, "second").await.map(drop).map_err(|error| format!("{error:#}"))
    })
    .await;
}

/// Returns what a read of the key in dc2 says.
async fn who(client: &Client, how: &str) -> Result<String, String> {
    let path = format!("/v1/kv/{KEY}?dc=dc2&raw&{how}");
    let response = client.get(&path).await.map_err(|error| format!("{error:#}"))?;
    if response.status == StatusCode::OK { Ok(response.text()) } else { Err(response.text()) }
}

/// Waits until the key in dc2 says this.
async fn says(client: &Client, how: &str, value: &str) {
    until(KNOWN_MAX, &format!("dc2 says {value} ({how})"), async || {
        let said = who(client, how).await?;
        if said == value { Ok(()) } else { Err(said) }
    })
    .await;
}

/// Waits until an agent refuses exactly these servers; returns the reason of the first.
async fn refuses(client: &Client, names: &[&str]) -> String {
    until(KNOWN_MAX, &format!("{names:?} are refused"), async || {
        let status = client.json("/v1/federation/status").await;
        let status = status.map_err(|error| format!("{error:#}"))?;
        let refused = status["Refused"].as_array().unwrap();
        let found: Vec<_> = refused.iter().flat_map(|it| it["Name"].as_str()).collect();
        let reason = refused.first().and_then(|it| it["Reason"].as_str()).unwrap_or_default();
        if found == names { Ok(reason.to_owned()) } else { Err(status.to_string()) }
    })
    .await
}

/// Waits until an agent's timeline tells of a refusal with these words.
async fn tells(client: &Client, words: &str) {
    until(KNOWN_MAX, &format!("the timeline says {words:?}"), async || {
        let timeline = client.json("/v1/federation/timeline?dc=dc2").await;
        let timeline = timeline.map_err(|error| format!("{error:#}"))?;
        let mut events = timeline["Events"].as_array().unwrap().iter();
        let is_it = |event: &Value| {
            event["Kind"] == "refusal" && event["Text"].as_str().unwrap().contains(words)
        };
        if events.any(is_it) { Ok(()) } else { Err(timeline.to_string()) }
    })
    .await;
}

/// Returns the names of dc2's servers that an agent shows, and what it holds the datacenter for.
async fn dc2(client: &Client) -> (Vec<String>, String) {
    let status = client.json("/v1/federation/status").await.unwrap();
    let all = status["Datacenters"].as_array().unwrap();
    let site = all.iter().find(|it| it["Name"] == "dc2").unwrap();
    let names = site["Servers"].as_array().unwrap().iter();
    let names = names.map(|it| it["Name"].as_str().unwrap().to_owned()).collect();
    (names, site["Health"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_cluster_of_a_name_is_refused_on_both_sides_until_the_first_is_gone() {
    let mut cluster = start().await;
    let place = stranger(&mut cluster);
    found(&mut cluster, place).await;
    let [asker, server, first, second] =
        [CLIENT, A1, B1, place].map(|place| cluster.agents[place].client());

    for client in [&asker, &server, &first] {
        let reason = refuses(client, &["dc2-s2.dc2"]).await;
        assert!(reason.starts_with("dc2 is the name of cluster "), "{reason}");
    }
    refuses(&second, &["dc2-s1.dc2"]).await;
    // The first goes on as if there were no other, once a mirror that copied the second one before that said whose it
    // is has asked again.
    says(&asker, "stale", "first").await;
    for _ in 0..50 {
        assert_eq!(who(&asker, "consistent").await.unwrap(), "first");
        assert_eq!(who(&asker, "stale").await.unwrap(), "first");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(dc2(&asker).await, (vec!["dc2-s1".to_owned()], "healthy".to_owned()));
    let refused = second.get("/v1/kv/a?dc=dc1").await.unwrap();
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refused.text().contains("dc2 is the name of cluster"), "{}", refused.text());
    // It can't be talked into it.
    let joined = second.put(&format!("/v1/agent/join/{}?wan=1", cluster.agents[A1].host), "").await;
    let text = joined.unwrap().text();
    assert!(text.contains("dc2 is the name of cluster"), "{text}");

    tells(&server, "is refused: dc2 is the name of cluster").await;
    tells(&first, "is refused: dc2 is the name of cluster").await;
    tells(&second, "keeps this server out: dc2 is the name of cluster").await;
    let log = cluster.agents[A1].full_log();
    assert_eq!(log.matches("refused in the WAN pool").count(), 1, "{log}");
    assert!(cluster.agents[place].full_log().contains("kept out of the WAN pool"));
    let (code, out, err) = cluster.agents[A1].run(&["federation", "status"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("Refused:") && out.contains("dc2-s2.dc2"), "{out}");

    // A restart changes nothing: what it is of is known before Raft says so.
    cluster.agents[place].kill();
    cluster.agents[place].start().await;
    refuses(&second, &["dc2-s1.dc2"]).await;
    assert_eq!(who(&asker, "consistent").await.unwrap(), "first");

    // It gets the name when it is free.
    cluster.agents[B1].kill();
    says(&asker, "consistent", "second").await;
    says(&asker, "stale", "second").await;
    refuses(&server, &[]).await;
    assert_eq!(dc2(&asker).await.0, ["dc2-s2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datacenter_returns_under_its_name_with_new_servers_new_data_and_a_new_authority() {
    let mut cluster = start().await;
    let [asker, server] = [CLIENT, A1].map(|place| cluster.agents[place].client());
    says(&asker, "stale", "first").await;
    // Whoever died before it said its cluster is a failed server like any other.
    until(KNOWN_MAX, "the first one says its cluster", async || {
        let members = server.json("/v1/agent/members?wan=1").await;
        let members = members.map_err(|error| format!("{error:#}"))?;
        let first = members.as_array().into_iter().flatten().find(|it| it["Name"] == "dc2-s1.dc2");
        let says = first.is_some_and(|first| first["Tags"]["cluster"].is_string());
        if says { Ok(()) } else { Err(members.to_string()) }
    })
    .await;
    cluster.agents[B1].kill();

    let place = stranger(&mut cluster);
    let authority = Authority::create("new", Algorithm::EcdsaP256, Clock::System.now(), 2).unwrap();
    let old = std::fs::read_to_string(cluster.ca_file()).unwrap();
    let both = format!("{old}{}", authority.certificate_pem());
    let agent = &mut cluster.agents[place];
    let (dir, host) = (agent.dir.join("new"), agent.host);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("ca.pem"), &both).unwrap();
    let name = agent.name.parse().unwrap();
    let identity = Identity::new("dc2".parse().unwrap(), Role::Server, Some(name));
    let tls = issue(&authority, &dir.join("ca.pem"), &dir, identity, host);
    agent.configure(json!({ "tls": tls }));
    found(&mut cluster, place).await;
    until(KNOWN_MAX, "the new authority is not trusted", async || {
        let log = cluster.agents[A1].full_log();
        let is_it = |line: &str| line.contains(&host.to_string()) && line.contains("certificate");
        if log.lines().any(is_it) { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(dc2(&server).await.0, ["dc2-s1"]);

    // The survivors are told to trust the new authority besides the old one, and go on.
    std::fs::write(cluster.ca_file(), &both).unwrap();
    for place in [A1, CLIENT] {
        let (code, _, err) = cluster.agents[place].run(&["reload"]);
        assert_eq!(code, Some(0), "{err}");
    }
    says(&asker, "consistent", "second").await;
    says(&asker, "stale", "second").await;
    until(KNOWN_MAX, "dc2 is healthy", async || {
        let found = dc2(&server).await;
        let is_so = found == (vec!["dc2-s2".to_owned()], "healthy".to_owned());
        if is_so { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    until(KNOWN_MAX, "it is mirrored", async || {
        let mirrored = asker.get(&format!("/v1/kv/{KEY}?dc=dc2&stale")).await;
        let mirrored = mirrored.map_err(|error| format!("{error:#}"))?;
        let source = mirrored.header("x-causeway-source").to_owned();
        if source == "mirror" { Ok(()) } else { Err(source) }
    })
    .await;
    let back = cluster.agents[place].client().get("/v1/catalog/nodes?dc=dc1").await.unwrap();
    assert_eq!(back.status, StatusCode::OK, "{}", back.text());
}
