//! `rtt`: how far apart two nodes are, estimated from their coordinates.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use topology::Coordinate;

use super::{Api, Call, Command, FORMAT, Misuse, Run, client::Client, flags::Flag};

pub(super) const COMMAND: Command = Command {
    name: "rtt",
    about: "Estimates the round trip between two nodes",
    usage: "[options] NODE1 [NODE2]",
    help: "Estimates the round trip between two nodes by their network coordinates;\n\
           without a second node between the first one and the agent's own.\n\n    \
           $ % rtt web-1 web-2\n    $ % rtt -datacenter=dc2 db-1 db-2\n\n\
           With -wan between servers of any two datacenters:\n\n    \
           $ % rtt -wan s1.dc1 s1.dc2\n\n\
           No packet is sent for it. Nodes find their coordinates within minutes after\n\
           their start.",
    flags: || {
        vec![
            Flag::bool("wan", "Use the coordinates of the WAN pool instead of the datacenter's."),
            FORMAT,
        ]
    },
    api: Api::Datacenter,
    run: Run::Call(run),
};

/// A node as `/v1/coordinate` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Place {
    node: String,
    coord: Coordinate,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Area {
    datacenter: String,
    #[serde(default)]
    coordinates: Vec<Place>,
}

/// What the agent says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Own {
    config: OwnConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnConfig {
    node_name: String,
    datacenter: String,
}

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let wan = call.line.is_set("wan");
    if wan {
        call.line.args.iter().try_for_each(|name| parts(name).map(drop))?;
    }
    let mut client = call.client()?;
    let (one, other) = match call.line.args.as_slice() {
        [one] => (one.clone(), own_name(&mut client, wan)?),
        [one, other] => (one.clone(), other.clone()),
        _ => return Err(Misuse("One or two node names must be specified".to_owned()).into()),
    };
    let (a, b) = match wan {
        true => {
            let areas = areas(&mut client)?;
            (in_wan(&areas, &one)?, in_wan(&areas, &other)?)
        }
        false => (in_lan(&mut client, &one)?, in_lan(&mut client, &other)?),
    };
    let millis = a.distance(&b).as_secs_f64() * 1000.0;
    let pool = if wan { "WAN" } else { "LAN" };
    if call.wants_json()? {
        let rounded = (millis * 1000.0).round() / 1000.0;
        let shown: Value =
            json!({ "Nodes": [one, other], "Milliseconds": rounded, "Coordinates": pool });
        call.say_json(&shown)?;
    } else {
        call.say(format!(
            "Estimated {one} <-> {other} rtt: {millis:.3} ms (using {pool} coordinates)"
        ))?;
    }
    Ok(0)
}

/// Returns the name of the agent's own node.
fn own_name(client: &mut Client, wan: bool) -> anyhow::Result<String> {
    let own: Own = client
        .get("/v1/agent/self", &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error retrieving the agent's name: {error:#}"))?;
    let OwnConfig { node_name, datacenter } = own.config;
    Ok(if wan { format!("{node_name}.{datacenter}") } else { node_name })
}

fn in_lan(client: &mut Client, node: &str) -> anyhow::Result<Coordinate> {
    let failed = |error| anyhow::anyhow!("Error getting coordinates: {error:#}");
    let answer = client.get(&format!("/v1/coordinate/node/{node}"), &[]).map_err(failed)?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(unknown(node));
    }
    let places: Vec<Place> = answer.json().map_err(failed)?;
    places.first().map(|place| place.coord).ok_or_else(|| unknown(node))
}

fn areas(client: &mut Client) -> anyhow::Result<Vec<Area>> {
    client
        .get("/v1/coordinate/datacenters", &[])
        .and_then(|answer| answer.json())
        .map_err(|error| anyhow::anyhow!("Error getting coordinates: {error:#}"))
}

/// Finds a server by its name in the WAN.
fn in_wan(areas: &[Area], name: &str) -> anyhow::Result<Coordinate> {
    let (node, dc) = parts(name)?;
    let area = areas.iter().find(|area| area.datacenter == dc);
    let mut servers = area.into_iter().flat_map(|area| &area.coordinates);
    let found = servers.find(|place| place.node == name || place.node == node);
    found.map(|place| place.coord).ok_or_else(|| unknown(name))
}

/// Takes the name of a server in the WAN apart: node and datacenter.
fn parts(name: &str) -> anyhow::Result<(&str, &str)> {
    name.rsplit_once('.').ok_or_else(|| {
        let text = "Node names must be specified as <node name>.<datacenter> with -wan";
        Misuse(text.to_owned()).into()
    })
}

fn unknown(node: &str) -> anyhow::Error {
    anyhow::anyhow!("Could not find a coordinate for node {node:?}")
}
