//! Prepared queries over HTTP and DNS: what they find, where they go when it is not there, what they outlive.

use std::time::Duration;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::{Client, Response},
    cluster::{Cluster, Shape},
    dns::{Asker, said},
    until,
};

/// How long until a change, a loss or a return has reached everyone.
const SETTLED_MAX: Duration = Duration::from_secs(40);

const DNS_PORT: u16 = 8600;

/// Starts three datacenters of one server, the first with a client agent.
async fn start() -> Cluster {
    let dc = |dc, clients| Shape { dc, servers: 1, clients };
    let mut cluster = Cluster::plan(&[dc("dc1", 1), dc("dc2", 0), dc("dc3", 0)]);
    for agent in &mut cluster.agents {
        let dns = json!({ "service_ttl": { "web": "7s" } });
        agent.configure(json!({ "ports": { "dns": DNS_PORT, "https": -1 }, "dns_config": dns }));
    }
    cluster.launch().await;
    cluster
}

/// Registers an instance of web on a node of its own.
async fn register(cluster: &Cluster, dc: &str, number: u8, more: Value, status: &str) {
    let mut service = json!({ "ID": "web", "Service": "web", "Port": 80 });
    service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({
        "Node": format!("{dc}-n{number}"),
        "Address": address(dc, number),
        "NodeMeta": { "rack": format!("r{number}") },
        "Service": service,
        "Checks": [{ "Name": "alive", "CheckID": "alive", "ServiceID": "web", "Status": status }],
    });
    let client = cluster.agents[cluster.servers(dc)[0]].client();
    client.put("/v1/catalog/register", body.to_string()).await.unwrap().ok().unwrap();
}

fn address(dc: &str, number: u8) -> String {
    format!("10.{}.0.{number}", &dc[2..])
}

/// Makes a query, and returns its id.
async fn create(client: &Client, query: Value) -> String {
    let made = client.post("/v1/query", query.to_string()).await.unwrap();
    assert_eq!(made.status, StatusCode::OK, "{}", made.text());
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    made["ID"].as_str().unwrap().to_owned()
}

async fn get(client: &Client, path: &str) -> Result<Response, String> {
    client.get(path).await.map_err(|error| format!("{error:#}"))
}

/// Runs a query; returns the answer and the addresses in it, in order.
async fn run(client: &Client, path: &str) -> (Value, Vec<String>) {
    let ran = get(client, &format!("/v1/query/{path}")).await.unwrap();
    assert_eq!(ran.status, StatusCode::OK, "{path}: {}", ran.text());
    let ran: Value = serde_json::from_slice(&ran.body).unwrap();
    let at = |row: &Value| row["Node"]["Address"].as_str().unwrap().to_owned();
    let mut found: Vec<String> = ran["Nodes"].as_array().unwrap().iter().map(at).collect();
    found.sort();
    (ran, found)
}

