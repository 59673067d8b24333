//! Bodies of answers that were encoded already, each with what it shows and as of when.
//!
//! A table of sets of a few slots, as in a processor's cache: a lookup has its set by its hash,
//! and is compared with the entries there. A body counts only for the version of what it shows
//! that it was made of, so nothing has to be thrown away when something changes. Readers load
//! pointers and take no lock; who encoded a body puts it into a slot, over one that is older or
//! has had its turn. When all bodies together grow too large, a hand goes round and empties slots.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use lan_agent::catalog::Lookup;

use crate::metrics::Encoding;

/// Sets in the table.
const SETS: usize = 1024;

/// Slots in a set: as many lookups with the same hash are kept side by side.
const WAYS: usize = 4;

/// Most bytes of all bodies together unless something else is wanted: the instances of a hundred services of a thousand.
pub(super) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What part of that a body may take, so that one does not push all others out.
const BODY_PART: usize = 4;

/// What a slot takes beside its body, about.
const ENTRY_LEN: usize = 256;

/// Which state of what it shows a body was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// How often the state was replaced: indexes of before mean nothing after.
    pub lineage: u64,
    /// The index of the last change of what it shows.
    pub index: u64,
}

/// The table.
pub(super) struct Bodies {
    slots: Box<[ArcSwapOption<Entry>]>,
    bytes_max: usize,
    bytes: AtomicUsize,
    hand: AtomicUsize,
    encoding: Encoding,
}

#[derive(Debug)]
struct Entry {
    lookup: Lookup,
    version: Version,
    body: Bytes,
}

impl Bodies {
    /// Starts without any; all together are to take that many bytes at most.
    pub(super) fn new(bytes_max: usize) -> Self {
        let slots = (0..SETS * WAYS).map(|_| ArcSwapOption::empty()).collect();
        let (bytes, hand) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { slots, bytes_max, bytes, hand, encoding: Encoding::resolve() }
    }

    /// Returns the body for a lookup at a version, encoding it if it is not there. What can't be
    /// encoded is not kept.
    pub(super) fn get_or<E>(
        &self,
        lookup: &Lookup,
        version: Version,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let set = self.set(lookup);
        for slot in set {
            let found = slot.load();
            if let Some(entry) = found.as_ref().filter(|entry| entry.lookup == *lookup)
                && entry.version == version
            {
                self.encoding.kept.increment(1);
                return Ok(entry.body.clone());
            }
        }
        let body = encode()?;
        self.encoding.encoded.increment(1);
        if body.len() <= self.bytes_max / BODY_PART {
            self.keep(set, Entry { lookup: lookup.clone(), version, body: body.clone() });
        }
        Ok(body)
    }

    fn set(&self, lookup: &Lookup) -> &[ArcSwapOption<Entry>] {
        // Always the same keys: who makes lookups collide only has them encoded again.
        let mut hasher = DefaultHasher::new();
        lookup.hash(&mut hasher);
        let set = hasher.finish() as usize % SETS;
        &self.slots[set * WAYS..(set + 1) * WAYS]
    }

    fn keep(&self, set: &[ArcSwapOption<Entry>], entry: Entry) {
        let turn = self.hand.fetch_add(1, Ordering::Relaxed);
        let mut chosen = &set[turn % WAYS];
        for slot in set {
            match &*slot.load() {
                Some(found) if found.lookup == entry.lookup => {
                    if found.version > entry.version {
                        return;
                    }
                    chosen = slot;
                    break;
                }
                Some(_) => {}
                None => chosen = slot,
            }
        }
        self.swap(chosen, Some(Arc::new(entry)));
        for _ in 0..self.slots.len() {
            if self.bytes.load(Ordering::Relaxed) <= self.bytes_max {
                break;
            }
            let hand = self.hand.fetch_add(1, Ordering::Relaxed);
            self.swap(&self.slots[hand % self.slots.len()], None);
        }
    }

