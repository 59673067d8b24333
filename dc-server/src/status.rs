//! Answers about the cluster itself: who leads, who takes part, which datacenters there are.

use bytes::Bytes;
use lan_agent::ask::{Answer, Meta, Outcome};
use serde::Serialize;
use topology::{Datacenter, Member};
use wan_federation::Federation;

use crate::raft::{Raft, Server};

/// `/v1/operator/raft/configuration`, as Consul has it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Peer>,
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Peer {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    leader: bool,
    protocol_version: &'static str,
    voter: bool,
}

/// The version of Raft's protocol that Consul's clients expect to read.
const PROTOCOL_VERSION: &str = "3";

/// Returns the leader's address; empty when there is none.
pub fn leader(raft: &Raft) -> Answer {
    let addr = raft.leader().map(|leader| leader.addr.to_string()).unwrap_or_default();
    json(&addr)
}

/// Returns the addresses of those who vote.
pub fn peers(raft: &Raft) -> Answer {
    let voters = raft.servers().into_iter().filter(|server| server.voter);
    json(&voters.map(|server| server.addr.to_string()).collect::<Vec<_>>())
}

/// Returns the names of the datacenters, the own one first.
pub fn datacenters(home: &Datacenter, federation: Option<&Federation>) -> Answer {
    match federation {
        None => json(&[home]),
        Some(federation) => {
            json(&federation.datacenters().into_iter().map(|(dc, _)| dc).collect::<Vec<_>>())
        }
    }
}

/// Returns who takes part in Raft, with the ids that the LAN pool knows them by.
pub fn configuration(raft: &Raft, members: &[Member]) -> Answer {
    let id = |server: &Server| {
        let known = members.iter().find(|member| member.profile.id.raft() == server.id);
        match known {
            Some(member) => member.profile.id.to_string(),
            None => format!("{:016x}", server.id),
        }
    };
    let servers = raft.servers().into_iter().map(|server| Peer {
        id: id(&server),
        node: server.name.to_string(),
        address: server.addr.to_string(),
        leader: server.leader,
        protocol_version: PROTOCOL_VERSION,
        voter: server.voter,
    });
    json(&Configuration { servers: servers.collect(), index: 0 })
}

fn json(value: &impl Serialize) -> Answer {
    // Text, numbers and lists of them can always be written into memory.
    let body = serde_json::to_vec(value).map(Bytes::from).unwrap_or_default();
    Answer { outcome: Outcome::Found, meta: Meta::default(), body }
}