/// Waits until a query is answered by the instance of a datacenter.
async fn goes_to(client: &Client, name: &str, dc: &str) -> Value {
    until(SETTLED_MAX, &format!("{name} goes to {dc}"), async || {
        let ran = get(client, &format!("/v1/query/{name}/execute")).await?;
        let served = ran.header("x-causeway-served-dc").to_owned();
        let found: Value = serde_json::from_slice(&ran.body).map_err(|_| ran.text())?;
        let right = found["Datacenter"] == dc && served == dc;
        if right && found["Nodes"][0]["Node"]["Address"] == address(dc, 1).as_str() {
            Ok(found)
        } else {
            Err(ran.text())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_finds_what_it_wants() {
    let cluster = start().await;
    let client = cluster.agents[cluster.clients("dc1")[0]].client();
    register(&cluster, "dc1", 1, json!({ "Tags": ["A", "x"], "Meta": { "v": "1" } }), "passing")
        .await;
    register(&cluster, "dc1", 2, json!({ "Tags": ["a"] }), "warning").await;
    register(&cluster, "dc1", 3, json!({ "Tags": ["a"], "Meta": { "v": "1" } }), "critical").await;
    let all = [1, 2, 3].map(|number| address("dc1", number));
    let table = [
        ("plain", json!({}), &all[..2]),
        ("passing", json!({ "OnlyPassing": true }), &all[..1]),
        ("ignoring", json!({ "OnlyPassing": true, "IgnoreCheckIDs": ["alive"] }), &all[..]),
        ("tagged", json!({ "Tags": ["a", "X"] }), &all[..1]),
        ("untagged", json!({ "Tags": ["a", "!x"] }), &all[1..2]),
        ("racked", json!({ "NodeMeta": { "rack": "r2" } }), &all[1..2]),
        ("meant", json!({ "ServiceMeta": { "v": "1" } }), &all[..1]),
        ("mesh", json!({ "Connect": true }), &[]),
    ];
    for (name, more, wanted) in table {
        let mut service = json!({ "Service": "web" });
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&client, json!({ "Name": name, "Service": service })).await;
        let (ran, found) = run(&client, &format!("{name}/execute")).await;
        assert_eq!(found, wanted, "{name}");
        assert_eq!((&ran["Datacenter"], &ran["Failovers"]), (&json!("dc1"), &json!(0)));
    }
    let (_, found) = run(&client, "plain/execute?limit=1").await;
    assert_eq!(found.len(), 1);
    // Whoever may come first does so now and then.
    let mut first = std::collections::BTreeSet::new();
    until(SETTLED_MAX, "either comes first", async || {
        let (ran, _) = run(&client, "plain/execute").await;
        first.insert(ran["Nodes"][0]["Node"]["Address"].to_string());
        if first.len() == 2 { Ok(()) } else { Err(format!("{first:?}")) }
    })
    .await;
    let (ran, _) = run(&client, "plain/execute?near=dc1-n2").await;
    assert_eq!(ran["Nodes"][0]["Node"]["Node"], "dc1-n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_known_by_id_and_name_and_outlives_the_server() {
    let mut cluster = start().await;
    let client = cluster.agents[cluster.clients("dc1")[0]].client();
    register(&cluster, "dc1", 1, json!({}), "passing").await;
    register(&cluster, "dc1", 2, json!({}), "warning").await;
    let all = [1, 2].map(|number| address("dc1", number));
    let id = create(&client, json!({ "Name": "one", "Service": { "Service": "web" } })).await;
    let taken = client
        .post("/v1/query", json!({ "Name": "ONE", "Service": { "Service": "web" } }).to_string());
    let taken = taken.await.unwrap();
    assert_eq!(taken.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(taken.text(), "name 'ONE' aliases an existing query name");
    let (_, by_id) = run(&client, &format!("{id}/execute")).await;
    assert_eq!(by_id, all[..2]);
    let changed = json!({ "Name": "two", "Service": { "Service": "web", "OnlyPassing": true } });
    client.put(&format!("/v1/query/{id}"), changed.to_string()).await.unwrap().ok().unwrap();
    assert_eq!(get(&client, "/v1/query/one/execute").await.unwrap().status, StatusCode::NOT_FOUND);
    assert_eq!(run(&client, "two/execute").await.1, all[..1]);

    // It outlives the server, and is gone when it is deleted.
    let place = cluster.servers("dc1")[0];
    cluster.agents[place].kill();
    cluster.run(place).await;
    until(SETTLED_MAX, "the server is back", async || {
        let ran = get(&client, "/v1/query/two/execute").await?;
        if ran.text().contains(&all[0]) { Ok(()) } else { Err(ran.text()) }
    })
    .await;
    let shown = get(&client, &format!("/v1/query/{id}")).await.unwrap();
    assert!(shown.text().contains(r#""Name":"two""#), "{}", shown.text());
    let list: Vec<Value> =
        serde_json::from_slice(&get(&client, "/v1/query").await.unwrap().body).unwrap();
    assert_eq!(list.len(), 1);
    client.delete(&format!("/v1/query/{id}")).await.unwrap().ok().unwrap();
    for path in
        [format!("/v1/query/{id}"), "/v1/query/two/execute".into(), "/v1/query/two/explain".into()]
    {
        let gone = get(&client, &path).await.unwrap();
        assert_eq!(
            (gone.status, gone.text()),
            (StatusCode::NOT_FOUND, "Query not found".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_here_is_found_elsewhere_by_http_and_dns() {
    let mut cluster = start().await;
    let place = cluster.clients("dc1")[0];
    let (client, host) = (cluster.agents[place].client(), cluster.agents[place].host);
    let asker = Asker((host, DNS_PORT).into());
    for dc in ["dc2", "dc3"] {
        register(&cluster, dc, 1, json!({ "Tags": [dc] }), "passing").await;
    }
    let failover = |failover: Value| json!({ "Service": "web", "Failover": failover });
    let listed = failover(json!({ "Datacenters": ["dc1", "dc9", "dc3", "dc2"] }));
    let list = json!({ "Name": "listed", "Service": listed, "DNS": { "TTL": "90s" } });
    create(&client, list).await;
    let near = json!({ "Name": "near", "Service": failover(json!({ "NearestN": 2 })) });
    create(&client, near).await;
    let targets = failover(json!({ "Targets": [{ "Datacenter": "dc2" }] }));
    create(&client, json!({ "Name": "targets", "Service": targets })).await;
    create(&client, json!({ "Name": "here", "Service": { "Service": "web" } })).await;
    let template = json!({ "Type": "name_prefix_match", "Regexp": "^any-(.*)$" });
    let any = json!({ "Service": "${match(1)}", "Failover": { "NearestN": 2 } });
    create(&client, json!({ "Name": "any-", "Template": template, "Service": any })).await;

    let found = goes_to(&client, "listed", "dc3").await;
    assert!(found["Failovers"].as_u64().unwrap() >= 1, "{found}");
    goes_to(&client, "targets", "dc2").await;
    let nearest = until(SETTLED_MAX, "near goes somewhere", async || {
        let (ran, found) = run(&client, "near/execute").await;
        if found.is_empty() {
            Err(ran.to_string())
        } else {
            Ok(ran["Datacenter"].as_str().unwrap().to_owned())
        }
    })
    .await;
    assert_eq!(run(&client, "here/execute").await.1, Vec::<String>::new());
    let (ran, found) = run(&client, "any-web/execute").await;
    assert_eq!((&ran["Service"], found.len()), (&json!("web"), 1));
    let explained = get(&client, "/v1/query/any-web/explain").await.unwrap();
    assert!(explained.text().contains(r#""Service":{"Service":"web""#), "{}", explained.text());
    // Another datacenter runs its own queries.
    let away = get(&client, "/v1/query/listed/execute?dc=dc2").await.unwrap();
    assert_eq!(away.status, StatusCode::NOT_FOUND, "{}", away.text());

    // DNS keeps the answer for as long as the query says, or else the service.
    for (name, dc, ttl) in [("listed", "dc3", 90), ("targets", "dc2", 7), ("any-web", &*nearest, 7)]
    {
        let answer = asker.ask(&format!("{name}.query.consul."), RecordType::A).await.unwrap();
        assert_eq!(said(&answer), (ResponseCode::NoError, vec![address(dc, 1)]), "{name}");
        assert_eq!(answer.answers[0].ttl, ttl, "{name}");
    }
    let target = asker.ask("listed.query.dc1.consul.", RecordType::SRV).await.unwrap();
    assert!(format!("{target:?}").contains("node.dc3.consul"), "{target:?}");
    for nothing in ["none.query.consul.", "here.query.consul.", "listed.query.dc2.consul."] {
        let answer = asker.ask(nothing, RecordType::A).await.unwrap();
        assert_eq!(said(&answer).0, ResponseCode::NXDomain, "{nothing}");
    }

    // A lost datacenter is passed over.
    let place = cluster.servers("dc3")[0];
    cluster.agents[place].kill();
    goes_to(&client, "listed", "dc2").await;
    let answer = asker.ask("listed.query.consul.", RecordType::A).await.unwrap();
    assert_eq!(said(&answer).1, [address("dc2", 1)]);
    // As soon as there is something here, it is what is found.
    register(&cluster, "dc1", 1, json!({}), "passing").await;
    assert_eq!(goes_to(&client, "listed", "dc1").await["Failovers"], 0);
}