    /// Puts an entry into a slot and counts the bytes.
    fn swap(&self, slot: &ArcSwapOption<Entry>, entry: Option<Arc<Entry>>) {
        let weight = |entry: &Arc<Entry>| ENTRY_LEN + entry.body.len();
        self.bytes.fetch_add(entry.as_ref().map_or(0, weight), Ordering::Relaxed);
        let before = slot.swap(entry);
        self.bytes.fetch_sub(before.as_ref().map_or(0, weight), Ordering::Relaxed);
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bodies").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lan_agent::catalog::{Form, Selection, Subject};

    use std::convert::Infallible;

    use super::*;

    fn lookup(service: usize) -> Lookup {
        let subject = Subject::Service(service.to_string().into());
        Lookup { subject, selection: Selection::default(), form: Form::Json }
    }

    fn version(index: u64) -> Version {
        Version { lineage: 0, index }
    }

    /// Returns the body that comes out, and whether it was encoded for that.
    fn get(
        bodies: &Bodies,
        lookup: &Lookup,
        version: Version,
        body: &'static str,
    ) -> (Bytes, bool) {
        let mut encoded = false;
        let body = bodies.get_or(lookup, version, || {
            encoded = true;
            Ok::<_, Infallible>(body.into())
        });
        (body.unwrap(), encoded)
    }

    #[test]
    fn a_body_is_encoded_once_for_each_version() {
        let bodies = Bodies::default();
        assert_eq!(get(&bodies, &lookup(1), version(5), "a"), ("a".into(), true));
        assert_eq!(get(&bodies, &lookup(1), version(5), "b"), ("a".into(), false));
        assert_eq!(get(&bodies, &lookup(1), version(6), "b"), ("b".into(), true));
        assert_eq!(get(&bodies, &lookup(1), version(6), "c"), ("b".into(), false));
    }

    #[test]
    fn an_index_of_another_lineage_is_another_version() {
        let bodies = Bodies::default();
        get(&bodies, &lookup(1), version(5), "a");
        let replaced = Version { lineage: 1, index: 5 };
        assert_eq!(get(&bodies, &lookup(1), replaced, "b"), ("b".into(), true));
    }

    #[test]
    fn lookups_that_differ_in_anything_have_their_own_bodies() {
        let bodies = Bodies::default();
        let mut other = lookup(1);
        other.selection.tags = vec!["v1".into()];
        let records = Lookup { form: Form::Records, ..lookup(1) };
        for (lookup, body) in [(&lookup(1), "a"), (&other, "b"), (&records, "c")] {
            assert_eq!(get(&bodies, lookup, version(5), body), (body.into(), true));
        }
        assert_eq!(get(&bodies, &other, version(5), "x"), ("b".into(), false));
    }

    #[test]
    fn what_is_refused_is_refused_again() {
        let bodies = Bodies::default();
        for reason in ["a", "b"] {
            assert_eq!(bodies.get_or(&lookup(1), version(5), || Err(reason)), Err(reason));
        }
    }

    #[test]
    fn who_read_an_older_state_does_not_push_out_a_newer_body() {
        let bodies = Bodies::default();
        get(&bodies, &lookup(1), version(6), "new");
        assert_eq!(get(&bodies, &lookup(1), version(5), "old"), ("old".into(), true));
        assert_eq!(get(&bodies, &lookup(1), version(6), "x"), ("new".into(), false));
    }

    #[test]
    fn all_bodies_together_stay_within_their_bound_and_the_largest_are_not_kept() {
        let bodies = Bodies::default();
        let body = |len: usize| move || Ok::<_, Infallible>(Bytes::from(vec![b' '; len]));
        for number in 0..200 {
            bodies.get_or(&lookup(number), version(1), body(1 << 20)).unwrap();
        }
        assert!(bodies.bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        let held = bodies.slots.iter().filter(|slot| slot.load().is_some()).count();
        assert!(held > 40, "{held} are kept");
        bodies.get_or(&lookup(0), version(2), body(BYTES_MAX / BODY_PART + 1)).unwrap();
        assert!(get(&bodies, &lookup(0), version(2), "x").1);
        let sum: usize = bodies
            .slots
            .iter()
            .filter_map(|slot| slot.load_full())
            .map(|entry| ENTRY_LEN + entry.body.len())
            .sum();
        assert_eq!(sum, bodies.bytes.load(Ordering::Relaxed));
    }

    #[test]
    fn many_lookups_find_room_side_by_side() {
        let bodies = Bodies::default();
        for _ in 0..2 {
            (0..1000).for_each(|number| drop(get(&bodies, &lookup(number), version(1), "a")));
        }
        // With a place for each, by chance some four share one with more, and push each other out.
        let again = (0..1000).filter(|n| get(&bodies, &lookup(*n), version(1), "a").1).count();
        assert!(again < 50, "{again} of 1000 were encoded again");
    }
}
