//! Keys of services, checks and watches. Definitions are kept as they are for the version that
//! registers them; until then each says that nothing is registered.

use super::{
    Key,
    Kind::{Bool, Duration, Integer, Raw},
    LATER, ignored,
};

pub(super) const KEYS: &[Key] = &[
    ignored("service", Raw, NOT_REGISTERED),
    ignored("services", Raw, NOT_REGISTERED),
    ignored("check", Raw, NOT_REGISTERED),
    ignored("checks", Raw, NOT_REGISTERED),
    ignored("watches", Raw, "use \"consul watch\" beside the agent"),
    ignored("check_update_interval", Duration, LATER),
    ignored("check_output_max_size", Integer, LATER),
    ignored("discard_check_output", Bool, LATER),
    ignored("enable_agent_tls_for_checks", Bool, LATER),
    ignored("enable_script_checks", Bool, LATER),
    ignored("enable_local_script_checks", Bool, LATER),
];

/// Reason: the catalog is not there yet.
const NOT_REGISTERED: &str = "this version of Causeway keeps the definition, but registers nothing";
