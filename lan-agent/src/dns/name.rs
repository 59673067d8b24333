//! What a name asks for: a function of the name, the type of the question and the zones.
//!
//! ```text
//! NODE.node[.DC].ZONE                    the address of a node
//! [TAG.]SERVICE.service[.DC].ZONE        the instances of a service
//! _SERVICE._TAG[.service][.DC].ZONE      the same as RFC 2782 has it; _tcp and _udp are no tags
//! QUERY.query[.DC].ZONE                  what a prepared query finds
//! HEX.addr[.DC].ZONE                     the address that the name itself spells
//! D.C.B.A.in-addr.arpa, ...ip6.arpa      who has an address
//! ```
//!
//! `.DC` may be written `.DC.dc`, too. Names of nodes and tags may have dots. Capitals don't
//! matter: what comes out is in small letters, so that equal questions look equal to all caches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};
use topology::Datacenter;

use super::settings::{Settings, Zone};
use crate::catalog::Text;

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Something in one of the zones.
    Here(&'a Zone, What),
    /// Who has an address.
    Owner(IpAddr),
    /// A name of somebody else.
    Elsewhere,
}

/// What is asked for in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A node, in a datacenter or the own one.
    Node(Text, Option<Datacenter>),
    /// The instances of a service.
    Service(Service),
    /// What a prepared query finds, in a datacenter or the own one.
    Query(Text, Option<Datacenter>),
    /// An address that is spelled in the name.
    Address(IpAddr),
    /// What no name can stand for.
    Nothing,
}

/// The instances of a service that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: Text,
    pub(super) tag: Option<Text>,
    /// `None` for the own one.
    pub(super) dc: Option<Datacenter>,
}

/// Finds out what is asked for.
pub(super) fn parse<'a>(name: &Name, kind: RecordType, settings: &'a Settings) -> Asked<'a> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let zones = [Some(&settings.domain), settings.alt_domain.as_ref()];
    // The longest fits best, as one may be within the other.
    let zone = zones
        .into_iter()
        .flatten()
        .filter(|zone| ends_with(&labels, zone.name()))
        .max_by_key(|zone| zone.name().num_labels());
    if let Some(zone) = zone {
        let own = labels.len() - zone.name().iter().len();
        return Asked::Here(zone, what(&labels[..own], kind).unwrap_or(What::Nothing));
    }
    match owner(&labels) {
        Some(addr) if matches!(kind, RecordType::PTR | RecordType::ANY) => Asked::Owner(addr),
        _ => Asked::Elsewhere,
    }
}

fn ends_with(labels: &[&[u8]], zone: &Name) -> bool {
    let zone = zone.iter();
    let Some(before) = labels.len().checked_sub(zone.len()) else { return false };
    labels[before..].iter().zip(zone).all(|(label, wanted)| label.eq_ignore_ascii_case(wanted))
}

/// The word that says what kind of thing a name stands for.
enum Kind {
    Node,
    Service,
    Address,
    Query,
    /// What Consul has for its mesh; no name is there.
    Other,
}

impl Kind {
    fn of(label: &[u8]) -> Option<Self> {
        let words: [(&[u8], Kind); 7] = [
            (b"node", Kind::Node),
            (b"service", Kind::Service),
            (b"addr", Kind::Address),
            (b"connect", Kind::Other),
            (b"ingress", Kind::Other),
            (b"virtual", Kind::Other),
            (b"query", Kind::Query),
        ];
        words.into_iter().find(|(word, _)| label.eq_ignore_ascii_case(word)).map(|(_, kind)| kind)
    }
}

/// Reads what is before the zone; `None` for what can't be.
fn what(labels: &[&[u8]], kind: RecordType) -> Option<What> {
    // The last such word counts: what is before it may be named like one.
    let found = labels.iter().rposition(|label| {
        Kind::of(label).is_some() || (kind == RecordType::SRV && label.starts_with(b"_"))
    })?;
    let (before, after) = match Kind::of(labels[found]) {
        Some(_) => (&labels[..found], &labels[found + 1..]),
        // `_web._tcp.consul`: RFC 2782 without the word.
        None => (&labels[..=found], &labels[found + 1..]),
    };
    let dc = datacenter(after)?;
    match Kind::of(labels[found]).unwrap_or(Kind::Service) {
        Kind::Node => Some(What::Node(joined(before)?, dc)),
        Kind::Service => service(before, dc).map(What::Service),
        Kind::Query => Some(What::Query(joined(before)?, dc)),
        Kind::Address => match before {
            [hex] => spelled(hex).map(What::Address),
            _ => None,
        },
        Kind::Other => None,
    }
}

