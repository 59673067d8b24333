//! Plans: a federation as it is to be, written in a TOML file.
//!
//! ```toml
//! primary = "dc1"    # writes what all share; when left out each datacenter has its own
//!
//! [[datacenter]]
//! name = "dc1"
//! servers = 3    # take part in Raft and in the WAN pool
//! clients = 1    # agents that ask the servers; none when left out
//! gateways = 2   # through which others reach the servers; directly when left out
//! ```
//!
//! A plan says what exists, not where: whoever runs it gives out addresses and certificates.
//! Reading is a function of the text. Whatever is wrong with it is an error that names the line
//! and the key, a key that nobody knows included, so that a misspelt one is not passed over.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::name::{Datacenter, NodeName};

/// The plan that runs when none is named.
pub const DEFAULT: &str = "three-dc";

/// Most datacenters of a plan: each needs a block of loopback addresses, and there are 254.
pub const DATACENTERS_MAX: usize = 32;

/// Most servers of a datacenter: more voters only slow Raft down.
pub const SERVERS_MAX: u16 = 9;

/// Most client agents of a datacenter: with the servers they share 254 loopback addresses.
pub const CLIENTS_MAX: u16 = 200;

/// Most gateways of a datacenter: as many as its servers may name.
pub const GATEWAYS_MAX: u16 = 8;

/// The plans that come with the program: name and text.
const EMBEDDED: [(&str, &str); 5] = [
    ("five-dc-gateways", include_str!("../plans/five-dc-gateways.toml")),
    ("one", include_str!("../plans/one.toml")),
    ("primary-secondary", include_str!("../plans/primary-secondary.toml")),
    ("three-dc", include_str!("../plans/three-dc.toml")),
    ("two-dc", include_str!("../plans/two-dc.toml")),
];

/// A federation as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The datacenters, in the order of the file. At least one, names unique.
    pub datacenters: Vec<Site>,
    /// The one of them that writes what all share; `None`: each has its own.
    pub primary: Option<Datacenter>,
}

/// One datacenter of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub name: Datacenter,
    /// How many servers it has: 1 to [`SERVERS_MAX`].
    pub servers: u16,
    /// How many client agents it has: at most [`CLIENTS_MAX`].
    pub clients: u16,
    /// Through how many gateways others reach its servers: at most [`GATEWAYS_MAX`]; directly if there is none.
    pub gateways: u16,
}

/// Says what is wrong with a plan, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}{reason}", .key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct PlanError {
    /// The line of the file, from 1.
    pub line: usize,
    /// The key, as in `datacenter[2].servers` (counted from 1); none when the text is not TOML.
    pub key: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Plan {
    /// Reads a plan from the text of its file.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let source = Source { text };
        let root = DeTable::parse(text).map_err(|error| PlanError {
            line: source.line(error.span().unwrap_or_default()),
            key: None,
            reason: error.message().to_owned(),
        })?;
        let root = Section { source, path: String::new(), at: root.span(), table: root.get_ref() };
        root.knows(&["datacenter", "primary"])?;
        let sections = root.sections("datacenter")?;
        if sections.len() > DATACENTERS_MAX {
            let reason = format!("{} are more than {DATACENTERS_MAX}", sections.len());
            return Err(root.error("datacenter", reason));
        }
        let mut datacenters = Vec::with_capacity(sections.len());
        let mut lines = BTreeMap::new();
        for section in &sections {
            let site = Site::parse(section)?;
            let line = section.line("name");
            if let Some(first) = lines.insert(site.name.clone(), line) {
                let reason = format!("{:?} is there already, in line {first}", site.name.as_str());
                return Err(section.error("name", reason));
            }
            datacenters.push(site);
        }
        let primary = match root.find("primary") {
            None => None,
            Some(_) => Some(primary(&root, &datacenters)?),
        };
        Ok(Self { datacenters, primary })
    }

    /// Returns the plan of that name that comes with the program.
    pub fn embedded(name: &str) -> Option<Result<Self, PlanError>> {
        EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| Self::parse(text))
    }

    /// Returns the names of the plans that come with the program.
    pub fn embedded_names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// Returns the datacenter of that name.
    pub fn site(&self, name: &Datacenter) -> Option<&Site> {
        self.datacenters.iter().find(|site| site.name == *name)
    }
}

