//! What is answered: a function of the question, what the catalog holds, the settings and a die.
//!
//! ```text
//! addresses of a node, a service, a name    A, AAAA, CNAME
//! instances of a service                    SRV, with the addresses of their targets beside it
//! meta of a node                            TXT
//! the zone itself                           SOA, NS
//! a name without what is asked for          nothing, and SOA
//! no such name                              NXDOMAIN, and SOA
//! ```
//!
//! An instance with an address of its own is a target by that address (`0a090001.addr.dc1.consul`),
//! one without is one by its node's name, as in Consul.

use std::{collections::BTreeSet, net::IpAddr};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV},
    },
};
use rand::rngs::SmallRng;
use topology::Datacenter;

use super::{
    order::Order,
    records::{Address, At, Instance, Instances, Node, Residents},
    settings::{Settings, Zone, seconds},
};
use crate::catalog::Text;

/// Most addresses in an answer over TCP, as in Consul.
const ADDRESSES_MAX: usize = 4096;

/// Most instances in an answer over TCP, as in Consul.
const TARGETS_MAX: usize = 1024;

/// Most servers that are named for the zone, as in Consul.
const SERVERS_MAX: usize = 3;

/// The priority of all SRV records, as in Consul.
const PRIORITY: u16 = 1;

/// Fewest bytes of a record beyond its name: type, class, time, length.
const RECORD_LEN_MIN: usize = 10;

/// Bytes of a name that was written before.
const POINTER_LEN: usize = 2;

/// What is known when an answer is made.
pub(super) struct Scene<'a> {
    pub(super) query: &'a Query,
    /// The zone that the question is in.
    pub(super) zone: &'a Zone,
    /// The datacenter that is asked about.
    pub(super) dc: &'a Datacenter,
    pub(super) settings: &'a Settings,
    /// Most bytes that the client takes.
    pub(super) room: usize,
    /// Since 1970, in seconds: the zone's serial number.
    pub(super) now: u32,
}

/// Whose word an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The catalog's.
    Us,
    /// Somebody else's, or nobody's.
    Others,
}

/// What is answered, before it is known how much of it the client can take.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) by: By,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    /// What goes along with the answer of a number.
    pub(super) extras: Vec<(usize, Record)>,
}

impl Reply {
    /// Says no more than a code.
    pub(super) fn code(code: ResponseCode) -> Self {
        let (answers, authorities, extras) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, by: By::Others, answers, authorities, extras }
    }

    /// Takes over what somebody else said.
    pub(super) fn of_others(message: Message) -> Self {
        let Message { metadata, answers, authorities, additionals, .. } = message;
        let extras = additionals.into_iter().map(|record| (0, record)).collect();
        Self { code: metadata.response_code, by: By::Others, answers, authorities, extras }
    }

    /// Returns the other name that is answered, when there is nothing yet of what was asked for.
    pub(super) fn other_name(&self, wanted: RecordType) -> Option<&Name> {
        let follows = matches!(wanted, RecordType::A | RecordType::AAAA | RecordType::ANY);
        match self.answers.last() {
            Some(Record { data: RData::CNAME(CNAME(name)), .. }) if follows => Some(name),
            _ => None,
        }
    }

    fn with(answers: Vec<Record>, extras: Vec<(usize, Record)>) -> Self {
        let code = ResponseCode::NoError;
        Self { code, by: By::Us, answers, authorities: Vec::new(), extras }
    }
}

