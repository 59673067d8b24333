//! The catalog's records as answers need them: addresses parsed, the dead left out, weights chosen.
//!
//! This is done once for each body that the servers send, see [`super::kept`]; making an answer of
//! it is choosing and copying.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hickory_proto::rr::{Name, RecordType, rdata::TXT};
use serde::Deserialize;
use topology::Datacenter;

use crate::{
    ask::AskError,
    catalog::{self, Health, Inventory, Ran, Subject, Text, Texts},
};

/// Longest text within a TXT record; a longer value is several (RFC 1035, section 3.3).
const TEXT_LEN_MAX: usize = 255;

/// What the keys of meta start with whose values are shown bare.
const BARE: &str = "rfc1035-";

/// What a lookup found.
#[derive(Debug)]
pub(super) enum Found {
    /// A node, if there is one of that name.
    Node(Option<Node>),
    /// The instances of a service that serve.
    Instances(Instances),
    /// What is at an address.
    Residents(Residents),
}

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    /// Its name as labels, to be put before a zone; `None` for what no name in DNS can be.
    pub(super) name: Option<Name>,
    pub(super) at: At,
    pub(super) texts: Vec<TXT>,
}

/// The instances of a service that serve.
#[derive(Debug, Default)]
pub(super) struct Instances {
    pub(super) all: Vec<Instance>,
    /// Whether all weigh the same.
    pub(super) even: bool,
    /// Whether no two have the same address.
    pub(super) distinct: bool,
    /// What they are instances of and how long that may be kept, if whoever asked for them did not name the service.
    pub(super) ran: Option<(Text, Option<u32>)>,
}

/// What is at an address: names as labels, to be put before a zone.
#[derive(Debug, Default)]
pub(super) struct Residents {
    pub(super) nodes: Vec<Name>,
    pub(super) services: Vec<Name>,
}

impl Residents {
    fn new(found: &catalog::Residents) -> Self {
        let names = |texts: &[Text]| texts.iter().filter_map(|text| host(text)).collect();
        Self { nodes: names(&found.nodes), services: names(&found.services) }
    }
}

/// An instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) node: Node,
    /// Its datacenter; `None` for the one that was asked.
    pub(super) dc: Option<Datacenter>,
    /// Its own address; `None` for its node's.
    pub(super) own: Option<At>,
    pub(super) port: u16,
    /// By what its checks say.
    pub(super) weight: u16,
}

/// Where something is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// As it was registered; `None` for what is no address.
    pub(super) first: Option<Address>,
    /// For those who want this kind.
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// An address or a host's name instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    Ip(IpAddr),
    Host(Name),
}

impl Found {
    /// Reads the body of an answer about a subject.
    pub(super) fn read(subject: &Subject, body: &[u8]) -> Result<Self, AskError> {
        match subject {
            Subject::Health { .. } => {
                let rows: Vec<catalog::Instance> = decode(body)?;
                Ok(Found::Instances(Instances::new(&rows)))
            }
            Subject::Query(_) if body.is_empty() => Ok(Found::Instances(Instances::default())),
            Subject::Query(_) => {
                let Ran { service, ttl, instances } = decode(body)?;
                let ran = Some((service, ttl));
                Ok(Found::Instances(Instances { ran, ..Instances::new(&instances) }))
            }
            Subject::Address(_) => Ok(Found::Residents(Residents::new(&decode(body)?))),
            _ => {
                let inventory: Option<Inventory> = decode(body)?;
                Ok(Found::Node(inventory.map(|found| Node::new(&found.node))))
            }
        }
    }
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, AskError> {
    rmp_serde::from_slice(body)
        .map_err(|error| AskError::Failed(format!("the records can't be read: {error}")))
}

impl Node {
    fn new(node: &catalog::Node) -> Self {
        let tagged = |tag| node.tagged_addresses.get(tag);
        Self {
            name: host(&node.name),
            at: At::new(&node.address, tagged("lan_ipv4"), tagged("lan_ipv6")),
            texts: texts(&node.meta),
        }
    }
}

impl Instances {
    fn new(rows: &[catalog::Instance]) -> Self {
        let all: Vec<Instance> = rows.iter().filter_map(Instance::new).collect();
        let even = all.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let places = || all.iter().map(Instance::at);
        let distinct = distinct(places().map(|at| &at.first))
            && distinct(places().filter_map(|at| at.v4))
            && distinct(places().filter_map(|at| at.v6));
        Self { all, even, distinct, ran: None }
    }
}

impl Instance {
    /// Returns `None` for one that does not serve.
    fn new(row: &catalog::Instance) -> Option<Self> {
        let worst = row.checks.iter().map(|check| check.status).max().unwrap_or(Health::Passing);
        let service = &row.service;
        let weight = match worst {
            Health::Passing => service.weights.passing,
            Health::Warning => service.weights.warning,
            Health::Critical => return None,
        };
        let tagged = |tag| service.tagged_addresses.get(tag).map(|at| &at.address);
        let at = || At::new(&service.address, tagged("lan_ipv4"), tagged("lan_ipv6"));
        Some(Self {
            node: Node::new(&row.node),
            dc: row.dc.clone(),
            own: (!service.address.is_empty()).then(at),
            port: service.port,
            weight,
        })
    }

