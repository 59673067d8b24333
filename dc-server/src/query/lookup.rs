//! Lookups in the catalog: which parts an answer shows, which records are in it, in which order.
//!
//! Records come in the order of their nodes' names and then of their ids, whatever the capitals, as
//! in Consul. With `near` those of that node come first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bytes::Bytes;
use lan_agent::{
    ask::AskError,
    catalog::{Check, Form, Health, Lookup, Residents, Selection, Service, Subject, Text},
    filter::{self, Filter, ShownCheck, ShownNode},
};
use topology::Datacenter;

use super::{json::catalog as json, records};
use crate::state::catalog::{Catalog, Host, Instance, Part, Record, fold};

/// Fewest characters that are taken for the beginning of a node's id.
const ID_START_LEN_MIN: usize = 2;

/// An instance where it runs.
pub(super) type Found<'a> = (&'a Host, &'a Instance);

/// A check on its node.
pub(super) type Checked<'a> = (&'a Host, &'a Record<Check>);

/// Names of services with their tags.
pub(super) type Tags<'a> = BTreeMap<&'a Text, BTreeSet<&'a Text>>;

/// A node with those of its instances that are shown.
pub(super) struct Inhabited<'a> {
    pub(super) host: &'a Host,
    pub(super) instances: Vec<&'a Instance>,
    /// Whether somebody asked for some of them only.
    pub(super) filtered: bool,
}

/// Refuses what can't be looked up.
pub(super) fn check(lookup: &Lookup) -> Result<(), AskError> {
    Filter::of(lookup)?;
    Ok(())
}

/// Returns the parts of the catalog that an answer shows as things are.
pub(super) fn parts(catalog: &Catalog, lookup: &Lookup) -> Vec<Part> {
    let by_meta = !lookup.selection.node_meta.is_empty();
    let mut parts = match &lookup.subject {
        Subject::Nodes => return vec![Part::Nodes],
        Subject::Node(name) | Subject::NodeServices(name) => return parts_of_node(catalog, name),
        Subject::Services if by_meta => vec![Part::Instances],
        Subject::Services => vec![Part::Names],
        Subject::Service(name) => return vec![Part::Service(fold(name))],
        Subject::NodeChecks(name) => return vec![Part::NodeChecks(fold(name))],
        Subject::ServiceChecks(name) => vec![Part::ServiceChecks(fold(name))],
        Subject::State(status) => vec![Part::Checks(*status)],
        Subject::Health { service, .. } => return vec![Part::Health(fold(service))],
        Subject::Address(_) => return vec![Part::Nodes, Part::Instances],
    };
    if by_meta {
        // The nodes are not shown, but decide what is.
        parts.push(Part::Nodes);
    }
    parts
}

/// A node is found by its name. What may be the beginning of an id depends on all nodes instead.
fn parts_of_node(catalog: &Catalog, name: &Text) -> Vec<Part> {
    let by_name = Part::Node(fold(name));
    if catalog.host(name).is_some() || !starts_like_id(name) {
        return vec![by_name];
    }
    vec![by_name, Part::Nodes, Part::Instances]
}

/// Returns the index of an answer: of the last change of what it shows. 0 when there was none.
pub(super) fn index(catalog: &Catalog, lookup: &Lookup) -> u64 {
    let parts = parts(catalog, lookup);
    parts.iter().map(|part| catalog.index_of(part)).max().unwrap_or(0)
}

