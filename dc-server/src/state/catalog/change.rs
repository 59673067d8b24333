//! The changes that registrations and deregistrations are made of: each puts one record in or takes
//! one out, keeps the tables together, and notes the parts that are not what they were.

use std::sync::Arc;

use imbl::OrdSet;
use lan_agent::catalog::{Check, Health, Node, Service, Text};

use super::{
    Catalog, Group, Host, Instance, Key, Place, Record, Unwell, fold,
    part::{Changes, Part},
};

impl Catalog {
    /// Puts a node in, or another in its place.
    pub(super) fn put_node(&mut self, changes: &mut Changes, node: Node, create_index: u64) {
        let key = fold(&node.name);
        let (id, name) = (node.id.clone(), node.name.clone());
        let record = Record { value: node, create_index, modify_index: changes.index };
        let before = self.seat_node(&key, record, changes.index);
        before.iter().for_each(|before| self.forget_id(&before.value.id, &key));
        if !id.is_empty() {
            self.ids.insert(fold(&id), key.clone());
        }
        changes.add(Part::Nodes);
        changes.add(Part::Node(key.clone()));
        let Some(host) = self.hosts.get(&key) else { return };
        host.note_groups(changes);
        if before.is_some_and(|before| before.value.name != name) {
            // Checks show how the name of their node is written.
            host.checks().for_each(|check| host.note_check(changes, &key, &check.value));
        }
    }

    /// Takes a node out with everything on it. Does nothing when there is none.
    pub(super) fn take_node(&mut self, changes: &mut Changes, key: &Key) {
        let Some(host) = self.hosts.get(key).cloned() else { return };
        host.checks.keys().for_each(|id| self.take_check(changes, key, id));
        host.instances.keys().for_each(|id| self.take_service(changes, key, id));
        self.hosts.remove(key);
        self.forget_id(&host.node.value.id, key);
        changes.add(Part::Nodes);
        changes.add(Part::Node(key.clone()));
    }

    /// Puts an instance on a node, or another in its place. Does nothing when it is there already.
    pub(super) fn put_service(&mut self, changes: &mut Changes, key: &Key, mut service: Service) {
        let Some(host) = self.hosts.get(key) else { return };
        let before = host.instances.get(&fold(&service.id)).cloned();
        if before.as_ref().is_some_and(|before| before.record.value == service) {
            return;
        }
        self.names.share(&mut service);
        let create_index = before.as_ref().map_or(changes.index, |b| b.record.create_index);
        let record = Record { value: service, create_index, modify_index: changes.index };
        let (instance, names_changed) = self.seat_service(key, record, changes.index);
        changes.add(Part::Instances);
        changes.add(Part::Node(key.clone()));
        if names_changed {
            changes.add(Part::Names);
        }
        for Instance { record, .. } in before.iter().chain([&instance]) {
            let group = fold(&record.value.name);
            changes.add(Part::Service(group.clone()));
            changes.add(Part::Health(group));
        }
        if let Some(before) = before {
            self.follow_service(changes, key, &before.record.value, &instance);
        }
    }

    /// Takes an instance off a node, with its checks. Does nothing when there is none.
    pub(super) fn take_service(&mut self, changes: &mut Changes, key: &Key, id: &Key) {
        let Some(host) = self.hosts.get(key) else { return };
        let Some(instance) = host.instances.get(id).cloned() else { return };
        instance.checks.iter().for_each(|check| self.take_check(changes, key, check));
        let service = &instance.record.value;
        if let Some(host) = self.host_mut(key) {
            host.instances.remove(id);
        }
        self.leave_group(&service.name, key, id);
        if self.names.remove(service) {
            changes.add(Part::Names);
        }
        changes.add(Part::Instances);
        changes.add(Part::Node(key.clone()));
        let group = fold(&service.name);
        changes.add(Part::Service(group.clone()));
        changes.add(Part::Health(group));
    }

    /// Puts a check on a node, or another in its place. Does nothing when it is there already. The
    /// service that it is about must be there.
    pub(super) fn put_check(&mut self, changes: &mut Changes, key: &Key, mut check: Check) {
        let Some(host) = self.hosts.get(key) else { return };
        let before = host.checks.get(&fold(&check.id)).cloned();
        host.complete(&mut check);
        if before.as_ref().is_some_and(|before| before.value == check) {
            return;
        }
        let create_index = before.as_ref().map_or(changes.index, |before| before.create_index);
        let record = Record { value: check, create_index, modify_index: changes.index };
        let record = self.seat_check(key, record);
        if let Some(host) = self.hosts.get(key) {
            before.iter().for_each(|before| host.note_check(changes, key, &before.value));
            host.note_check(changes, key, &record.value);
        }
    }

