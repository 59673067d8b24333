//! Answers without what this agent knows better than they: instances on nodes that the LAN pool
//! holds for failed or left, and those beside it that its own checks hold for critical.
//!
//! Only lists of instances are pruned. Lists of nodes and of checks say what the servers knew.

use std::{borrow::Cow, collections::BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use topology::{Member, Status};

use crate::{
    ask::Answer,
    catalog::{Form, Health, Instance, Lookup, Ran, Subject, Text},
    local::state::State,
};

/// What is known to be gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gone {
    /// The names of nodes, in small letters.
    nodes: BTreeSet<String>,
    /// The name of this agent's node, in small letters.
    me: String,
    /// The ids of its services that are critical.
    services: BTreeSet<Text>,
}

impl Gone {
    /// Gathers what the LAN pool and the agent's own checks say.
    pub fn of(members: &[Member], own: &State) -> Self {
        let me = own.node().name.to_lowercase();
        let is_gone = |member: &&Member| matches!(member.status, Status::Failed | Status::Left);
        let names =
            members.iter().filter(is_gone).map(|it| it.profile.name.as_str().to_lowercase());
        // A pool that is left holds this node for left, too.
        let nodes = names.filter(|name| *name != me).collect();
        let critical = |id: &Text| own.health_of(id) == Health::Critical;
        let ids = own.services().map(|entry| &entry.service.id);
        let services = ids.filter(|id| critical(id)).cloned().collect();
        Self { nodes, me, services }
    }

    /// Tells whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty()
    }

    fn has(&self, node: &str, service: &str) -> bool {
        let node = node.to_lowercase();
        self.nodes.contains(&node) || (node == self.me && self.services.contains(service))
    }
}

/// Returns an answer without what is gone. What can't be read stays as it is.
pub fn without(answer: &Answer, lookup: &Lookup, gone: &Gone) -> Answer {
    let pruned = match (&lookup.subject, lookup.form) {
        _ if gone.is_empty() => None,
        (Subject::Health { .. }, Form::Json) => json::<HealthRow<'_>>(&answer.body, gone),
        (Subject::Service(_), Form::Json) => json::<InstanceRow<'_>>(&answer.body, gone),
        (Subject::Health { .. } | Subject::Service(_), Form::Records) => {
            records(&answer.body, gone)
        }
        (Subject::Query(_), Form::Records) => ran(&answer.body, gone),
        _ => None,
    };
    let body = pruned.unwrap_or_else(|| answer.body.clone());
    Answer { body, ..answer.clone() }
}

/// Where an instance runs, as a row of an answer says it.
trait Row<'a>: Deserialize<'a> {
    /// Returns the name of the node and the id of the service.
    fn place(&self) -> (&str, &str);
}

type Name<'a> = Cow<'a, str>;

/// A row of `health/service`.
#[derive(Deserialize)]
struct HealthRow<'a> {
    #[serde(rename = "Node", borrow)]
    node: NodeName<'a>,
    #[serde(rename = "Service", borrow)]
    service: ServiceId<'a>,
}

#[derive(Deserialize)]
struct NodeName<'a> {
    #[serde(rename = "Node", borrow)]
    node: Name<'a>,
}

#[derive(Deserialize)]
struct ServiceId<'a> {
    #[serde(rename = "ID", borrow)]
    id: Name<'a>,
}

impl<'a> Row<'a> for HealthRow<'a> {
    fn place(&self) -> (&str, &str) {
        (&self.node.node, &self.service.id)
    }
}

/// A row of `catalog/service`.
#[derive(Deserialize)]
struct InstanceRow<'a> {
    #[serde(rename = "Node", borrow)]
    node: Name<'a>,
    #[serde(rename = "ServiceID", borrow)]
    service_id: Name<'a>,
}

impl<'a> Row<'a> for InstanceRow<'a> {
    fn place(&self) -> (&str, &str) {
        (&self.node, &self.service_id)
    }
}

/// Leaves rows out of a JSON list, and copies the others as they are.
fn json<'a, R: Row<'a>>(body: &'a [u8], gone: &Gone) -> Option<Bytes> {
    let rows: Vec<&'a RawValue> = serde_json::from_slice(body).ok()?;
    let is_gone = |row: &&'a RawValue| {
        serde_json::from_str::<R>(row.get()).is_ok_and(|row| {
            let (node, service) = row.place();
            gone.has(node, service)
        })
    };
    let left: Vec<&str> = rows.iter().filter(|row| !is_gone(row)).map(|row| row.get()).collect();
    if left.len() == rows.len() {
        return None;
    }
    Some(format!("[{}]", left.join(",")).into())
}

fn records(body: &[u8], gone: &Gone) -> Option<Bytes> {
    let rows: Vec<Instance> = rmp_serde::from_slice(body).ok()?;
    let stays = |row: &&Instance| !gone.has(&row.node.name, &row.service.id);
    let left: Vec<_> = rows.iter().filter(stays).collect();
    if left.len() == rows.len() {
        return None;
    }
    rmp_serde::to_vec_named(&left).ok().map(Bytes::from)
}

fn ran(body: &[u8], gone: &Gone) -> Option<Bytes> {
    let mut ran: Ran = rmp_serde::from_slice(body).ok()?;
    let count = ran.instances.len();
    ran.instances.retain(|row| !gone.has(&row.node.name, &row.service.id));
    if ran.instances.len() == count {
        return None;
    }
    rmp_serde::to_vec_named(&ran).ok().map(Bytes::from)
}
