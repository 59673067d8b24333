//! Nodes, services and checks that are said to the catalog directly.

use std::time::Duration;

use hickory_proto::rr::RecordType;
use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::Client,
    cluster::{Cluster, Shape},
    dns::{Asker, said},
    until,
};
use tokio::task::JoinSet;

use crate::dc1;

/// How many wait for one service.
const WATCHERS: usize = 300;

async fn register(client: &Client, registration: &Value) {
    let response = client.put("/v1/catalog/register", registration.to_string()).await.unwrap();
    response.ok().unwrap();
    assert_eq!(response.text(), "true");
}

fn instance(node: &str, service: &str, status: &str) -> Value {
    json!({
        "Node": node, "Address": "192.0.2.1", "NodeMeta": { "external": "yes" },
        "Service": { "Service": service, "Tags": ["v1"], "Port": 80 },
        "Check": { "Name": format!("{service} alive"), "ServiceID": service, "Status": status },
    })
}

/// The nodes in an answer of `health/service`.
fn nodes(answer: &Value) -> Vec<&str> {
    answer.as_array().unwrap().iter().map(|one| one["Node"]["Node"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_in_one_datacenter_is_found_in_it_from_everywhere() {
    let one = |dc| Shape { dc, servers: 1, clients: 1 };
    let mut cluster = Cluster::start(&[one("dc1"), one("dc2")]).await;
    let client = cluster.agents[1].client();
    for (node, status) in [("a", "passing"), ("b", "critical")] {
        let mut registration = instance(node, "web", status);
        registration["Datacenter"] = "dc2".into();
        register(&client, &registration).await;
    }
    let mut bodies = Vec::new();
    for (place, dc) in [(0, "?dc=dc2"), (1, "?dc=dc2"), (2, "?"), (3, "?")] {
        let path = format!("/v1/health/service/web{dc}");
        bodies.push(cluster.agents[place].client().get(&path).await.unwrap().text());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    let found: Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(nodes(&found), ["a", "b"]);
    assert_eq!(found[0]["Node"]["Datacenter"], "dc2");
    let passing = client.json("/v1/health/service/web?passing&dc=dc2").await.unwrap();
    assert_eq!(nodes(&passing), ["a"]);
    assert_eq!(client.json("/v1/health/service/web").await.unwrap(), json!([]), "dc1 has none");
    let names = client.json("/v1/catalog/services?dc=dc2").await.unwrap();
    assert_eq!(names["web"], json!(["v1"]));

    cluster.agents[2].kill();
    cluster.launch().await;
    let again = cluster.agents[2].client().get("/v1/health/service/web?").await.unwrap().text();
    assert_eq!(again, bodies[0], "a restarted server has the same, with the same indexes");

    let what = json!({ "Node": "a", "Datacenter": "dc2" });
    let gone = client.put("/v1/catalog/deregister", what.to_string()).await.unwrap();
    gone.ok().unwrap();
    let left = client.json("/v1/health/service/web?dc=dc2").await.unwrap();
    assert_eq!(nodes(&left), ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_wakes_all_who_wait_for_its_service_and_nobody_else() {
    let cluster = Cluster::start(&dc1(3, 1)).await;
    let client = cluster.agents[3].client();
    for service in ["web", "db"] {
        register(&client, &instance("a", service, "passing")).await;
    }
    let mut waiting = JoinSet::new();
    for number in 0..WATCHERS {
        let agent = &cluster.agents[number % cluster.agents.len()];
        let client = Client::multiplexed(agent.http_addr()).patient(Duration::from_secs(90));
        let service = if number < 4 { "db" } else { "web" };
        let path = format!("/v1/health/service/{service}?passing");
        let index = client.get(&path).await.unwrap().index();
        waiting.spawn(async move {
            let path = format!("{path}&index={index}&wait=60s");
            let answer = client.json(&path).await.unwrap();
            (service, nodes(&answer).len())
        });
    }
    let quiet = Duration::from_secs(1);
    assert!(tokio::time::timeout(quiet, waiting.join_next()).await.is_err());
    register(&client, &instance("b", "web", "passing")).await;
    for _ in 4..WATCHERS {
        let woken = waiting.join_next().await.unwrap().unwrap();
        assert_eq!(woken, ("web", 2));
    }
    assert!(tokio::time::timeout(quiet, waiting.join_next()).await.is_err(), "who waits for db");
    register(&client, &instance("a", "db", "critical")).await;
    while let Some(woken) = waiting.join_next().await {
        assert_eq!(woken.unwrap(), ("db", 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_can_not_be_is_refused_and_leaves_nothing() {
    let cluster = Cluster::start(&dc1(1, 1)).await;
    for agent in &cluster.agents {
        let client = agent.client();
        let mut lost = instance("z", "web", "passing");
        lost["Check"]["ServiceID"] = "none".into();
        let refused = client.put("/v1/catalog/register", lost.to_string()).await.unwrap();
        assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(refused.text().starts_with("Missing service registration"), "{}", refused.text());
        let node = client.json("/v1/catalog/node/z").await.unwrap();
        assert_eq!(node, Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_is_applied_where_the_records_are_and_refused_wherever_it_is_read() {
    let one = |dc, clients| Shape { dc, servers: 1, clients };
    let cluster = Cluster::start(&[one("dc1", 1), one("dc2", 0)]).await;
    for (node, status) in [("a", "passing"), ("b", "critical")] {
        let mut registration = instance(node, "web", status);
        registration["Datacenter"] = "dc2".into();
        registration["NodeMeta"] = json!({ "rack": format!("r {node}") });
        register(&cluster.agents[0].client(), &registration).await;
    }
    let near = "Node.Meta.rack%20%3D%3D%20%22r%20a%22%20or%20Checks.Status%20is%20empty";
    let well = "Checks.Status%20%3D%3D%20passing%20and%20v1%20in%20Service.Tags";
    for agent in &cluster.agents {
        let client = agent.client();
        let get = async |filter: &str| {
            let path = format!("/v1/health/service/web?dc=dc2&filter={filter}");
            client.get(&path).await.unwrap()
        };
        let found = get(well).await;
        assert_eq!(nodes(&serde_json::from_str(&found.text()).unwrap()), ["a"]);
        assert_eq!(found.header("content-type"), "application/json");
        let all = client.get("/v1/health/service/web?dc=dc2").await.unwrap();
        assert_eq!(found.index(), all.index(), "a filter does not change what is waited for");
        let refused = get(near).await;
        let told = "Failed to create boolean expression evaluator: Invalid match operator \
                    \"Is Empty\" for selector \"Checks.Status\"";
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.text().starts_with(told), "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_those_of_the_wan_for_other_datacenters_if_that_is_wanted() {
    let one = |dc| Shape { dc, servers: 1, clients: 1 };
    let mut cluster = Cluster::plan(&[one("dc1"), one("dc2")]);
    for place in cluster.clients("dc1").into_iter().chain(cluster.servers("dc2")) {
        cluster.agents[place].configure(json!({ "translate_wan_addrs": true }));
    }
    cluster.agents[1].configure(json!({ "ports": { "dns": 8600, "https": -1 } }));
    cluster.launch().await;
    let mut registration = instance("a", "web", "passing");
    registration["Datacenter"] = "dc2".into();
    registration["TaggedAddresses"] = json!({ "wan": "198.51.100.1" });
    registration["Service"]["Address"] = "192.0.2.7".into();
    registration["Service"]["TaggedAddresses"] =
        json!({ "wan": { "Address": "198.51.100.7", "Port": 8080 } });
    register(&cluster.agents[0].client(), &registration).await;
    let near = ("192.0.2.1", "192.0.2.7", 80);
    let far = ("198.51.100.1", "198.51.100.7", 8080);
    // Who asks decides, and only for datacenters that are not its own.
    for (place, dc, expected) in [(0, "?dc=dc2", near), (1, "?dc=dc2", far), (2, "?", near)] {
        let agent = &cluster.agents[place];
        let (node, service, port) = expected;
        let get = async |path: &str| agent.client().get(&format!("{path}{dc}")).await.unwrap();
        let response = get("/v1/health/service/web").await;
        let shown = response.headers.get("x-consul-translate-addresses");
        assert_eq!(shown.is_some(), place != 0, "{}", agent.name);
        let health: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(health[0]["Node"]["Address"], node, "{}", agent.name);
        assert_eq!(health[0]["Service"]["Address"], service);
        assert_eq!(health[0]["Service"]["Port"], port);
        let instances: Value =
            serde_json::from_slice(&get("/v1/catalog/service/web").await.body).unwrap();
        assert_eq!(instances[0]["Address"], node);
        assert_eq!(instances[0]["ServiceAddress"], service);
        assert_eq!(instances[0]["ServicePort"], port);
        let there: Value = serde_json::from_slice(&get("/v1/catalog/node/a").await.body).unwrap();
        assert_eq!(there["Node"]["Address"], node);
        assert_eq!(there["Services"]["web"]["Address"], service);
    }
    let dns = Asker((cluster.agents[1].host, 8600).into());
    for (name, address) in [("web.service.dc2.consul", far.1), ("a.node.dc2.consul", far.0)] {
        until(Duration::from_secs(20), "the mirror of dc2 knows", async || {
            let found = said(&dns.ask(name, RecordType::A).await?).1;
            if found == [address] { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}
