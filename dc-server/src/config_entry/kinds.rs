//! The fields of each kind, as Consul's documentation lists them, and those of our own.

use super::shape::{
    Fields, PEERS,
    Shape::{
        Absent, Duration, Flag, Named, Number, Object, Objects, Opaque, Pairs, PassedOver, Share,
        Text, Texts,
    },
};

const NAMESPACES: &str = "namespaces";
const PARTITIONS: &str = "partitions";
const SAMENESS_GROUPS: &str = "sameness groups";

pub(super) const SERVICE_RESOLVER: Fields = &[
    ("Kind", Text),
    ("Name", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("Partition", Absent(PARTITIONS)),
    ("DefaultSubset", Text),
    ("Subsets", Named(&[("Filter", Text), ("OnlyPassing", Flag)])),
    ("Redirect", Object(REDIRECT)),
    ("Failover", Named(FAILOVER)),
    ("PrioritizeByLocality", Object(MODE)),
    ("ConnectTimeout", Duration),
    ("RequestTimeout", Duration),
    ("LoadBalancer", Object(LOAD_BALANCER)),
    ("Meta", Pairs),
    ("CreateIndex", PassedOver),
    ("ModifyIndex", PassedOver),
    ("Hash", PassedOver),
];

const REDIRECT: Fields = &[
    ("Service", Text),
    ("ServiceSubset", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("Partition", Absent(PARTITIONS)),
    ("SamenessGroup", Absent(SAMENESS_GROUPS)),
    ("Datacenter", Text),
    ("Peer", Absent(PEERS)),
];

/// The last three are our own.
const FAILOVER: Fields = &[
    ("Service", Text),
    ("ServiceSubset", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("SamenessGroup", Absent(SAMENESS_GROUPS)),
    ("Datacenters", Texts),
    ("Targets", Objects(TARGET)),
    ("Policy", Object(&[("Mode", Text), ("Regions", Texts)])),
    ("MinHealthy", Share),
    ("Spill", Flag),
    ("HoldDown", Duration),
];

const TARGET: Fields = &[
    ("Service", Text),
    ("ServiceSubset", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("Partition", Absent(PARTITIONS)),
    ("Datacenter", Text),
    ("Peer", Absent(PEERS)),
];

const MODE: Fields = &[("Mode", Text)];

const LOAD_BALANCER: Fields = &[
    ("Policy", Text),
    ("LeastRequestConfig", Object(&[("ChoiceCount", Number)])),
    ("RingHashConfig", Object(&[("MinimumRingSize", Number), ("MaximumRingSize", Number)])),
    (
        "HashPolicies",
        Objects(&[
            ("Field", Text),
            ("FieldValue", Text),
            ("CookieConfig", Object(&[("Session", Flag), ("TTL", Duration), ("Path", Text)])),
            ("SourceIP", Flag),
            ("Terminal", Flag),
        ]),
    ),
];

pub(super) const SERVICE_DEFAULTS: Fields = &[
    ("Kind", Text),
    ("Name", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("Partition", Absent(PARTITIONS)),
    ("Protocol", Text),
    ("BalanceInboundConnections", Text),
    ("Mode", Text),
    ("UpstreamConfig", Object(&[("Overrides", Objects(UPSTREAM)), ("Defaults", Object(UPSTREAM))])),
    ("TransparentProxy", Object(TRANSPARENT_PROXY)),
    ("MutualTLSMode", Text),
    ("EnvoyExtensions", Objects(ENVOY_EXTENSION)),
    ("Destination", Object(&[("Addresses", Texts), ("Port", Number)])),
    ("MaxInboundConnections", Number),
    ("LocalConnectTimeoutMs", Number),
    ("LocalRequestTimeoutMs", Number),
    ("MeshGateway", Object(MODE)),
    ("ExternalSNI", Text),
    ("Expose", Object(EXPOSE)),
    ("RateLimits", Object(&[("InstanceLevel", Object(RATE_LIMITS))])),
    ("Meta", Pairs),
    ("CreateIndex", PassedOver),
    ("ModifyIndex", PassedOver),
    ("Hash", PassedOver),
];

const UPSTREAM: Fields = &[
    ("Name", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("Partition", Absent(PARTITIONS)),
    ("Peer", Absent(PEERS)),
    ("EnvoyListenerJSON", Text),
    ("EnvoyClusterJSON", Text),
    ("Protocol", Text),
    ("ConnectTimeoutMs", Number),
    (
        "Limits",
        Object(&[
            ("MaxConnections", Number),
            ("MaxPendingRequests", Number),
            ("MaxConcurrentRequests", Number),
        ]),
    ),
    (
        "PassiveHealthCheck",
        Object(&[
            ("Interval", Duration),
            ("MaxFailures", Number),
            ("EnforcingConsecutive5xx", Number),
            ("MaxEjectionPercent", Number),
            ("BaseEjectionTime", Duration),
        ]),
    ),
    ("MeshGateway", Object(MODE)),
    ("BalanceOutboundConnections", Text),
];

const TRANSPARENT_PROXY: Fields = &[("OutboundListenerPort", Number), ("DialedDirectly", Flag)];

const ENVOY_EXTENSION: Fields = &[
    ("Name", Text),
    ("Required", Flag),
    ("Arguments", Opaque),
    ("ConsulVersion", Text),
    ("EnvoyVersion", Text),
];

const EXPOSE: Fields = &[
    ("Checks", Flag),
    (
        "Paths",
        Objects(&[
            ("ListenerPort", Number),
            ("Path", Text),
            ("LocalPathPort", Number),
            ("Protocol", Text),
            ("ParsedFromCheck", Flag),
        ]),
    ),
];

const RATE_LIMITS: Fields = &[
    ("RequestsPerSecond", Number),
    ("RequestsMaxBurst", Number),
    (
        "Routes",
        Objects(&[
            ("PathExact", Text),
            ("PathPrefix", Text),
            ("PathRegex", Text),
            ("RequestsPerSecond", Number),
            ("RequestsMaxBurst", Number),
        ]),
    ),
];

pub(super) const PROXY_DEFAULTS: Fields = &[
    ("Kind", Text),
    ("Name", Text),
    ("Namespace", Absent(NAMESPACES)),
    ("Partition", Absent(PARTITIONS)),
    ("Config", Opaque),
    ("Mode", Text),
    ("TransparentProxy", Object(TRANSPARENT_PROXY)),
    ("MutualTLSMode", Text),
    ("MeshGateway", Object(MODE)),
    ("Expose", Object(EXPOSE)),
    (
        "AccessLogs",
        Object(&[
            ("Enabled", Flag),
            ("DisableListenerLogs", Flag),
            ("Type", Text),
            ("Path", Text),
            ("JSONFormat", Text),
            ("TextFormat", Text),
        ]),
    ),
    ("EnvoyExtensions", Objects(ENVOY_EXTENSION)),
    ("FailoverPolicy", Object(&[("Mode", Text), ("Regions", Texts)])),
    ("PrioritizeByLocality", Object(MODE)),
    ("Meta", Pairs),
    ("CreateIndex", PassedOver),
    ("ModifyIndex", PassedOver),
    ("Hash", PassedOver),
];
