//! What was read of bodies that came before: the same bytes are not decoded twice.
//!
//! A server hands out the same body as long as nothing changed in what it shows, so that comparing
//! pointers tells; one that came over a link is compared byte by byte, which is still far cheaper
//! than decoding. The table is a cache by place: a question has two slots, and pushes out who is
//! there. Nothing in it is ever wrong, as the body that came now decides.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use topology::Datacenter;

use super::records::Found;
use crate::{ask::AskError, catalog::Lookup};

/// Places in the table: far more than the names that the applications of one machine look up.
const SETS: usize = 512;

/// Slots in a place.
const WAYS: usize = 2;

/// Most bytes of all bodies together; what was read of them takes about as much again.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest body that is kept, so that one does not push all others out.
const BODY_LEN_MAX: usize = BYTES_MAX / 4;

/// The table.
pub(super) struct Kept {
    slots: Box<[ArcSwapOption<Entry>]>,
    bytes: AtomicUsize,
    turn: AtomicUsize,
}

struct Entry {
    dc: Option<Datacenter>,
    lookup: Lookup,
    body: Bytes,
    found: Arc<Found>,
}

impl Kept {
    /// Returns what a body says that answers a lookup.
    pub(super) fn read(
        &self,
        dc: Option<&Datacenter>,
        lookup: &Lookup,
        body: Bytes,
    ) -> Result<Arc<Found>, AskError> {
        let mut hasher = DefaultHasher::new();
        (dc, lookup).hash(&mut hasher);
        let place = hasher.finish() as usize % SETS;
        let set = &self.slots[place * WAYS..(place + 1) * WAYS];
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut chosen = &set[turn % WAYS];
        for slot in set {
            let held = slot.load();
            let Some(entry) = held.as_ref() else {
                chosen = slot;
                continue;
            };
            if entry.dc.as_ref() == dc && entry.lookup == *lookup {
                if same(&entry.body, &body) {
                    return Ok(entry.found.clone());
                }
                chosen = slot;
                break;
            }
        }
        let found = Arc::new(Found::read(&lookup.subject, &body)?);
        if body.len() <= BODY_LEN_MAX {
            let (dc, lookup) = (dc.cloned(), lookup.clone());
            self.swap(chosen, Some(Arc::new(Entry { dc, lookup, body, found: found.clone() })));
            self.make_room();
        }
        Ok(found)
    }

    fn make_room(&self) {
        for _ in 0..self.slots.len() {
            if self.bytes.load(Ordering::Relaxed) <= BYTES_MAX {
                return;
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            self.swap(&self.slots[turn % self.slots.len()], None);
        }
    }

    /// Puts an entry into a slot and counts the bytes.
    fn swap(&self, slot: &ArcSwapOption<Entry>, entry: Option<Arc<Entry>>) {
        let len = |entry: &Arc<Entry>| entry.body.len();
        self.bytes.fetch_add(entry.as_ref().map_or(0, len), Ordering::Relaxed);
        let before = slot.swap(entry);
        self.bytes.fetch_sub(before.as_ref().map_or(0, len), Ordering::Relaxed);
    }
}

fn same(one: &Bytes, other: &Bytes) -> bool {
    (one.as_ptr() == other.as_ptr() && one.len() == other.len()) || one == other
}

impl Default for Kept {
    fn default() -> Self {
        let slots = (0..SETS * WAYS).map(|_| ArcSwapOption::empty()).collect();
        Self { slots, bytes: AtomicUsize::new(0), turn: AtomicUsize::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::records::tests::{node, row, service},
        *,
    };
    use crate::catalog::{Form, Selection, Service, Subject};

    fn lookup(service: &str) -> Lookup {
        let subject = Subject::Health { service: service.into(), passing: false };
        Lookup { subject, selection: Selection::default(), form: Form::Records }
    }

    fn body(ports: &[u16]) -> Bytes {
        let one = |port: &u16| row(node("n1", "10.0.0.1"), service("", *port), &[]);
        let rows: Vec<_> = ports.iter().map(one).collect();
        rmp_serde::to_vec_named(&rows).unwrap().into()
    }

    #[test]
    fn equal_bytes_are_read_once_and_others_anew() {
        let kept = Kept::default();
        let read = |ports: &[u16]| kept.read(None, &lookup("web"), body(ports)).unwrap();
        let first = read(&[1]);
        assert!(Arc::ptr_eq(&first, &read(&[1])));
        assert!(!Arc::ptr_eq(&first, &read(&[2])));
        let dc2 = "dc2".parse().unwrap();
        let there = kept.read(Some(&dc2), &lookup("web"), body(&[2])).unwrap();
        assert!(!Arc::ptr_eq(&there, &read(&[2])), "another datacenter is another answer");
    }

    #[test]
    fn what_is_no_record_is_an_error_and_not_kept() {
        let kept = Kept::default();
        let refused = kept.read(None, &lookup("web"), Bytes::from_static(b"junk"));
        assert!(matches!(refused, Err(AskError::Failed(_))));
        assert_eq!(kept.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_bodies_together_stay_within_their_bound() {
        let kept = Kept::default();
        let wordy = Service { tags: vec!["x".repeat(BYTES_MAX / 20).into()], ..service("", 1) };
        let rows = [row(node("n1", "10.0.0.1"), wordy, &[])];
        let large = Bytes::from(rmp_serde::to_vec_named(&rows).unwrap());
        for number in 0..40 {
            kept.read(None, &lookup(&number.to_string()), large.clone()).unwrap();
        }
        assert!(kept.bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        let held = kept.slots.iter().filter_map(|slot| slot.load_full());
        let sum: usize = held.map(|entry| entry.body.len()).sum();
        assert_eq!(sum, kept.bytes.load(Ordering::Relaxed));
        assert!(sum > BYTES_MAX / 2, "{sum}");
    }
}
