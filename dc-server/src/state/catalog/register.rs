//! Registrations: what they are refused for, and what they change.
//!
//! A node is known by its id; its name may change, and then what was on the node under its old
//! name goes with that name. A name belongs to the node that has it as long as that one's agent
//! is alive; a node without an agent, or with a dead one, gives its name up to who asks for it,
//! with what runs there.

use lan_agent::catalog::{Node, Registration};

use super::{Catalog, Fault, Key, Refusal, fold, part::Changes};
use crate::state::Touched;

impl Catalog {
    /// Takes in a node with a service and checks, all of it or nothing.
    pub fn register(
        &mut self,
        index: u64,
        registration: &Registration,
        touched: &mut Touched,
    ) -> Result<(), Refusal> {
        self.examine(registration)?;
        let Registration { node, service, checks, .. } = registration;
        let key = self.shared_key(fold(&node.name));
        let mut changes = Changes::at(index);
        if self.changes_node(&key, registration) {
            self.register_node(&mut changes, &key, node);
        }
        if let Some(service) = service {
            self.put_service(&mut changes, &key, service.clone());
        }
        for check in checks {
            self.put_check(&mut changes, &key, check.clone());
        }
        self.settle(changes, touched);
        Ok(())
    }

    fn register_node(&mut self, changes: &mut Changes, key: &Key, node: &Node) {
        let known = match self.key_by_id(node) {
            Some(known) => self.hosts.get(&known),
            None => self.hosts.get(key),
        };
        let create_index = known.map_or(changes.index, |host| host.node.create_index);
        if let Some(old_name) = self.key_by_id(node).filter(|old_name| old_name != key) {
            self.take_node(changes, &old_name);
        }
        self.put_node(changes, node.clone(), create_index);
    }

    /// Finds what stands against a registration before anything is changed.
    fn examine(&self, registration: &Registration) -> Result<(), Refusal> {
        let Registration { node, service, checks, .. } = registration;
        if node.name.is_empty() {
            return Err(Refusal::bad("Must provide node"));
        }
        let key = fold(&node.name);
        if self.changes_node(&key, registration) {
            self.claim(&key, node)?;
        }
        if service.as_ref().is_some_and(|service| service.id.is_empty() || service.name.is_empty())
        {
            return Err(Refusal::bad("Must provide service name with ID"));
        }
        let host = self.hosts.get(&key);
        for check in checks {
            if check.id.is_empty() {
                return Err(Refusal::bad("Must provide a name or an id for a check"));
            }
            let id = fold(&check.service_id);
            let registered = service.as_ref().is_some_and(|service| fold(&service.id) == id);
            let known = registered || host.is_some_and(|host| host.instances.contains_key(&id));
            if !id.is_empty() && !known {
                return Err(Refusal::conflict(format!(
                    "Missing service registration: check {:?} is about the service {:?}, which is not on node {:?}",
                    check.id, check.service_id, node.name,
                )));
            }
        }
        Ok(())
    }

    /// Tells whether the node would not be as it is.
    fn changes_node(&self, key: &Key, registration: &Registration) -> bool {
        match self.hosts.get(key) {
            Some(_) if registration.skip_node_update => false,
            Some(host) => host.node.value != registration.node,
            None => true,
        }
    }

    /// Refuses a node the name of another one that is alive.
    fn claim(&self, key: &Key, node: &Node) -> Result<(), Refusal> {
        let known = self.key_by_id(node);
        let Some(holder) = self.hosts.get(key).filter(|_| known.as_ref() != Some(key)) else {
            return Ok(());
        };
        // An id can be added to a node that has none, but not by a node that has another name.
        let upgrades = holder.node.value.id.is_empty() && known.is_none();
        if node.id.is_empty() || upgrades || !holder.is_alive() {
            return Ok(());
        }
        let Node { id, address, .. } = &holder.node.value;
        Err(Refusal::conflict(format!(
            "the name {:?} is taken by the node with the id {id:?} at {address}, which is alive: node {:?} can't have it",
            node.name, node.id,
        )))
    }

    /// Returns the name under which a node is known by its id.
    fn key_by_id(&self, node: &Node) -> Option<Key> {
        if node.id.is_empty() { None } else { self.ids.get(&fold(&node.id)).cloned() }
    }
}

impl Refusal {
    fn bad(sentence: &str) -> Self {
        Self { fault: Fault::Registration, sentence: sentence.into() }
    }

    fn conflict(sentence: String) -> Self {
        Self { fault: Fault::Catalog, sentence: sentence.into() }
    }
}
