//! Keys of the service mesh, peering and the automatic ways to a certificate.

use super::{
    Key,
    Kind::{Block, Bool, Duration, Raw, Secret, Text, Texts},
    LATER, MESH, ignored,
};

pub(super) const KEYS: &[Key] = &[
    ignored("connect", Block, MESH),
    ignored("connect.enabled", Bool, MESH),
    ignored("connect.enable_mesh_gateway_wan_federation", Bool, LATER),
    ignored("connect.enable_serverless_plugin", Bool, MESH),
    ignored("connect.ca_provider", Text, MESH),
    ignored("connect.ca_config", Raw, MESH),
    ignored("connect.virtual_ip_cidr_v4", Text, MESH),
    ignored("connect.virtual_ip_cidr_v6", Text, MESH),
    ignored("connect.test_ca_leaf_root_change_spread", Duration, MESH),
    ignored("peering", Block, PEERING),
    ignored("peering.enabled", Bool, PEERING),
    ignored("peering.test_allow_peer_registrations", Bool, PEERING),
    ignored("xds", Block, MESH),
    ignored("xds.update_max_per_second", super::Kind::Float, MESH),
    ignored("enable_xds_load_balancing", Bool, MESH),
    ignored("primary_gateways", Texts, LATER),
    ignored("primary_gateways_interval", Duration, LATER),
    ignored("config_entries", Block, LATER),
    ignored("config_entries.bootstrap", Raw, LATER),
    ignored("enable_central_service_config", Bool, MESH),
    ignored("auto_encrypt", Block, AUTO),
    ignored("auto_encrypt.allow_tls", Bool, AUTO),
    ignored("auto_encrypt.tls", Bool, AUTO),
    ignored("auto_encrypt.dns_san", Texts, AUTO),
    ignored("auto_encrypt.ip_san", Texts, AUTO),
    ignored("auto_config", Block, AUTO),
    ignored("auto_config.enabled", Bool, AUTO),
    ignored("auto_config.intro_token", Secret, AUTO),
    ignored("auto_config.intro_token_file", Text, AUTO),
    ignored("auto_config.server_addresses", Texts, AUTO),
    ignored("auto_config.dns_sans", Texts, AUTO),
    ignored("auto_config.ip_sans", Texts, AUTO),
    ignored("auto_config.authorization", Raw, AUTO),
];

/// Reason: datacenters are joined by the WAN pool.
const PEERING: &str = "Causeway joins datacenters through its WAN pool, not by peering";
/// Reason: certificates are placed by the operator.
const AUTO: &str = "Causeway reads its certificates from files";
