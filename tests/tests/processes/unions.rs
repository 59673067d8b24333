//! One lookup in several datacenters: what each adds, what becomes of it when one is lost, who waits for which.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tests::harness::{
    client::{Client, Response},
    cluster::{Cluster, Shape},
    until,
};

/// How long until a change, a loss or a return has reached everyone.
const SETTLED_MAX: Duration = Duration::from_secs(40);

const WEB: &str = "/v1/health/service/web?passing";

/// Starts three datacenters of one server, the first with a client agent; each has an instance of web.
async fn start() -> Cluster {
    let dc = |dc, clients| Shape { dc, servers: 1, clients };
    let mut cluster = Cluster::plan(&[dc("dc1", 1), dc("dc2", 0), dc("dc3", 0)]);
    cluster.launch().await;
    for dc in ["dc1", "dc2", "dc3"] {
        register(&cluster, dc, "web", &[dc]).await;
    }
    cluster
}

async fn register(cluster: &Cluster, dc: &str, service: &str, tags: &[&str]) {
    let body = json!({
        "Node": format!("node-{dc}"), "Address": "10.9.0.1",
        "Service": { "ID": service, "Service": service, "Port": 80, "Tags": tags },
    });
    let client = cluster.agents[cluster.servers(dc)[0]].client();
    client.put("/v1/catalog/register", body.to_string()).await.unwrap().ok().unwrap();
}

async fn get(client: &Client, path: &str) -> Result<Response, String> {
    client.get(path).await.map_err(|error| format!("{error:#}"))
}

/// Returns the parts of an answer, as `dc status source` and whether there is an error.
fn parts(response: &Response) -> Vec<String> {
    let header = response.header("x-causeway-datacenters");
    let one = |part: &str| {
        let field = |name: &str| {
            let found = part.split(';').find_map(|it| it.strip_prefix(&format!("{name}=")));
            found.unwrap_or_default().to_owned()
        };
        let dc = part.split(';').next().unwrap().trim().to_owned();
        format!("{dc} {} {} {}", field("rows"), field("status"), field("source")).trim().to_owned()
    };
    header.split(", ").map(one).collect()
}

/// Returns the datacenters of the nodes in an answer.
fn datacenters(response: &Response) -> Vec<String> {
    let rows: Vec<Value> = serde_json::from_slice(&response.body).unwrap();
    let dc = |row: &Value| {
        row["Node"]["Datacenter"].as_str().or(row["Datacenter"].as_str()).unwrap().to_owned()
    };
    rows.iter().map(dc).collect()
}