/// Reads what is between the word and the zone; `None` for what is no datacenter.
fn datacenter(labels: &[&[u8]]) -> Option<Option<Datacenter>> {
    let name = match labels {
        [] => return Some(None),
        [name] => name,
        [name, word] if word.eq_ignore_ascii_case(b"dc") => name,
        _ => return None,
    };
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    Datacenter::new(&name).ok().map(Some)
}

fn service(labels: &[&[u8]], dc: Option<Datacenter>) -> Option<Service> {
    if let [b"_", ..] | [_, b"_"] = labels {
        return None;
    }
    if let [[b'_', name @ ..], [b'_', tag @ ..]] = labels {
        let protocol = [b"tcp", b"udp"].iter().any(|it| tag.eq_ignore_ascii_case(*it));
        let tag = if protocol { None } else { Some(joined(&[tag])?) };
        return Some(Service { name: joined(&[name])?, tag, dc });
    }
    let (name, tag) = labels.split_last()?;
    let tag = if tag.is_empty() { None } else { Some(joined(tag)?) };
    Some(Service { name: joined(&[name])?, tag, dc })
}

/// Writes labels with dots between them; `None` for none, and for what is no text.
fn joined(labels: &[&[u8]]) -> Option<Text> {
    if labels.is_empty() {
        return None;
    }
    if let [one] = labels {
        let text = std::str::from_utf8(one).ok()?;
        return Some(match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => text.to_ascii_lowercase().into(),
            false => text.into(),
        });
    }
    let mut bytes = labels.join(&b'.');
    bytes.make_ascii_lowercase();
    String::from_utf8(bytes).ok().map(Text::from)
}

