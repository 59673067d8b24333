//! `catalog datacenters|nodes|services`: what the servers know.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, Call, Command, FORMAT, Run,
    flags::Flag,
    table::{columns, row},
};

/// How much of a node's id is shown when nobody asks for more.
const ID_LEN_SHORT: usize = 8;

pub(super) const DATACENTERS: Command = Command {
    name: "catalog datacenters",
    about: "Lists all known datacenters",
    usage: "[options]",
    help: "Lists the datacenters that the servers know, their own one first.\n\n    \
           $ % catalog datacenters",
    flags: || vec![FORMAT],
    api: Api::Datacenter,
    run: Run::Call(datacenters),
};

pub(super) const NODES: Command = Command {
    name: "catalog nodes",
    about: "Lists all nodes of a datacenter",
    usage: "[options]",
    help: "Lists the nodes of a datacenter, all of them or those that run a service.\n\n    \
           $ % catalog nodes\n    $ % catalog nodes -service=web -datacenter=dc2",
    flags: || {
        vec![
            FORMAT,
            Flag::bool("detailed", "Show whole ids, all addresses and metadata."),
            Flag::value("near", "node", "Sort by the distance to this node."),
            Flag::value("node-meta", "key=value", "Only with this metadata; several must all fit."),
            Flag::value("service", "name", "Only nodes that run this service."),
            Flag::value("filter", "expression", "Only those that the expression is true of."),
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(nodes),
};

pub(super) const SERVICES: Command = Command {
    name: "catalog services",
    about: "Lists all services of a datacenter",
    usage: "[options]",
    help: "Lists the services of a datacenter, all of them or those of a node.\n\n    \
           $ % catalog services -tags\n    $ % catalog services -node=web-1",
    flags: || {
        vec![
            FORMAT,
            Flag::value("node", "node", "Only services on this node."),
            Flag::value("node-meta", "key=value", "Only on nodes with this metadata."),
            Flag::bool("tags", "Show their tags, too."),
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(services),
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID", default)]
    id: String,
    node: String,
    address: String,
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, String>>,
    #[serde(default, alias = "NodeMeta")]
    meta: Option<BTreeMap<String, String>>,
}

fn datacenters(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let list: Vec<String> = fetch(call, "/v1/catalog/datacenters", &[], "datacenters")?;
    if call.wants_json()? {
        call.say_json(&json!(list))?;
    } else {
        call.say(list.join("\n"))?;
    }
    Ok(0)
}

fn nodes(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let line = call.line.clone();
    let path = match line.value("service") {
        Some(service) => format!("/v1/catalog/service/{service}"),
        None => "/v1/catalog/nodes".to_owned(),
    };
    let single = ["near", "filter"].iter().filter_map(|name| Some((*name, line.value(name)?)));
    let query: Vec<(&str, &str)> =
        single.chain(line.values("node-meta").map(|pair| ("node-meta", pair))).collect();
    if call.wants_json()? {
        let all: Value = fetch(call, &path, &query, "nodes")?;
        call.say_json(&all)?;
        return Ok(0);
    }
    let mut list: Vec<Node> = fetch(call, &path, &query, "nodes")?;
    // A node that runs several instances of a service is there once.
    list.sort_by(|a, b| a.node.cmp(&b.node));
    list.dedup_by(|a, b| a.node == b.node);
    if list.is_empty() {
        writeln!(call.io.err, "No nodes match the given query - try expanding your search.")?;
        return Ok(0);
    }
    let detailed = line.is_set("detailed");
    let mut rows = vec![match detailed {
        true => row(["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]),
        false => row(["Node", "ID", "Address", "DC"]),
    }];
    for node in &list {
        let short = &node.id[..node.id.floor_char_boundary(ID_LEN_SHORT)];
        let id = if detailed { &node.id } else { short };
        let mut cells = row([&node.node, id, &node.address, &node.datacenter]);
        if detailed {
            cells.extend([pairs(&node.tagged_addresses), pairs(&node.meta)]);
        }
        rows.push(cells);
    }
    call.say(columns(&rows))?;
    Ok(0)
}

fn services(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let line = call.line.clone();
    let query: Vec<(&str, &str)> =
        line.values("node-meta").map(|pair| ("node-meta", pair)).collect();
    let list: BTreeMap<String, Vec<String>> = match line.value("node") {
        None => fetch(call, "/v1/catalog/services", &query, "services")?,
        Some(node) => {
            let path = format!("/v1/catalog/node/{node}");
            let found: Option<Value> = fetch(call, &path, &query, "services")?;
            services_of(&found.unwrap_or_default())
        }
    };
    if call.wants_json()? {
        call.say_json(&json!(list))?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = list
        .into_iter()
        .map(|(name, mut tags)| {
            tags.sort();
            if line.is_set("tags") { vec![name, tags.join(",")] } else { vec![name] }
        })
        .collect();
    if rows.is_empty() {
        writeln!(call.io.err, "No services match the given query - try expanding your search.")?;
        return Ok(0);
    }
    call.say(columns(&rows))?;
    Ok(0)
}

/// Gathers names and tags of what runs on a node.
fn services_of(node: &Value) -> BTreeMap<String, Vec<String>> {
    let mut list: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for service in node["Services"].as_object().into_iter().flat_map(|all| all.values()) {
        let Some(name) = service["Service"].as_str() else { continue };
        let tags = list.entry(name.to_owned()).or_default();
        let given = service["Tags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for tag in given {
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
    }
    list
}

fn fetch<T: serde::de::DeserializeOwned>(
    call: &Call<'_>,
    path: &str,
    query: &[(&str, &str)],
    what: &str,
) -> anyhow::Result<T> {
    let answer = call.client()?.get(path, query).and_then(|answer| answer.json());
    answer.map_err(|error| anyhow::anyhow!("Error listing {what}: {error:#}"))
}

fn pairs(texts: &Option<BTreeMap<String, String>>) -> String {
    let texts = texts.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    texts.collect::<Vec<_>>().join(", ")
}
