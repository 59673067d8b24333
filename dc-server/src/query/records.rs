//! Answers for agents: named maps of records, as [`lan_agent::catalog`] reads them.

use std::borrow::Cow;

use bytes::Bytes;
use lan_agent::catalog::{Check, Node, Residents, Service};
use serde::Serialize;
use topology::Datacenter;

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
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    dc: Option<&'a Datacenter>,
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

/// Writes instances without their checks; `dc` is their datacenter where that is another one.
pub(super) fn instances(wan: bool, dc: Option<&Datacenter>, found: &[Found<'_>]) -> Bytes {
    let rows = found.iter().map(|there| instance(wan, dc, there, Vec::new()));
    write(&rows.collect::<Vec<_>>())
}

/// Writes instances with their checks; `dc` is their datacenter where that is another one.
pub(super) fn health(wan: bool, dc: Option<&Datacenter>, found: &[Found<'_>]) -> Bytes {
    let rows =
        found.iter().map(|there| instance(wan, dc, there, checks_at(there).map(value).collect()));
    write(&rows.collect::<Vec<_>>())
}

pub(super) fn checks(checks: &[Checked<'_>]) -> Bytes {
    write(&checks.iter().map(|(_, check)| value(check)).collect::<Vec<_>>())
}

pub(super) fn residents(residents: &Residents) -> Bytes {
    write(residents)
}

fn instance<'a>(
    wan: bool,
    dc: Option<&'a Datacenter>,
    (host, there): &Found<'a>,
    checks: Vec<&'a Check>,
) -> Instance<'a> {
    let (node, service) = (&host.node().value, &there.service().value);
    Instance { node: node.seen(wan), service: service.seen(wan), checks, dc }
}

fn value<T>(record: &Record<T>) -> &T {
    &record.value
}

fn write(rows: &impl Serialize) -> Bytes {
    let written = rmp_serde::to_vec_named(rows);
    assert!(written.is_ok(), "memory takes every map of text and numbers: {written:?}");
    written.unwrap_or_default().into()
}
