//! Which servers of a datacenter to try, and in which order.
//!
//! A function of values: what is known of each server in, the ranked ones out. What needs the
//! leader goes to the leader, then to one that knows it; what any server can answer goes to
//! the nearest, where servers that are about equally near share the load. Servers without a
//! path come last. Not all are watched all the time: one that is only to be dialled is as good as any
//! other as long as nothing speaks against its datacenter.

use std::time::Duration;

use topology::NodeName;

use crate::{
    envelope::Consistency,
    verdict::{Degradation, Health},
};

/// Servers whose round trip is at most this much longer than the nearest one's are equally near:
/// below it, what a server does weighs more than where it stands.
const NEAR: Duration = Duration::from_millis(2);

/// What is known of the path to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// It was heard just now.
    Live,
    /// It missed a heartbeat or two, which happens.
    Faint,
    /// There is a connection, but it has been silent for longer than chance explains.
    Quiet,
    /// No connection now: it is not watched from here, or being dialled.
    Dialing,
    /// The connection was lost, or nobody answers the dial.
    Down,
}

impl Reach {
    /// Tells whether a request may wait for an answer on it.
    pub fn is_heard(self) -> bool {
        matches!(self, Reach::Live | Reach::Faint)
    }
}

/// A server as the ranking sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name in its datacenter.
    pub name: NodeName,
    /// The path to it.
    pub reach: Reach,
    /// The path's round trip, when it has been measured.
    pub rtt: Option<Duration>,
    /// Whether it says that it is the leader.
    pub is_leader: bool,
    /// Whether it says that it knows the leader.
    pub leader_known: bool,
}

/// What a server has to have for asking it to make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A path.
    Path,
    /// A path and a leader that it knows.
    Leader,
}

impl Need {
    /// Decides for a request to a datacenter that is held for something. That its servers know no
    /// leader matters once that is more than an election, which they see through themselves.
    pub fn of(consistency: Consistency, health: Health) -> Self {
        match (consistency, health) {
            (Consistency::Leader, Health::Degraded(Degradation::Leaderless)) => Need::Leader,
            _ => Need::Path,
        }
    }
}

impl Candidate {
    /// Tells whether the server can do what is asked, if it can be reached.
    pub fn knows(&self, need: Need) -> bool {
        need == Need::Path || self.leader_known
    }
}

/// Tells whether servers of a datacenter that are only to be dialled can be expected to answer:
/// nobody there fell silent or was lost, which may be the fate of all.
pub fn is_unsuspicious(reaches: impl IntoIterator<Item = Reach>) -> bool {
    reaches.into_iter().all(|reach| !matches!(reach, Reach::Quiet | Reach::Down))
}

/// Ranks servers, best first, and returns their places in `candidates`.
///
/// `spread` is any number that differs between requests: it shares the load among servers that
/// are equally good. A server that is [`Reach::Down`] is left out when there is any other.
pub fn rank(candidates: &[Candidate], consistency: Consistency, spread: u64) -> Vec<usize> {
    let nearest = candidates.iter().filter_map(|c| c.rtt).min().unwrap_or_default();
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    places.sort_by_cached_key(|&place| {
        let candidate = &candidates[place];
        let duty = match consistency {
            Consistency::Leader if candidate.is_leader => 0,
            Consistency::Leader if candidate.leader_known => 1,
            Consistency::Leader => 2,
            Consistency::Any => 0,
        };
        let rtt = candidate.rtt.unwrap_or(Duration::MAX);
        let far = if rtt <= nearest.saturating_add(NEAR) { Duration::ZERO } else { rtt };
        let turn = (place as u64).wrapping_add(spread) % candidates.len() as u64;
        (candidate.reach, duty, far, turn)
    });
    if candidates.iter().any(|c| c.reach != Reach::Down) {
        places.retain(|&place| candidates[place].reach != Reach::Down);
    }
    places
}

