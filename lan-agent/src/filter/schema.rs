//! Which selectors an endpoint's records have, what they stand for, and of which type that is.

use crate::catalog::Subject;

/// What a filter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Nodes: `catalog/nodes`.
    Nodes,
    /// Services: `catalog/node`, `catalog/node-services`, `agent/services`.
    Services,
    /// Services with their nodes in one record: `catalog/service`.
    ServiceNodes,
    /// Services with their nodes and checks: `health/service`.
    Health,
    /// Checks: `health/checks`, `health/node`, `health/state`, `agent/checks`.
    Checks,
}

/// What a selector stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Node(NodeField),
    Service(ServiceField),
    /// Of any of the checks.
    Check(CheckField),
    /// All checks.
    Checks,
    /// Of the mesh, which is not there: the empty value of a type.
    Unset(Kind),
    /// Of something in a list of the mesh, which is always empty.
    Nowhere(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeField {
    Id,
    Name,
    Address,
    Datacenter,
    TaggedAddresses,
    TaggedAddress,
    Meta,
    MetaValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceField {
    Kind,
    Id,
    Name,
    Tags,
    Address,
    TaggedAddresses,
    TaggedAddress,
    TaggedPort,
    Meta,
    MetaValue,
    Port,
    PassingWeight,
    WarningWeight,
    EnableTagOverride,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckField {
    Node,
    Id,
    Name,
    Status,
    Notes,
    Output,
    ServiceId,
    ServiceName,
    ServiceTags,
    Kind,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    /// A list of texts.
    Texts,
    /// A map with texts as keys.
    Map,
    /// A list of records.
    Records,
}

impl Field {
    pub(super) fn kind(self) -> Kind {
        match self {
            Field::Node(field) => match field {
                NodeField::TaggedAddresses | NodeField::Meta => Kind::Map,
                NodeField::Id
                | NodeField::Name
                | NodeField::Address
                | NodeField::Datacenter
                | NodeField::TaggedAddress
                | NodeField::MetaValue => Kind::Text,
            },
            Field::Service(field) => match field {
                ServiceField::Tags => Kind::Texts,
                ServiceField::TaggedAddresses | ServiceField::Meta => Kind::Map,
                ServiceField::TaggedPort
                | ServiceField::Port
                | ServiceField::PassingWeight
                | ServiceField::WarningWeight => Kind::Number,
                ServiceField::EnableTagOverride => Kind::Flag,
                ServiceField::Kind
                | ServiceField::Id
                | ServiceField::Name
                | ServiceField::Address
                | ServiceField::TaggedAddress
                | ServiceField::MetaValue => Kind::Text,
            },
            Field::Check(CheckField::ServiceTags) => Kind::Texts,
            Field::Check(_) => Kind::Text,
            Field::Checks => Kind::Records,
            Field::Unset(kind) | Field::Nowhere(kind) => kind,
        }
    }
}

impl Kind {
    /// Says which operators a field of this type has.
    pub(super) fn operators(self) -> &'static str {
        match self {
            Kind::Text => "==, !=, in, contains, matches",
            Kind::Number | Kind::Flag => "==, !=",
            Kind::Texts | Kind::Map => "in, contains, is empty",
            Kind::Records => "is empty",
        }
    }
}

/// Stands for a key of a map in the path of a selector.
pub(super) const ANY_KEY: &str = "<key>";

/// Selectors by their paths.
type Table = &'static [(&'static str, Field)];

const PLACE: Table = &[
    ("ID", Field::Node(NodeField::Id)),
    ("Node", Field::Node(NodeField::Name)),
    ("Address", Field::Node(NodeField::Address)),
    ("Datacenter", Field::Node(NodeField::Datacenter)),
    ("TaggedAddresses", Field::Node(NodeField::TaggedAddresses)),
    ("TaggedAddresses.<key>", Field::Node(NodeField::TaggedAddress)),
];

const NODE_META: Table =
    &[("Meta", Field::Node(NodeField::Meta)), ("Meta.<key>", Field::Node(NodeField::MetaValue))];

const SERVICE: Table = &[
    ("Kind", Field::Service(ServiceField::Kind)),
    ("ID", Field::Service(ServiceField::Id)),
    ("Tags", Field::Service(ServiceField::Tags)),
    ("Address", Field::Service(ServiceField::Address)),
    ("TaggedAddresses", Field::Service(ServiceField::TaggedAddresses)),
    ("TaggedAddresses.<key>.Address", Field::Service(ServiceField::TaggedAddress)),
    ("TaggedAddresses.<key>.Port", Field::Service(ServiceField::TaggedPort)),
    ("Meta", Field::Service(ServiceField::Meta)),
    ("Meta.<key>", Field::Service(ServiceField::MetaValue)),
    ("Port", Field::Service(ServiceField::Port)),
    ("Weights.Passing", Field::Service(ServiceField::PassingWeight)),
    ("Weights.Warning", Field::Service(ServiceField::WarningWeight)),
    ("EnableTagOverride", Field::Service(ServiceField::EnableTagOverride)),
];