impl Scene<'_> {
    /// There is no such name.
    pub(super) fn missing(&self) -> Reply {
        Reply { code: ResponseCode::NXDomain, ..self.nothing() }
    }

    /// There is the name, and nothing of the type.
    fn nothing(&self) -> Reply {
        Reply { authorities: vec![self.soa()], ..Reply::with(Vec::new(), Vec::new()) }
    }

    /// The answers, or that there are none.
    fn some(&self, answers: Vec<Record>, extras: Vec<(usize, Record)>) -> Reply {
        if answers.is_empty() { self.nothing() } else { Reply::with(answers, extras) }
    }

    /// About a node.
    pub(super) fn node(&self, node: Option<&Node>) -> Reply {
        let Some(node) = node else { return self.missing() };
        let (kind, name) = (self.query.query_type, &self.query.name);
        let ttl = seconds(self.settings.node_ttl);
        let texts = || {
            let texts = node.texts.iter();
            texts.map(|text| Record::from_rdata(name.clone(), ttl, RData::TXT(text.clone())))
        };
        let address = node.at.of_kind(kind).map(|address| record(name.clone(), ttl, &address));
        let mut answers: Vec<Record> = address.into_iter().collect();
        let mut extras = Vec::new();
        match kind {
            RecordType::ANY | RecordType::TXT => answers.extend(texts()),
            _ if self.settings.node_meta_txt && !answers.is_empty() => {
                extras.extend(texts().map(|text| (0, text)));
            }
            _ => {}
        }
        self.some(answers, extras)
    }

    /// About an address that the name spells.
    pub(super) fn address(&self, address: IpAddr) -> Reply {
        let (kind, name) = (self.query.query_type, &self.query.name);
        let ttl = seconds(self.settings.node_ttl);
        let fits = match address {
            IpAddr::V4(_) => matches!(kind, RecordType::A | RecordType::ANY),
            IpAddr::V6(_) => matches!(kind, RecordType::AAAA | RecordType::ANY),
        };
        let record = fits.then(|| record(name.clone(), ttl, &Address::Ip(address)));
        self.some(record.into_iter().collect(), Vec::new())
    }

    /// About the instances of a service, or those that a prepared query found.
    pub(super) fn service(
        &self,
        name: &Text,
        instances: &Instances,
        random: &mut SmallRng,
    ) -> Reply {
        if instances.all.is_empty() {
            return self.missing();
        }
        let ttl = match &instances.ran {
            None => self.settings.service_ttl.of(name),
            Some((_, Some(ttl))) => *ttl,
            Some((service, None)) => self.settings.service_ttl.of(service),
        };
        match self.query.query_type {
            RecordType::SRV => {
                let (answers, extras) = self.targets(instances, ttl, random);
                self.some(answers, extras)
            }
            _ => self.some(self.addresses(instances, ttl, random), Vec::new()),
        }
    }

    fn addresses(&self, instances: &Instances, ttl: u32, random: &mut SmallRng) -> Vec<Record> {
        let (kind, name) = (self.query.query_type, &self.query.name);
        let most = self.addresses_max();
        let (mut answers, mut host, mut seen) = (Vec::new(), None, BTreeSet::new());
        for instance in in_order(instances, random) {
            if answers.len() >= most {
                break;
            }
            let Some(address) = self.place_of(instance).of_kind(kind) else { continue };
            match &address {
                Address::Ip(ip) if !instances.distinct && !seen.insert(*ip) => {}
                Address::Ip(_) => answers.push(record(name.clone(), ttl, &address)),
                // There can be one other name only, and nothing beside it.
                Address::Host(_) => host = host.or(Some(address)),
            }
        }
        if answers.is_empty() {
            answers.extend(host.map(|host| record(name.clone(), ttl, &host)));
        }
        answers
    }

    /// Returns how many addresses are worth choosing, which is at most as many as the client takes.
    fn addresses_max(&self) -> usize {
        let len = match self.query.query_type {
            RecordType::AAAA => 16,
            _ => 4,
        };
        let room = self.room / (POINTER_LEN + RECORD_LEN_MIN + len);
        let limit = match self.settings.a_record_limit {
            0 => ADDRESSES_MAX,
            limit => limit.min(ADDRESSES_MAX),
        };
        // One more than fit, so that it is seen that some are left out.
        limit.min(room + 1)
    }

    /// Returns where an instance is. One that is said to be where this question asks for is on its
    /// node.
    fn place_of<'i>(&self, instance: &'i Instance) -> &'i At {
        match &instance.own {
            Some(At { first: Some(Address::Host(host)), .. }) if *host == self.query.name => {
                &instance.node.at
            }
            Some(own) => own,
            None => &instance.node.at,
        }
    }

    fn targets(
        &self,
        instances: &Instances,
        ttl: u32,
        random: &mut SmallRng,
    ) -> (Vec<Record>, Vec<(usize, Record)>) {
        let names = Names::new(self);
        let least = POINTER_LEN + RECORD_LEN_MIN + 6 + POINTER_LEN;
        let most = TARGETS_MAX.min(self.room / least + 1);
        let (mut answers, mut extras) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        let (mut seen_targets, mut seen_nodes) = (BTreeSet::new(), BTreeSet::new());
        for instance in in_order(instances, random) {
            if answers.len() >= most {
                break;
            }
            let Some((target, at)) = names.target(self, instance) else { continue };
            if !seen.insert((target.clone(), instance.port)) {
                continue;
            }
            let number = answers.len();
            if let Some(address) = at
                && seen_targets.insert(target.clone())
            {
                extras.push((number, record(target.clone(), ttl, address)));
            }
            let node = names.node(&instance.node);
            if let Some(node) = node.filter(|_| self.settings.node_meta_txt)
                && !instance.node.texts.is_empty()
                && seen_nodes.insert(node.clone())
            {
                let texts = instance.node.texts.iter().cloned().map(RData::TXT);
                let texts = texts.map(|text| Record::from_rdata(node.clone(), ttl, text));
                extras.extend(texts.map(|text| (number, text)));
            }
            let data = SRV::new(PRIORITY, instance.weight, instance.port, target);
            answers.push(Record::from_rdata(self.query.name.clone(), ttl, RData::SRV(data)));
        }
        (answers, extras)
    }

    /// About the zone itself, which the servers answer for.
    pub(super) fn zone(&self, servers: &Instances, random: &mut SmallRng) -> Reply {
        let names = Names::new(self);
        let ttl = seconds(self.settings.node_ttl);
        let (mut named, mut extras, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for server in in_order(servers, random) {
            if named.len() >= SERVERS_MAX {
                break;
            }
            let Some(name) = names.node(&server.node).filter(is_host_name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(address) = &server.at().first {
                extras.push((named.len(), record(name.clone(), ttl, address)));
            }
            let zone = self.zone.name().clone();
            named.push(Record::from_rdata(zone, ttl, RData::NS(NS(name))));
        }
        if self.query.query_type == RecordType::NS {
            return self.some(named, extras);
        }
        let extras = extras.into_iter().map(|(_, record)| (0, record)).collect();
        Reply { authorities: named, ..Reply::with(vec![self.soa()], extras) }
    }

    /// About who has an address: nodes, or else services.
    pub(super) fn owners(&self, residents: &Residents) -> Reply {
        let (label, names) = match residents.nodes.is_empty() {
            false => ("node", &residents.nodes),
            true => ("service", &residents.services),
        };
        let place = below(self.zone.name(), self.dc.as_str()).and_then(|dc| below(&dc, label));
        let Some(place) = place.filter(|_| !names.is_empty()) else { return self.missing() };
        let name = &self.query.name;
        let owners = names.iter().filter_map(|owner| owner.clone().append_domain(&place).ok());
        let owners = owners.map(|owner| RData::PTR(PTR(owner)));
        self.some(owners.map(|data| Record::from_rdata(name.clone(), 0, data)).collect(), vec![])
    }

    fn soa(&self) -> Record {
        let zone = self.zone.name();
        let below = |label: &str| below(zone, label).unwrap_or_else(|| zone.clone());
        let soa = self.settings.soa;
        let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let data = SOA::new(
            below("ns"),
            below("hostmaster"),
            self.now,
            signed(soa.refresh),
            signed(soa.retry),
            signed(soa.expire),
            soa.min_ttl,
        );
        Record::from_rdata(zone.clone(), soa.min_ttl, RData::SOA(data))
    }
}

/// Chooses among instances.
fn in_order<'i>(
    instances: &'i Instances,
    random: &mut SmallRng,
) -> impl Iterator<Item = &'i Instance> {
    let weights = instances.all.iter().map(|instance| instance.weight);
    Order::new(weights, instances.even, random).filter_map(|number| instances.all.get(number))
}

