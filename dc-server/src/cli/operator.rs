//! `operator raft list-peers`: the servers of a datacenter as Raft knows them.

use serde::{Deserialize, Serialize};

use super::{
    Api, Call, Command, FORMAT, Run,
    table::{columns, row},
};

pub(super) const RAFT_LIST_PEERS: Command = Command {
    name: "operator raft list-peers",
    about: "Lists the servers of Raft's configuration",
    usage: "[options]",
    help: "Lists the servers of the datacenter's Raft configuration: who leads, who votes.",
    flags: || vec![FORMAT],
    api: Api::Datacenter,
    run: Run::Call(run),
};

/// `/v1/operator/raft/configuration`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Server>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    leader: bool,
    voter: bool,
    #[serde(default)]
    protocol_version: String,
}

fn run(call: &mut Call<'_>) -> anyhow::Result<u8> {
    let configuration: Configuration = call
        .client()?
        .get("/v1/operator/raft/configuration", &[])
        .and_then(|answer| answer.json())
        .map_err(|error| {
            anyhow::anyhow!("Error getting peers: Failed to retrieve raft configuration: {error:#}")
        })?;
    if call.wants_json()? {
        call.say_json(&serde_json::to_value(&configuration.servers)?)?;
        return Ok(0);
    }
    let mut rows = vec![row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])];
    for server in &configuration.servers {
        let protocol =
            if server.protocol_version.is_empty() { "<=1" } else { &server.protocol_version };
        rows.push(row([
            &server.node,
            &server.id,
            &server.address,
            if server.leader { "leader" } else { "follower" },
            if server.voter { "true" } else { "false" },
            protocol,
        ]));
    }
    call.say(columns(&rows))?;
    Ok(0)
}