    /// Returns where it is.
    pub(super) fn at(&self) -> &At {
        self.own.as_ref().unwrap_or(&self.node.at)
    }
}

impl At {
    fn new(address: &Text, v4: Option<&Text>, v6: Option<&Text>) -> Self {
        let first = match address.parse() {
            Ok(ip) => Some(Address::Ip(ip)),
            Err(_) => host(address).map(Address::Host),
        };
        let (mut only_v4, mut only_v6) = (parsed(v4), parsed(v6));
        match first {
            Some(Address::Ip(IpAddr::V4(ip))) => only_v4 = Some(ip),
            Some(Address::Ip(IpAddr::V6(ip))) => only_v6 = Some(ip),
            Some(Address::Host(_)) | None => {}
        }
        Self { first, v4: only_v4, v6: only_v6 }
    }

    /// Returns the address for those who ask for a type of records.
    pub(super) fn of_kind(&self, kind: RecordType) -> Option<Address> {
        let only = match kind {
            RecordType::A => self.v4.map(IpAddr::V4),
            RecordType::AAAA => self.v6.map(IpAddr::V6),
            RecordType::ANY => return self.first.clone(),
            _ => None,
        };
        let host = || self.first.clone().filter(|first| matches!(first, Address::Host(_)));
        let wants_host = matches!(kind, RecordType::A | RecordType::AAAA | RecordType::CNAME);
        only.map(Address::Ip).or_else(|| host().filter(|_| wants_host))
    }
}

fn distinct<T: Ord>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.all(|item| seen.insert(item))
}

fn parsed<T: std::str::FromStr>(text: Option<&Text>) -> Option<T> {
    text?.parse().ok()
}

/// Reads a name with or without a last dot.
fn host(text: &str) -> Option<Name> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    Name::from_labels(labels.map(str::as_bytes)).ok()
}

/// Writes meta as TXT records do (RFC 1464).
fn texts(meta: &Texts) -> Vec<TXT> {
    let text = |(key, value): (&Text, &Text)| {
        let bare = key.get(..BARE.len()).is_some_and(|start| start.eq_ignore_ascii_case(BARE));
        let text = if bare { value.to_string() } else { format!("{}={value}", quoted(key)) };
        let parts: Vec<&[u8]> = match text.is_empty() {
            true => vec![b""],
            false => text.as_bytes().chunks(TEXT_LEN_MAX).collect(),
        };
        TXT::from_bytes(parts)
    };
    meta.iter().map(text).collect()
}

