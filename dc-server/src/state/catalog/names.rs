//! The names of services as they were written, with the tags of their instances, counted.

use std::sync::Arc;

use imbl::OrdMap;
use lan_agent::catalog::{Service, Text};

/// The names of services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    table: OrdMap<Text, Arc<Usage>>,
}

/// How a name is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    instances: usize,
    tags: OrdMap<Text, usize>,
}

impl Names {
    /// Returns the names in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Usage)> {
        self.table.iter().map(|(name, usage)| (name, &**usage))
    }

    /// Counts an instance. Tells whether a name or a tag is new.
    pub(super) fn add(&mut self, service: &Service) -> bool {
        let entry = self.table.entry(service.name.clone()).or_default();
        let usage = Arc::make_mut(entry);
        usage.instances += 1;
        let mut is_new = usage.instances == 1;
        for tag in &service.tags {
            let count = usage.tags.entry(tag.clone()).or_default();
            *count += 1;
            is_new |= *count == 1;
        }
        is_new
    }

    /// Counts an instance no more. Tells whether a name or a tag is gone.
    pub(super) fn remove(&mut self, service: &Service) -> bool {
        let Some(entry) = self.table.get_mut(&service.name) else { return false };
        let usage = Arc::make_mut(entry);
        usage.instances -= 1;
        if usage.instances == 0 {
            self.table.remove(&service.name);
            return true;
        }
        let mut is_gone = false;
        for tag in &service.tags {
            if let Some(count) = usage.tags.get_mut(tag) {
                *count -= 1;
                if *count == 0 {
                    usage.tags.remove(tag);
                    is_gone = true;
                }
            }
        }
        is_gone
    }

    /// Lets an instance share name and tags with those of the same name: there may be very many.
    pub(super) fn share(&self, service: &mut Service) {
        let Some((name, usage)) = self.table.get_key_value(&service.name) else { return };
        service.name = name.clone();
        for tag in &mut service.tags {
            if let Some((shared, _)) = usage.tags.get_key_value(tag) {
                *tag = shared.clone();
            }
        }
    }
}

impl Usage {
    /// Returns the tags that instances have, in order.
    pub fn tags(&self) -> impl Iterator<Item = &Text> {
        self.tags.keys()
    }
}
