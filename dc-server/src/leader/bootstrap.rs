//! Decides who starts a new datacenter, and with whom.
//!
//! Servers without a Raft log wait until `bootstrap_expect` of them see each other. Of those,
//! the ones with the lowest ids are chosen, and the very lowest asks each of the others to
//! agree. Only when all have agreed does it write the first entry of the log; the others learn of it
//! from Raft. A server agrees to one choice at a time, and to none once it has a log, so two
//! choices that share a server can't both start.

use std::collections::{BTreeMap, BTreeSet};

use topology::Status;

use super::autopilot::Candidate;

/// What a server without a log does about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Too few servers see each other.
    Wait {
        /// How many more are awaited.
        missing: usize,
    },
    /// Another server will ask.
    Follow {
        /// Its number in Raft.
        initiator: u64,
    },
    /// Ask all of these, this server included, to agree.
    Initiate {
        /// The first voters.
        voters: BTreeSet<u64>,
    },
}

/// Plans the next step of the server `me` that awaits `expect` servers.
pub fn plan(me: u64, expect: usize, pool: &BTreeMap<u64, Candidate>) -> Step {
    let alive = || pool.values().filter(|server| server.status == Status::Alive);
    let missing = expect.saturating_sub(alive().count());
    if missing > 0 {
        return Step::Wait { missing };
    }
    let voters: BTreeSet<u64> = alive().map(|server| server.id).take(expect).collect();
    match voters.first() {
        Some(first) if *first == me => Step::Initiate { voters },
        Some(first) => Step::Follow { initiator: *first },
        None => Step::Wait { missing: expect },
    }
}

/// Tells whether a server agrees to a choice of first voters.
///
/// `agreed` is what it agreed to before and has not forgotten.
pub fn agrees(
    has_log: bool,
    expect: Option<usize>,
    agreed: Option<&BTreeSet<u64>>,
    voters: &BTreeSet<u64>,
) -> Result<(), String> {
    if has_log {
        return Err("it already has a Raft log".to_owned());
    }
    match expect {
        None => return Err("it was started without bootstrap_expect".to_owned()),
        Some(expect) if expect != voters.len() => {
            return Err(format!(
                "it expects {expect} servers, not {}: give all servers the same bootstrap_expect",
                voters.len()
            ));
        }
        Some(_) => {}
    }
    match agreed {
        Some(other) if other != voters => Err("it has agreed to another choice".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;
    use topology::NodeName;

    fn pool(ids: &[u64]) -> BTreeMap<u64, Candidate> {
        ids.iter()
            .map(|id| {
                let candidate = Candidate {
                    id: *id,
                    name: NodeName::new(format!("s{id}")).unwrap(),
                    link: SocketAddr::from(([127, 0, 0, 1], 8300)),
                    status: Status::Alive,
                    since: Duration::ZERO,
                };
                (*id, candidate)
            })
            .collect()
    }

    #[test]
    fn waits_for_as_many_as_expected() {
        assert_eq!(plan(1, 3, &pool(&[1, 2])), Step::Wait { missing: 1 });
    }

    #[test]
    fn the_lowest_asks_and_the_others_follow() {
        let all = pool(&[1, 2, 3]);
        assert_eq!(plan(1, 3, &all), Step::Initiate { voters: BTreeSet::from([1, 2, 3]) });
        assert_eq!(plan(2, 3, &all), Step::Follow { initiator: 1 });
    }

    #[test]
    fn more_than_expected_still_choose_the_same() {
        let all = pool(&[1, 2, 3, 4]);
        assert_eq!(plan(1, 3, &all), Step::Initiate { voters: BTreeSet::from([1, 2, 3]) });
        assert_eq!(plan(4, 3, &all), Step::Follow { initiator: 1 });
    }

    #[test]
    fn a_server_with_a_log_agrees_to_nothing() {
        assert!(agrees(true, Some(1), None, &BTreeSet::from([1])).is_err());
    }

    #[test]
    fn two_choices_that_share_a_server_cannot_both_start() {
        let one = BTreeSet::from([1, 2, 3]);
        let other = BTreeSet::from([2, 3, 4]);
        assert!(agrees(false, Some(3), None, &one).is_ok());
        assert!(agrees(false, Some(3), Some(&one), &one).is_ok());
        assert!(agrees(false, Some(3), Some(&one), &other).is_err());
    }

    #[test]
    fn different_expectations_are_refused_with_what_to_do() {
        let refusal = agrees(false, Some(5), None, &BTreeSet::from([1, 2, 3])).unwrap_err();
        assert!(refusal.contains("same bootstrap_expect"), "{refusal}");
    }
}