    /// Takes a check off a node. Does nothing when there is none.
    pub(super) fn take_check(&mut self, changes: &mut Changes, key: &Key, id: &Key) {
        let Some(host) = self.hosts.get(key) else { return };
        let Some(check) = host.checks.get(id).cloned() else { return };
        host.note_check(changes, key, &check.value);
        if let Some(host) = self.host_mut(key) {
            host.unlist(&check.value.service_id, id);
            host.checks.remove(id);
        }
        self.unwell.remove(check.value.status, &Place { node: key.clone(), id: id.clone() });
    }

    /// Puts the record of a node in and returns the one that was there. A new host has `index`.
    pub(super) fn seat_node(
        &mut self,
        key: &Key,
        record: Record<Node>,
        index: u64,
    ) -> Option<Arc<Record<Node>>> {
        let record = Arc::new(record);
        match self.host_mut(key) {
            Some(host) => Some(std::mem::replace(&mut host.node, record)),
            None => {
                self.hosts.insert(key.clone(), Arc::new(Host::new(record, index)));
                None
            }
        }
    }

    /// Puts the record of an instance on its node, into its group and among the names. Returns it
    /// with the checks of the one that was there, and whether the names changed.
    pub(super) fn seat_service(
        &mut self,
        key: &Key,
        record: Record<Service>,
        index: u64,
    ) -> (Instance, bool) {
        let id = fold(&record.value.id);
        let group_key = fold(&record.value.name);
        let mut names_changed = self.names.add(&record.value);
        let before = self.hosts.get(key).and_then(|host| host.instances.get(&id)).cloned();
        let checks = before.as_ref().map_or_else(Default::default, |before| before.checks.clone());
        let instance = Instance { record: Arc::new(record), checks };
        if let Some(host) = self.host_mut(key) {
            host.instances.insert(id.clone(), instance.clone());
        }
        if let Some(before) = &before {
            let service = &before.record.value;
            names_changed |= self.names.remove(service);
            if fold(&service.name) != group_key {
                self.leave_group(&service.name, key, &id);
            }
        }
        let group = self.groups.entry(group_key).or_insert_with(|| Arc::new(Group::new(index)));
        Arc::make_mut(group).places.insert(Place { node: key.clone(), id });
        (instance, names_changed)
    }

    /// Puts the record of a check on its node, and among those that do not pass if it does not.
    pub(super) fn seat_check(&mut self, key: &Key, record: Record<Check>) -> Arc<Record<Check>> {
        let id = fold(&record.value.id);
        let record = Arc::new(record);
        let Some(host) = self.host_mut(key) else { return record };
        let before = host.checks.insert(id.clone(), record.clone());
        let before = before.as_ref().map(|before| &before.value);
        let check = &record.value;
        if before.is_none_or(|before| fold(&before.service_id) != fold(&check.service_id)) {
            before.iter().for_each(|before| host.unlist(&before.service_id, &id));
            host.list(&check.service_id, &id);
        }
        if before.is_none_or(|before| before.status != check.status) {
            let place = Place { node: key.clone(), id };
            before.iter().for_each(|before| self.unwell.remove(before.status, &place));
            self.unwell.insert(check.status, place);
        }
        record
    }

    /// Lets the checks of an instance follow it: they show its name and its tags.
    fn follow_service(
        &mut self,
        changes: &mut Changes,
        key: &Key,
        before: &Service,
        now: &Instance,
    ) {
        let service = &now.record.value;
        if before.name == service.name && before.tags == service.tags {
            return;
        }
        let Some(host) = self.hosts.get(key).cloned() else { return };
        for check in host.checks_of(now) {
            host.note_check(changes, key, &check.value);
            let value = Check { service_name: service.name.clone(), ..check.value.clone() };
            let (create_index, modify_index) = (check.create_index, changes.index);
            let record = self.seat_check(key, Record { value, create_index, modify_index });
            host.note_check(changes, key, &record.value);
        }
    }