/// Encodes the body of an answer. Refuses what can't be looked up.
pub(super) fn body(
    catalog: &Catalog,
    home: &Datacenter,
    lookup: &Lookup,
) -> Result<Bytes, AskError> {
    let Lookup { subject, selection, form } = lookup;
    let json = *form == Form::Json;
    let (seen, wan) = (json::Seen { home, wan: selection.wan }, selection.wan);
    let wanted = Wanted { home, selection, filter: Filter::of(lookup)? };
    Ok(match subject {
        Subject::Nodes => {
            let nodes = nodes(catalog, &wanted);
            if json { json::nodes(seen, &nodes) } else { records::nodes(wan, &nodes) }
        }
        Subject::Node(name) => {
            let found = inhabited(catalog, name, &wanted);
            if json {
                json::node_with_services(seen, found)
            } else {
                records::inventory(wan, found)
            }
        }
        Subject::NodeServices(name) => {
            let found = inhabited(catalog, name, &wanted);
            if json { json::node_and_services(seen, found) } else { records::inventory(wan, found) }
        }
        Subject::Services => {
            let names = names(catalog, selection);
            if json { json::names(&names) } else { records::names(&names) }
        }
        Subject::Service(name) => {
            let found = instances(catalog, name, &wanted, |_| true);
            if json { json::instances(seen, &found) } else { records::instances(wan, &found) }
        }
        Subject::Health { service, passing } => {
            let found = instances(catalog, service, &wanted, |found| !passing || passes(found));
            if json { json::health(seen, &found) } else { records::health(wan, &found) }
        }
        Subject::Address(address) => {
            // Agents ask for it, and nobody else.
            records::residents(&residents(catalog, address))
        }
        Subject::NodeChecks(_) | Subject::ServiceChecks(_) | Subject::State(_) => {
            let checks = checks(catalog, subject, &wanted);
            if json { json::checks(&checks) } else { records::checks(&checks) }
        }
    })
}

fn nodes<'a>(catalog: &'a Catalog, wanted: &Wanted<'_>) -> Vec<&'a Host> {
    let mut nodes: Vec<_> = catalog.hosts().filter(|host| wanted.node(host)).collect();
    nearest_first(&mut nodes, wanted.selection, |host| host);
    nodes
}

fn inhabited<'a>(catalog: &'a Catalog, name: &Text, wanted: &Wanted<'_>) -> Option<Inhabited<'a>> {
    let host = host(catalog, name)?;
    let instances = host.instances().filter(|it| wanted.filter.admits(&it.service().value));
    let filtered = !wanted.selection.filter.is_empty();
    Some(Inhabited { host, instances: instances.collect(), filtered })
}

fn residents(catalog: &Catalog, address: &Text) -> Residents {
    let wanted: Option<IpAddr> = address.parse().ok();
    // IPv4 has one way to be written; IPv6 has many.
    let is_it = |found: &Text| match wanted {
        Some(IpAddr::V6(_)) => found.contains(':') && found.parse().ok() == wanted,
        Some(IpAddr::V4(_)) | None => found == address,
    };
    let nodes = catalog.hosts().map(|host| &host.node().value).filter(|node| is_it(&node.address));
    let instances = catalog.hosts().flat_map(Host::instances);
    let services = instances.map(|it| &it.service().value).filter(|it| is_it(&it.address));
    let services: BTreeSet<&Text> = services.map(|service| &service.name).collect();
    Residents {
        nodes: nodes.map(|node| node.name.clone()).collect(),
        services: services.into_iter().cloned().collect(),
    }
}

fn host<'a>(catalog: &'a Catalog, name: &Text) -> Option<&'a Host> {
    let by_id = || catalog.host_by_id(name).filter(|_| starts_like_id(name));
    catalog.host(name).or_else(by_id)
}

fn names<'a>(catalog: &'a Catalog, selection: &Selection) -> Tags<'a> {
    if selection.node_meta.is_empty() {
        let names = catalog.names().iter();
        return names.map(|(name, usage)| (name, usage.tags().collect())).collect();
    }
    let mut names = Tags::new();
    for host in catalog.hosts().filter(|host| has_meta(host, selection)) {
        for instance in host.instances() {
            let service = &instance.service().value;
            names.entry(&service.name).or_default().extend(&service.tags);
        }
    }
    names
}

fn instances<'a>(
    catalog: &'a Catalog,
    service: &Text,
    wanted: &Wanted<'_>,
    also: impl Fn(&Found<'a>) -> bool,
) -> Vec<Found<'a>> {
    let found = catalog.instances(service).filter(|found| wanted.instance(found));
    let mut found: Vec<_> = found.filter(also).collect();
    nearest_first(&mut found, wanted.selection, |(host, _)| host);
    found
}

