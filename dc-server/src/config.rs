//! An agent's configuration: files in HCL and JSON, flags, defaults.
//!
//! ```text
//! files, -hcl --> hcl / JSON --> check (keys) --\
//! flags -------------------------------- check --> settings (layers) --> build --> Agent
//! ```
//!
//! Layers, each over the one before: defaults (those of `-dev` in development mode), files in
//! the order given, `-hcl` fragments, flags. Lists add up instead, those of flags first. The
//! result is a checked [`Agent`] with warnings, or every problem at once: an unknown key, a bad
//! value, rules that are broken. Only [`source`] and [`host`] touch the machine.

pub mod agent;
pub mod error;
pub mod flags;
pub mod hcl;
pub mod host;
pub mod keys;
pub mod reload;
pub mod source;

mod build;
mod check;
mod settings;

pub use agent::Agent;
pub use error::{Problem, Problems};
pub use host::Host;

use std::path::PathBuf;

use self::{
    flags::Request,
    settings::{Given, Settings},
    source::Text,
};

/// A configuration that can be started.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub agent: Agent,
    /// What its author should know, one sentence each.
    pub warnings: Vec<String>,
    /// The keys that were set, to compare with another reading.
    pub keys: reload::Keys,
}

/// Reads the services that files define, as they are written, to hand them to an agent.
pub fn services_in(paths: &[PathBuf]) -> Result<Vec<serde_json::Value>, Problems> {
    let mut found = Vec::new();
    for text in source::read(paths, None)? {
        let content = text.parse().map_err(|problem| Problems(vec![problem]))?;
        for name in ["service", "services"] {
            match &content.value[name] {
                serde_json::Value::Null => {}
                serde_json::Value::Array(list) => found.extend(list.iter().cloned()),
                one => found.push(one.clone()),
            }
        }
    }
    Ok(found)
}

/// Reads an object in HCL or JSON; `name` is what errors call the text, and tells the syntax if it ends so.
pub fn value_in(name: &str, body: String) -> Result<serde_json::Value, Problems> {
    let content = Text::of(name, body).parse();
    content.map(|content| content.value).map_err(|problem| Problems(vec![problem]))
}

/// Reads what a command line asks for and builds the configuration.
pub fn load(request: &Request, host: &Host) -> Result<Loaded, Problems> {
    let texts = source::read(&request.paths, request.format)?;
    build(request, &texts, host)
}

/// Builds the configuration from texts that were read already; touches nothing.
pub fn build(request: &Request, texts: &[Text], host: &Host) -> Result<Loaded, Problems> {
    let mut settings = Settings::default();
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    let given = request.checked();
    let (lists, single): (Vec<_>, Vec<_>) =
        given.settings.into_iter().partition(|s| matches!(s.value, Given::Texts(_)));
    lists.into_iter().for_each(|setting| settings.put(setting));
    for text in texts.iter().chain(&request.fragments) {
        match text.parse() {
            Err(problem) => problems.push(problem),
            Ok(content) => {
                let checked = check::content(&content);
                checked.settings.into_iter().for_each(|setting| settings.put(setting));
                warnings.extend(checked.warnings);
                problems.extend(checked.problems);
            }
        }
    }
    single.into_iter().for_each(|setting| settings.put(setting));
    warnings.extend(given.warnings);
    problems.extend(given.problems);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let agent = build::agent(&settings, host, request.dev, &mut warnings)?;
    Ok(Loaded { agent, warnings, keys: reload::Keys::of(&settings) })
}

#[cfg(test)]
mod tests;
