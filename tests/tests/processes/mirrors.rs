//! What agents answer about another datacenter from what their servers mirror of it.

use std::time::Duration;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use hyper::StatusCode;
use serde_json::json;
use tests::harness::{
    client::{Client, Response},
    cluster::{Cluster, Shape},
    dns::{Asker, said},
    until,
};

/// How long until a change, a loss or a return has reached everyone.
const SETTLED_MAX: Duration = Duration::from_secs(40);

const DNS_PORT: u16 = 8600;

const WEB: &str = "/v1/health/service/web";

/// Starts two datacenters; the first one mirrors some keys of the second.
async fn start(servers: u8) -> Cluster {
    let shapes =
        [Shape { dc: "dc1", servers, clients: 1 }, Shape { dc: "dc2", servers: 1, clients: 0 }];
    let mut cluster = Cluster::plan(&shapes);
    for agent in &mut cluster.agents {
        agent.configure(json!({
            "federation": { "mirror_kv": ["config/"] },
            "ports": { "dns": DNS_PORT, "https": -1 },
        }));
    }
    cluster.launch().await;
    cluster
}

/// Registers an instance of `web` at an address.
async fn register(client: &Client, address: &str) {
    let body = json!({
        "Node": format!("node-{address}"),
        "Address": address,
        "Service": { "Service": "web", "Port": 80 },
    });
    client.put("/v1/catalog/register", body.to_string()).await.unwrap().ok().unwrap();
}

async fn get(client: &Client, path: &str) -> Result<Response, String> {
    client.get(path).await.map_err(|error| format!("{error:#}"))
}

fn is_mirrored(response: &Response) -> bool {
    response.header("x-causeway-source") == "mirror"
}

fn age(response: &Response) -> Duration {
    Duration::from_millis(response.header("x-consul-lastcontact").parse().expect("a number"))
}

/// Waits until an agent answers about dc2 from the mirror, and just as a server of dc2 does.
async fn agrees(client: &Client, source: &Client, path: &str) -> Response {
    until(SETTLED_MAX, "the mirror is up to date", async || {
        let truth = get(source, &format!("{path}?stale")).await?;
        let found = get(client, &format!("{path}?dc=dc2&stale")).await?;
        let same = (found.status, found.index(), &found.body)
            == (truth.status, truth.index(), &truth.body);
        match is_mirrored(&found) && same && age(&found) < Duration::from_secs(5) {
            true => Ok(found),
            false => Err(format!("{}: {:?}", found.text(), found.headers)),
        }
    })
    .await
}