fn checks<'a>(catalog: &'a Catalog, subject: &Subject, wanted: &Wanted<'_>) -> Vec<Checked<'a>> {
    let admitted = |(host, check): &Checked<'a>| wanted.filter.admits(&shown(host, &check.value));
    let of_host = |host: &'a Host| host.checks().map(move |check| (host, check));
    let mut checks: Vec<Checked<'a>> = match subject {
        Subject::NodeChecks(name) => {
            return catalog.host(name).into_iter().flat_map(of_host).filter(admitted).collect();
        }
        Subject::ServiceChecks(name) => {
            let instances = catalog.instances(name);
            let of_it = |(host, i): Found<'a>| host.checks_of(i).map(move |check| (host, check));
            instances.flat_map(of_it).collect()
        }
        Subject::State(Some(status)) => catalog.checks_in(*status).collect(),
        _ => catalog.hosts().flat_map(of_host).collect(),
    };
    checks.retain(|checked| has_meta(checked.0, wanted.selection) && admitted(checked));
    nearest_first(&mut checks, wanted.selection, |(host, _)| host);
    checks
}

/// Which records are wanted.
struct Wanted<'a> {
    home: &'a Datacenter,
    selection: &'a Selection,
    filter: Filter,
}

impl Wanted<'_> {
    fn node(&self, host: &Host) -> bool {
        let shown = || ShownNode { datacenter: self.home.as_str(), node: &host.node().value };
        has_meta(host, self.selection) && self.filter.admits(&shown())
    }

    fn instance(&self, &(host, instance): &Found<'_>) -> bool {
        has_meta(host, self.selection)
            && has_tags(instance, self.selection)
            && self.filter.admits(&Placed { home: self.home, host, instance })
    }
}

/// An instance where it runs, as a filter looks at it.
struct Placed<'a> {
    home: &'a Datacenter,
    host: &'a Host,
    instance: &'a Instance,
}

impl filter::Record for Placed<'_> {
    fn node(&self) -> Option<ShownNode<'_>> {
        Some(ShownNode { datacenter: self.home.as_str(), node: &self.host.node().value })
    }

    fn service(&self) -> Option<&Service> {
        Some(&self.instance.service().value)
    }

    fn checks(&self) -> impl Iterator<Item = ShownCheck<'_>> {
        checks_at(&(self.host, self.instance)).map(|check| shown(self.host, &check.value))
    }
}

/// A check with what is shown of its node and its service.
pub(super) fn shown<'a>(host: &'a Host, check: &'a Check) -> ShownCheck<'a> {
    let instance = host.instance(&check.service_id);
    let tags = instance.map_or(&[][..], |instance| &instance.service().value.tags);
    ShownCheck { node: &host.node().value.name, check, tags }
}

/// Returns the checks of an instance's node and of the instance itself.
pub(super) fn checks_at<'a>(
    (host, instance): &Found<'a>,
) -> impl Iterator<Item = &'a Record<Check>> + use<'a> {
    host.own_checks().chain(host.checks_of(instance))
}

fn has_meta(host: &Host, selection: &Selection) -> bool {
    let meta = &host.node().value.meta;
    selection.node_meta.iter().all(|(key, value)| meta.get(key) == Some(value))
}

fn has_tags(instance: &Instance, selection: &Selection) -> bool {
    let tags = &instance.service().value.tags;
    selection.tags.iter().all(|wanted| {
        let wanted = fold(wanted);
        tags.iter().any(|tag| fold(tag) == wanted)
    })
}

/// Tells whether all checks of an instance and of its node pass.
fn passes(found: &Found<'_>) -> bool {
    checks_at(found).all(|check| check.value.status == Health::Passing)
}

/// Brings what is on the node to be near to to the front, and leaves the rest in order.
fn nearest_first<T>(rows: &mut [T], selection: &Selection, host: impl Fn(&T) -> &Host) {
    if !selection.near.is_empty() {
        let near = fold(&selection.near);
        rows.sort_by_key(|row| fold(&host(row).node().value.name) != near);
    }
}

/// Tells whether a text may be the beginning of a UUID.
fn starts_like_id(text: &str) -> bool {
    const PATTERN: &[u8] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    let fits = |(byte, pattern): (u8, &u8)| match pattern {
        b'-' => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (ID_START_LEN_MIN..=PATTERN.len()).contains(&text.len()) && text.bytes().zip(PATTERN).all(fits)
}
