//! The catalog in JSON: the fields that Consul 1.8 shows, in its order.
//!
//! What was not registered is `null` for maps of nodes and services, `[]` for tags and `{}` for the
//! meta of an instance without its node's checks; tagged addresses of services are left out. There
//! is no mesh: its objects are there, and empty.

use std::collections::BTreeMap;

use bytes::Bytes;
use lan_agent::{
    catalog::{Check, Node, Service, ServiceAddress, Text, Texts, Weights},
    filter::ShownCheck,
};
use topology::Datacenter;

use super::{number, string};
use crate::{
    query::lookup::{Checked, Found, Inhabited, Tags, checks_at, shown},
    state::{
        catalog::{Host, Record},
        txn::FoundRecord,
    },
};

/// What a node, a service or a check takes, generously.
const RECORD_LEN: usize = 512;

/// How the catalog is shown.
#[derive(Clone, Copy)]
pub(in crate::query) struct Seen<'a> {
    /// The datacenter that it is the catalog of.
    pub(in crate::query) home: &'a Datacenter,
    /// Whether addresses are those that count in other datacenters.
    pub(in crate::query) wan: bool,
}

/// How a map or a list without anything in it is written.
#[derive(Clone, Copy)]
enum Empty {
    Null,
    /// As what it is.
    Itself,
}

/// `catalog/nodes`.
pub(in crate::query) fn nodes(seen: Seen<'_>, nodes: &[&Host]) -> Bytes {
    list(nodes, RECORD_LEN, |out, host| node(out, seen, host.node()))
}

/// `catalog/node`: its services by their ids.
pub(in crate::query) fn node_with_services(seen: Seen<'_>, found: Option<Inhabited<'_>>) -> Bytes {
    let Some(Inhabited { host, instances, .. }) = found else {
        return Bytes::from_static(b"null");
    };
    let mut out = b"{\"Node\":".to_vec();
    node(&mut out, seen, host.node());
    out.extend_from_slice(b",\"Services\":{");
    // As written, with their capitals.
    let services = instances.iter().map(|instance| instance.service());
    let services: BTreeMap<_, _> = services.map(|record| (&record.value.id, record)).collect();
    for (position, (id, record)) in services.into_iter().enumerate() {
        comma(&mut out, position);
        string(&mut out, id);
        out.push(b':');
        service(&mut out, seen, record, Empty::Itself);
    }
    out.extend_from_slice(b"}}");
    out.into()
}

/// `catalog/node-services`: its services as a list.
pub(in crate::query) fn node_and_services(seen: Seen<'_>, found: Option<Inhabited<'_>>) -> Bytes {
    let Some(Inhabited { host, instances, filtered }) = found else {
        return Bytes::from_static(b"{\"Node\":null,\"Services\":null}");
    };
    let mut out = b"{\"Node\":".to_vec();
    node(&mut out, seen, host.node());
    out.extend_from_slice(b",\"Services\":");
    if instances.is_empty() && !filtered {
        out.extend_from_slice(b"null");
    } else {
        items(&mut out, instances.iter(), |out, instance| {
            service(out, seen, instance.service(), Empty::Itself)
        });
    }
    out.push(b'}');
    out.into()
}

/// `catalog/services`.
pub(in crate::query) fn names(names: &Tags<'_>) -> Bytes {
    let mut out = vec![b'{'];
    for (position, (name, tags)) in names.iter().enumerate() {
        comma(&mut out, position);
        string(&mut out, name);
        out.push(b':');
        items(&mut out, tags.iter(), |out, tag| string(out, tag));
    }
    out.push(b'}');
    out.into()
}

/// `catalog/service`.
pub(in crate::query) fn instances(seen: Seen<'_>, found: &[Found<'_>]) -> Bytes {
    list(found, 2 * RECORD_LEN, |out, (host, instance)| {
        service_node(out, seen, &host.node().value, instance.service());
    })
}

/// `health/service`.
pub(in crate::query) fn health(seen: Seen<'_>, found: &[Found<'_>]) -> Bytes {
    list(found, 4 * RECORD_LEN, |out, (host, instance)| {
        out.extend_from_slice(b"{\"Node\":");
        node(out, seen, host.node());
        out.extend_from_slice(b",\"Service\":");
        service(out, seen, instance.service(), Empty::Itself);
        out.extend_from_slice(b",\"Checks\":");
        let checks = checks_at(&(*host, *instance));
        items(out, checks, |out, record| check_of(out, host, record));
        out.push(b'}');
    })
}

