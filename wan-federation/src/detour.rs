//! Which other datacenters to go through when there is no direct path, and whom to ask there.
//!
//! A function of values: what is known of the other datacenters in, the servers to ask out, best
//! first. Those that say they have a path onward come before those of which nothing is known, and
//! those that say they have none are left out, as is every server that refused a moment ago: what
//! is known of its datacenter may be older than that. Among equals the shortest way comes first. Only
//! servers that are heard right now are asked, or that can be dialled as far as anybody knows: a detour has to be
//! quick, as it often is the second thing tried. One of each datacenter is asked before any second one, because servers of one
//! datacenter mostly have the same paths.

mod refusals;

use std::time::Duration;

use topology::Datacenter;

pub(crate) use self::refusals::{Asked, Refusals};
use crate::{
    envelope::Consistency,
    matrix::Matrix,
    routes::{self, Candidate, Need, Reach},
    verdict::{Degradation, Health},
};

/// Most servers that one request is sent to in order to be passed on. Each takes a round trip to say
/// that it can't help; a federation in which nothing is known of more than this many is rare.
pub const ATTEMPTS_MAX: usize = 8;

/// Whether detours are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detours {
    /// They are, and requests of other datacenters are passed on.
    #[default]
    On,
    /// They are not, and nothing is passed on.
    Off,
}

/// What is known of a datacenter's path to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Onward {
    /// It says that it has one, with this round trip.
    Open(Duration),
    /// It has not said.
    Unknown,
    /// It says that it has none.
    Closed,
}

impl Onward {
    /// Looks up what datacenter `through` says of its path to a server of `wanted` that meets a need.
    pub fn of(matrix: &Matrix, through: &Datacenter, wanted: &Datacenter, need: Need) -> Self {
        let told = matrix.rows.get(through).filter(|told| told.current);
        // Just after it was heard of, a datacenter is not in all rows yet.
        let Some(cell) = told.and_then(|told| told.row.0.get(wanted)) else {
            return Onward::Unknown;
        };
        let leaderless = Some(Health::Degraded(Degradation::Leaderless));
        match matrix.reaches(through, wanted) {
            Some(rtt) if need == Need::Path || cell.health != leaderless => Onward::Open(rtt),
            _ => Onward::Closed,
        }
    }
}

/// A datacenter that a request may go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The round trip to it, when it has been measured.
    pub rtt: Option<Duration>,
    /// Its path to the wanted datacenter.
    pub onward: Onward,
    /// Its servers.
    pub servers: Vec<Candidate>,
    /// The places of those that refused to pass such a request on a moment ago.
    pub refused: Vec<usize>,
}

/// Ranks the servers that may pass a request on, best first: places of the neighbour and of its
/// server. `spread` shares the load among servers that are equally good. At most [`ATTEMPTS_MAX`].
pub fn rank(neighbours: &[Neighbour], spread: u64) -> Vec<(usize, usize)> {
    let mut ranked = Vec::new();
    for (place, neighbour) in neighbours.iter().enumerate() {
        let (known, onward) = match neighbour.onward {
            Onward::Open(rtt) => (0, rtt),
            Onward::Unknown => (1, Duration::ZERO),
            Onward::Closed => continue,
        };
        let servers = routes::rank(&neighbour.servers, Consistency::Any, spread);
        let usable = servers.into_iter().filter(|server| neighbour.may_ask(*server));
        let rtt = neighbour.rtt.unwrap_or(Duration::MAX).saturating_add(onward);
        ranked.extend(usable.enumerate().map(|(turn, server)| {
            let reach = neighbour.servers[server].reach;
            ((known, turn, reach, rtt, place), (place, server))
        }));
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, places)| places).take(ATTEMPTS_MAX).collect()
}

