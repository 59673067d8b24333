//! The model: lists of records, looked through from end to end.

use lan_agent::catalog::{Check, Health, Node, Registration, Removed, Service};

use super::{Part, Record, line};
use crate::state::Op;

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    nodes: Vec<Record<Node>>,
    services: Vec<(String, Record<Service>)>,
    checks: Vec<(String, Record<Check>)>,
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Puts a record in or leaves an equal one alone.
fn put<T: PartialEq>(index: u64, found: Option<Record<T>>, value: T) -> Record<T> {
    match found {
        Some(found) if found.value == value => found,
        Some(found) => Record { value, create_index: found.create_index, modify_index: index },
        None => Record { value, create_index: index, modify_index: index },
    }
}

impl Model {
    /// Applies a command; `false` when it is refused.
    pub(super) fn apply(&mut self, index: u64, op: &Op) -> bool {
        match op {
            Op::Register(registration) => {
                let mut next = self.clone();
                let accepted = next.register(index, registration).is_some();
                if accepted {
                    *self = next;
                }
                accepted
            }
            Op::Deregister(what) => {
                match &what.what {
                    Removed::Node => self.drop_node(&what.node),
                    Removed::Service(id) => self.drop_service(&what.node, id),
                    Removed::Check(id) => {
                        self.checks.retain(|(n, c)| !same(n, &what.node) || !same(&c.value.id, id));
                    }
                }
                true
            }
            _ => unreachable!("not generated here"),
        }
    }

    fn register(&mut self, index: u64, registration: &Registration) -> Option<()> {
        let Registration { node, skip_node_update, service, checks } = registration;
        let name = node.name.to_string();
        (!name.is_empty()).then_some(())?;
        if self.node(&name).is_none() || !skip_node_update {
            self.register_node(index, node)?;
        }
        if let Some(service) = service {
            (!service.id.is_empty() && !service.name.is_empty()).then_some(())?;
            self.register_service(index, &name, service);
        }
        for check in checks {
            let mut check = check.clone();
            check.service_name = match check.service_id.is_empty() {
                true => "".into(),
                false => self.service(&name, &check.service_id)?.value.name.clone(),
            };
            let found =
                take(&mut self.checks, |(n, c)| same(n, &name) && same(&c.value.id, &check.id));
            self.checks.push((name.clone(), put(index, found.map(|(_, check)| check), check)));
        }
        Some(())
    }

    fn register_node(&mut self, index: u64, node: &Node) -> Option<()> {
        let holder = self.node(&node.name).cloned();
        if holder.as_ref().is_some_and(|holder| holder.value == *node) {
            return Some(());
        }
        let has_id = |known: &&Record<Node>| same(&known.value.id, &node.id);
        let known =
            self.nodes.iter().find(|_| !node.id.is_empty()).and(self.nodes.iter().find(has_id));
        let known = known.cloned();
        let is_itself = known.as_ref().is_some_and(|known| same(&known.value.name, &node.name));
        if let Some(holder) = holder.as_ref().filter(|_| !is_itself && !node.id.is_empty()) {
            let spares = known.is_none() && holder.value.id.is_empty();
            (spares || !self.is_alive(&node.name)).then_some(())?;
        }
        if let Some(known) = known.as_ref().filter(|_| !is_itself) {
            self.drop_node(&known.value.name);
        }
        let create_index = known.or(holder).map_or(index, |record| record.create_index);
        self.nodes.retain(|other| !same(&other.value.name, &node.name));
        self.nodes.push(Record { value: node.clone(), create_index, modify_index: index });
        Some(())
    }

    fn register_service(&mut self, index: u64, node: &str, service: &Service) {
        let at =
            |(n, s): &(String, Record<Service>)| same(n, node) && same(&s.value.id, &service.id);
        let found = take(&mut self.services, at).map(|(_, found)| found);
        let follow = found.as_ref().is_some_and(|found| {
            found.value.name != service.name || found.value.tags != service.tags
        });
        self.services.push((node.to_owned(), put(index, found, service.clone())));
        if follow {
            let of_it = |(n, c): &&mut (String, Record<Check>)| {
                same(n, node) && same(&c.value.service_id, &service.id)
            };
            for (_, check) in self.checks.iter_mut().filter(of_it) {
                check.value.service_name = service.name.clone();
                check.modify_index = index;
            }
        }
    }

    fn drop_node(&mut self, name: &str) {
        self.nodes.retain(|node| !same(&node.value.name, name));
        self.services.retain(|(node, _)| !same(node, name));
        self.checks.retain(|(node, _)| !same(node, name));
    }