/// Reads an address of 8 or 32 hexadecimal digits.
fn spelled(hex: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hex).ok().filter(|text| !text.starts_with('+'))?;
    match text.len() {
        8 => u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(text, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// Reads the address in a name below `arpa` (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn owner(labels: &[&[u8]]) -> Option<IpAddr> {
    let (zone, [digits @ .., kind]) = labels.split_last()? else { return None };
    if !zone.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let text = |label: &&[u8]| std::str::from_utf8(label).ok().map(str::to_owned);
    let digits: Option<Vec<String>> = digits.iter().rev().map(text).collect();
    let digits = digits?;
    if kind.eq_ignore_ascii_case(b"in-addr") && digits.len() == 4 {
        return digits.join(".").parse().ok().map(IpAddr::V4);
    }
    let hex = |digit: &String| digit.len() == 1 && digit.as_bytes()[0].is_ascii_hexdigit();
    if kind.eq_ignore_ascii_case(b"ip6") && digits.len() == 32 && digits.iter().all(hex) {
        let bits = u128::from_str_radix(&digits.concat(), 16).ok()?;
        return Some(Ipv6Addr::from_bits(bits).into());
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> Settings {
        Settings { alt_domain: Some("sd.example.com".parse().unwrap()), ..Settings::default() }
    }

    /// Writes what a name asks for in one line.
    fn shown(text: &str, kind: RecordType) -> String {
        let settings = settings();
        let name = Name::from_labels(text.split('.').map(str::as_bytes)).unwrap();
        let dc = |dc: Option<Datacenter>| dc.map_or(String::new(), |dc| format!(" in {dc}"));
        match parse(&name, kind, &settings) {
            Asked::Here(_, What::Node(node, at)) => format!("node {node}{}", dc(at)),
            Asked::Here(_, What::Service(Service { name, tag, dc: at })) => {
                let tag = tag.map_or(String::new(), |tag| format!(" with {tag}"));
                format!("service {name}{tag}{}", dc(at))
            }
            Asked::Here(_, What::Query(name, at)) => format!("query {name}{}", dc(at)),
            Asked::Here(_, What::Address(addr)) => format!("address {addr}"),
            Asked::Here(_, What::Nothing) => "nothing".to_owned(),
            Asked::Owner(addr) => format!("owner of {addr}"),
            Asked::Elsewhere => "elsewhere".to_owned(),
        }
    }

    #[test]
    fn each_form_is_known() {
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        let table = [
            ("n1.node.consul", "node n1"),
            ("N1.Node.CONSUL", "node n1"),
            ("n1.node.dc2.consul", "node n1 in dc2"),
            ("n1.node.DC2.dc.consul", "node n1 in dc2"),
            ("n1.rack2.node.consul", "node n1.rack2"),
            ("n1.node.sd.example.com", "node n1"),
            ("node.node.consul", "node node"),
            ("web.service.consul", "service web"),
            ("web.service.dc2.consul", "service web in dc2"),
            ("v1.web.service.consul", "service web with v1"),
            ("v1.2.web.service.dc2.consul", "service web with v1.2 in dc2"),
            ("_web._tcp.service.consul", "service web"),
            ("_web._UDP.service.consul", "service web"),
            ("_web._v1.service.dc2.consul", "service web with v1 in dc2"),
            ("service.service.consul", "service service"),
            ("node.service.consul", "service node"),
            ("0a090001.addr.consul", "address 10.9.0.1"),
            ("0A090001.addr.dc2.consul", "address 10.9.0.1"),
            ("fd000000000000000000000000000005.addr.consul", "address fd00::5"),
            ("consul", "nothing"),
            ("web.consul", "nothing"),
            ("service.consul", "nothing"),
            ("node.consul", "nothing"),
            ("zz.addr.consul", "nothing"),
            ("+a090001.addr.consul", "nothing"),
            ("x.0a090001.addr.consul", "nothing"),
            ("web.service.dc2.more.consul", "nothing"),
            ("web.service.b@d.consul", "nothing"),
            ("web.connect.consul", "nothing"),
            ("web.query.consul", "query web"),
            ("a.Web.query.dc2.dc.consul", "query a.web in dc2"),
            ("query.consul", "nothing"),
            ("_._tcp.service.consul", "nothing"),
            ("1.0.9.10.in-addr.arpa", "elsewhere"),
            ("example.com", "elsewhere"),
            ("notconsul", "elsewhere"),
        ];
        for (name, expected) in table {
            assert_eq!(shown(name, RecordType::A), expected, "{name}");
        }
        let table = [
            ("1.0.9.10.IN-ADDR.arpa", "owner of 10.9.0.1"),
            (v6, "owner of 2001:db8::1"),
            ("9.10.in-addr.arpa", "elsewhere"),
            ("300.0.9.10.in-addr.arpa", "elsewhere"),
            ("arpa", "elsewhere"),
        ];
        for (name, expected) in table {
            assert_eq!(shown(name, RecordType::PTR), expected, "{name}");
        }
    }

    #[test]
    fn only_srv_may_leave_the_word_out() {
        let table = [
            ("_web._tcp.consul", "service web"),
            ("_web._v1.dc2.consul", "service web with v1 in dc2"),
        ];
        for (name, expected) in table {
            assert_eq!(shown(name, RecordType::SRV), expected, "{name}");
            assert_eq!(shown(name, RecordType::A), "nothing", "{name}");
        }
    }

    #[test]
    fn the_longer_of_two_zones_fits_better() {
        let mut settings = settings();
        settings.alt_domain = Some("eu.consul".parse().unwrap());
        let name = Name::from_labels(["web", "service", "eu", "consul"]).unwrap();
        let Asked::Here(zone, what) = parse(&name, RecordType::A, &settings) else { panic!() };
        assert_eq!(format!("{zone:?}"), "eu.consul.");
        let name = "web".into();
        assert_eq!(what, What::Service(Service { name, tag: None, dc: None }));
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_panic(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 0..8),
            word in prop::sample::select(vec!["node", "service", "addr", "_x", "dc"]),
        ) {
            let tail = [word.as_bytes(), b"consul"];
            let labels = labels.iter().map(Vec::as_slice).chain(tail);
            let name = Name::from_labels(labels).unwrap();
            for kind in [RecordType::A, RecordType::SRV, RecordType::PTR] {
                parse(&name, kind, &settings());
            }
        }
    }
}