/// Quotes what would end a key too early.
fn quoted(key: &str) -> String {
    key.replace('`', "``").replace('=', "`=")
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{Check, Service, Weights};

    /// A node `n1` at an address.
    pub(in crate::dns) fn node(name: &str, address: &str) -> catalog::Node {
        catalog::Node { name: name.into(), address: address.into(), ..Default::default() }
    }

    /// A service at an address and a port.
    pub(in crate::dns) fn service(address: &str, port: u16) -> Service {
        Service { name: "web".into(), address: address.into(), port, ..Default::default() }
    }

    /// An instance whose checks say these.
    pub(in crate::dns) fn row(
        node: catalog::Node,
        service: Service,
        checks: &[Health],
    ) -> catalog::Instance {
        let check = |status: &Health| Arc::new(Check { status: *status, ..Default::default() });
        catalog::Instance {
            node: Arc::new(node),
            service: Arc::new(service),
            checks: checks.iter().map(check).collect(),
            dc: None,
        }
    }

    /// What the servers' answer is read as.
    pub(in crate::dns) fn read(rows: &[catalog::Instance]) -> Instances {
        let subject = Subject::Health { service: "web".into(), passing: false };
        match Found::read(&subject, &rmp_serde::to_vec_named(rows).unwrap()).unwrap() {
            Found::Instances(instances) => instances,
            other => panic!("{other:?}"),
        }
    }

    /// What the servers' answer about a node is read as.
    pub(in crate::dns) fn read_node(node: catalog::Node) -> Node {
        Node::new(&node)
    }

    /// What the servers' answer about an address is read as.
    pub(in crate::dns) fn residents(nodes: &[&str], services: &[&str]) -> Residents {
        let texts = |texts: &[&str]| texts.iter().map(|text| Text::from(*text)).collect();
        Residents::new(&catalog::Residents { nodes: texts(nodes), services: texts(services) })
    }

    #[test]
    fn the_critical_are_out_and_the_warning_have_their_own_weight() {
        let weights = Weights { passing: 5, warning: 2 };
        let weighty = || Service { weights, ..service("10.0.0.1", 1) };
        let n1 = || node("n1", "10.0.0.9");
        let [p, w, c] = [Health::Passing, Health::Warning, Health::Critical];
        let rows = [[p, p], [p, w], [w, c], [c, p]].map(|checks| row(n1(), weighty(), &checks));
        let found = read(&rows);
        let weights: Vec<u16> = found.all.iter().map(|instance| instance.weight).collect();
        assert_eq!(weights, [5, 2]);
        assert!(!found.even && !found.distinct);
        let unchecked = read(&[row(n1(), weighty(), &[])]);
        assert_eq!(unchecked.all[0].weight, 5);
    }

    #[test]
    fn an_address_is_chosen_by_the_type_that_is_asked_for() {
        let v6: Text = "fd00::1".into();
        let at = At::new(&"10.0.0.1".into(), None, Some(&v6));
        let ip = |text: &str| Some(Address::Ip(text.parse().unwrap()));
        assert_eq!(at.of_kind(RecordType::A), ip("10.0.0.1"));
        assert_eq!(at.of_kind(RecordType::AAAA), ip("fd00::1"));
        assert_eq!(at.of_kind(RecordType::ANY), ip("10.0.0.1"));
        assert_eq!(at.of_kind(RecordType::TXT), None);
        let named = At::new(&"www.example.com.".into(), None, Some(&v6));
        assert!(matches!(named.of_kind(RecordType::A), Some(Address::Host(_))));
        assert_eq!(named.of_kind(RecordType::AAAA), ip("fd00::1"));
        assert_eq!(named.of_kind(RecordType::MX), None);
        assert_eq!(At::new(&"".into(), None, None).first, None);
    }

    #[test]
    fn meta_is_pairs_but_for_that_which_is_whole_records() {
        let mut meta = Texts::new();
        for (key, value) in [("env", "prod"), ("a=b", "c"), ("RFC1035-spf", "v=spf1"), ("e", "")] {
            meta.insert(key.into(), value.into());
        }
        meta.insert("long".into(), "x".repeat(300).into());
        let texts: Vec<Vec<usize>> = texts(&meta)
            .iter()
            .map(|text| text.txt_data.iter().map(|part| part.len()).collect())
            .collect();
        assert_eq!(texts, [vec![6], vec![6], vec![2], vec![8], vec![255, 50]]);
        assert_eq!(quoted("a=b`"), "a`=b``");
    }
}