/// Waits until an agent answers default reads of dc2 with an error.
async fn is_lost(client: &Client) {
    until(SETTLED_MAX, "dc2 is lost", async || {
        let found = get(client, &format!("{WEB}?dc=dc2")).await?;
        if found.status == StatusCode::INTERNAL_SERVER_ERROR { Ok(()) } else { Err(found.text()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mirrored_answers_at_once_and_goes_on_when_its_datacenter_is_lost() {
    let mut cluster = start(2).await;
    let lost = cluster.servers("dc2")[0];
    let source = cluster.agents[lost].client();
    register(&source, "10.9.0.1").await;
    for key in ["config/a", "other/a"] {
        assert!(source.kv_put(key, "1").await.unwrap());
    }
    let here = [cluster.servers("dc1"), cluster.clients("dc1")].concat();
    for place in &here {
        let client = cluster.agents[*place].client();
        for path in [WEB, "/v1/catalog/services", "/v1/catalog/nodes", "/v1/kv/config/a"] {
            agrees(&client, &source, path).await;
        }
        let elsewhere = get(&client, "/v1/kv/other/a?dc=dc2&stale").await.unwrap();
        assert_eq!((elsewhere.status, is_mirrored(&elsewhere)), (StatusCode::OK, false));
        let fresh = get(&client, &format!("{WEB}?dc=dc2")).await.unwrap();
        assert_eq!((fresh.status, is_mirrored(&fresh)), (StatusCode::OK, false));
    }

    // Who waits hears of the change.
    let client = cluster.agents[here[2]].client();
    let index = get(&client, &format!("{WEB}?dc=dc2&stale")).await.unwrap().index();
    let path = format!("{WEB}?dc=dc2&stale&index={index}&wait=60s");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { get(&client, &path).await }
    });
    register(&source, "10.9.0.2").await;
    let woken = waiting.await.unwrap().unwrap();
    assert!(is_mirrored(&woken) && woken.text().contains("10.9.0.2"), "{}", woken.text());

    for place in &here {
        agrees(&cluster.agents[*place].client(), &source, WEB).await;
    }
    cluster.agents[lost].kill();
    is_lost(&client).await;
    for place in here {
        let (client, name) = (cluster.agents[place].client(), format!("{WEB}?dc=dc2&stale"));
        let found = get(&client, &name).await.unwrap();
        assert_eq!(found.status, StatusCode::OK);
        assert!(found.text().contains("10.9.0.1") && found.text().contains("10.9.0.2"));
        assert!(age(&found) >= Duration::from_secs(1), "{:?}", found.headers);
        let key = get(&client, "/v1/kv/config/a?dc=dc2&stale").await.unwrap();
        assert_eq!((key.status, is_mirrored(&key)), (StatusCode::OK, true));
        let too_old = get(&client, &format!("{WEB}?dc=dc2&max_stale=500ms")).await.unwrap();
        assert_eq!(too_old.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", too_old.text());
        let asker = Asker((cluster.agents[place].host, DNS_PORT).into());
        let answer = asker.ask("web.service.dc2.consul.", RecordType::A).await.unwrap();
        let both = ["10.9.0.1", "10.9.0.2"].map(str::to_owned).to_vec();
        assert_eq!(said(&answer), (ResponseCode::NoError, both));
    }

    // It comes back as it was, and the mirrors go on from where they were.
    cluster.run(lost).await;
    let source = cluster.agents[lost].client();
    until(SETTLED_MAX, "dc2 takes writes", async || {
        source.kv_put("config/a", "2").await.map_err(|error| format!("{error:#}"))
    })
    .await;
    agrees(&client, &source, "/v1/kv/config/a").await;
    agrees(&client, &source, WEB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_outlive_the_leader_that_feeds_them_and_follow_a_datacenter_that_is_built_anew() {
    let mut cluster = start(3).await;
    let place = cluster.servers("dc2")[0];
    let source = cluster.agents[place].client();
    register(&source, "10.9.0.1").await;
    let leader = cluster.leader("dc1", None).await;
    let rest: Vec<usize> =
        cluster.servers("dc1").into_iter().filter(|server| *server != leader).collect();
    for server in &rest {
        agrees(&cluster.agents[*server].client(), &source, WEB).await;
    }
    cluster.agents[leader].kill();
    cluster.leader("dc1", Some(leader)).await;
    register(&source, "10.9.0.2").await;
    for server in &rest {
        let found = agrees(&cluster.agents[*server].client(), &source, WEB).await;
        assert!(found.text().contains("10.9.0.2"), "{}", found.text());
    }

    // Nothing is left of dc2 but its name.
    cluster.agents[place].kill();
    std::fs::remove_dir_all(cluster.agents[place].data_dir()).unwrap();
    cluster.run(place).await;
    let source = cluster.agents[place].client();
    register(&source, "10.9.0.3").await;
    for server in &rest {
        let found = agrees(&cluster.agents[*server].client(), &source, WEB).await;
        assert!(!found.text().contains("10.9.0.1"), "{}", found.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_servers_are_all_gone_reads_in_another_datacenter_what_it_never_asked_for() {
    let mut cluster = start(1).await;
    let (server, place) = (cluster.servers("dc1")[0], cluster.clients("dc1")[0]);
    let source = cluster.agents[server].client();
    register(&source, "10.9.0.1").await;
    assert!(source.kv_put("config/a", "1").await.unwrap());
    let far = cluster.agents[cluster.servers("dc2")[0]].client();
    until(SETTLED_MAX, "dc2 mirrors dc1", async || {
        let found = get(&far, &format!("{WEB}?dc=dc1&stale")).await?;
        let knows = is_mirrored(&found) && found.text().contains("10.9.0.1");
        if knows { Ok(()) } else { Err(found.text()) }
    })
    .await;
    let list = cluster.agents[place].data_dir().join("refuges.json");
    until(SETTLED_MAX, "the agent is told of dc2", async || {
        let found = std::fs::read_to_string(&list).map_err(|error| error.to_string())?;
        if found.contains("dc2-s1") { Ok(()) } else { Err(found) }
    })
    .await;

    cluster.agents[server].kill();
    for restarted in [false, true] {
        if restarted {
            cluster.agents[place].kill();
            cluster.run(place).await;
        }
        let client = cluster.agents[place].client();
        for path in [WEB, "/v1/catalog/service/web", "/v1/kv/config/a"] {
            until(SETTLED_MAX, "dc2 answers for dc1", async || {
                let found = get(&client, &format!("{path}?stale&{restarted}")).await?;
                if found.status == StatusCode::OK { Ok(()) } else { Err(found.text()) }
            })
            .await;
        }
        let asker = Asker((cluster.agents[place].host, DNS_PORT).into());
        let answer = asker.ask("web.service.consul.", RecordType::A).await.unwrap();
        assert_eq!(said(&answer), (ResponseCode::NoError, vec!["10.9.0.1".to_owned()]));
        let key = get(&client, "/v1/kv/config/a?stale").await.unwrap();
        assert!(is_mirrored(&key), "{:?}", key.headers);
        assert!(age(&key) > Duration::ZERO, "{:?}", key.headers);
        let refused = get(&client, WEB).await.unwrap();
        assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", refused.text());
        assert!(client.kv_put("config/a", "2").await.is_err());
    }

    cluster.run(server).await;
    let client = cluster.agents[place].client();
    until(SETTLED_MAX, "the own server answers again", async || {
        let found = get(&client, "/v1/kv/config/a?stale").await?;
        let own = found.status == StatusCode::OK && !is_mirrored(&found);
        if own { Ok(()) } else { Err(format!("{:?}", found.headers)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_fed_by_way_of_a_third_datacenter_when_no_path_leads_to_its_own() {
    let one = |dc| Shape { dc, servers: 1, clients: 0 };
    let mut cluster = Cluster::plan_relayed(&[one("dc1"), one("dc2"), one("dc3")]).await;
    cluster.launch().await;
    let [here, source] = [0, 1].map(|place| cluster.agents[place].client());
    register(&source, "10.9.0.1").await;
    agrees(&here, &source, WEB).await;
    let host = |place: usize| [cluster.agents[place].host];
    cluster.relay.as_ref().unwrap().cut(&host(0), &host(1));
    until(SETTLED_MAX, "requests take a detour", async || {
        let found = get(&here, "/v1/kv/any?dc=dc2").await?;
        match found.header("x-causeway-path") {
            "dc1, dc3, dc2" => Ok(()),
            path => Err(path.to_owned()),
        }
    })
    .await;
    register(&source, "10.9.0.2").await;
    let found = agrees(&here, &source, WEB).await;
    assert!(found.text().contains("10.9.0.2"), "{}", found.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_not_held_back_by_the_nearest_server_that_lags() {
    let dc = |dc, servers| Shape { dc, servers, clients: 0 };
    let mut cluster = Cluster::plan_relayed(&[dc("dc1", 1), dc("dc2", 3)]).await;
    cluster.launch().await;
    let leader = cluster.leader("dc2", None).await;
    let (here, source) = (cluster.agents[0].client(), cluster.agents[leader].client());
    register(&source, "10.9.0.1").await;
    agrees(&here, &source, WEB).await;
    let others = cluster.servers("dc2");
    let nearest = *others.iter().find(|place| **place != leader).unwrap();
    let far: Vec<_> = others.iter().filter(|place| **place != nearest).collect();
    let far: Vec<_> = far.into_iter().map(|place| cluster.agents[*place].host).collect();
    let relay = cluster.relay.as_ref().unwrap();
    relay.delay(&far, Duration::from_millis(20));
    relay.cut(&[cluster.agents[nearest].host], &far);
    let lagging = cluster.agents[nearest].client();
    until(SETTLED_MAX, "the nearest server has no leader", async || {
        let found = get(&lagging, &format!("{WEB}?stale")).await?;
        let behind = found.header("x-consul-knownleader") == "false";
        if behind && age(&found) > Duration::from_secs(4) { Ok(()) } else { Err(found.text()) }
    })
    .await;
    register(&source, "10.9.0.2").await;
    let found = agrees(&here, &source, WEB).await;
    assert!(found.text().contains("10.9.0.2"), "{}", found.text());
}
