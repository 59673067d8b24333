//! The services and checks of a node, and which of them the servers have yet to hear of.
//!
//! A change marks what it changed; [`crate::local::sync`] plans from the marks. A change of a
//! check's output alone waits before it is told ([`State::output_delay`]), so that a check that
//! counts does not keep the servers busy. What was removed is remembered until they know.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    catalog::{Check, Health, NODE_MAINTENANCE, Node, SERVICE_MAINTENANCE, Service, Text, Texts},
    definition::{CheckDefinition, Probe},
};

/// Who defined something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An application, over HTTP. It is kept over restarts.
    Api,
    /// The agent's configuration.
    File,
}

/// There is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No service has this id.
    #[error("Unknown service {0:?}")]
    Service(Text),
    /// A check is about a service that is not there.
    #[error("ServiceID {0:?} does not exist")]
    Owner(Text),
    /// No check has this id.
    #[error("Unknown check {0:?}")]
    Check(Text),
}

/// What a check that waits for reports said last: kept over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// What it said.
    pub status: Health,
    /// With which output.
    pub output: Text,
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Whether applications see a difference.
    pub changed: bool,
    /// What has to be kept over a restart.
    pub word_to_keep: Option<Word>,
}

/// A service of this node.
#[derive(Debug, Clone)]
pub struct ServiceEntry {
    /// The service.
    pub service: Service,
    /// Who defined it.
    pub source: Source,
    /// Whether the servers know.
    pub told: bool,
}

/// A check of this node.
#[derive(Debug, Clone)]
pub struct CheckEntry {
    /// The check as it is now.
    pub check: Check,
    /// How it finds out; `None` for maintenance.
    pub definition: Option<CheckDefinition>,
    /// Who defined it.
    pub source: Source,
    /// Whether the servers know.
    pub told: bool,
    /// When they are to hear of an output that changed.
    pub output_due: Option<Instant>,
    /// When a check that waits for reports has waited too long.
    pub expires: Option<Instant>,
    /// Since when it is critical.
    pub critical_since: Option<Instant>,
}

/// Everything that runs on a node.
#[derive(Debug)]
pub struct State {
    /// The node as the catalog is to show it.
    pub(super) me: Node,
    output_delay: Duration,
    pub(super) services: BTreeMap<Text, ServiceEntry>,
    pub(super) checks: BTreeMap<Text, CheckEntry>,
    pub(super) gone_services: BTreeSet<Text>,
    pub(super) gone_checks: BTreeSet<Text>,
    /// Whether the servers know the node itself as it is.
    pub(super) node_told: bool,
}

impl State {
    /// Starts with nothing; `output_delay` is how long an output alone may wait, zero for not at all.
    pub fn new(me: Node, output_delay: Duration) -> Self {
        Self {
            me,
            output_delay,
            services: BTreeMap::new(),
            checks: BTreeMap::new(),
            gone_services: BTreeSet::new(),
            gone_checks: BTreeSet::new(),
            node_told: false,
        }
    }

    /// Returns the node.
    pub fn node(&self) -> &Node {
        &self.me
    }

    /// Gives the node other metadata; tells whether that is something new.
    pub(super) fn describe(&mut self, meta: Texts) -> bool {
        let changed = self.me.meta != meta;
        if changed {
            self.me.meta = meta;
            self.node_told = false;
        }
        changed
    }

    /// Tells whether an output alone may wait before the servers hear of it.
    pub(super) fn outputs_are_delayed(&self) -> bool {
        !self.output_delay.is_zero()
    }

    /// Returns the services by their ids.
    pub fn services(&self) -> impl Iterator<Item = &ServiceEntry> {
        self.services.values()
    }

    /// Returns a service.
    pub fn service(&self, id: &str) -> Option<&ServiceEntry> {
        self.services.get(id)
    }

    /// Returns the checks by their ids.
    pub fn checks(&self) -> impl Iterator<Item = &CheckEntry> {
        self.checks.values()
    }

    /// Returns a check.
    pub fn check(&self, id: &str) -> Option<&CheckEntry> {
        self.checks.get(id)
    }

    /// Returns the checks that say how a service is: its own and those of the node.
    pub fn checks_for<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a CheckEntry> {
        self.checks.values().filter(move |entry| {
            let owner = &*entry.check.service_id;
            owner.is_empty() || owner == service
        })
    }

