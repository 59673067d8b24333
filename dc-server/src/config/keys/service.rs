//! Keys of services, checks and watches.

use super::{
    Key,
    Kind::{Bool, Duration, Integer, Raw},
    used,
};

pub(super) const KEYS: &[Key] = &[
    used("service", Raw),
    used("services", Raw),
    used("check", Raw),
    used("checks", Raw),
    used("watches", Raw),
    used("check_update_interval", Duration),
    used("check_output_max_size", Integer),
    used("discard_check_output", Bool),
    used("enable_agent_tls_for_checks", Bool),
    used("enable_script_checks", Bool),
    used("enable_local_script_checks", Bool),
];
