//! What the catalog holds of nodes, services and checks, as agents and servers speak of it.
//!
//! ```text
//! node ──┬── service ──── checks of the service
//!        └── checks of the node
//! ```
//!
//! These are values: an agent makes them of definitions, a registration carries them to the
//! servers, the replicated state keeps them behind `Arc`s, and answers show them. Where they
//! travel or rest they are named maps (MessagePack) with short names, in which unknown fields are
//! ignored and missing ones have their default. How Consul shows them in JSON is the business of
//! the interfaces.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use topology::Datacenter;

/// A text that many records share: a name, a tag, an address.
pub type Text = Arc<str>;

/// Names to texts: `Meta`, `TaggedAddresses` of nodes.
pub type Texts = BTreeMap<Text, Text>;

/// The check that says whether a node's agent is alive, kept by the leader.
pub const SERF_HEALTH: &str = "serfHealth";

/// The check that takes a whole node out of answers.
pub const NODE_MAINTENANCE: &str = "_node_maintenance";

/// What the check that takes a service out of answers starts with; the service's id follows.
pub const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// The service that stands for the servers themselves.
pub const SERVERS: &str = "consul";

/// The tag of the address that counts in other datacenters.
pub const WAN: &str = "wan";

/// What a check says, from best to worst.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Passing,
    /// Something is wrong; the instance still serves.
    Warning,
    /// It does not serve. What nobody has checked yet is critical.
    #[default]
    Critical,
}

impl Health {
    /// Returns the name that Consul has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Passing => "passing",
            Health::Warning => "warning",
            Health::Critical => "critical",
        }
    }

    /// Reads Consul's name; `None` for anything else.
    pub fn from_name(name: &str) -> Option<Self> {
        [Health::Passing, Health::Warning, Health::Critical]
            .into_iter()
            .find(|health| health.as_str() == name)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A machine, or what was registered as one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Node {
    /// Its name, unique in the datacenter whatever the capitals.
    #[serde(rename = "n")]
    pub name: Text,
    /// Its UUID; empty for nodes without an agent that were registered without one.
    #[serde(rename = "id", default, skip_serializing_if = "is_empty")]
    pub id: Text,
    /// An IP address or a host name.
    #[serde(rename = "a", default)]
    pub address: Text,
    /// Its addresses by how one comes to it: `lan`, `wan`, `lan_ipv4` ...
    #[serde(rename = "ta", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: Texts,
    /// What its operator says of it.
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: Texts,
}

/// An instance of a service on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Its id, unique on its node.
    #[serde(rename = "id")]
    pub id: Text,
    /// The service that it is an instance of.
    #[serde(rename = "n")]
    pub name: Text,
    /// Empty for an ordinary service; Consul's name of the kind for others (`connect-proxy` ...).
    #[serde(rename = "k", default, skip_serializing_if = "is_empty")]
    pub kind: Text,
    /// Where it serves: an IP address or a host name; empty for its node's address.
    #[serde(rename = "a", default, skip_serializing_if = "is_empty")]
    pub address: Text,
    /// Its addresses by how one comes to it.
    #[serde(rename = "ta", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<Text, ServiceAddress>,
    /// Where it serves; 0 when it has no port.
    #[serde(rename = "p", default)]
    pub port: u16,
    /// In the order given.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Text>,
    /// What its owner says of it.
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: Texts,
    /// How often DNS chooses it.
    #[serde(rename = "w", default)]
    pub weights: Weights,
    /// Whether anti-entropy leaves tags that others set in the catalog alone.
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub enable_tag_override: bool,
}

/// Where a service is found by one of its tagged addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// An IP address or a host name.
    #[serde(rename = "a", default)]
    pub address: Text,
    /// The port.
    #[serde(rename = "p", default)]
    pub port: u16,
}