impl Site {
    fn parse(section: &Section<'_, '_>) -> Result<Self, PlanError> {
        section.knows(&["name", "servers", "clients", "gateways"])?;
        let name = Datacenter::new(section.text("name")?)
            .map_err(|error| section.error("name", error.to_string()))?;
        let servers = section
            .count("servers", 1..=SERVERS_MAX)?
            .ok_or_else(|| section.error("servers", "is missing: say how many".to_owned()))?;
        let clients = section.count("clients", 0..=CLIENTS_MAX)?.unwrap_or(0);
        let gateways = section.count("gateways", 0..=GATEWAYS_MAX)?.unwrap_or(0);
        Ok(Self { name, servers, clients, gateways })
    }

    /// Returns the names of its servers: `server-1` and so on.
    pub fn server_names(&self) -> impl Iterator<Item = NodeName> + use<> {
        numbered("server", self.servers)
    }

    /// Returns the names of its client agents: `client-1` and so on.
    pub fn client_names(&self) -> impl Iterator<Item = NodeName> + use<> {
        numbered("client", self.clients)
    }

    /// Returns the names of its gateways: `gateway-1` and so on.
    pub fn gateway_names(&self) -> impl Iterator<Item = NodeName> + use<> {
        numbered("gateway", self.gateways)
    }
}

/// Reads the name of the primary datacenter, which has to be one of the plan's.
fn primary(root: &Section<'_, '_>, sites: &[Site]) -> Result<Datacenter, PlanError> {
    let name = root.text("primary")?;
    let site = sites.iter().find(|site| site.name.as_str() == name);
    site.map(|site| site.name.clone()).ok_or_else(|| {
        let known: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        root.error("primary", format!("no datacenter {name:?}: there is {}", known.join(", ")))
    })
}

fn numbered(role: &'static str, count: u16) -> impl Iterator<Item = NodeName> {
    (1..=count).filter_map(move |n| NodeName::new(format!("{role}-{n}")).ok())
}

/// The text of a plan, to tell lines by.
#[derive(Clone, Copy)]
struct Source<'a> {
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, span: Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A table of the file with the way to it.
struct Section<'t, 'a> {
    source: Source<'a>,
    path: String,
    at: Range<usize>,
    table: &'t DeTable<'a>,
}

