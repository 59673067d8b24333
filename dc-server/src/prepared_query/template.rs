//! Templates: what is between `${` and `}` in a query is filled in from the name that it is run by.
//!
//! | `${name.full}` | the name |
//! | --- | --- |
//! | `${name.prefix}` | the name of the template, which the name begins with |
//! | `${name.suffix}` | what follows it |
//! | `${match(N)}` | the Nth group of the regular expression; 0: all that it matched; empty when it did not |
//! | `${agent.segment}` | empty: there are no segments |
//!
//! `$${` stands for `${` itself. Consul's own templates may hold more (arithmetic, functions): these are refused.

use regex::{Captures, Regex, RegexBuilder};

use super::SaidService;

/// Most memory that a regular expression may take, compiled.
const REGEX_LEN_MAX: usize = 1 << 20;

/// A template, ready to be filled in.
#[derive(Debug)]
pub(super) struct Template {
    regex: Option<Regex>,
}

/// Why there can't be such a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The type is another one.
    #[error("Bad Template.Type '{0}'")]
    Kind(String),
    /// The regular expression can't be read.
    #[error("Bad Regexp: {0}")]
    Regexp(String),
    /// A text has a `${` without its end.
    #[error("Bad format '{0}': a ${{ has no }}")]
    Open(String),
    /// A text asks for what there is not.
    #[error(
        "Bad evaluation for '{text}': {asked:?} is none of name.full, name.prefix, name.suffix, match(N), agent.segment"
    )]
    Unknown {
        /// The text.
        text: String,
        /// What it asks for.
        asked: String,
    },
}

/// What is filled in.
struct Name<'a> {
    full: &'a str,
    prefix: &'a str,
    groups: Option<Captures<'a>>,
}

impl Template {
    /// Checks a template: its regular expression, empty for none, and the texts to be filled in.
    pub(super) fn compile(regexp: &str, service: &SaidService) -> Result<Self, TemplateError> {
        let compiled = || RegexBuilder::new(regexp).size_limit(REGEX_LEN_MAX).build();
        let regex = match regexp {
            "" => None,
            _ => Some(compiled().map_err(|error| TemplateError::Regexp(error.to_string()))?),
        };
        let template = Self { regex };
        template.fill_in(&mut service.clone(), "", "")?;
        Ok(template)
    }

    /// Fills in a query for a name that begins with a prefix.
    pub(super) fn fill_in(
        &self,
        service: &mut SaidService,
        full: &str,
        prefix: &str,
    ) -> Result<(), TemplateError> {
        let groups = self.regex.as_ref().and_then(|regex| regex.captures(full));
        let name = Name { full, prefix, groups };
        let SaidService {
            service,
            failover,
            ignore_check_ids,
            near,
            tags,
            node_meta,
            service_meta,
            ..
        } = service;
        let lists = [&mut failover.datacenters, ignore_check_ids, tags];
        let texts = lists.into_iter().flatten().flatten().chain([service, near]);
        for meta in [node_meta, service_meta].into_iter().flatten() {
            for text in meta.values_mut() {
                *text = name.fill(text)?.into();
            }
        }
        let targets = failover.targets.iter_mut().flatten().map(|target| &mut target.datacenter);
        for text in texts.chain(targets) {
            *text = name.fill(text)?;
        }
        Ok(())
    }
}

impl Name<'_> {
    fn fill(&self, text: &str) -> Result<String, TemplateError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = after;
                continue;
            }
            filled.push_str(before);
            let end = after.find('}').ok_or_else(|| TemplateError::Open(text.to_owned()))?;
            let asked = after[..end].trim();
            let found = self.get(asked).ok_or_else(|| TemplateError::Unknown {
                text: text.to_owned(),
                asked: asked.to_owned(),
            })?;
            filled.push_str(found);
            rest = &after[end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn get(&self, asked: &str) -> Option<&str> {
        match asked {
            "name.full" => Some(self.full),
            "name.prefix" => Some(self.prefix),
            // Names and prefixes are compared whatever their capitals, which have the same length.
            "name.suffix" => Some(self.full.get(self.prefix.len()..).unwrap_or_default()),
            "agent.segment" => Some(""),
            _ => {
                let group = asked.strip_prefix("match(")?.strip_suffix(')')?.trim();
                let group: usize = group.parse().ok()?;
                let found = self.groups.as_ref().and_then(|groups| groups.get(group));
                Some(found.map_or("", |found| found.as_str()))
            }
        }
    }
}