/// Returns the round trip that stands for a datacenter: the median of its servers', the upper
/// one of two; `None` sorts as farthest.
pub fn median_rtt(mut rtts: Vec<Duration>) -> Option<Duration> {
    rtts.sort();
    rtts.get(rtts.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(name: &str, reach: Reach, millis: u64) -> Candidate {
        Candidate {
            name: NodeName::new(name).unwrap(),
            reach,
            rtt: Some(Duration::from_millis(millis)),
            is_leader: false,
            leader_known: true,
        }
    }

    fn names(candidates: &[Candidate], consistency: Consistency, spread: u64) -> Vec<&str> {
        rank(candidates, consistency, spread)
            .into_iter()
            .map(|place| candidates[place].name.as_str())
            .collect()
    }

    #[test]
    fn the_leader_comes_first_when_it_is_needed() {
        let mut servers = [
            server("a", Reach::Live, 10),
            server("b", Reach::Live, 200),
            server("c", Reach::Live, 90),
        ];
        servers[1].is_leader = true;
        assert_eq!(names(&servers, Consistency::Leader, 0), ["b", "a", "c"]);
    }

    #[test]
    fn a_server_that_knows_the_leader_comes_before_one_that_does_not() {
        let mut servers = [server("a", Reach::Live, 10), server("b", Reach::Live, 200)];
        servers[0].leader_known = false;
        assert_eq!(names(&servers, Consistency::Leader, 0), ["b", "a"]);
    }

    #[test]
    fn the_nearest_comes_first_when_any_will_do() {
        let servers = [
            server("a", Reach::Live, 90),
            server("b", Reach::Live, 10),
            server("c", Reach::Live, 50),
        ];
        assert_eq!(names(&servers, Consistency::Any, 5), ["b", "c", "a"]);
    }

    #[test]
    fn equally_near_servers_share_the_load() {
        let servers = [server("a", Reach::Live, 10), server("b", Reach::Live, 11)];
        assert_ne!(
            names(&servers, Consistency::Any, 0)[0],
            names(&servers, Consistency::Any, 1)[0]
        );
    }

    #[test]
    fn a_quiet_leader_comes_after_a_live_follower() {
        let mut servers = [server("a", Reach::Quiet, 10), server("b", Reach::Live, 10)];
        servers[0].is_leader = true;
        assert_eq!(names(&servers, Consistency::Leader, 0), ["b", "a"]);
    }

    #[test]
    fn servers_that_are_down_are_only_tried_when_all_are() {
        let mut servers = [server("a", Reach::Down, 10), server("b", Reach::Dialing, 10)];
        assert_eq!(names(&servers, Consistency::Any, 0), ["b"]);
        servers[1].reach = Reach::Down;
        assert_eq!(names(&servers, Consistency::Any, 0).len(), 2);
    }

    #[test]
    fn one_that_fell_silent_makes_those_that_are_not_heard_suspicious() {
        assert!(is_unsuspicious([Reach::Dialing, Reach::Faint, Reach::Live]));
        for gone in [Reach::Quiet, Reach::Down] {
            assert!(!is_unsuspicious([Reach::Dialing, gone]), "{gone:?}");
        }
    }

    #[test]
    fn a_server_without_a_leader_is_of_no_use_once_its_datacenter_is_held_for_leaderless() {
        let mut one = server("a", Reach::Live, 10);
        let leaderless = Health::Degraded(Degradation::Leaderless);
        assert!(one.knows(Need::of(Consistency::Leader, leaderless)));
        one.leader_known = false;
        assert!(!one.knows(Need::of(Consistency::Leader, leaderless)));
        assert!(one.knows(Need::of(Consistency::Any, leaderless)));
        assert!(one.knows(Need::of(Consistency::Leader, Health::Healthy)));
    }

    #[test]
    fn the_median_of_two_is_the_upper() {
        let [low, high] = [Duration::from_millis(1), Duration::from_millis(2)];
        assert_eq!(median_rtt(vec![high, low]), Some(high));
        assert_eq!(median_rtt(Vec::new()), None);
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let reach = prop_oneof![
            Just(Reach::Live),
            Just(Reach::Faint),
            Just(Reach::Quiet),
            Just(Reach::Dialing),
            Just(Reach::Down)
        ];
        (reach, proptest::option::of(0u64..400), any::<bool>(), any::<bool>()).prop_map(
            |(reach, rtt, is_leader, leader_known)| Candidate {
                rtt: rtt.map(Duration::from_millis),
                is_leader,
                leader_known,
                ..server("x", reach, 0)
            },
        )
    }

    proptest! {
        #[test]
        fn a_live_server_is_never_behind_another_and_none_comes_twice(
            candidates in proptest::collection::vec(candidate(), 0..8),
            leader: bool,
            spread: u64,
        ) {
            let need = if leader { Consistency::Leader } else { Consistency::Any };
            let places = rank(&candidates, need, spread);
            prop_assert_eq!(places.is_empty(), candidates.is_empty());
            prop_assert!(places.is_sorted_by_key(|&place| candidates[place].reach));
            let mut once = places.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), places.len());
            if let Some(&first) = places.first() {
                let live_leader = candidates.iter().any(|c| c.reach == Reach::Live && c.is_leader);
                prop_assert!(!leader || !live_leader || candidates[first].is_leader);
            }
        }
    }
}
