//! Names: of services and nodes, at servers and clients, in both datacenters, one of them lost.

use std::time::Duration;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType::{self, A, MX, SRV, TXT},
};
use hyper::Method;
use serde_json::{Value, json};
use tests::harness::{
    agent::Agent,
    cluster::{Cluster, Shape},
    dns::{Asker, question, said},
    until,
};

const PORT: u16 = 8600;

/// How long a change may take until every name shows it.
const SHOWN_MAX: Duration = Duration::from_secs(40);

/// Agents with DNS; settings are the same for all.
async fn cluster(shapes: &[Shape], dns_config: Value) -> Cluster {
    let mut cluster = Cluster::plan(shapes);
    for agent in &mut cluster.agents {
        agent.configure(json!({
            "ports": { "dns": PORT, "https": -1 },
            "dns_config": dns_config,
            "node_meta": { "rack": "7" },
        }));
    }
    cluster.launch().await;
    cluster
}

fn asker(agent: &Agent) -> Asker {
    Asker((agent.host, PORT).into())
}

async fn register(agent: &Agent, service: Value) {
    let client = agent.client();
    let path = "/v1/agent/service/register";
    let answer = client.send(Method::PUT, path, service.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Asks until the answer is as expected.
async fn shown(
    agent: &Agent,
    name: &str,
    kind: RecordType,
    expected: (ResponseCode, &[&str]),
) -> Message {
    until(SHOWN_MAX, &format!("{name} {kind} at {}", agent.name), async || {
        let answer = asker(agent).ask(name, kind).await?;
        let (code, answers) = said(&answer);
        match (code, answers.iter().map(String::as_str).collect::<Vec<_>>().as_slice()) == expected
        {
            true => Ok(answer),
            false => Err(answer.to_string()),
        }
    })
    .await
}

const FOUND: ResponseCode = ResponseCode::NoError;
const NONE: ResponseCode = ResponseCode::NXDomain;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_a_name_while_it_serves() {
    let cluster = cluster(&crate::dc1(1, 1), json!({ "service_ttl": { "w*": "5s" } })).await;
    for agent in &cluster.agents {
        shown(agent, "web.service.consul.", A, (NONE, &[])).await;
    }
    let client = &cluster.agents[1];
    let check = json!({ "CheckID": "up", "TTL": "1h", "Status": "passing" });
    let web =
        json!({ "Name": "web", "Port": 80, "Address": "10.9.0.1", "Tags": ["v1"], "Check": check });
    register(client, web).await;
    for agent in &cluster.agents {
        let answer = shown(agent, "Web.Service.Consul.", A, (FOUND, &["10.9.0.1"])).await;
        assert_eq!(answer.answers[0].ttl, 5);
        assert_eq!(answer.answers[0].name.to_string(), "Web.Service.Consul.");
        assert!(answer.authoritative && !answer.recursion_available);
        let target = "1 1 80 0a090001.addr.dc1.consul.";
        let answer = shown(agent, "_web._v1.service.dc1.consul.", SRV, (FOUND, &[target])).await;
        assert_eq!(answer.additionals[0].data.to_string(), "10.9.0.1");
        shown(agent, "0a090001.addr.dc1.consul.", A, (FOUND, &["10.9.0.1"])).await;
        shown(agent, "v2.web.service.consul.", A, (NONE, &[])).await;
        let none = shown(agent, "web.service.consul.", MX, (FOUND, &[])).await;
        assert_eq!(none.authorities.len(), 1, "{none}");
        shown(agent, "example.com.", A, (ResponseCode::Refused, &[])).await;
    }
    let failed = client.client().send(Method::PUT, "/v1/agent/check/fail/up", "").await.unwrap();
    assert_eq!(failed.status, 200);
    for agent in &cluster.agents {
        shown(agent, "web.service.consul.", A, (NONE, &[])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_have_names_and_servers_are_the_zones() {
    let cluster = cluster(&crate::dc1(1, 1), json!({})).await;
    let [server, client] = [&cluster.agents[0], &cluster.agents[1]];
    for agent in &cluster.agents {
        let (host, texts) = (client.host.to_string(), ["consul-network-segment=", "rack=7"]);
        shown(agent, "dc1-c1.node.consul.", A, (FOUND, &[&host])).await;
        shown(agent, "dc1-c1.node.dc1.consul.", TXT, (FOUND, &texts)).await;
        shown(agent, "nobody.node.consul.", A, (NONE, &[])).await;
        let zone = asker(agent).ask("consul.", RecordType::NS).await.unwrap();
        assert_eq!(said(&zone), (FOUND, vec!["dc1-s1.node.dc1.consul.".to_owned()]));
        assert_eq!(zone.additionals[0].data.to_string(), server.host.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_carry_several_questions_and_large_answers() {
    let cluster = cluster(&crate::dc1(1, 0), json!({ "enable_truncate": true })).await;
    let agent = &cluster.agents[0];
    for number in 0..100 {
        let web = json!({ "ID": format!("web{number}"), "Name": "web", "Address": format!("10.9.0.{number}") });
        register(agent, web).await;
    }
    let cut = until(SHOWN_MAX, "too much for a datagram", async || {
        let answer = asker(agent).ask("web.service.consul.", A).await?;
        if answer.truncation { Ok(answer) } else { Err(answer.to_string()) }
    })
    .await;
    assert!(cut.answers.len() > 50, "{cut}");
    let all = until(SHOWN_MAX, "all of them", async || {
        let questions = [
            question("web.service.consul.", A),
            question("dc1-s1.node.consul.", A),
            question("nobody.node.consul.", A),
        ];
        let mut answers = asker(agent).ask_by_tcp(&questions).await?;
        answers.sort_by_key(|answer| questions.iter().position(|q| q.id == answer.id));
        let counts: Vec<usize> = answers.iter().map(|answer| answer.answers.len()).collect();
        if counts == [100, 1, 0] { Ok(answers) } else { Err(format!("{counts:?}")) }
    })
    .await;
    assert!(!all[0].truncation);
    assert_eq!(all[2].response_code, NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_in_a_few_bytes_and_hurts_nobody() {
    let cluster = cluster(&crate::dc1(1, 0), json!({})).await;
    let agent = &cluster.agents[0];
    let good = question("dc1-s1.node.consul.", A).to_vec().unwrap();
    let mut notify = good.clone();
    notify[2] = 4 << 3;
    for (bytes, code) in [(&good[..20], ResponseCode::FormErr), (&notify, ResponseCode::NotImp)] {
        let refusal = asker(agent).send(bytes).await.unwrap();
        assert_eq!(refusal.len(), 12);
        assert_eq!(Message::from_vec(&refusal).unwrap().response_code, code);
    }
    let mut random = good.clone();
    for round in 0..2000_usize {
        let at = 2 + round % (random.len() - 2);
        random[at] = random[at].wrapping_mul(31).wrapping_add(17);
        let socket = tokio::net::UdpSocket::bind((agent.host, 0)).await.unwrap();
        socket.send_to(&random, (agent.host, PORT)).await.unwrap();
    }
    shown(agent, "dc1-s1.node.consul.", A, (FOUND, &[&agent.host.to_string()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_datacenter_has_names_and_keeps_those_that_are_known_when_it_is_lost() {
    let shape = |dc| Shape { dc, servers: 1, clients: 1 };
    let mut cluster = cluster(&[shape("dc1"), shape("dc2")], json!({})).await;
    register(&cluster.agents[3], json!({ "Name": "web", "Port": 80 })).await;
    let host = cluster.agents[3].host.to_string();
    let found: (ResponseCode, &[&str]) = (FOUND, &[&host]);
    for agent in &cluster.agents[..2] {
        shown(agent, "web.service.dc2.consul.", A, found).await;
        shown(agent, "dc2-c1.node.dc2.consul.", A, found).await;
        let target = "1 1 80 dc2-c1.node.dc2.consul.";
        shown(agent, "_web._tcp.dc2.consul.", SRV, (FOUND, &[target])).await;
        shown(agent, "web.service.consul.", A, (NONE, &[])).await;
        shown(agent, "web.service.nowhere.consul.", A, (NONE, &[])).await;
    }
    let client = cluster.agents[0].client();
    until(SHOWN_MAX, "dc2 is mirrored", async || {
        let found = client.get("/v1/health/service/web?dc=dc2&stale").await;
        let found = found.map_err(|error| format!("{error:#}"))?;
        let mirrored = found.header("x-causeway-source") == "mirror";
        if mirrored { Ok(()) } else { Err(found.text()) }
    })
    .await;
    cluster.agents[2].kill();
    for agent in &cluster.agents[..2] {
        let answer = asker(agent).ask("db.service.dc2.consul.", A).await.unwrap();
        // What is mirrored is all that there was.
        assert_eq!(said(&answer), (NONE, vec![]));
        shown(agent, "web.service.dc2.consul.", A, found).await;
        let home = cluster.agents[0].host.to_string();
        shown(agent, "dc1-s1.node.consul.", A, (FOUND, &[&home])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_servers_says_so_at_once() {
    let mut cluster = cluster(&crate::dc1(1, 1), json!({})).await;
    let host = cluster.agents[1].host.to_string();
    shown(&cluster.agents[1], "dc1-c1.node.consul.", A, (FOUND, &[&host])).await;
    cluster.agents[0].kill();
    let answer = asker(&cluster.agents[1]).ask("dc1-s1.node.consul.", A).await.unwrap();
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    shown(&cluster.agents[1], "dc1-c1.node.consul.", A, (FOUND, &[&host])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_have_owners_and_other_names_are_followed() {
    let mut cluster = Cluster::plan(&crate::dc1(1, 1));
    for agent in &mut cluster.agents {
        agent.configure(json!({ "ports": { "dns": PORT, "https": -1 } }));
    }
    // The client asks the server for names outside the zone, which refuses, being no recursor.
    let recursor = format!("{}:{PORT}", cluster.agents[0].host);
    cluster.agents[1].configure(json!({ "recursors": [recursor] }));
    cluster.launch().await;
    let client = &cluster.agents[1];
    register(client, json!({ "Name": "web", "Port": 80, "Address": "10.9.0.1" })).await;
    register(client, json!({ "Name": "alias", "Address": "web.service.consul" })).await;
    for agent in &cluster.agents {
        let found: (ResponseCode, &[&str]) = (FOUND, &["web.service.dc1.consul."]);
        shown(agent, "1.0.9.10.in-addr.arpa.", RecordType::PTR, found).await;
        let reverse: Vec<String> = match client.host {
            std::net::IpAddr::V4(ip) => ip.octets().iter().rev().map(ToString::to_string).collect(),
            std::net::IpAddr::V6(_) => panic!("the harness has IPv4"),
        };
        let reverse = format!("{}.in-addr.arpa.", reverse.join("."));
        let found: (ResponseCode, &[&str]) = (FOUND, &["dc1-c1.node.dc1.consul."]);
        shown(agent, &reverse, RecordType::PTR, found).await;
        let both: &[&str] = &["10.9.0.1", "web.service.consul."];
        shown(agent, "alias.service.consul.", A, (FOUND, both)).await;
        shown(agent, "2.0.9.10.in-addr.arpa.", RecordType::PTR, (NONE, &[])).await;
        shown(agent, "example.com.", A, (ResponseCode::Refused, &[])).await;
    }
    let answer = asker(client).ask("example.com.", A).await.unwrap();
    assert!(answer.recursion_available && !answer.authoritative, "{answer}");
}