    /// Returns how a service is: the worst of its checks and the node's. Maintenance is critical.
    pub fn health_of(&self, service: &str) -> Health {
        self.checks_for(service).map(|it| it.check.status).max().unwrap_or(Health::Passing)
    }

    /// Returns the ids of services and checks that files define.
    pub fn from_files(&self) -> (Vec<Text>, Vec<Text>) {
        let services = self.services.iter().filter(|(_, it)| it.source == Source::File);
        let checks = self.checks.iter().filter(|(_, it)| it.source == Source::File);
        (services.map(|(id, _)| id.clone()).collect(), checks.map(|(id, _)| id.clone()).collect())
    }

    pub(super) fn owner_of(&self, service: &Text) -> Result<Option<&ServiceEntry>, Unknown> {
        if service.is_empty() {
            return Ok(None);
        }
        self.services.get(service).map(Some).ok_or_else(|| Unknown::Owner(service.clone()))
    }

    /// Returns the checks of a service that are not among these.
    pub(super) fn checks_besides(&self, service: &Text, kept: &[CheckDefinition]) -> Vec<Text> {
        let stale = |(id, entry): &(&Text, &CheckEntry)| {
            entry.check.service_id == *service
                && entry.definition.is_some()
                && !kept.iter().any(|check| check.id == **id)
        };
        self.checks.iter().filter(stale).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn register_service(&mut self, service: Service, source: Source) {
        self.gone_services.remove(&service.id);
        let known = self.services.get(&service.id);
        let told = known.is_some_and(|entry| entry.told && entry.service == service);
        for entry in self.checks.values_mut() {
            if entry.check.service_id == service.id && entry.check.service_name != service.name {
                entry.check.service_name = service.name.clone();
                entry.told = false;
            }
        }
        self.services.insert(service.id.clone(), ServiceEntry { service, source, told });
    }

    /// Registers a check. One that was there keeps what it said; otherwise `last` counts, which it
    /// said before a restart.
    pub(super) fn register_check(
        &mut self,
        definition: CheckDefinition,
        source: Source,
        last: Option<Word>,
        now: Instant,
    ) -> Result<(), Unknown> {
        let owner = self.owner_of(&definition.service_id)?;
        let mut check = definition.check();
        check.service_name = owner.map(|it| it.service.name.clone()).unwrap_or_default();
        let expires = match definition.probe {
            Probe::Ttl(ttl) => Some(now + ttl),
            _ => None,
        };
        let known = self.checks.get(&definition.id);
        let last = match known {
            Some(entry) => {
                let (status, output) = (entry.check.status, entry.check.output.clone());
                Some(Word { status, output })
            }
            None => last.filter(|_| expires.is_some()),
        };
        if let Some(word) = last {
            (check.status, check.output) = (word.status, word.output);
        }
        let entry = CheckEntry {
            told: known.is_some_and(|entry| entry.told && entry.check == check),
            output_due: known.and_then(|entry| entry.output_due),
            critical_since: (check.status == Health::Critical)
                .then(|| known.and_then(|entry| entry.critical_since).unwrap_or(now)),
            check,
            source,
            expires,
            definition: Some(definition),
        };
        self.gone_checks.remove(&entry.check.id);
        self.checks.insert(entry.check.id.clone(), entry);
        Ok(())
    }

    /// Removes a service; returns the ids of its checks, which are gone with it.
    pub(super) fn deregister_service(&mut self, id: &Text) -> Result<Vec<Text>, Unknown> {
        self.services.remove(id).ok_or_else(|| Unknown::Service(id.clone()))?;
        self.gone_services.insert(id.clone());
        let of_it = |(_, entry): &(&Text, &CheckEntry)| entry.check.service_id == *id;
        let checks: Vec<Text> =
            self.checks.iter().filter(of_it).map(|(id, _)| id.clone()).collect();
        for check in &checks {
            // They go with the service in the catalog, too.
            self.checks.remove(check);
        }
        Ok(checks)
    }

    pub(super) fn deregister_check(&mut self, id: &Text) -> Result<(), Unknown> {
        self.checks.remove(id).ok_or_else(|| Unknown::Check(id.clone()))?;
        self.gone_checks.insert(id.clone());
        Ok(())
    }

    pub(super) fn report(
        &mut self,
        id: &Text,
        status: Health,
        output: &str,
        now: Instant,
    ) -> Result<Reported, Unknown> {
        let delay = self.output_delay;
        let entry = self.checks.get_mut(id).ok_or_else(|| Unknown::Check(id.clone()))?;
        let ttl = match entry.definition.as_ref().map(|definition| &definition.probe) {
            Some(Probe::Ttl(ttl)) => Some(*ttl),
            _ => None,
        };
        entry.expires = ttl.map(|ttl| now + ttl);
        let changed = entry.says(status, output, delay, now);
        let word_to_keep =
            (changed && ttl.is_some()).then(|| Word { status, output: entry.check.output.clone() });
        Ok(Reported { changed, word_to_keep })
    }

    /// Makes checks critical that have waited too long for a report, and marks outputs that have
    /// waited long enough. Tells whether applications see a difference.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for entry in self.checks.values_mut() {
            if entry.output_due.is_some_and(|due| due <= now) {
                entry.output_due = None;
                entry.told = false;
            }
            if entry.expires.is_some_and(|at| at <= now) {
                entry.expires = None;
                let last = entry.check.output.clone();
                let output = match last.is_empty() {
                    true => "TTL expired".to_owned(),
                    false => format!("TTL expired (last output before timeout follows): {last}"),
                };
                changed |= entry.says(Health::Critical, &output, Duration::ZERO, now);
            }
        }
        changed
    }

    /// Returns when [`State::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let times = |entry: &CheckEntry| entry.output_due.into_iter().chain(entry.expires).min();
        self.checks.values().filter_map(times).min()
    }

    /// Returns the services that have been critical for longer than one of their checks allows.
    pub(super) fn overdue(&self, now: Instant) -> BTreeSet<Text> {
        let overdue = |entry: &&CheckEntry| {
            let after = entry.definition.as_ref().map(|definition| definition.deregister_after);
            match (after, entry.critical_since) {
                (Some(after), Some(since)) if !after.is_zero() => now - since > after,
                _ => false,
            }
        };
        let owners = self.checks.values().filter(overdue).map(|it| it.check.service_id.clone());
        owners.filter(|id| !id.is_empty()).collect()
    }

    pub(super) fn maintain(
        &mut self,
        service: Option<&Text>,
        enable: bool,
        reason: &str,
    ) -> Result<(), Unknown> {
        let (id, name, what) = match service {
            None => (NODE_MAINTENANCE.into(), "Node Maintenance Mode", "node"),
            Some(id) => {
                let id = format!("{SERVICE_MAINTENANCE}{id}").into();
                (id, "Service Maintenance Mode", "service")
            }
        };
        let service_name = match service {
            None => Text::default(),
            Some(id) => {
                let entry = self.services.get(id).ok_or_else(|| Unknown::Service(id.clone()))?;
                entry.service.name.clone()
            }
        };
        if !enable {
            if self.checks.remove(&id).is_some() {
                self.gone_checks.insert(id);
            }
            return Ok(());
        }
        let default = || format!("Maintenance mode is enabled for this {what}; nobody said why.");
        let notes = if reason.is_empty() { default() } else { reason.to_owned() };
        let check = Check {
            id: id.clone(),
            name: name.into(),
            status: Health::Critical,
            notes: notes.into(),
            service_id: service.cloned().unwrap_or_default(),
            service_name,
            kind: "maintenance".into(),
            ..Check::default()
        };
        self.gone_checks.remove(&id);
        let entry = CheckEntry {
            check,
            definition: None,
            source: Source::Api,
            told: false,
            output_due: None,
            expires: None,
            critical_since: None,
        };
        self.checks.insert(id, entry);
        Ok(())
    }
}

impl CheckEntry {
    /// Takes what the check says now; tells whether that is something new.
    fn says(&mut self, status: Health, output: &str, delay: Duration, now: Instant) -> bool {
        let same_status = self.check.status == status;
        if same_status && *self.check.output == *output {
            return false;
        }
        if status != Health::Critical {
            self.critical_since = None;
        } else if !same_status || self.critical_since.is_none() {
            self.critical_since = Some(now);
        }
        self.check.status = status;
        self.check.output = output.into();
        if same_status && !delay.is_zero() {
            self.output_due.get_or_insert(now + delay);
        } else {
            self.told = false;
            self.output_due = None;
        }
        true
    }
}