impl Neighbour {
    fn may_ask(&self, server: usize) -> bool {
        let usable = match self.servers[server].reach {
            Reach::Live => true,
            Reach::Dialing => routes::is_unsuspicious(self.servers.iter().map(|it| it.reach)),
            Reach::Faint | Reach::Quiet | Reach::Down => false,
        };
        usable && !self.refused.contains(&server)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use topology::NodeName;

    use super::*;
    use crate::matrix::{Cell, Row, Told};

    const MILLI: Duration = Duration::from_millis(1);

    fn server(reach: Reach) -> Candidate {
        Candidate {
            name: NodeName::new("x").unwrap(),
            reach,
            rtt: Some(MILLI),
            is_leader: false,
            leader_known: false,
        }
    }

    fn neighbour(millis: u32, onward: Onward, reaches: &[Reach]) -> Neighbour {
        Neighbour {
            rtt: Some(MILLI * millis),
            onward,
            servers: reaches.iter().copied().map(server).collect(),
            refused: Vec::new(),
        }
    }

    #[test]
    fn the_nearest_comes_first_and_one_of_each_before_a_second_one() {
        let two = [Reach::Live, Reach::Live];
        let all = [neighbour(90, Onward::Unknown, &two), neighbour(10, Onward::Unknown, &two)];
        assert_eq!(rank(&all, 0), [(1, 0), (0, 0), (1, 1), (0, 1)]);
    }

    #[test]
    fn both_halves_of_the_way_count() {
        let one = [Reach::Live];
        let all = [
            neighbour(10, Onward::Open(MILLI * 90), &one),
            neighbour(40, Onward::Open(MILLI * 40), &one),
        ];
        assert_eq!(rank(&all, 0), [(1, 0), (0, 0)]);
    }

    #[test]
    fn who_says_that_there_is_a_path_comes_first_and_who_has_none_is_left_out() {
        let one = [Reach::Live];
        let all = [
            neighbour(1, Onward::Closed, &one),
            neighbour(2, Onward::Unknown, &one),
            neighbour(90, Onward::Open(MILLI * 90), &one),
        ];
        assert_eq!(rank(&all, 0), [(2, 0), (1, 0)]);
    }

    #[test]
    fn only_servers_that_are_heard_right_now_are_asked() {
        let reaches = [Reach::Down, Reach::Quiet, Reach::Faint, Reach::Dialing, Reach::Live];
        assert_eq!(rank(&[neighbour(1, Onward::Open(MILLI), &reaches)], 0), [(0, 4)]);
        assert_eq!(rank(&[neighbour(1, Onward::Open(MILLI), &reaches[..4])], 0), []);
    }

    #[test]
    fn a_server_that_is_not_watched_is_dialled_if_nobody_beside_it_is_gone() {
        let all = [
            neighbour(1, Onward::Unknown, &[Reach::Dialing]),
            neighbour(90, Onward::Unknown, &[Reach::Faint, Reach::Dialing, Reach::Live]),
            neighbour(1, Onward::Unknown, &[Reach::Dialing, Reach::Down]),
        ];
        assert_eq!(rank(&all, 0), [(1, 2), (0, 0), (1, 1)]);
    }

    #[test]
    fn who_refused_a_moment_ago_is_not_asked() {
        let mut one = neighbour(1, Onward::Open(MILLI), &[Reach::Live, Reach::Live]);
        one.refused = vec![0];
        assert_eq!(rank(&[one], 0), [(0, 1)]);
    }

    #[test]
    fn what_a_datacenter_says_of_its_path_counts_while_it_can_be_asked() {
        let (dc2, dc3) = ("dc2".parse().unwrap(), "dc3".parse().unwrap());
        let onward = |health: Option<Health>, current: bool, need: Need| {
            let cell = health.map(|health| Cell { health: Some(health), rtt: Some(MILLI) });
            let row = Row(cell.map(|cell| (Datacenter::clone(&dc2), cell)).into_iter().collect());
            let by = NodeName::new("c1").unwrap();
            let told = Told { row, by, at: Duration::ZERO, current };
            let matrix = Matrix { rows: [(Datacenter::clone(&dc3), told)].into() };
            Onward::of(&matrix, &dc3, &dc2, need)
        };
        let leaderless = Health::Degraded(Degradation::Leaderless);
        for (health, current, need, expected) in [
            (Some(Health::Healthy), true, Need::Leader, Onward::Open(MILLI)),
            (Some(Health::Healthy), false, Need::Leader, Onward::Unknown),
            (Some(leaderless), true, Need::Path, Onward::Open(MILLI)),
            (Some(leaderless), true, Need::Leader, Onward::Closed),
            (Some(Health::Lost), true, Need::Path, Onward::Closed),
            (None, true, Need::Path, Onward::Unknown),
        ] {
            assert_eq!(onward(health, current, need), expected, "{health:?} {current} {need:?}");
        }
    }

    fn any_neighbour() -> impl Strategy<Value = Neighbour> {
        let onward = prop_oneof![
            (0u32..200).prop_map(|millis| Onward::Open(MILLI * millis)),
            Just(Onward::Unknown),
            Just(Onward::Closed)
        ];
        let reach = prop_oneof![
            Just(Reach::Live),
            Just(Reach::Faint),
            Just(Reach::Dialing),
            Just(Reach::Down)
        ];
        let refused = proptest::collection::vec(0usize..4, 0..2);
        (0u32..200, onward, proptest::collection::vec(reach, 0..4), refused).prop_map(
            |(millis, onward, reaches, refused)| Neighbour {
                refused,
                ..neighbour(millis, onward, &reaches)
            },
        )
    }

    proptest! {
        #[test]
        fn nobody_is_asked_twice_and_an_open_way_is_never_missed(
            all in proptest::collection::vec(any_neighbour(), 0..20),
            spread: u64,
        ) {
            let places = rank(&all, spread);
            prop_assert!(places.len() <= ATTEMPTS_MAX);
            let mut once = places.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), places.len());
            let open = |place: usize| matches!(all[place].onward, Onward::Open(_));
            prop_assert!(places.is_sorted_by_key(|(place, _)| !open(*place)));
            prop_assert!(places.iter().all(|(place, server)| all[*place].may_ask(*server)));
            let usable = |place: &usize| {
                let neighbour = &all[*place];
                let mut servers = 0..neighbour.servers.len();
                neighbour.onward != Onward::Closed && servers.any(|it| neighbour.may_ask(it))
            };
            let usable: Vec<usize> = (0..all.len()).filter(usable).collect();
            prop_assert_eq!(places.is_empty(), usable.is_empty());
            if usable.iter().any(|place| open(*place)) {
                prop_assert!(open(places[0].0));
            }
        }
    }
}