    fn drop_service(&mut self, node: &str, id: &str) {
        self.services.retain(|(n, service)| !same(n, node) || !same(&service.value.id, id));
        self.checks.retain(|(n, check)| !same(n, node) || !same(&check.value.service_id, id));
    }

    fn node(&self, name: &str) -> Option<&Record<Node>> {
        self.nodes.iter().find(|node| same(&node.value.name, name))
    }

    fn service(&self, node: &str, id: &str) -> Option<&Record<Service>> {
        let found = self.services.iter().find(|(n, s)| same(n, node) && same(&s.value.id, id));
        found.map(|(_, service)| service)
    }

    fn is_alive(&self, node: &str) -> bool {
        self.checks.iter().any(|(name, check)| {
            same(name, node)
                && &*check.value.id == lan_agent::catalog::SERF_HEALTH
                && check.value.status != Health::Critical
        })
    }

    fn services_on(&self, node: &str) -> Vec<&Record<Service>> {
        let mut found: Vec<_> =
            self.services.iter().filter(|(n, _)| same(n, node)).map(|(_, s)| s).collect();
        found.sort_by_key(|service| service.value.id.to_lowercase());
        found
    }

    /// The lines of the checks of a node, of those that are wanted.
    fn checks_on(&self, node: &str, wanted: impl Fn(&Check) -> bool) -> Vec<String> {
        let name = self.node(node).map(|node| node.value.name.clone()).unwrap_or_default();
        let on_it = self.checks.iter().filter(|(n, check)| same(n, node) && wanted(&check.value));
        let mut found: Vec<_> = on_it.map(|(_, check)| check).collect();
        found.sort_by_key(|check| check.value.id.to_lowercase());
        let tags = |check: &Check| {
            let service = self.service(node, &check.service_id);
            service.map(|service| service.value.tags.clone()).unwrap_or_default()
        };
        let lines = found.into_iter();
        lines.map(|c| format!("{name} {:?} {}", tags(&c.value), line("check", c))).collect()
    }

    /// What a part shows, as the catalog should.
    pub(super) fn shown(&self, part: &Part) -> Vec<String> {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| node.value.name.to_lowercase());
        let service_line = |service: &Record<Service>| line("service", service);
        let of_all = |wanted: &dyn Fn(&Check) -> bool| -> Vec<String> {
            nodes.iter().flat_map(|node| self.checks_on(&node.value.name, wanted)).collect()
        };
        match part {
            Part::Nodes => nodes.iter().map(|node| line("node", node)).collect(),
            Part::Node(name) => {
                let Some(node) = self.node(name) else { return Vec::new() };
                let services = self.services_on(name);
                [line("node", node)]
                    .into_iter()
                    .chain(services.into_iter().map(service_line))
                    .collect()
            }
            Part::NodeChecks(name) => self.checks_on(name, |_| true),
            Part::Names => self.names(),
            Part::Instances => nodes
                .iter()
                .flat_map(|n| self.services_on(&n.value.name))
                .map(service_line)
                .collect(),
            Part::Service(name) | Part::Health(name) | Part::ServiceChecks(name) => nodes
                .iter()
                .flat_map(|node| {
                    self.services_on(&node.value.name).into_iter().map(move |s| (node, s))
                })
                .filter(|(_, service)| same(&service.value.name, name))
                .flat_map(|(node, service)| self.instance_lines(part, node, service))
                .collect(),
            Part::Checks(None) => of_all(&|_| true),
            Part::Checks(Some(status)) => of_all(&|check| check.status == *status),
        }
    }

    fn instance_lines(
        &self,
        part: &Part,
        node: &Record<Node>,
        service: &Record<Service>,
    ) -> Vec<String> {
        let lines = vec![line("node", node), line("service", service)];
        let own = self.checks_on(&node.value.name, |check| check.service_id.is_empty());
        let about = |check: &Check| same(&check.service_id, &service.value.id);
        let checks = self.checks_on(&node.value.name, about);
        match part {
            Part::Service(_) => lines,
            Part::ServiceChecks(_) => checks,
            _ => [lines, own, checks].concat(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.services.iter().map(|(_, s)| s.value.name.clone()).collect();
        names.sort();
        names.dedup();
        let tags = |name: &str| {
            let with_name = self.services.iter().filter(|(_, s)| &*s.value.name == name);
            let mut tags: Vec<_> = with_name.flat_map(|(_, s)| s.value.tags.clone()).collect();
            tags.sort();
            tags.dedup();
            tags.join(",")
        };
        names.iter().map(|name| format!("{name}: {}", tags(name))).collect()
    }
}

fn take<T>(list: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> Option<T> {
    let at = list.iter().position(wanted)?;
    Some(list.remove(at))
}
