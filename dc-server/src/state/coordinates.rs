//! Where the nodes of a datacenter are on the map of round trips.
//!
//! The catalog decides which nodes there are: what is said of others is passed over, and a coordinate goes with its
//! node. A change of anyone's place is a change of the table; a node's own index is that of its last move, so
//! that who waits for one node does not hear of the others.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use imbl::OrdMap;
use lan_agent::{ask::coordinate::Update, catalog::Text};
use serde::{Deserialize, Serialize};
use topology::Coordinate;

use super::{
    Touched,
    catalog::{Catalog, Key, Part, fold},
};

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The node's name as the catalog writes it.
    #[serde(rename = "n")]
    pub node: Text,
    /// Where it is.
    #[serde(rename = "c")]
    pub coordinate: Coordinate,
    /// The index of its last move.
    #[serde(rename = "m")]
    pub modify_index: u64,
}

/// The coordinates, by node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    places: OrdMap<Key, Arc<Place>>,
    index: u64,
}

impl Table {
    /// Returns the index of the last change of any coordinate; 0 before the first.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns the index of a node's last move; of any change at all where nothing is known of it.
    pub fn index_of(&self, node: &Text) -> u64 {
        self.get(node).map_or(self.index, |place| place.modify_index)
    }

    /// Returns where a node is, whatever the capitals of its name.
    pub fn get(&self, node: &Text) -> Option<&Place> {
        self.places.get(&fold(node)).map(|place| &**place)
    }

    /// Returns all places in the order of the nodes' names.
    pub fn all(&self) -> impl Iterator<Item = &Place> {
        self.places.values().map(|place| &**place)
    }

    /// Sorts what is on nodes by the distance from one: what is on itself first, what is on nodes without a
    /// coordinate last, and what is equally far in the order in which it was. The order stays when nothing is
    /// known of that node, but for what is on it.
    pub fn nearest_first<T>(&self, near: &Text, rows: &mut [T], node: impl Fn(&T) -> &Text) {
        let (near, from) = (fold(near), self.get(near));
        let distance = |row: &T| {
            let name = fold(node(row));
            if name == near {
                return Duration::ZERO;
            }
            let to = self.places.get(&name);
            let both = from.zip(to);
            both.map_or(Duration::MAX, |(from, to)| from.coordinate.distance(&to.coordinate))
        };
        rows.sort_by_cached_key(distance);
    }

    /// Moves nodes; those that the catalog does not know are passed over.
    pub(super) fn update(
        &mut self,
        index: u64,
        updates: Vec<Update>,
        catalog: &Catalog,
        touched: &mut Touched,
    ) {
        for Update { node, coordinate } in updates {
            let Some(host) = catalog.host(&node) else { continue };
            if self.get(&node).is_some_and(|place| place.coordinate == coordinate) {
                continue;
            }
            let node = host.node().value.name.clone();
            let key = fold(&node);
            self.index = index;
            touched.coordinates.push(key.clone());
            self.places.insert(key, Arc::new(Place { node, coordinate, modify_index: index }));
        }
    }

    /// Forgets the nodes that are gone, among those of which something changed.
    pub(super) fn follow(&mut self, index: u64, catalog: &Catalog, changed: &[Part]) -> Vec<Key> {
        let mut gone = Vec::new();
        for part in changed {
            let Part::Node(key) = part else { continue };
            if catalog.host(key).is_none() && self.places.remove(key).is_some() {
                self.index = index;
                gone.push(key.clone());
            }
        }
        gone
    }

    /// Puts a place in, as a snapshot holds it.
    pub fn restore(&mut self, place: Place) {
        self.places.insert(fold(&place.node), Arc::new(place));
    }

    /// Sets the index, which may be that of a deletion.
    pub fn restore_index(&mut self, index: u64) {
        self.index = index;
    }

    /// Returns the places that follow on one, or all.
    pub fn after(&self, key: Option<&Key>) -> impl Iterator<Item = (Key, Place)> {
        let from = key.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let places = self.places.range((from, Bound::Unbounded));
        places.map(|(key, place)| (key.clone(), Place::clone(place)))
    }
}

/// Keeps the last update of each node, in the order of their names.
pub fn latest(updates: impl IntoIterator<Item = Update>) -> Vec<Update> {
    let by_node: BTreeMap<Key, Update> =
        updates.into_iter().map(|update| (fold(&update.node), update)).collect();
    by_node.into_values().collect()
}

#[cfg(test)]
mod tests;