const MESH: Table = &[
    ("Proxy.DestinationServiceName", Field::Unset(Kind::Text)),
    ("Proxy.DestinationServiceID", Field::Unset(Kind::Text)),
    ("Proxy.LocalServiceAddress", Field::Unset(Kind::Text)),
    ("Proxy.LocalServicePort", Field::Unset(Kind::Number)),
    ("Proxy.MeshGateway.Mode", Field::Unset(Kind::Text)),
    ("Proxy.Expose.Checks", Field::Unset(Kind::Flag)),
    ("Proxy.Expose.Paths", Field::Unset(Kind::Records)),
    ("Proxy.Expose.Paths.Path", Field::Nowhere(Kind::Text)),
    ("Proxy.Expose.Paths.ListenerPort", Field::Nowhere(Kind::Number)),
    ("Proxy.Expose.Paths.LocalPathPort", Field::Nowhere(Kind::Number)),
    ("Proxy.Expose.Paths.Protocol", Field::Nowhere(Kind::Text)),
    ("Proxy.Expose.Paths.ParsedFromCheck", Field::Nowhere(Kind::Flag)),
    ("Proxy.Upstreams", Field::Unset(Kind::Records)),
    ("Proxy.Upstreams.DestinationType", Field::Nowhere(Kind::Text)),
    ("Proxy.Upstreams.DestinationNamespace", Field::Nowhere(Kind::Text)),
    ("Proxy.Upstreams.DestinationName", Field::Nowhere(Kind::Text)),
    ("Proxy.Upstreams.Datacenter", Field::Nowhere(Kind::Text)),
    ("Proxy.Upstreams.LocalBindAddress", Field::Nowhere(Kind::Text)),
    ("Proxy.Upstreams.LocalBindPort", Field::Nowhere(Kind::Number)),
    ("Proxy.Upstreams.MeshGateway.Mode", Field::Nowhere(Kind::Text)),
    ("Connect.Native", Field::Unset(Kind::Flag)),
];

const SERVICE_AS_SERVICE: Table = &[("Service", Field::Service(ServiceField::Name))];

const SERVICE_AS_NAME: Table = &[("Name", Field::Service(ServiceField::Name))];

const CHECKS: Table = &[("Checks", Field::Checks)];

const CHECK: Table = &[
    ("Node", Field::Check(CheckField::Node)),
    ("CheckID", Field::Check(CheckField::Id)),
    ("Name", Field::Check(CheckField::Name)),
    ("Status", Field::Check(CheckField::Status)),
    ("Notes", Field::Check(CheckField::Notes)),
    ("Output", Field::Check(CheckField::Output)),
    ("ServiceID", Field::Check(CheckField::ServiceId)),
    ("ServiceName", Field::Check(CheckField::ServiceName)),
    ("ServiceTags", Field::Check(CheckField::ServiceTags)),
    ("Type", Field::Check(CheckField::Kind)),
];

impl Schema {
    /// Returns the schema of what a lookup answers; `None` for the names of services and for
    /// what is at an address, which have none.
    pub fn of(subject: &Subject) -> Option<Self> {
        Some(match subject {
            Subject::Nodes => Schema::Nodes,
            Subject::Node(_) | Subject::NodeServices(_) => Schema::Services,
            Subject::Services | Subject::Address(_) | Subject::Query(_) => return None,
            Subject::Service(_) => Schema::ServiceNodes,
            Subject::NodeChecks(_) | Subject::ServiceChecks(_) | Subject::State(_) => {
                Schema::Checks
            }
            Subject::Health { .. } => Schema::Health,
        })
    }

    /// Returns tables, each with what its paths begin with here.
    fn tables(self) -> &'static [(&'static str, Table)] {
        match self {
            Schema::Nodes => &[("", PLACE), ("", NODE_META)],
            Schema::Services => &[("", SERVICE_AS_SERVICE), ("", SERVICE), ("", MESH)],
            Schema::ServiceNodes => &[
                ("", PLACE),
                ("Node", NODE_META),
                ("Service", SERVICE_AS_NAME),
                ("Service", SERVICE),
                ("Service", MESH),
            ],
            Schema::Health => &[
                ("Node.", PLACE),
                ("Node.", NODE_META),
                ("Service.", SERVICE_AS_SERVICE),
                ("Service.", SERVICE),
                ("Service.", MESH),
                ("", CHECKS),
                ("Checks.", CHECK),
            ],
            Schema::Checks => &[("", CHECK)],
        }
    }

    /// Lists the paths of its selectors with what they stand for.
    pub(super) fn selectors(self) -> impl Iterator<Item = (String, Field)> {
        self.tables().iter().flat_map(|(start, table)| {
            table.iter().map(move |(path, field)| (format!("{start}{path}"), *field))
        })
    }
}