impl<'t, 'a> Section<'t, 'a> {
    fn find(&self, key: &str) -> Option<&'t Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn line(&self, key: &str) -> usize {
        self.source.line(self.find(key).map_or(self.at.clone(), Spanned::span))
    }

    fn error(&self, key: &str, reason: String) -> PlanError {
        PlanError { line: self.line(key), key: Some(format!("{}{key}", self.path)), reason }
    }

    fn knows(&self, keys: &[&str]) -> Result<(), PlanError> {
        let mut unknown = self.table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref()));
        match unknown.next() {
            None => Ok(()),
            Some(key) => Err(PlanError {
                line: self.source.line(key.span()),
                key: Some(format!("{}{}", self.path, key.get_ref())),
                reason: format!("no such key: there is {}", keys.join(", ")),
            }),
        }
    }

    fn sections(&self, key: &str) -> Result<Vec<Section<'t, 'a>>, PlanError> {
        let wanted = || self.error(key, format!("write at least one [[{}{key}]]", self.path));
        let array =
            self.find(key).and_then(|value| value.get_ref().as_array()).ok_or_else(wanted)?;
        let sections = array.iter().enumerate().map(|(nth, value)| {
            Some(Section {
                source: self.source,
                path: format!("{}{key}[{}].", self.path, nth + 1),
                at: value.span(),
                table: value.get_ref().as_table()?,
            })
        });
        let sections = sections.collect::<Option<Vec<_>>>().ok_or_else(wanted)?;
        if sections.is_empty() { Err(wanted()) } else { Ok(sections) }
    }

    fn text(&self, key: &str) -> Result<&'t str, PlanError> {
        let value = self.find(key).ok_or_else(|| self.error(key, "is missing".to_owned()))?;
        let value = value.get_ref();
        value
            .as_str()
            .ok_or_else(|| self.error(key, format!("must be text, not {}", value.type_str())))
    }

    fn count(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<u16>,
    ) -> Result<Option<u16>, PlanError> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u16::from_str_radix(integer.as_str(), integer.radix()).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                Err(self.error(key, format!("must be a number from {least} to {most}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Plan::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_embedded_plan_is_valid() {
        for name in Plan::embedded_names() {
            Plan::embedded(name).unwrap().unwrap();
        }
    }

    #[test]
    fn the_default_is_three_datacenters_of_three_servers_and_a_client() {
        let plan = Plan::embedded(DEFAULT).unwrap().unwrap();
        let shape: Vec<_> = plan
            .datacenters
            .iter()
            .map(|site| (site.name.as_str(), site.servers, site.clients))
            .collect();
        assert_eq!(shape, [("dc1", 3, 1), ("dc2", 3, 1), ("dc3", 3, 1)]);
    }

    #[test]
    fn nodes_are_numbered_from_one() {
        let plan = Plan::parse("[[datacenter]]\nname = 'a'\nservers = 2\nclients = 1").unwrap();
        let site = &plan.datacenters[0];
        let names: Vec<_> = site.server_names().chain(site.client_names()).collect();
        assert_eq!(
            names.iter().map(NodeName::as_str).collect::<Vec<_>>(),
            ["server-1", "server-2", "client-1"]
        );
    }

    #[test]
    fn clients_and_gateways_may_be_left_out() {
        let plan = Plan::parse("[[datacenter]]\nname = 'a'\nservers = 1\n").unwrap();
        let site = &plan.datacenters[0];
        assert_eq!((site.clients, site.gateways), (0, 0));
    }

    #[test]
    fn errors_name_line_and_key() {
        let head = "[[datacenter]]\nname = 'dc1'\nservers = 3\n\n";
        let cases = [
            (
                "[[datacenter]]\nname = 'dc2'\nservers = 0\n",
                "line 7: datacenter[2].servers: must be a number from 1 to 9",
            ),
            (
                "[[datacenter]]\nname = 'dc2'\nservers = 'three'\n",
                "line 7: datacenter[2].servers: must be a number from 1 to 9",
            ),
            (
                "[[datacenter]]\nname = 'dc2'\n",
                "line 5: datacenter[2].servers: is missing: say how many",
            ),
            (
                "[[datacenter]]\nname = 'dc1'\nservers = 3\n",
                "line 6: datacenter[2].name: \"dc1\" is there already, in line 2",
            ),
            (
                "[[datacenter]]\nname = 'dc2'\nserver = 3\n",
                "line 7: datacenter[2].server: no such key: there is name, servers, clients, gateways",
            ),
            (
                "[[datacenter]]\nname = 7\nservers = 3\n",
                "line 6: datacenter[2].name: must be text, not integer",
            ),
            (
                "[[datacentre]]\nname = 'x'\n",
                "line 5: datacentre: no such key: there is datacenter, primary",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(refused(&format!("{head}{text}")), error);
        }
    }

    #[test]
    fn the_primary_datacenter_is_one_of_the_plan() {
        let rest =
            "[[datacenter]]\nname = 'a'\nservers = 1\n[[datacenter]]\nname = 'b'\nservers = 1\n";
        let plan = Plan::parse(&format!("primary = 'b'\n{rest}")).unwrap();
        assert_eq!(plan.primary, Some(plan.datacenters[1].name.clone()));
        assert_eq!(Plan::parse(rest).unwrap().primary, None);
        let error = refused(&format!("\nprimary = 'c'\n{rest}"));
        assert_eq!(error, "line 2: primary: no datacenter \"c\": there is a, b");
        assert_eq!(
            refused(&format!("primary = 3\n{rest}")),
            "line 1: primary: must be text, not integer"
        );
    }

    #[test]
    fn text_that_is_not_toml_is_refused_with_its_line() {
        assert!(refused("[[datacenter]]\nname = \n").starts_with("line 2: "));
    }

    #[test]
    fn a_plan_has_a_datacenter() {
        assert_eq!(refused(""), "line 1: datacenter: write at least one [[datacenter]]");
        assert_eq!(
            refused("datacenter = []"),
            "line 1: datacenter: write at least one [[datacenter]]"
        );
        assert_eq!(
            refused("datacenter = 3"),
            "line 1: datacenter: write at least one [[datacenter]]"
        );
    }

    #[test]
    fn a_plan_has_no_more_datacenters_than_its_bound() {
        let text: String = (0..=DATACENTERS_MAX)
            .map(|n| format!("[[datacenter]]\nname = 'dc{n}'\nservers = 1\n"))
            .collect();
        assert!(refused(&text).contains("are more than 32"));
    }
}
