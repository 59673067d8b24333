//! Deregistrations: what goes takes with it what depends on it.

use lan_agent::catalog::{Deregistration, Removed};

use super::{Catalog, fold, part::Changes};
use crate::state::Touched;

impl Catalog {
    /// Removes a node with all on it, a service with its checks, or a check. What is not there is
    /// gone already.
    pub fn deregister(&mut self, index: u64, what: &Deregistration, touched: &mut Touched) {
        let key = fold(&what.node);
        let mut changes = Changes::at(index);
        match &what.what {
            Removed::Node => self.take_node(&mut changes, &key),
            Removed::Service(id) => self.take_service(&mut changes, &key, &fold(id)),
            Removed::Check(id) => self.take_check(&mut changes, &key, &fold(id)),
        }
        self.settle(changes, touched);
    }
}
