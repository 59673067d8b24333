//! Lookups in the catalog: which parts an answer shows, which records are in it, in which order.
//!
//! Records come in the order of their nodes' names and then of their ids, whatever the capitals, as
//! in Consul. With `near` those of that node come first, and then the others by their distance from it.

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
use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};
use topology::Datacenter;

use super::{json::catalog as json, records};
use crate::failover::policy::Count;
use crate::state::{
    State,
    catalog::{Catalog, Host, Instance, Part, Record, fold},
    coordinates,
};

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
        // What it finds is a matter of more than the catalog.
        Subject::Query(_) => return Vec::new(),
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

/// Whose catalog it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The datacenter.
    pub(super) home: &'a Datacenter,
    /// The same if that is not the server's own, which records for agents say.
    pub(super) abroad: Option<&'a Datacenter>,
}

/// Counts the instances that a lookup is about.
pub(super) fn count(state: &State, home: &Datacenter, lookup: &Lookup) -> Result<Count, AskError> {
    let (Subject::Health { service, .. } | Subject::Service(service)) = &lookup.subject else {
        return Ok(Count::default());
    };
    let wanted = Wanted::new(state, home, lookup)?;
    // Those that are not well are registered all the same.
    let found = state.catalog().instances(service).filter(|found| wanted.named(found));
    let is_well = |found: &Found<'_>| match lookup.selection.worst {
        Some(_) => wanted.is_well(found),
        None => passes(found),
    };
    Ok(found.fold(Count::default(), |count, found| Count {
        healthy: count.healthy + usize::from(is_well(&found)),
        total: count.total + 1,
    }))
}

/// Which of the instances of a service are shown, and in which order.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// At most so many.
    pub most: usize,
    /// Decides an order by chance; `None` for the usual one.
    pub seed: Option<u64>,
}

impl Draw {
    /// All of them, in the usual order.
    pub const ALL: Self = Self { most: usize::MAX, seed: None };

    fn from(self, found: &mut Vec<Found<'_>>) {
        if let Some(seed) = self.seed {
            found.shuffle(&mut SmallRng::seed_from_u64(seed));
        }
        found.truncate(self.most);
    }
}

/// Encodes the body of an answer, with those that are drawn of the instances if it is about those of a service. Refuses
/// what can't be looked up.
pub(super) fn body(
    state: &State,
    Place { home, abroad }: Place<'_>,
    lookup: &Lookup,
    draw: Draw,
) -> Result<Bytes, AskError> {
    let (catalog, Lookup { subject, selection, form }) = (state.catalog(), lookup);
    let json = *form == Form::Json;
    let (seen, wan) = (json::Seen { home, wan: selection.wan }, selection.wan);
    let wanted = Wanted::new(state, home, lookup)?;
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
            let mut found = instances(catalog, name, &wanted, |_| true);
            draw.from(&mut found);
            match json {
                true => json::instances(seen, &found),
                false => records::instances(wan, abroad, &found),
            }
        }
        Subject::Health { service, passing } => {
            let mut found = instances(catalog, service, &wanted, |it| !passing || passes(it));
            draw.from(&mut found);
            match json {
                true => json::health(seen, &found),
                false => records::health(wan, abroad, &found),
            }
        }
        Subject::Query(_) => {
            return Err(AskError::Bad("a prepared query is run, not looked up".to_owned()));
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
    wanted.nearest_first(&mut nodes, |host| host);
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
    wanted.nearest_first(&mut found, |(host, _)| host);
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
    wanted.nearest_first(&mut checks, |(host, _)| host);
    checks
}

/// Which records are wanted, and in which order.
struct Wanted<'a> {
    home: &'a Datacenter,
    selection: &'a Selection,
    filter: Filter,
    coordinates: &'a coordinates::Table,
}

impl<'a> Wanted<'a> {
    fn new(state: &'a State, home: &'a Datacenter, lookup: &'a Lookup) -> Result<Self, AskError> {
        let (selection, filter) = (&lookup.selection, Filter::of(lookup)?);
        Ok(Self { home, selection, filter, coordinates: state.coordinates() })
    }

    /// Sorts by the distance from the node to be near to, if there is one.
    fn nearest_first<T>(&self, rows: &mut [T], host: impl Fn(&T) -> &Host) {
        let near = &self.selection.near;
        if !near.is_empty() {
            self.coordinates.nearest_first(near, rows, |row| &host(row).node().value.name);
        }
    }

    fn node(&self, host: &Host) -> bool {
        let shown = || ShownNode { datacenter: self.home.as_str(), node: &host.node().value };
        has_meta(host, self.selection) && self.filter.admits(&shown())
    }

    fn instance(&self, found: &Found<'_>) -> bool {
        self.named(found) && self.is_well(found)
    }

    /// Tells whether it is one of those that are meant, however it is.
    fn named(&self, &(host, instance): &Found<'_>) -> bool {
        has_meta(host, self.selection)
            && has_tags(instance, self.selection)
            && self.filter.admits(&Placed { home: self.home, host, instance })
    }

    /// Tells whether no check that counts says worse than is wanted.
    fn is_well(&self, found: &Found<'_>) -> bool {
        let Selection { worst: Some(worst), ignored_checks, .. } = self.selection else {
            return true;
        };
        let counts = |check: &&Record<Check>| !ignored_checks.contains(&check.value.id);
        checks_at(found).filter(counts).all(|check| check.value.status <= *worst)
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
    let Service { tags, meta, .. } = &instance.service().value;
    let has = |wanted: &Text| {
        let wanted = fold(wanted);
        tags.iter().any(|tag| fold(tag) == wanted)
    };
    selection.tags.iter().all(has)
        && !selection.without_tags.iter().any(has)
        && selection.service_meta.iter().all(|(key, value)| meta.get(key) == Some(value))
}

/// Tells whether all checks of an instance and of its node pass.
fn passes(found: &Found<'_>) -> bool {
    checks_at(found).all(|check| check.value.status == Health::Passing)
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
