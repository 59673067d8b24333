//! Services, checks and watches that files define, and how this agent treats checks.

use std::fmt;

use lan_agent::{
    definition::{self, CheckDefinition, DefinitionError},
    watches,
};
use serde_json::Value;

use super::Build;
use crate::{
    config::agent::{Checks, Definitions},
    config_entry::Definition,
};

/// What is said of programs that nobody allowed.
const NO_SCRIPTS: &str = "scripts are disabled on this agent; to enable, configure \
                          enable_script_checks or enable_local_script_checks to true";

/// The largest `check_output_max_size`: outputs are held in memory by this agent and by all servers.
const OUTPUT_LEN_LIMIT: usize = 64 * 1024;

impl Build<'_> {
    pub(super) fn checks(&mut self) -> Checks {
        let output_len_max = self.output_len_max();
        let settings = self.settings;
        let flag = |path| settings.bool(path).unwrap_or(false);
        let remote_scripts = flag("enable_script_checks");
        Checks {
            remote_scripts,
            local_scripts: remote_scripts || flag("enable_local_script_checks"),
            update_interval: settings
                .duration("check_update_interval")
                .unwrap_or(Checks::UPDATE_INTERVAL),
            discard_output: flag("discard_check_output"),
            output_len_max,
            agent_tls: flag("enable_agent_tls_for_checks"),
        }
    }

    fn output_len_max(&mut self) -> usize {
        let Some(given) = self.settings.integer("check_output_max_size") else {
            return definition::OUTPUT_LEN_MAX;
        };
        let given = usize::try_from(given).unwrap_or_default();
        if !(1..=OUTPUT_LEN_LIMIT).contains(&given) {
            self.broken(format!(
                "check_output_max_size must be from 1 to {OUTPUT_LEN_LIMIT}: to keep no outputs at all, \
                 set discard_check_output"
            ));
        }
        given
    }

    pub(super) fn definitions(&mut self, allowed: &Checks) -> Definitions {
        let services =
            self.defined(["service", "services"], |it| definition::service(it).map_err(sentence));
        let checks =
            self.defined(["check", "checks"], |it| definition::check(it).map_err(sentence));
        let all = || services.iter().flat_map(|it| &it.checks).chain(&checks);
        let script = |check: &&CheckDefinition| check.probe.runs_programs();
        if !allowed.local_scripts
            && let Some(check) = all().find(script)
        {
            self.broken(format!("check {:?}: {NO_SCRIPTS}", check.id));
        }
        for check in &checks {
            let owner = &check.service_id;
            if !owner.is_empty() && !services.iter().any(|it| it.service.id == *owner) {
                self.broken(format!(
                    "check {:?}: service_id: no service {owner:?} is defined",
                    check.id
                ));
            }
        }
        let watches = self.defined(["watches"], watches::definition::read);
        Definitions { services, checks, watches }
    }

    pub(super) fn config_entries(&mut self) -> Vec<Definition> {
        self.defined(["config_entries.bootstrap"], Definition::of)
    }

    /// Reads what stands under a name for one or a name for many.
    fn defined<T, E: fmt::Display, const N: usize>(
        &mut self,
        names: [&'static str; N],
        read: impl Fn(&Value) -> Result<T, E>,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for path in names {
            let list = match self.settings.raw(path) {
                None => Vec::new(),
                Some(Value::Array(list)) => list.clone(),
                Some(one) => vec![one.clone()],
            };
            for (position, value) in list.iter().enumerate() {
                match read(value) {
                    Ok(definition) => found.push(definition),
                    Err(error) => {
                        let place = self.settings.place(path);
                        // A watch has no name, but a type.
                        let name = value["name"].as_str().or(value["type"].as_str());
                        let (name, number) = (name.unwrap_or_default(), position + 1);
                        self.broken(format!("{place}: {path} {number} ({name:?}): {error}"));
                    }
                }
            }
        }
        found
    }
}

/// Says what is wrong, without words about a request.
fn sentence(error: DefinitionError) -> String {
    match error {
        DefinitionError::Malformed(sentence) | DefinitionError::Invalid(sentence) => sentence,
    }
}
