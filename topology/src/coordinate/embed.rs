//! A map of places whose round trips are known already: each pair is a sample for both, again and again, until the
//! map has settled. The same round trips give the same map.

use std::{collections::BTreeMap, time::Duration};

use rand::{SeedableRng, rngs::SmallRng};

use super::{Coordinate, Sample, Vivaldi};

/// How often each pair is looked at in a small map.
const ROUNDS_MAX: usize = 400;

/// Most samples in all, so that a map of hundreds of places takes milliseconds, too.
const SAMPLES_MAX: usize = 100_000;

/// Places every end of these round trips on one map.
pub fn embed<K: Ord + Clone>(pairs: &BTreeMap<(K, K), Duration>) -> BTreeMap<K, Coordinate> {
    let mut rng = SmallRng::seed_from_u64(0);
    let ends = pairs.keys().flat_map(|(a, b)| [a, b]);
    let mut map: BTreeMap<K, Vivaldi> = ends.map(|end| (end.clone(), Vivaldi::default())).collect();
    let rounds = ROUNDS_MAX.min(SAMPLES_MAX / pairs.len().max(1)).max(1);
    for _ in 0..rounds {
        for ((a, b), rtt) in pairs {
            for (node, peer) in [(a, b), (b, a)] {
                let Some(peer) = map.get(peer).map(|it| *it.own()) else { continue };
                let Some(node) = map.get_mut(node) else { continue };
                // A round trip that is not believed moves nobody.
                let _believed = node.learn(&Sample { peer, rtt: *rtt }, &mut rng);
            }
        }
    }
    map.into_iter().map(|(place, found)| (place, *found.own())).collect()
}