    fn leave_group(&mut self, name: &Text, key: &Key, id: &Key) {
        let group_key = fold(name);
        let Some(group) = self.groups.get_mut(&group_key) else { return };
        let group = Arc::make_mut(group);
        group.places.remove(&Place { node: key.clone(), id: id.clone() });
        if group.places.is_empty() {
            self.groups.remove(&group_key);
        }
    }

    /// Forgets that a node has this id, unless it is another one's now.
    pub(super) fn forget_id(&mut self, id: &Text, key: &Key) {
        let id = fold(id);
        if self.ids.get(&id) == Some(key) {
            self.ids.remove(&id);
        }
    }

    /// Returns the name of a node as the table has it, so that it is kept in memory once.
    pub(super) fn shared_key(&self, key: Key) -> Key {
        self.hosts.get_key_value(&key).map_or(key, |(shared, _)| shared.clone())
    }

    pub(super) fn host_mut(&mut self, key: &Key) -> Option<&mut Host> {
        self.hosts.get_mut(key).map(Arc::make_mut)
    }
}

impl Host {
    fn new(node: Arc<Record<Node>>, index: u64) -> Self {
        let (instances, checks, own_checks) = Default::default();
        Self { node, instances, checks, own_checks, index, checks_index: index }
    }

    /// Fills in what a check shows of its service.
    pub(super) fn complete(&self, check: &mut Check) {
        let instance = self.instances.get(&fold(&check.service_id));
        match instance.filter(|_| !check.service_id.is_empty()) {
            Some(instance) => {
                let service = &instance.record.value;
                check.service_name = service.name.clone();
                if check.service_id == service.id {
                    check.service_id = service.id.clone();
                }
            }
            None => check.service_name = Text::default(),
        }
    }

    /// Puts a check on the list of those about a service, or about the node for an empty id.
    fn list(&mut self, service_id: &Text, id: &Key) {
        let Some(ids) = self.list_of(service_id) else { return };
        if let Err(at) = ids.binary_search(id) {
            *ids = [&ids[..at], std::slice::from_ref(id), &ids[at..]].concat().into();
        }
    }

    fn unlist(&mut self, service_id: &Text, id: &Key) {
        let Some(ids) = self.list_of(service_id) else { return };
        if let Ok(at) = ids.binary_search(id) {
            *ids = [&ids[..at], &ids[at + 1..]].concat().into();
        }
    }

    fn list_of(&mut self, service_id: &Text) -> Option<&mut Arc<[Key]>> {
        if service_id.is_empty() {
            return Some(&mut self.own_checks);
        }
        self.instances.get_mut(&fold(service_id)).map(|instance| &mut instance.checks)
    }

    /// Notes that the services on the node are not what they were, as their instances show it.
    fn note_groups(&self, changes: &mut Changes) {
        for instance in self.instances() {
            let group = fold(&instance.record.value.name);
            changes.add(Part::Service(group.clone()));
            changes.add(Part::Health(group));
        }
    }

    /// Notes that what shows a check is not what it was.
    fn note_check(&self, changes: &mut Changes, key: &Key, check: &Check) {
        changes.add(Part::NodeChecks(key.clone()));
        changes.add(Part::Checks(None));
        changes.add(Part::Checks(Some(check.status)));
        if check.service_id.is_empty() {
            let groups = self.instances().map(|instance| fold(&instance.record.value.name));
            return groups.for_each(|group| changes.add(Part::Health(group)));
        }
        let group = fold(&check.service_name);
        changes.add(Part::ServiceChecks(group.clone()));
        changes.add(Part::Health(group));
    }
}

impl Group {
    fn new(index: u64) -> Self {
        let places = OrdSet::new();
        Self { places, index, health_index: index, checks_index: index }
    }
}

impl Unwell {
    fn insert(&mut self, status: Health, place: Place) {
        if let Some(places) = self.saying(status) {
            places.insert(place);
        }
    }

    fn remove(&mut self, status: Health, place: &Place) {
        if let Some(places) = self.saying(status) {
            places.remove(place);
        }
    }

    fn saying(&mut self, status: Health) -> Option<&mut OrdSet<Place>> {
        match status {
            Health::Passing => None,
            Health::Warning => Some(&mut self.warning),
            Health::Critical => Some(&mut self.critical),
        }
    }
}
