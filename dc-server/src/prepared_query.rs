//! Prepared queries: lookups of services that operators describe once, and clients run by name.
//!
//! ```text
//! JSON of a client ──▶ Definition ──▶ its canonical JSON, in the log and in snapshots ──▶ Definition
//! a name ──▶ the query of that name, or the template whose prefix of it is the longest, filled in
//! ```
//!
//! Everything that can be wrong with one is refused when it is written, in Consul's words where scripts may know them.

mod shape;
mod template;

use std::{sync::Arc, time::Duration};

use lan_agent::{
    ask::AskError,
    catalog::{Health, Selection, Text, Texts},
    duration,
};
use serde::{Deserialize, Serialize};
use topology::Datacenter;

use template::Template;

pub use template::TemplateError;

/// Longest definition, in bytes of its JSON.
pub const DEFINITION_LEN_MAX: usize = 64 * 1024;

/// The kind of template that there is.
const NAME_PREFIX_MATCH: &str = "name_prefix_match";

/// A query as it was described.
#[derive(Debug, Clone)]
pub struct Definition {
    said: Said,
    /// The same in JSON, compact, with all fields in one order.
    body: Text,
    dns_ttl: Option<Duration>,
    template: Option<Arc<Template>>,
}

/// What is looked up when a query runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The service.
    pub service: Text,
    /// Which of its instances.
    pub selection: Selection,
    /// How many other datacenters are tried, the nearest first.
    pub nearest: usize,
    /// Which ones after these, in this order.
    pub datacenters: Vec<Datacenter>,
    /// How long DNS may keep the answer, if the query says so.
    pub dns_ttl: Option<Duration>,
    /// The same as the query says it.
    pub dns_ttl_said: String,
}

/// A definition as Consul shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(flatten)]
    said: &'a Said,
    create_index: u64,
    modify_index: u64,
}