/// Waits until a union has these parts.
async fn has_parts(client: &Client, path: &str, wanted: &[&str]) -> Response {
    let mut last = None;
    until(SETTLED_MAX, &format!("{path} has {wanted:?}"), async || {
        let found = get(client, path).await?;
        let mut seen = parts(&found);
        seen[1..].sort();
        let shown = format!("{seen:?}: {}", found.text());
        last = Some(found);
        if seen == wanted { Ok(()) } else { Err(shown) }
    })
    .await;
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_datacenters_answer_one_lookup_and_a_lost_one_by_its_mirror() {
    let mut cluster = start().await;
    let client = cluster.agents[cluster.clients("dc1")[0]].client();
    let path = format!("{WEB}&dc=*");
    let all = ["dc1 1 healthy", "dc2 1 healthy", "dc3 1 healthy"];
    let found = has_parts(&client, &path, &all).await;
    let mut dcs = datacenters(&found);
    dcs.sort();
    assert_eq!(dcs, ["dc1", "dc2", "dc3"]);
    assert_eq!(found.header("x-consul-effective-consistency"), "leader");
    let two =
        has_parts(&client, &format!("{WEB}&dc=dc3,dc1"), &["dc3 1 healthy", "dc1 1 healthy"]).await;
    assert_eq!(datacenters(&two), ["dc3", "dc1"]);
    let names = get(&client, "/v1/catalog/services?dc=*").await.unwrap();
    let names: Value = serde_json::from_slice(&names.body).unwrap();
    assert_eq!(names["web"], json!(["dc1", "dc2", "dc3"]));

    // A datacenter that is not there has a part that says so; the others answer.
    let found =
        has_parts(&client, &format!("{WEB}&dc=dc1,dc9"), &["dc1 1 healthy", "dc9 0 unknown"]).await;
    assert!(found.header("x-causeway-datacenters").contains("error="), "{found:?}");
    let nobody = get(&client, &format!("{WEB}&dc=dc8,dc9")).await.unwrap();
    assert_eq!(nobody.status, StatusCode::INTERNAL_SERVER_ERROR);
    for refused in [
        "/v1/catalog/node/a?dc=*",
        "/v1/kv/a?dc=*",
        "/v1/agent/members?dc=dc1,dc2",
        "/v1/health/service/web?dc=,",
        "/v1/health/service/web?index=dc1:7",
    ] {
        let found = get(&client, refused).await.unwrap();
        let is_local = refused.contains("/agent/");
        let wanted = if is_local { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        assert_eq!(found.status, wanted, "{refused}: {}", found.text());
    }

    // What was known of a lost one stays, and says how old it is.
    until(SETTLED_MAX, "dc3 is mirrored", async || {
        let found = get(&client, &format!("{WEB}&dc=dc3&stale")).await?;
        let is_there = found.header("x-causeway-source") == "mirror" && found.text() != "[]";
        if is_there { Ok(()) } else { Err(found.text()) }
    })
    .await;
    let place = cluster.servers("dc3")[0];
    cluster.agents[place].kill();
    let lost = ["dc1 1 healthy", "dc2 1 healthy", "dc3 1 lost mirror"];
    let found = has_parts(&client, &path, &lost).await;
    assert_eq!(found.header("x-causeway-source"), "mirror");
    assert_eq!(found.header("x-consul-effective-consistency"), "stale");
    // Who wants to be certain is not content with that.
    let certain = ["dc1 1 healthy", "dc2 1 healthy", "dc3 0 lost"];
    has_parts(&client, &format!("{path}&consistent"), &certain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_several_is_told_when_any_of_them_changes() {
    let mut cluster = start().await;
    let client = cluster.agents[cluster.clients("dc1")[0]].client().patient(SETTLED_MAX);
    let path = format!("{WEB}&dc=*");
    let all = ["dc1 1 healthy", "dc2 1 healthy", "dc3 1 healthy"];
    let mut found = has_parts(&client, &path, &all).await;
    // By the vector, then by the one number that clients of Consul know.
    for (header, dc) in
        [("x-causeway-index", "dc2"), ("x-consul-index", "dc3"), ("x-causeway-index", "dc1")]
    {
        let index = found.header(header).to_owned();
        let waits = format!("{path}&wait=60s&index={index}");
        let brief = get(&client, &format!("{path}&wait=100ms&index={index}")).await.unwrap();
        assert_eq!(brief.header(header), index, "{}", brief.text());
        let (waiter, ask) = (client.clone(), waits.clone());
        let waiting = tokio::spawn(async move { get(&waiter, &ask).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "nothing changed");
        // Another service is none of its business.
        register(&cluster, dc, "db", &[]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "web did not change");
        register(&cluster, dc, "web", &["changed"]).await;
        found = waiting.await.unwrap().unwrap();
        assert_ne!(found.header(header), index);
        assert!(found.text().contains("changed"), "{}", found.text());
        register(&cluster, dc, "web", &[dc]).await;
        found = get(&client, &path).await.unwrap();
    }
    // A loss is told as well.
    let index = found.header("x-causeway-index").to_owned();
    let waits = format!("{path}&wait=60s&index={index}");
    let waiting = tokio::spawn(async move { get(&client, &waits).await });
    let place = cluster.servers("dc3")[0];
    cluster.agents[place].kill();
    let found = waiting.await.unwrap().unwrap();
    assert!(!parts(&found).contains(&"dc3 1 healthy".to_owned()), "{:?}", parts(&found));
}
