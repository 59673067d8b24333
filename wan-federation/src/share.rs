//! Which of the other datacenters' servers a server watches.
//!
//! The servers of a datacenter share them out by rendezvous hashing (Thaler and Ravishankar 1998): each
//! pair of servers has a weight, and a remote server is watched by the [`WATCHERS`] of the own ones that have
//! the largest weights with it. When one of them ends, only its part is taken over by others. Weights are the
//! same from both sides, so that two servers often watch each other, with one connection and one stream
//! of heartbeats.
//!
//! Each server watches one server of every other datacenter at least: a request never has to
//! wait for a handshake.
//!
//! A function of values: all servers of a datacenter that know the same members come to parts that fit
//! together. When they differ for a moment, a server has a watcher too many or too few.

use std::collections::{BTreeMap, BTreeSet};

use topology::{Datacenter, NodeName};

/// How many servers of a datacenter watch the same remote one, if there are as many: two, because two
/// must agree on its death.
pub(crate) const WATCHERS: usize = 2;

/// A server: its datacenter, its name there.
pub(crate) type Key = (Datacenter, NodeName);

/// Returns those of the remote servers that `me` watches; `fellows` are the other servers of its
/// datacenter that can watch now.
pub(crate) fn share<'a>(
    me: &Key,
    fellows: &BTreeSet<NodeName>,
    remote: impl IntoIterator<Item = &'a Key>,
) -> BTreeSet<Key> {
    let mut mine = BTreeSet::new();
    let mut nearest: BTreeMap<&Datacenter, (u64, &Key)> = BTreeMap::new();
    for server in remote {
        let weight = weigh(me, server);
        let before = |fellow: &&NodeName| {
            let theirs = weigh(&(me.0.clone(), (**fellow).clone()), server);
            (theirs, *fellow) > (weight, &me.1)
        };
        if fellows.iter().filter(|fellow| **fellow != me.1).filter(before).count() < WATCHERS {
            mine.insert(server.clone());
        }
        let best = nearest.entry(&server.0).or_insert((weight, server));
        *best = (*best).max((weight, server));
    }
    mine.extend(nearest.into_values().map(|(_, server)| server.clone()));
    mine
}

/// Returns the weight of a pair, whichever of the two comes first.
fn weigh(one: &Key, other: &Key) -> u64 {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let words = [first.0.as_str(), first.1.as_str(), second.0.as_str(), second.1.as_str()];
    // FNV-1a, whose last bytes count for little: so all bits are mixed at the end (splitmix64).
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for word in words {
        for byte in word.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(dc: usize, count: usize) -> Vec<Key> {
        let name = Datacenter::new(format!("dc{dc}")).unwrap();
        let node = |n: usize| NodeName::new(format!("server-{dc}-{n}")).unwrap();
        (1..=count).map(|n| (name.clone(), node(n))).collect()
    }

    /// Who watches whom from the first of the datacenters to all others.
    fn watched(own: &[Key], remote: &[Key]) -> BTreeMap<Key, BTreeSet<Key>> {
        let names: BTreeSet<NodeName> = own.iter().map(|(_, name)| name.clone()).collect();
        own.iter().map(|me| (me.clone(), share(me, &names, remote))).collect()
    }

    fn remotes(dcs: usize, count: usize) -> Vec<Key> {
        (2..=dcs).flat_map(|dc| servers(dc, count)).collect()
    }

    proptest! {
        #[test]
        fn each_is_watched_by_two_and_each_watches_some_of_every_datacenter(
            own in 1..6_usize, dcs in 2..6_usize, count in 1..6_usize,
        ) {
            let remote = remotes(dcs, count);
            let watched = watched(&servers(1, own), &remote);
            for server in &remote {
                let watchers = watched.values().filter(|mine| mine.contains(server)).count();
                prop_assert!(watchers >= WATCHERS.min(own));
            }
            for mine in watched.values() {
                let dcs: BTreeSet<_> = mine.iter().map(|(dc, _)| dc).collect();
                prop_assert_eq!(dcs.len(), remote.len() / count);
            }
        }

        #[test]
        fn the_end_of_one_moves_only_its_own_part(gone in 0..5_usize) {
            let (mut own, remote) = (servers(1, 5), remotes(20, 3));
            let before = watched(&own, &remote);
            let gone = own.remove(gone);
            let after = watched(&own, &remote);
            for me in &own {
                let lost: Vec<_> = before[me].difference(&after[me]).collect();
                prop_assert!(lost.is_empty());
                let taken = after[me].difference(&before[me]);
                prop_assert!(taken.clone().all(|server| before[&gone].contains(server)));
            }
        }
    }

    #[test]
    fn parts_are_about_equal() {
        let watched = watched(&servers(1, 5), &remotes(100, 3));
        let even = watched.values().map(BTreeSet::len).sum::<usize>() / watched.len();
        for (me, mine) in watched {
            assert!(mine.len().abs_diff(even) < even / 5, "{me:?}: {} of {even}", mine.len());
        }
    }

    #[test]
    fn weights_are_the_same_from_both_sides() {
        for (one, other) in servers(1, 5).iter().zip(&servers(2, 5)) {
            assert_eq!(weigh(one, other), weigh(other, one));
        }
    }
}
