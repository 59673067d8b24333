//! What stays in the table and what leaves it.

use bytes::Bytes;

use super::*;
use crate::{
    ask::{Meta, Outcome},
    catalog::{Form, Selection, Subject},
};

fn key(service: usize) -> Key {
    let subject = Subject::Service(service.to_string().into());
    let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
    Key { dc: None, token: String::new(), lookup }
}

fn answer(index: u64, len: usize) -> Answer {
    let meta = Meta { index, known_leader: Some(true), ..Meta::default() };
    Answer { outcome: Outcome::Found, meta, body: Bytes::from(vec![b'x'; len]) }
}

fn index_of(cache: &Cache, key: &Key) -> u64 {
    cache.get(key).unwrap().held().unwrap().meta.index
}

#[test]
fn what_was_wanted_longest_ago_leaves_when_there_is_too_much() {
    let cache = Cache::new(100 << 10);
    for number in 0..1000 {
        cache.remember(&key(number), &answer(1, 9 << 10), number as u64);
        // One that is wanted again and again.
        cache.get(&key(0)).unwrap().touch(number as u64);
        assert!(cache.bytes() <= 100 << 10, "{} after {number}", cache.bytes());
    }
    assert!(cache.get(&key(0)).is_some() && cache.get(&key(999)).is_some());
    assert!(cache.get(&key(1)).is_none());
    assert!(cache.len() >= 8, "{}", cache.len());
}

#[test]
fn names_that_nobody_has_push_out_nothing_that_is_there() {
    let cache = Cache::new(100 << 10);
    cache.remember(&key(0), &answer(1, 9 << 10), 0);
    for number in 1..1000 {
        cache.remember(&key(number), &answer(1, 2), number as u64);
    }
    assert!(cache.get(&key(0)).is_some());
}

#[test]
fn an_answer_that_is_larger_than_everything_stays_alone() {
    let cache = Cache::new(10 << 10);
    (0..5).for_each(|number| cache.remember(&key(number), &answer(1, 1 << 10), 0));
    cache.remember(&key(9), &answer(1, 20 << 10), 0);
    assert_eq!(cache.len(), 1);
    cache.remember(&key(9), &answer(2, 1 << 10), 0);
    cache.remember(&key(1), &answer(1, 1 << 10), 0);
    assert_eq!(cache.len(), 2);
}

#[test]
fn what_nobody_wants_for_three_days_leaves() {
    let cache = Cache::new(1 << 20);
    let day_ms = 24 * 60 * 60 * 1000;
    cache.remember(&key(1), &answer(1, 10), 0);
    cache.remember(&key(2), &answer(1, 10), day_ms);
    let entry = cache.get(&key(1)).unwrap();
    cache.expire(3 * day_ms);
    assert_eq!(cache.len(), 2);
    cache.expire(3 * day_ms + 1);
    assert!(entry.evicted.is_cancelled());
    assert_eq!((cache.get(&key(1)).is_none(), cache.len()), (true, 1));
    assert_eq!(cache.bytes(), cache.get(&key(2)).unwrap().weight());
}

#[test]
fn a_server_that_is_behind_does_not_take_back_what_another_said() {
    let cache = Cache::new(1 << 20);
    cache.remember(&key(1), &answer(7, 1), 1000);
    cache.remember(&key(1), &answer(6, 2), 2000);
    assert_eq!(index_of(&cache, &key(1)), 7);
    assert_eq!(cache.get(&key(1)).unwrap().confirmed_ms(9000), 1000);
    // Nobody is behind for so long: the cluster was made anew.
    cache.remember(&key(1), &answer(6, 2), 11_000);
    assert_eq!(index_of(&cache, &key(1)), 6);
}

#[test]
fn the_same_answer_again_is_a_confirmation() {
    let cache = Cache::new(1 << 20);
    cache.remember(&key(1), &answer(7, 1), 1000);
    let entry = cache.get(&key(1)).unwrap();
    let held = entry.held().unwrap();
    cache.remember(&key(1), &answer(7, 1), 5000);
    assert!(Arc::ptr_eq(&held, &entry.held().unwrap()));
    assert_eq!(entry.confirmed_ms(9000), 5000);
    let mut behind = answer(7, 1);
    behind.meta.last_contact = Duration::from_secs(3);
    cache.remember(&key(1), &behind, 9000);
    assert_eq!(entry.confirmed_ms(9000), 6000, "as old as the server says");
}

#[test]
fn nobody_vouches_for_what_is_kept_fresh_by_servers_without_a_leader() {
    let cache = Cache::new(1 << 20);
    cache.remember(&key(1), &answer(7, 1), 1000);
    let entry = cache.get(&key(1)).unwrap();
    entry.resume();
    assert_eq!(standing(&entry, 9000, None).age, Duration::ZERO);
    // Servers take a while to notice that, and somewhat longer to say it.
    let unled = standing(&entry, 9000, Some(4000));
    assert_eq!((unled.refresh, unled.age), (Refresh::Broken, Duration::from_secs(7)));
    entry.replace(&answer(8, 1), 3000);
    assert_eq!(standing(&entry, 9000, Some(4000)).age, Duration::from_secs(6));
    entry.break_off(6000);
    assert_eq!(standing(&entry, 9000, None).age, Duration::from_secs(3));
}
