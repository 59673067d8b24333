//! Answers for agents: named maps of records, as [`lan_agent::catalog`] reads them.

use std::borrow::Cow;

use bytes::Bytes;
use lan_agent::catalog::{Check, Node, Residents, Service};
use serde::Serialize;

use super::lookup::{Checked, Found, Inhabited, Tags, checks_at};
use crate::state::catalog::{Host, Record};

/// [`lan_agent::catalog::Instance`], as it is written.
#[derive(Serialize)]
struct Instance<'a> {
    #[serde(rename = "n")]
    node: Cow<'a, Node>,
    #[serde(rename = "s")]
    service: Cow<'a, Service>,
    #[serde(rename = "c")]
    checks: Vec<&'a Check>,
}

/// [`lan_agent::catalog::Inventory`], as it is written.
#[derive(Serialize)]
struct Inventory<'a> {
    #[serde(rename = "n")]
    node: Cow<'a, Node>,
    #[serde(rename = "s")]
    services: Vec<Cow<'a, Service>>,
}

pub(super) fn nodes(wan: bool, nodes: &[&Host]) -> Bytes {
    write(&nodes.iter().map(|host| host.node().value.seen(wan)).collect::<Vec<_>>())
}

pub(super) fn inventory(wan: bool, found: Option<Inhabited<'_>>) -> Bytes {
    write(&found.map(|Inhabited { host, instances, .. }| Inventory {
        node: host.node().value.seen(wan),
        services: instances.iter().map(|instance| instance.service().value.seen(wan)).collect(),
    }))
}

pub(super) fn names(names: &Tags<'_>) -> Bytes {
    write(names)
}

pub(super) fn instances(wan: bool, found: &[Found<'_>]) -> Bytes {
    write(&found.iter().map(|found| instance(wan, found, Vec::new())).collect::<Vec<_>>())
}

pub(super) fn health(wan: bool, found: &[Found<'_>]) -> Bytes {
    let rows =
        found.iter().map(|there| instance(wan, there, checks_at(there).map(value).collect()));
    write(&rows.collect::<Vec<_>>())
}

pub(super) fn checks(checks: &[Checked<'_>]) -> Bytes {
    write(&checks.iter().map(|(_, check)| value(check)).collect::<Vec<_>>())
}

pub(super) fn residents(residents: &Residents) -> Bytes {
    write(residents)
}

fn instance<'a>(wan: bool, (host, there): &Found<'a>, checks: Vec<&'a Check>) -> Instance<'a> {
    let (node, service) = (&host.node().value, &there.service().value);
    Instance { node: node.seen(wan), service: service.seen(wan), checks }
}

fn value<T>(record: &Record<T>) -> &T {
    &record.value
}

fn write(rows: &impl Serialize) -> Bytes {
    let written = rmp_serde::to_vec_named(rows);
    assert!(written.is_ok(), "memory takes every map of text and numbers: {written:?}");
    written.unwrap_or_default().into()
}
