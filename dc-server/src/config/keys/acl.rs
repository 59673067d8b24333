//! Keys of access control. None has an effect yet, and each says so: an operator must not
//! believe that a token is asked for when none is.

use super::{
    ENTERPRISE, Key,
    Kind::{Block, Bool, Duration, Raw, Secret, Text},
    OBSOLETE, alias, ignored,
};

pub(super) const KEYS: &[Key] = &[
    ignored("acl", Block, NO_ACL),
    ignored("acl.enabled", Bool, NO_ACL),
    ignored("acl.default_policy", Text, NO_ACL),
    ignored("acl.down_policy", Text, NO_ACL),
    ignored("acl.policy_ttl", Duration, NO_ACL),
    ignored("acl.role_ttl", Duration, NO_ACL),
    ignored("acl.token_ttl", Duration, NO_ACL),
    ignored("acl.enable_key_list_policy", Bool, NO_ACL),
    ignored("acl.enable_token_persistence", Bool, NO_ACL),
    ignored("acl.enable_token_replication", Bool, NO_ACL),
    ignored("acl.msp_disable_bootstrap", Bool, ENTERPRISE),
    ignored("acl.tokens", Block, NO_ACL),
    ignored("acl.tokens.agent", Secret, NO_ACL),
    ignored("acl.tokens.agent_recovery", Secret, NO_ACL),
    ignored("acl.tokens.config_file_service_registration", Secret, NO_ACL),
    ignored("acl.tokens.default", Secret, NO_ACL),
    ignored("acl.tokens.dns", Secret, NO_ACL),
    ignored("acl.tokens.initial_management", Secret, NO_ACL),
    ignored("acl.tokens.replication", Secret, NO_ACL),
    ignored("acl.tokens.managed_service_provider", Raw, ENTERPRISE),
    alias("acl.tokens.master", Secret, "acl.tokens.initial_management"),
    alias("acl.tokens.agent_master", Secret, "acl.tokens.agent_recovery"),
    alias("acl_datacenter", Text, "primary_datacenter"),
    alias("acl_default_policy", Text, "acl.default_policy"),
    alias("acl_down_policy", Text, "acl.down_policy"),
    alias("acl_agent_master_token", Secret, "acl.tokens.agent_recovery"),
    alias("acl_agent_token", Secret, "acl.tokens.agent"),
    alias("acl_master_token", Secret, "acl.tokens.initial_management"),
    alias("acl_replication_token", Secret, "acl.tokens.replication"),
    alias("acl_token", Secret, "acl.tokens.default"),
    alias("acl_ttl", Duration, "acl.token_ttl"),
    alias("acl_enable_key_list_policy", Bool, "acl.enable_key_list_policy"),
    alias("enable_acl_replication", Bool, "acl.enable_token_replication"),
    ignored("acl_disabled_ttl", Duration, OBSOLETE),
    ignored("acl_enforce_version_8", Bool, OBSOLETE),
    ignored("default_intention_policy", Text, super::MESH),
];

/// Reason: there are no tokens to check.
const NO_ACL: &str =
    "this version of Causeway has no access control lists: every request is allowed";