/// How often DNS chooses an instance, in relation to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// While it is passing; at least 1.
    #[serde(rename = "p")]
    pub passing: u16,
    /// While it is warning.
    #[serde(rename = "w")]
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// What somebody found out about a node or one of its services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Check {
    /// Its id, unique on its node.
    #[serde(rename = "id")]
    pub id: Text,
    /// For people.
    #[serde(rename = "n", default)]
    pub name: Text,
    /// What it says now.
    #[serde(rename = "s", default)]
    pub status: Health,
    /// What its owner says of it.
    #[serde(rename = "no", default, skip_serializing_if = "is_empty")]
    pub notes: Text,
    /// What the last run printed.
    #[serde(rename = "out", default, skip_serializing_if = "is_empty")]
    pub output: Text,
    /// The service that it is about; empty for a check of the node.
    #[serde(rename = "sid", default, skip_serializing_if = "is_empty")]
    pub service_id: Text,
    /// The name of that service; the catalog fills it in.
    #[serde(rename = "sn", default, skip_serializing_if = "is_empty")]
    pub service_name: Text,
    /// How it finds out: `ttl`, `http`, `tcp` ...; empty for those that others report.
    #[serde(rename = "k", default, skip_serializing_if = "is_empty")]
    pub kind: Text,
    /// What was registered of its definition by those who use the catalog directly, as JSON;
    /// empty for `{}`.
    #[serde(rename = "d", default, skip_serializing_if = "is_empty")]
    pub definition: Text,
}

/// What a node, or somebody for it, says to the catalog: all of it or nothing is taken in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registration {
    /// The node.
    #[serde(rename = "n")]
    pub node: Node,
    /// Whether a node that is there already keeps its address, addresses and meta.
    #[serde(rename = "skip", default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_node_update: bool,
    /// An instance on it.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Checks of the node or of its services.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

impl Node {
    /// Returns how many bytes of text it holds.
    pub fn text_len(&self) -> usize {
        let Node { name, id, address, tagged_addresses, meta } = self;
        sum([name, id, address]) + texts_len(tagged_addresses) + texts_len(meta)
    }

    /// Returns it with the address that counts where it is seen from: over the WAN that of the WAN,
    /// if it has one.
    pub fn seen(&self, wan: bool) -> Cow<'_, Node> {
        match self.tagged_addresses.get(WAN) {
            Some(address) if wan && !address.is_empty() => {
                Cow::Owned(Node { address: address.clone(), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }
}

impl Service {
    /// Returns how many bytes of text it holds.
    pub fn text_len(&self) -> usize {
        let Service { id, name, kind, address, tagged_addresses, tags, meta, .. } = self;
        let tagged = tagged_addresses.iter().map(|(tag, at)| tag.len() + at.address.len());
        sum([id, name, kind, address]) + sum(tags) + texts_len(meta) + tagged.sum::<usize>()
    }

    /// Returns it with the address and the port that count where it is seen from: over the WAN
    /// those of the WAN, if it has them.
    pub fn seen(&self, wan: bool) -> Cow<'_, Service> {
        match self.tagged_addresses.get(WAN) {
            Some(ServiceAddress { address, port }) if wan && !address.is_empty() => {
                let port = if *port == 0 { self.port } else { *port };
                Cow::Owned(Service { address: address.clone(), port, ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }
}

impl Check {
    /// Returns how many bytes of text it holds.
    pub fn text_len(&self) -> usize {
        let Check { id, name, notes, output, service_id, service_name, kind, definition, .. } =
            self;
        sum([id, name, notes, output, service_id, service_name, kind, definition])
    }
}

impl Registration {
    /// Returns how many bytes of text it holds.
    pub fn text_len(&self) -> usize {
        let service = self.service.as_ref().map_or(0, Service::text_len);
        self.node.text_len() + service + self.checks.iter().map(Check::text_len).sum::<usize>()
    }
}

fn sum<'a>(texts: impl IntoIterator<Item = &'a Text>) -> usize {
    texts.into_iter().map(|text| text.len()).sum()
}

fn texts_len(texts: &Texts) -> usize {
    sum(texts.keys()) + sum(texts.values())
}

/// What is to be removed from the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistration {
    /// The node that has it.
    #[serde(rename = "n")]
    pub node: Text,
    /// What of it.
    #[serde(rename = "w")]
    pub what: Removed,
}

/// What of a node is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// The node with its services and checks.
    Node,
    /// One service with its checks.
    Service(Text),
    /// One check.
    Check(Text),
}

/// A read of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lookup {
    /// What it is about.
    #[serde(rename = "s")]
    pub subject: Subject,
    /// Which of that.
    #[serde(rename = "w", default)]
    pub selection: Selection,
    /// How the answer's body looks.
    #[serde(rename = "form", default)]
    pub form: Form,
}

/// What a read of the catalog is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// All nodes.
    Nodes,
    /// One node with its services by id (`catalog/node`).
    Node(Text),
    /// One node with its services as a list (`catalog/node-services`).
    NodeServices(Text),
    /// The names of all services with their tags.
    Services,
    /// The instances of a service, without their checks.
    Service(Text),
    /// The checks of a node and of its services.
    NodeChecks(Text),
    /// The checks of a service's instances.
    ServiceChecks(Text),
    /// The checks that say this; all for `None`.
    State(Option<Health>),
    /// The instances of a service with their checks and those of their nodes.
    Health {
        /// The service.
        service: Text,
        /// Whether those with a check that is not passing are left out.
        passing: bool,
    },
    /// What is at an IP address, as the address is usually written. For agents: always
    /// [`Form::Records`].
    Address(Text),
    /// What a prepared query finds; [`crate::ask::Outcome::Absent`] without such a query.
    Query(Run),
}

/// A run of a prepared query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// Its name or id, or what a template takes for one.
    #[serde(rename = "n")]
    pub name: Text,
    /// Most instances that are wanted; 0 for all.
    #[serde(rename = "l", default)]
    pub limit: u32,
    /// The node of the agent that asks.
    #[serde(rename = "a", default)]
    pub agent: Text,
}

