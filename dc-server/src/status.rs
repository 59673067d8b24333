//! Answers about the cluster itself: who leads, who takes part, which datacenters there are.

use std::time::Duration;

use bytes::Bytes;
use lan_agent::{
    ask::{Answer, Meta, Outcome},
    duration,
    refuge::{self, REFUGES_MAX, Refuge},
};
use serde::Serialize;
use topology::{Datacenter, Member};
use wan_federation::Federation;

use crate::{
    mirror::MIRRORS_TAG,
    raft::{Raft, Role, Server},
};

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

/// Returns what `info` shows of Raft: section, key, value. Names are Consul's where the same is meant.
pub fn stats(
    raft: &Raft,
    members: &[Member],
    datacenters: usize,
) -> Vec<(&'static str, String, String)> {
    let status = raft.status();
    let leader = raft.leader().map(|leader| leader.addr.to_string()).unwrap_or_default();
    let last_contact = match status.role {
        Role::Leader => "0".to_owned(),
        _ if !raft.ever_contacted() => "never".to_owned(),
        _ => duration::format(Duration::from_millis(millis(status.last_contact))),
    };
    let own = [
        ("known_datacenters", datacenters.to_string()),
        ("leader", raft.is_leader().to_string()),
        ("leader_addr", leader),
    ];
    let raft_values = [
        ("applied_index", status.applied_index.to_string()),
        ("commit_index", status.commit_index.to_string()),
        ("fsm_pending", status.commit_index.saturating_sub(status.applied_index).to_string()),
        ("last_contact", last_contact),
        ("last_log_index", status.last_index.to_string()),
        ("last_snapshot_index", status.snapshot_index.to_string()),
        ("last_snapshot_term", status.snapshot_term.to_string()),
        ("latest_configuration", shown(&raft.servers(), members)),
        ("num_peers", status.peers.to_string()),
        ("protocol_version", PROTOCOL_VERSION.to_owned()),
        ("state", status.role.as_str().to_owned()),
        ("term", status.term.to_string()),
    ];
    let own = own.into_iter().map(|(key, value)| ("consul", key.to_owned(), value));
    let broken = status.broken.map(|why| ("raft", "broken".to_owned(), why));
    let raft_values = raft_values.into_iter().map(|(key, value)| ("raft", key.to_owned(), value));
    own.chain(raft_values).chain(broken).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Writes who takes part in Raft as Consul does.
fn shown(servers: &[Server], members: &[Member]) -> String {
    let one = |server: &Server| {
        let suffrage = if server.voter { "Voter" } else { "Nonvoter" };
        let id = id_of(server, members);
        format!("{{Suffrage:{suffrage} ID:{id} Address:{}}}", server.addr)
    };
    format!("[{}]", servers.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// Returns the id that the LAN pool knows a server by; its number when it does not know it.
fn id_of(server: &Server, members: &[Member]) -> String {
    let known = members.iter().find(|member| member.profile.id.raft() == server.id);
    match known {
        Some(member) => member.profile.id.to_string(),
        None => format!("{:016x}", server.id),
    }
}

/// Returns servers of other datacenters that mirror this one.
pub fn refuges(federation: Option<&Federation>) -> Answer {
    let known = federation.map(|it| it.servers_with(MIRRORS_TAG)).unwrap_or_default();
    let all = known.into_iter().take(REFUGES_MAX).map(|(dc, name, addr)| {
        let gateways = federation.map(|it| it.gateways_of(addr)).unwrap_or_default();
        Refuge { dc, name, addr, gateways }
    });
    Answer::plain(refuge::encode(&all.collect::<Vec<_>>()))
}

/// Returns who takes part in Raft, with the ids that the LAN pool knows them by.
pub fn configuration(raft: &Raft, members: &[Member]) -> Answer {
    let servers = raft.servers().into_iter().map(|server| Peer {
        id: id_of(&server, members),
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
