//! What has to be told to the servers so that the catalog says what this node says.
//!
//! [`compare`] marks what differs from the catalog; [`plan`] makes changes of the marks;
//! [`settle`] removes the marks of a change that the servers have taken, unless something
//! changed again meanwhile. Comparing finds what others changed behind the agent's back; marks
//! alone do for the agent's own changes. All of it is functions of values.

use std::{collections::BTreeSet, sync::Arc};

use super::state::State;
use crate::{
    ask::Question,
    catalog::{
        Check, Deregistration, Inventory, Node, Registration, Removed, SERF_HEALTH, SERVERS,
        Service, Text,
    },
};

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How the servers are told.
    pub question: Question,
    /// What they know thereafter.
    told: Told,
}

/// What the servers know when a change was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    node: Option<Node>,
    service: Option<Service>,
    checks: Vec<Check>,
    gone: Option<Removed>,
}

/// Marks whatever the catalog does not say as this node does. `known` is what it holds of the node,
/// `checks` its checks.
pub fn compare(state: &mut State, known: Option<&Inventory>, checks: &[Check]) {
    state.node_told = known.is_some_and(|known| *known.node == state.me);
    let services = known.map(|known| known.services.as_slice()).unwrap_or_default();
    for entry in state.services.values_mut() {
        let known = services.iter().find(|service| service.id == entry.service.id);
        if let Some(known) = known.filter(|_| entry.service.enable_tag_override) {
            entry.service.tags.clone_from(&known.tags);
        }
        entry.told = known.is_some_and(|known| **known == entry.service);
    }
    let delayed = state.outputs_are_delayed();
    for entry in state.checks.values_mut() {
        let known = checks.iter().find(|check| check.id == entry.check.id);
        entry.told = known.is_some_and(|known| says_the_same(known, &entry.check, delayed));
    }
    let foreign = |service: &&Arc<Service>| {
        *service.id != *SERVERS && !state.services.contains_key(&service.id)
    };
    state.gone_services = services.iter().filter(foreign).map(|it| it.id.clone()).collect();
    let foreign = |check: &&Check| {
        *check.id != *SERF_HEALTH
            && !state.checks.contains_key(&check.id)
            && !state.gone_services.contains(&check.service_id)
    };
    let gone: BTreeSet<Text> = checks.iter().filter(foreign).map(|it| it.id.clone()).collect();
    state.gone_checks = gone;
}

/// Returns what has to be told, each change on its own.
pub fn plan(state: &State) -> Vec<Change> {
    let gone_services = state.gone_services.iter().cloned().map(Removed::Service);
    let gone_checks = state.gone_checks.iter().cloned().map(Removed::Check);
    let mut changes: Vec<Change> = gone_services
        .chain(gone_checks)
        .map(|what| Change {
            question: Question::Deregister(Deregistration {
                node: state.me.name.clone(),
                what: what.clone(),
            }),
            told: Told { gone: Some(what), ..Told::default() },
        })
        .collect();
    let untold = |owner: &str| -> Vec<Check> {
        let checks = state.checks().filter(|it| !it.told && *it.check.service_id == *owner);
        checks.map(|it| it.check.clone()).collect()
    };
    for entry in state.services() {
        let checks = untold(&entry.service.id);
        if !entry.told || !checks.is_empty() {
            let service = (!entry.told).then(|| entry.service.clone());
            changes.push(registration(state, service, checks));
        }
    }
    let checks = untold("");
    let carried = changes.iter().any(|change| change.told.node.is_some());
    if !checks.is_empty() || (!state.node_told && !carried) {
        changes.push(registration(state, None, checks));
    }
    changes
}

/// Notes that the servers have taken a change.
pub fn settle(state: &mut State, change: &Change) {
    let told = &change.told;
    state.node_told |= told.node.as_ref() == Some(&state.me);
    if let Some(service) = &told.service
        && let Some(entry) = state.services.get_mut(&service.id)
    {
        entry.told |= entry.service == *service;
    }
    for check in &told.checks {
        if let Some(entry) = state.checks.get_mut(&check.id) {
            entry.told |= entry.check == *check;
        }
    }
    match &told.gone {
        Some(Removed::Service(id)) => {
            state.gone_services.remove(id);
        }
        Some(Removed::Check(id)) => {
            state.gone_checks.remove(id);
        }
        Some(Removed::Node) | None => {}
    }
}

fn registration(state: &State, service: Option<Service>, checks: Vec<Check>) -> Change {
    let node = Some(state.me.clone());
    let told = Told { node, service: service.clone(), checks: checks.clone(), gone: None };
    let skip_node_update = state.node_told;
    let registration = Registration { node: state.me.clone(), skip_node_update, service, checks };
    Change { question: Question::Register(Arc::new(registration)), told }
}

/// Compares a check in the catalog with the one here. An output that may be late is no difference.
fn says_the_same(known: &Check, own: &Check, output_may_be_late: bool) -> bool {
    let known = Check { definition: own.definition.clone(), ..known.clone() };
    match output_may_be_late {
        true => Check { output: own.output.clone(), ..known } == *own,
        false => known == *own,
    }
}

#[cfg(test)]
mod tests;