/// How the answer to a lookup looks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// JSON, for applications.
    #[default]
    Json,
    /// Named maps of records, for agents: a list of [`Node`] for [`Subject::Nodes`], of
    /// [`Instance`] for [`Subject::Service`] and [`Subject::Health`], of [`Check`] for those about checks,
    /// [`Inventory`] or nothing for a node, a map of names to lists of tags for [`Subject::Services`],
    /// [`Residents`] for [`Subject::Address`], and [`Ran`] for [`Subject::Query`].
    Records,
}

/// An instance where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The node that it runs on.
    #[serde(rename = "n")]
    pub node: Arc<Node>,
    /// The instance.
    #[serde(rename = "s")]
    pub service: Arc<Service>,
    /// Its checks and those of its node.
    #[serde(rename = "c", default)]
    pub checks: Vec<Arc<Check>>,
    /// Its datacenter; `None` for that of the server that answers.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub dc: Option<Datacenter>,
}

/// What a prepared query found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The service that it looked up.
    #[serde(rename = "s")]
    pub service: Text,
    /// How long DNS may keep the answer, in seconds; `None` for as long as that of the service.
    #[serde(rename = "t", default)]
    pub ttl: Option<u32>,
    /// The instances.
    #[serde(rename = "i")]
    pub instances: Vec<Instance>,
}

/// A node with all that runs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The node.
    #[serde(rename = "n")]
    pub node: Arc<Node>,
    /// Its services in the order of their ids.
    #[serde(rename = "s", default)]
    pub services: Vec<Arc<Service>>,
}

/// What is at an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residents {
    /// The names of the nodes that have it.
    #[serde(rename = "n", default)]
    pub nodes: Vec<Text>,
    /// The names of the services with an instance that has it for itself, each once.
    #[serde(rename = "s", default)]
    pub services: Vec<Text>,
}

/// Which records a read wants, beside what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Pairs that the node's meta must have (`node-meta`).
    #[serde(rename = "nm", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_meta: Texts,
    /// Tags that an instance must have, all of them, whatever their capitals (`tag`).
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Text>,
    /// A filter expression; empty for everything.
    #[serde(rename = "f", default, skip_serializing_if = "is_empty")]
    pub filter: Text,
    /// The node to be near to; empty for no order.
    #[serde(rename = "near", default, skip_serializing_if = "is_empty")]
    pub near: Text,
    /// Pairs that the instance's meta must have.
    #[serde(rename = "sm", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_meta: Texts,
    /// Tags that an instance must not have, whatever their capitals.
    #[serde(rename = "nt", default, skip_serializing_if = "Vec::is_empty")]
    pub without_tags: Vec<Text>,
    /// The worst that a check of an instance or of its node may say; `None` for anything.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Health>,
    /// The ids of checks that have no say in that.
    #[serde(rename = "ic", default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_checks: Vec<Text>,
    /// Whether addresses are wanted as they count in other datacenters.
    #[serde(rename = "wan", default, skip_serializing_if = "std::ops::Not::not")]
    pub wan: bool,
}

fn is_empty(text: &Text) -> bool {
    text.is_empty()
}
