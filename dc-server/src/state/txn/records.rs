//! Operations of a transaction on the catalog: registrations and deregistrations of one record, with
//! a condition.

use lan_agent::{
    ask::{CatalogOp, CatalogRecord, CatalogVerb},
    catalog::{Check, Deregistration, Node, Registration, Removed, Service, Text},
};

use super::{Found, FoundRecord};
use crate::state::{
    Touched,
    catalog::{Catalog, Host, Record},
};

/// Carries out an operation and adds what it found to `results`, or tells why it can't be.
pub(super) fn step(
    catalog: &mut Catalog,
    index: u64,
    op: CatalogOp,
    results: &mut Vec<Found>,
    touched: &mut Touched,
) -> Result<(), String> {
    let CatalogOp { verb, record, index: cas } = op;
    let found = find(catalog, &record);
    let is_as_given = match (&found, verb) {
        (_, CatalogVerb::Get | CatalogVerb::Set | CatalogVerb::Delete) => true,
        (None, CatalogVerb::Cas) => cas == 0,
        (None, CatalogVerb::DeleteCas) => false,
        (Some(found), CatalogVerb::Cas | CatalogVerb::DeleteCas) => found.modify_index() == cas,
    };
    if !is_as_given {
        let what = if verb == CatalogVerb::Cas { "set" } else { "delete" };
        return Err(format!("failed to {what} {}, index is stale", name(&record)));
    }
    match verb {
        CatalogVerb::Get => match found {
            Some(found) => results.push(Found::Record(found)),
            None => return Err(format!("{} doesn't exist", name(&record))),
        },
        CatalogVerb::Set | CatalogVerb::Cas => {
            set(catalog, index, &record, touched)?;
            results.extend(find(catalog, &record).map(Found::Record));
        }
        CatalogVerb::Delete | CatalogVerb::DeleteCas => {
            catalog.deregister(index, &removal(record), touched);
        }
    }
    Ok(())
}

fn set(
    catalog: &mut Catalog,
    index: u64,
    record: &CatalogRecord,
    touched: &mut Touched,
) -> Result<(), String> {
    let on = |name: &Text| Node { name: name.clone(), ..Node::default() };
    let registration = match record.clone() {
        CatalogRecord::Node(node) => Registration { node, ..Registration::default() },
        CatalogRecord::Service(node, service) => {
            let service = Some(service);
            Registration { node: on(&node), skip_node_update: true, service, checks: Vec::new() }
        }
        CatalogRecord::Check(node, check) => {
            let checks = vec![check];
            Registration { node: on(&node), skip_node_update: true, service: None, checks }
        }
    };
    let needs_node = !matches!(record, CatalogRecord::Node(_));
    if needs_node && catalog.host(&registration.node.name).is_none() {
        return Err("Missing node registration".to_owned());
    }
    let registered = catalog.register(index, &registration, touched);
    registered.map_err(|refusal| refusal.sentence.to_string())
}

fn removal(record: CatalogRecord) -> Deregistration {
    let (node, what) = match record {
        CatalogRecord::Node(node) => (node.name, Removed::Node),
        CatalogRecord::Service(node, service) => (node, Removed::Service(service.id)),
        CatalogRecord::Check(node, check) => (node, Removed::Check(check.id)),
    };
    Deregistration { node, what }
}

fn find(catalog: &Catalog, record: &CatalogRecord) -> Option<FoundRecord> {
    match record {
        CatalogRecord::Node(Node { name, id, .. }) => {
            let host = if id.is_empty() { catalog.host(name) } else { catalog.host_by_id(id) };
            host.map(|host| FoundRecord::Node(host.node().clone()))
        }
        CatalogRecord::Service(node, Service { id, .. }) => {
            let instance = catalog.host(node)?.instance(id)?;
            Some(FoundRecord::Service(instance.service().clone()))
        }
        CatalogRecord::Check(node, Check { id, .. }) => {
            let host = catalog.host(node)?;
            host.check(id).map(|check| found_check(host, check))
        }
    }
}

fn found_check(host: &Host, check: &Record<Check>) -> FoundRecord {
    let instance = host.instance(&check.value.service_id);
    FoundRecord::Check {
        node: host.node().value.name.clone(),
        tags: instance.map(|it| it.service().value.tags.clone()).unwrap_or_default(),
        check: check.clone(),
    }
}

fn name(record: &CatalogRecord) -> String {
    match record {
        CatalogRecord::Node(node) => format!("node {:?}", node.name),
        CatalogRecord::Service(node, service) => {
            format!("service {:?} on node {node:?}", service.id)
        }
        CatalogRecord::Check(node, check) => format!("check {:?} on node {node:?}", check.id),
    }
}

impl FoundRecord {
    fn modify_index(&self) -> u64 {
        match self {
            FoundRecord::Node(record) => record.modify_index,
            FoundRecord::Service(record) => record.modify_index,
            FoundRecord::Check { check, .. } => check.modify_index,
        }
    }
}
