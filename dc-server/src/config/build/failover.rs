//! `failover { ... }`: what happens to plain lookups of services that have no policy of their own.

use topology::Datacenter;

use super::Build;
use crate::failover::policy::{MinHealthy, Policy, Preference};

impl Build<'_> {
    /// Returns the policy; `None` when the block is missing.
    pub(super) fn failover(&mut self) -> Option<Policy> {
        let settings = self.settings;
        let given = ["min_healthy", "datacenters", "nearest", "spill", "hold_down"]
            .map(|key| settings.get(&format!("failover.{key}")).is_some());
        let defaults = Policy::default();
        let policy = Policy {
            min_healthy: self.min_healthy(),
            to: self.preference(),
            spill: settings.bool("failover.spill").unwrap_or(defaults.spill),
            hold_down: settings.duration("failover.hold_down").unwrap_or(defaults.hold_down),
        };
        given.contains(&true).then_some(policy)
    }

    fn min_healthy(&mut self) -> MinHealthy {
        const PATH: &str = "failover.min_healthy";
        let Some(value) = self.settings.raw(PATH).cloned() else { return MinHealthy::default() };
        MinHealthy::of(&value).unwrap_or_else(|| {
            self.bad(PATH, "a number from 1 on, or a share such as \"50%\"", value.to_string());
            MinHealthy::default()
        })
    }

    fn preference(&mut self) -> Preference {
        let named = self.settings.texts("failover.datacenters");
        let nearest = self.settings.integer("failover.nearest");
        match nearest {
            Some(_) if !named.is_empty() => {
                self.broken("failover: give datacenters or nearest, not both");
            }
            Some(most) => match usize::try_from(most) {
                Ok(most @ 1..) => return Preference::Nearest(most),
                _ => self.bad("failover.nearest", "a number from 1 on", most.to_string()),
            },
            None => {}
        }
        let mut these = Vec::with_capacity(named.len());
        for name in named {
            match Datacenter::new(&name) {
                Ok(dc) if !these.contains(&dc) => these.push(dc),
                Ok(_) => {}
                Err(error) => {
                    let expected = format!("names of datacenters ({error})");
                    self.bad("failover.datacenters", expected, format!("{name:?}"));
                }
            }
        }
        if these.is_empty() { Policy::default().to } else { Preference::These(these) }
    }
}