/// `health/node`, `health/checks`, `health/state`.
pub(in crate::query) fn checks(checks: &[Checked<'_>]) -> Bytes {
    list(checks, RECORD_LEN, |out, (host, record)| check_of(out, host, record))
}

/// A record in the results of a transaction, up to the end of its object. What is not there is
/// `null` there, lists as well.
pub(super) fn found(out: &mut Vec<u8>, home: &Datacenter, found: &FoundRecord) {
    let seen = Seen { home, wan: false };
    match found {
        FoundRecord::Node(record) => {
            out.extend_from_slice(b"{\"Node\":");
            node(out, seen, record);
        }
        FoundRecord::Service(record) => {
            out.extend_from_slice(b"{\"Service\":");
            service(out, seen, record, Empty::Null);
        }
        FoundRecord::Check { node, tags, check: record } => {
            out.extend_from_slice(b"{\"Check\":");
            check(out, node, record, tags, Empty::Null);
        }
    }
}

fn node(out: &mut Vec<u8>, seen: Seen<'_>, record: &Record<Node>) {
    let Node { name, id, address, tagged_addresses, meta } = &*record.value.seen(seen.wan);
    text(out, b"{\"ID\":", id);
    text(out, b",\"Node\":", name);
    text(out, b",\"Address\":", address);
    text(out, b",\"Datacenter\":", seen.home.as_str());
    texts(out, b",\"TaggedAddresses\":", tagged_addresses, Empty::Null);
    texts(out, b",\"Meta\":", meta, Empty::Null);
    indexes(out, record);
}

fn service(out: &mut Vec<u8>, seen: Seen<'_>, record: &Record<Service>, no_tags: Empty) {
    let service = record.value.seen(seen.wan);
    out.push(b'{');
    if !service.kind.is_empty() {
        text(out, b"\"Kind\":", &service.kind);
        out.push(b',');
    }
    text(out, b"\"ID\":", &service.id);
    text(out, b",\"Service\":", &service.name);
    strings(out, b",\"Tags\":", &service.tags, no_tags);
    text(out, b",\"Address\":", &service.address);
    tagged_addresses(out, b",\"TaggedAddresses\":", &service.tagged_addresses);
    texts(out, b",\"Meta\":", &service.meta, Empty::Null);
    number(out, b",\"Port\":", service.port.into());
    weights(out, b",\"Weights\":", service.weights);
    flag(out, b",\"EnableTagOverride\":", service.enable_tag_override);
    out.extend_from_slice(b",\"Proxy\":{\"MeshGateway\":{},\"Expose\":{}},\"Connect\":{}");
    indexes(out, record);
}

/// An instance with what there is to know of its node, in one object.
fn service_node(out: &mut Vec<u8>, seen: Seen<'_>, node: &Node, record: &Record<Service>) {
    let (node, service) = (node.seen(seen.wan), record.value.seen(seen.wan));
    text(out, b"{\"ID\":", &node.id);
    text(out, b",\"Node\":", &node.name);
    text(out, b",\"Address\":", &node.address);
    text(out, b",\"Datacenter\":", seen.home.as_str());
    texts(out, b",\"TaggedAddresses\":", &node.tagged_addresses, Empty::Null);
    texts(out, b",\"NodeMeta\":", &node.meta, Empty::Null);
    text(out, b",\"ServiceKind\":", &service.kind);
    text(out, b",\"ServiceID\":", &service.id);
    text(out, b",\"ServiceName\":", &service.name);
    strings(out, b",\"ServiceTags\":", &service.tags, Empty::Itself);
    text(out, b",\"ServiceAddress\":", &service.address);
    tagged_addresses(out, b",\"ServiceTaggedAddresses\":", &service.tagged_addresses);
    weights(out, b",\"ServiceWeights\":", service.weights);
    texts(out, b",\"ServiceMeta\":", &service.meta, Empty::Itself);
    number(out, b",\"ServicePort\":", service.port.into());
    flag(out, b",\"ServiceEnableTagOverride\":", service.enable_tag_override);
    out.extend_from_slice(b",\"ServiceProxy\":{\"MeshGateway\":{},\"Expose\":{}}");
    out.extend_from_slice(b",\"ServiceConnect\":{}");
    indexes(out, record);
}

/// A check on its node, with the tags of its service.
fn check_of(out: &mut Vec<u8>, host: &Host, record: &Record<Check>) {
    let ShownCheck { node, tags, .. } = shown(host, &record.value);
    check(out, node, record, tags, Empty::Itself);
}

fn check(out: &mut Vec<u8>, node: &str, record: &Record<Check>, tags: &[Text], no_tags: Empty) {
    let check = &record.value;
    text(out, b"{\"Node\":", node);
    text(out, b",\"CheckID\":", &check.id);
    text(out, b",\"Name\":", &check.name);
    text(out, b",\"Status\":", check.status.as_str());
    text(out, b",\"Notes\":", &check.notes);
    text(out, b",\"Output\":", &check.output);
    text(out, b",\"ServiceID\":", &check.service_id);
    text(out, b",\"ServiceName\":", &check.service_name);
    strings(out, b",\"ServiceTags\":", tags, no_tags);
    text(out, b",\"Type\":", &check.kind);
    out.extend_from_slice(b",\"Definition\":");
    let definition = if check.definition.is_empty() { "{}" } else { &check.definition };
    out.extend_from_slice(definition.as_bytes());
    indexes(out, record);
}

/// Ends an object with the indexes of its record.
fn indexes<T>(out: &mut Vec<u8>, record: &Record<T>) {
    number(out, b",\"CreateIndex\":", record.create_index);
    number(out, b",\"ModifyIndex\":", record.modify_index);
    out.push(b'}');
}

fn list<T>(rows: &[T], row_len: usize, write: impl Fn(&mut Vec<u8>, &T)) -> Bytes {
    let mut out = Vec::with_capacity(2 + rows.len() * row_len);
    items(&mut out, rows.iter(), write);
    // The bytes may be kept for long, and what is not used of them with them.
    out.shrink_to_fit();
    out.into()
}

fn items<T>(out: &mut Vec<u8>, rows: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (position, row) in rows.enumerate() {
        comma(out, position);
        write(out, row);
    }
    out.push(b']');
}

fn comma(out: &mut Vec<u8>, position: usize) {
    if position > 0 {
        out.push(b',');
    }
}

fn text(out: &mut Vec<u8>, label: &[u8], text: &str) {
    out.extend_from_slice(label);
    string(out, text);
}

fn flag(out: &mut Vec<u8>, label: &[u8], flag: bool) {
    out.extend_from_slice(label);
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

fn strings(out: &mut Vec<u8>, label: &[u8], texts: &[Text], empty: Empty) {
    out.extend_from_slice(label);
    match empty {
        Empty::Null if texts.is_empty() => out.extend_from_slice(b"null"),
        Empty::Null | Empty::Itself => items(out, texts.iter(), |out, text| string(out, text)),
    }
}

fn texts(out: &mut Vec<u8>, label: &[u8], texts: &Texts, empty: Empty) {
    out.extend_from_slice(label);
    if texts.is_empty() {
        out.extend_from_slice(match empty {
            Empty::Null => b"null",
            Empty::Itself => b"{}",
        });
        return;
    }
    out.push(b'{');
    for (position, (key, value)) in texts.iter().enumerate() {
        comma(out, position);
        string(out, key);
        text(out, b":", value);
    }
    out.push(b'}');
}

fn tagged_addresses(out: &mut Vec<u8>, label: &[u8], addresses: &BTreeMap<Text, ServiceAddress>) {
    if addresses.is_empty() {
        return;
    }
    out.extend_from_slice(label);
    out.push(b'{');
    for (position, (tag, ServiceAddress { address, port })) in addresses.iter().enumerate() {
        comma(out, position);
        string(out, tag);
        text(out, b":{\"Address\":", address);
        number(out, b",\"Port\":", (*port).into());
        out.push(b'}');
    }
    out.push(b'}');
}

fn weights(out: &mut Vec<u8>, label: &[u8], weights: Weights) {
    out.extend_from_slice(label);
    number(out, b"{\"Passing\":", weights.passing.into());
    number(out, b",\"Warning\":", weights.warning.into());
    out.push(b'}');
}