/// The names that lead to the nodes and addresses of a datacenter.
struct Names<'a> {
    zone: &'a Name,
    nodes: Option<Name>,
    addresses: Option<Name>,
}

impl<'a> Names<'a> {
    fn new(scene: &Scene<'a>) -> Self {
        let zone = scene.zone.name();
        let dc = below(zone, scene.dc.as_str());
        let within = |label| dc.as_ref().and_then(|dc| below(dc, label));
        Self { zone, nodes: within("node"), addresses: within("addr") }
    }

    fn node(&self, node: &Node) -> Option<Name> {
        node.name.clone()?.append_domain(self.nodes.as_ref()?).ok()
    }

    /// Returns the name of the node of an instance, which may be in another datacenter than the one that was asked.
    fn node_of(&self, instance: &Instance) -> Option<Name> {
        let Some(dc) = &instance.dc else { return self.node(&instance.node) };
        let nodes = below(&below(self.zone, dc.as_str())?, "node")?;
        instance.node.name.clone()?.append_domain(&nodes).ok()
    }

    fn address(&self, address: IpAddr) -> Option<Name> {
        let hex = match address {
            IpAddr::V4(ip) => format!("{:08x}", ip.to_bits()),
            IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        };
        below(self.addresses.as_ref()?, &hex)
    }

    /// Returns the name of what serves, and the address that is to be told beside it.
    fn target<'i>(
        &self,
        scene: &Scene<'_>,
        instance: &'i Instance,
    ) -> Option<(Name, Option<&'i Address>)> {
        let at = scene.place_of(instance);
        let of_node = std::ptr::eq(at, &instance.node.at);
        if of_node && let Some(name) = self.node_of(instance) {
            return Some((name, at.first.as_ref()));
        }
        match at.first.as_ref()? {
            address @ Address::Ip(ip) => Some((self.address(*ip)?, Some(address))),
            Address::Host(name) => Some((name.clone(), None)),
        }
    }
}

/// Puts a label before a name; `None` when that is too long for one.
fn below(name: &Name, label: &str) -> Option<Name> {
    name.prepend_label(label.as_bytes()).ok()
}

/// Tells whether a name is one of a host (RFC 952).
fn is_host_name(name: &Name) -> bool {
    name.iter().flatten().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn record(name: Name, ttl: u32, address: &Address) -> Record {
    let data = match address {
        Address::Ip(IpAddr::V4(ip)) => RData::A(A(*ip)),
        Address::Ip(IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
        Address::Host(host) => RData::CNAME(CNAME(host.clone())),
    };
    Record::from_rdata(name, ttl, data)
}

#[cfg(test)]
mod tests;
