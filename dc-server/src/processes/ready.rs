//! Whether a federation is whole: every node knows its datacenter's leader and sees all its nodes
//! alive, and every server sees all servers of all datacenters alive.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream};
use serde::Deserialize;
use topology::Role;

use crate::{
    http_client::HttpClient,
    processes::layout::{Layout, Node},
};

/// How long one node may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How many nodes are asked at once.
const ASKED_AT_ONCE: usize = 16;

/// What Consul's member list says of a member that is alive.
const ALIVE: u8 = 1;

/// What a node says when it is asked whether all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It knows its leader and sees everyone alive.
    Ready,
    /// It doesn't answer yet.
    Silent,
    /// It answers, but knows no leader.
    Leaderless,
    /// It sees so many of a pool's members alive.
    Alone {
        /// How many it sees.
        alive: usize,
        /// How many there are.
        of: usize,
    },
}

/// A member as `/v1/agent/members` lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    status: u8,
}

/// Asks all nodes for their health; the order is the layout's.
pub async fn survey(client: &HttpClient, layout: &Layout) -> Vec<Health> {
    stream::iter(&layout.nodes)
        .map(|node| health(client, layout, node))
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await
}

async fn health(client: &HttpClient, layout: &Layout, node: &Node) -> Health {
    let lan: BTreeSet<String> =
        layout.datacenter(&node.dc).map(|other| other.name.to_string()).collect();
    match members(client, node, "/v1/agent/members").await {
        None => return Health::Silent,
        Some(alive) if !alive.is_superset(&lan) => return alone(&alive, &lan),
        Some(_) => (),
    }
    // Only now: an agent that has met no server yet would complain in its log.
    match knows_leader(client, node).await {
        None => return Health::Silent,
        Some(false) => return Health::Leaderless,
        Some(true) if node.role == Role::Client => return Health::Ready,
        Some(true) => (),
    }
    let wan: BTreeSet<String> = layout.servers().map(Node::label).collect();
    match members(client, node, "/v1/agent/members?wan=1").await {
        None => Health::Silent,
        Some(alive) if !alive.is_superset(&wan) => alone(&alive, &wan),
        Some(_) => Health::Ready,
    }
}

/// Says whether a node knows its datacenter's leader; nothing when it doesn't answer.
pub async fn knows_leader(client: &HttpClient, node: &Node) -> Option<bool> {
    let answer = client.get(node.http(), "/v1/status/leader", ANSWER_WITHIN).await.ok()?;
    // The answer is an address in quotation marks, with nothing between them without a leader.
    Some(answer.status.is_success() && !answer.text().trim_matches('"').is_empty())
}

fn alone(alive: &BTreeSet<String>, all: &BTreeSet<String>) -> Health {
    Health::Alone { alive: alive.intersection(all).count(), of: all.len() }
}

/// Returns the names of the members that a node holds for alive; none without an answer.
async fn members(client: &HttpClient, node: &Node, path: &str) -> Option<BTreeSet<String>> {
    let answer = client.get(node.http(), path, ANSWER_WITHIN).await.ok()?;
    let members: Vec<Member> = serde_json::from_slice(&answer.body).ok()?;
    Some(members.into_iter().filter(|m| m.status == ALIVE).map(|m| m.name).collect())
}

/// Puts what the nodes say into a line for people.
pub fn summary(layout: &Layout, healths: &[Health]) -> String {
    let ready = healths.iter().filter(|health| **health == Health::Ready).count();
    let waiting = layout.nodes.iter().zip(healths).find_map(|(node, health)| match health {
        Health::Ready => None,
        Health::Silent => Some(format!("{} does not answer yet", node.label())),
        Health::Leaderless => Some(format!("{} knows no leader yet", node.label())),
        Health::Alone { alive, of } => {
            Some(format!("{} sees {alive} of {of} members", node.label()))
        }
    });
    let total = layout.nodes.len();
    match waiting {
        None => format!("{ready} of {total} nodes ready"),
        Some(waiting) => format!("{ready} of {total} nodes ready; {waiting}"),
    }
}