/// A definition field by field, by Consul's names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said {
    /// Never kept: the state knows it.
    #[serde(rename = "ID", skip_serializing)]
    id: String,
    name: String,
    session: String,
    token: String,
    template: SaidTemplate,
    service: SaidService,
    #[serde(rename = "DNS")]
    dns: SaidDns,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidTemplate {
    #[serde(rename = "Type")]
    kind: String,
    regexp: String,
    remove_empty_tags: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidService {
    service: String,
    failover: SaidFailover,
    only_passing: bool,
    #[serde(rename = "IgnoreCheckIDs")]
    ignore_check_ids: Option<Vec<String>>,
    near: String,
    tags: Option<Vec<String>>,
    node_meta: Option<Texts>,
    service_meta: Option<Texts>,
    connect: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidFailover {
    nearest_n: i64,
    datacenters: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<Vec<SaidTarget>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidTarget {
    #[serde(skip_serializing_if = "String::is_empty")]
    peer: String,
    datacenter: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct SaidDns {
    #[serde(rename = "TTL")]
    ttl: String,
}

impl Definition {
    /// Reads what a client wrote, for a query that there is or for a new one, which has no id of its own.
    pub fn read(text: &str, is_new: bool) -> Result<Self, AskError> {
        let undecoded = |error| AskError::Bad(format!("Request decode failed: {error}"));
        let mut said: Said = shape::read(text).map_err(undecoded)?;
        if is_new && !said.id.is_empty() {
            let why = "ID must be empty when creating a new prepared query";
            return Err(AskError::Failed(why.to_owned()));
        }
        said.id.clear();
        Self::of(said).map_err(AskError::Failed)
    }

    /// Takes what was written before; `None` for what this version can't read.
    pub fn kept(body: &Text) -> Option<Self> {
        Self::of(serde_json::from_str(body).ok()?).ok()
    }

    fn of(said: Said) -> Result<Self, String> {
        let invalid = |why: String| format!("Invalid prepared query: {why}");
        let is_template = !said.template.kind.is_empty();
        if said.name.is_empty() && !is_template {
            return Err(invalid("Must have a Name or be a Template".to_owned()));
        }
        if !said.session.is_empty() {
            return Err(invalid("sessions are not supported, leave Session empty".to_owned()));
        }
        let template =
            template_of(&said).map_err(|error| format!("failed compiling template: {error}"))?;
        said.service.check().map_err(invalid)?;
        let dns_ttl = ttl(&said.dns.ttl).map_err(invalid)?;
        let body = serde_json::to_string(&said).map_err(|error| invalid(error.to_string()))?;
        if body.len() > DEFINITION_LEN_MAX {
            return Err(invalid(format!(
                "{} bytes are too many, max: {DEFINITION_LEN_MAX}",
                body.len()
            )));
        }
        Ok(Self { said, body: body.into(), dns_ttl, template: template.map(Arc::new) })
    }

    /// Returns the name that it is run by; empty for a template that takes every name.
    pub fn name(&self) -> &str {
        &self.said.name
    }

    /// Tells whether it takes all names that begin with its own.
    pub fn is_template(&self) -> bool {
        self.template.is_some()
    }

    /// Returns it in JSON, as [`Definition::kept`] reads it.
    pub fn body(&self) -> &Text {
        &self.body
    }

    /// Returns it as it is for a name that it is run by: a template is filled in.
    pub fn filled_in(&self, name: &str) -> Result<Self, AskError> {
        let Some(template) = &self.template else { return Ok(self.clone()) };
        let mut said = self.said.clone();
        let failed = |error: TemplateError| {
            AskError::Failed(format!("prepared query {:?}: {error}", self.said.name))
        };
        template.fill_in(&mut said.service, name, &self.said.name).map_err(failed)?;
        if self.said.template.remove_empty_tags
            && let Some(tags) = &mut said.service.tags
        {
            tags.retain(|tag| !tag.is_empty());
        }
        Ok(Self { said, ..self.clone() })
    }

    /// Returns what to look up, once it is filled in.
    pub fn wanted(&self) -> Wanted {
        let SaidService { service, failover, only_passing, ignore_check_ids, near, tags, .. } =
            &self.said.service;
        let texts = |all: &Option<Vec<String>>| -> Vec<Text> {
            all.iter().flatten().map(|text| text.as_str().into()).collect()
        };
        let (without, with): (Vec<Text>, Vec<Text>) =
            texts(tags).into_iter().partition(|tag| tag.starts_with('!'));
        let selection = Selection {
            node_meta: self.said.service.node_meta.clone().unwrap_or_default(),
            service_meta: self.said.service.service_meta.clone().unwrap_or_default(),
            tags: with,
            without_tags: without.iter().map(|tag| tag[1..].into()).collect(),
            near: near.as_str().into(),
            worst: Some(if *only_passing { Health::Passing } else { Health::Warning }),
            ignored_checks: texts(ignore_check_ids),
            ..Selection::default()
        };
        let targets = failover.targets.iter().flatten().map(|target| &target.datacenter);
        let datacenters = failover.datacenters.iter().flatten().chain(targets);
        Wanted {
            // Nothing takes part in a mesh.
            service: if self.said.service.connect {
                Text::default()
            } else {
                service.as_str().into()
            },
            selection,
            nearest: usize::try_from(failover.nearest_n).unwrap_or(0),
            // What a template makes of a name need not be one of a datacenter, and is none then.
            datacenters: datacenters.filter_map(|name| Datacenter::new(name).ok()).collect(),
            dns_ttl: self.dns_ttl,
            dns_ttl_said: self.said.dns.ttl.clone(),
        }
    }

    /// Shows it in JSON as Consul does.
    pub fn shown(
        &self,
        id: &str,
        create_index: u64,
        modify_index: u64,
    ) -> serde_json::Result<String> {
        serde_json::to_string(&Shown { id, said: &self.said, create_index, modify_index })
    }
}

/// What is read of a definition follows from its text.
impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body
    }
}

impl Eq for Definition {}

impl SaidService {
    fn check(&self) -> Result<(), String> {
        if self.service.is_empty() {
            return Err("Must provide a Service name to query".to_owned());
        }
        let SaidFailover { nearest_n, datacenters, targets } = &self.failover;
        if *nearest_n < 0 {
            return Err(format!("Bad NearestN '{nearest_n}', must be >= 0"));
        }
        let mut named = datacenters.iter().flatten();
        let Some(targets) = targets.as_ref().filter(|targets| !targets.is_empty()) else {
            return named.try_for_each(|name| check_dc(name));
        };
        if *nearest_n > 0 || named.count() > 0 {
            return Err("Targets cannot be populated with NearestN or Datacenters".to_owned());
        }
        targets.iter().try_for_each(|target| match &*target.peer {
            "" => check_dc(&target.datacenter),
            peer => Err(format!("Failover.Targets names the peer {peer:?}: peering is not supported, name a Datacenter")),
        })
    }
}

/// Refuses what can't be a datacenter, unless a template makes its name.
fn check_dc(name: &str) -> Result<(), String> {
    if name.contains("${") {
        return Ok(());
    }
    Datacenter::new(name).map(drop).map_err(|error| format!("Failover: {error}"))
}

fn template_of(said: &Said) -> Result<Option<Template>, TemplateError> {
    match &*said.template.kind {
        "" => Ok(None),
        NAME_PREFIX_MATCH => Template::compile(&said.template.regexp, &said.service).map(Some),
        kind => Err(TemplateError::Kind(kind.to_owned())),
    }
}

/// Reads how long DNS may keep an answer.
fn ttl(text: &str) -> Result<Option<Duration>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('-') {
        return Err(format!("DNS TTL '{text}', must be >=0"));
    }
    duration::parse(text).map(Some).map_err(|error| format!("Bad DNS TTL '{text}': {error}"))
}

#[cfg(test)]
mod tests;
