//! What lookups read of a service-resolver: parsed when it is written or read back, never when it is looked at.

use std::{collections::BTreeMap, time::Duration};

use lan_agent::{
    catalog::Text,
    duration,
    filter::{Filter, Schema},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use topology::Datacenter;

use super::Mistake;
use crate::failover::policy::HOLD_DOWN;

/// The name under which a failover counts for all subsets that have none of their own.
pub(super) const ANY: &str = "*";

/// How a service is resolved.
#[derive(Debug, Default)]
pub struct ServiceResolver {
    /// Which subset is meant where none is named; `None` for all instances.
    pub default_subset: Option<Text>,
    /// The subsets by their names.
    pub subsets: BTreeMap<Text, Subset>,
    /// What is looked up instead; then there is nothing else.
    pub redirect: Option<Target>,
    failover: BTreeMap<Text, Failover>,
}

/// Some of a service's instances.
#[derive(Debug)]
pub struct Subset {
    /// Which ones, as it was written; empty for all.
    pub filter_text: Text,
    /// The same, compiled for records of `health/service`.
    pub filter: Filter,
    /// Whether those with warnings are left out.
    pub only_passing: bool,
}

/// What is looked up instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The service; `None` for the one that the entry is about.
    pub service: Option<Text>,
    /// The subset; `None` for the one that is looked up if the service is the same, else for the other service's default.
    pub subset: Option<Text>,
    /// The datacenter; `None` for the one that looks it up.
    pub datacenter: Option<Datacenter>,
}

/// Where to go when a service has too few healthy instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failover {
    /// One after the other; at least one.
    pub targets: Vec<Target>,
    /// With how many healthy instances of its own a service needs none of this.
    pub min_healthy: MinHealthy,
    /// Whether targets only add what is missing, rather than answering alone.
    pub spill: bool,
    /// For how long there have to be enough again before it goes back.
    pub hold_down: Duration,
}

/// How many instances have to be healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinHealthy {
    /// So many; at least 1.
    Instances(u32),
    /// So many of a hundred; 1 to 100.
    Percent(u8),
}

impl Default for MinHealthy {
    fn default() -> Self {
        MinHealthy::Instances(1)
    }
}

impl MinHealthy {
    /// Reads a number from 1 on, or a part from `"1%"` to `"100%"`.
    pub fn of(value: &Value) -> Option<Self> {
        if let Value::Number(number) = value {
            let instances = number.as_u64().and_then(|it| u32::try_from(it).ok());
            return instances.filter(|it| *it > 0).map(MinHealthy::Instances);
        }
        let part = value.as_str()?.strip_suffix('%')?.parse().ok();
        part.filter(|part| (1..=100).contains(part)).map(MinHealthy::Percent)
    }
}

impl ServiceResolver {
    /// Returns where to go when a subset, or the service where there are none, has too few healthy instances.
    pub fn failover(&self, subset: Option<&str>) -> Option<&Failover> {
        subset.and_then(|subset| self.failover.get(subset)).or_else(|| self.failover.get(ANY))
    }

    /// Returns all failovers by the names of their subsets, [`ANY`] among them.
    pub fn failovers(&self) -> impl Iterator<Item = (&Text, &Failover)> {
        self.failover.iter()
    }

    /// Reads what an entry says, in canonical form. Fields that nobody looks up are passed over.
    pub(super) fn read(said: &Map<String, Value>) -> Result<Self, Mistake> {
        let said = Said::deserialize(said).map_err(|error| Mistake::here(error.to_string()))?;
        let subsets = said.subsets.into_iter().map(|(name, subset)| {
            let read = subset.read();
            let at = |mistake: Mistake| mistake.of_name(&name).in_field("Subsets");
            Ok((name.clone(), read.map_err(at)?))
        });
        let failover = said.failover.into_iter().map(|(name, failover)| {
            let read = failover.read();
            let at = |mistake: Mistake| mistake.of_name(&name).in_field("Failover");
            Ok((name.clone(), read.map_err(at)?))
        });
        let redirect = said.redirect.map(SaidTarget::read).transpose();
        Ok(Self {
            default_subset: said.default_subset,
            subsets: subsets.collect::<Result<_, Mistake>>()?,
            redirect: redirect.map_err(|mistake| mistake.in_field("Redirect"))?,
            failover: failover.collect::<Result<_, Mistake>>()?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Said {
    default_subset: Option<Text>,
    subsets: BTreeMap<Text, SaidSubset>,
    redirect: Option<SaidTarget>,
    failover: BTreeMap<Text, SaidFailover>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidSubset {
    filter: Text,
    only_passing: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidTarget {
    service: Option<Text>,
    service_subset: Option<Text>,
    datacenter: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SaidFailover {
    service: Option<Text>,
    service_subset: Option<Text>,
    datacenters: Vec<String>,
    targets: Vec<SaidTarget>,
    min_healthy: Option<Value>,
    spill: bool,
    hold_down: String,
}

impl SaidSubset {
    fn read(self) -> Result<Subset, Mistake> {
        let filter = Filter::compile(&self.filter, Schema::Health)
            .map_err(|error| Mistake::here(error.to_string()).in_field("Filter"))?;
        Ok(Subset { filter_text: self.filter, filter, only_passing: self.only_passing })
    }
}

impl SaidTarget {
    fn read(self) -> Result<Target, Mistake> {
        let datacenter = self.datacenter.map(|name| datacenter(&name)).transpose();
        let datacenter = datacenter.map_err(|mistake| mistake.in_field("Datacenter"))?;
        Ok(Target { service: self.service, subset: self.service_subset, datacenter })
    }
}

impl SaidFailover {
    fn read(self) -> Result<Failover, Mistake> {
        let min_healthy = self.min_healthy.as_ref().map(min_healthy).transpose();
        let hold_down = match self.hold_down.as_str() {
            "" => Ok(HOLD_DOWN),
            text => duration::parse(text).map_err(|error| Mistake::here(error.to_string())),
        };
        let (service, subset) = (self.service, self.service_subset);
        let targets = if !self.targets.is_empty() {
            let numbered = self.targets.into_iter().enumerate();
            let read = numbered.map(|(at, target)| {
                target.read().map_err(|mistake| mistake.in_item(at).in_field("Targets"))
            });
            read.collect::<Result<_, _>>()?
        } else if self.datacenters.is_empty() {
            vec![Target { service, subset, datacenter: None }]
        } else {
            let numbered = self.datacenters.iter().enumerate();
            let read = numbered.map(|(at, name)| {
                let at = |mistake: Mistake| mistake.in_item(at).in_field("Datacenters");
                let datacenter = Some(datacenter(name).map_err(at)?);
                Ok(Target { service: service.clone(), subset: subset.clone(), datacenter })
            });
            read.collect::<Result<_, Mistake>>()?
        };
        Ok(Failover {
            targets,
            min_healthy: min_healthy
                .map_err(|mistake| mistake.in_field("MinHealthy"))?
                .unwrap_or_default(),
            spill: self.spill,
            hold_down: hold_down.map_err(|mistake| mistake.in_field("HoldDown"))?,
        })
    }
}

fn datacenter(name: &str) -> Result<Datacenter, Mistake> {
    Datacenter::new(name).map_err(|error| Mistake::here(error.to_string()))
}

fn min_healthy(value: &Value) -> Result<MinHealthy, Mistake> {
    MinHealthy::of(value).ok_or_else(|| {
        let why = "is neither a number from 1 on nor a part from \"1%\" to \"100%\"";
        Mistake::here(format!("{value} {why}"))
    })
}
