//! Decides which servers take part in Raft: a function of what the LAN pool and Raft say.
//!
//! A server that the LAN pool knows becomes a learner at once, and a voter when it has been
//! alive for the stabilization time. One that left is removed at once; one that failed, when it
//! has been gone for the stabilization time, as long as those removed are a minority of the
//! voters and enough voters stay. One change at a time: the next is planned when it is done.
//!
//! The rules are those of Consul's autopilot (`autopilot { cleanup_dead_servers,
//! server_stabilization_time, min_quorum }`), but for the patience with failed servers, which
//! Consul removes without any: a server that is being restarted is not worth two membership changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use topology::{NodeName, Role, Status};

/// A server that the pool does not know at all is given this many stabilization times to turn up.
const ABSENCE_FACTOR: u32 = 6;

/// How the operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether failed servers are removed.
    pub cleanup_dead_servers: bool,
    /// How long a server has to be alive before it votes, and failed before it is removed.
    pub stabilization: Duration,
    /// Voters that have to stay, however many fail; 0 for no bound beyond the quorum.
    pub quorum_min: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cleanup_dead_servers: true, stabilization: Duration::from_secs(10), quorum_min: 0 }
    }
}

/// A server as the LAN pool holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its number in Raft.
    pub id: u64,
    /// Its name.
    pub name: NodeName,
    /// Where it takes Raft's messages.
    pub link: SocketAddr,
    /// What the pool holds it for.
    pub status: Status,
    /// For how long.
    pub since: Duration,
}

/// Who takes part in Raft now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Ids of those that vote.
    pub voters: BTreeSet<u64>,
    /// Ids of those that only follow.
    pub learners: BTreeSet<u64>,
    /// Where each takes Raft's messages, as Raft has it.
    pub links: BTreeMap<u64, SocketAddr>,
}

/// The next change to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Let it follow (again, if its address changed).
    AddLearner {
        /// Its number.
        id: u64,
        /// Its name.
        name: NodeName,
        /// Its address.
        link: SocketAddr,
    },
    /// Let it vote.
    Promote(u64),
    /// Take it out.
    Remove(u64),
}

/// The leader that plans: it is never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// Its number in Raft.
    pub id: u64,
    /// For how long it has led and watched the pool.
    pub since: Duration,
}

/// Plans the next change, if there is one to make.
pub fn plan(
    settings: &Settings,
    leader: Leader,
    peers: &Peers,
    pool: &BTreeMap<u64, Candidate>,
) -> Option<Change> {
    replaced_or_left(leader.id, peers, pool)
        .or_else(|| newcomer(peers, pool))
        .or_else(|| promotable(settings, peers, pool))
        .or_else(|| dead(settings, leader, peers, pool))
}

/// A peer that left, or whose name is now that of another, living server: its disk was wiped.
fn replaced_or_left(me: u64, peers: &Peers, pool: &BTreeMap<u64, Candidate>) -> Option<Change> {
    let gone = |id: &u64| pool.get(id).is_some_and(|peer| peer.status == Status::Left);
    let replaced = |id: &u64| {
        !pool.contains_key(id)
            && peers.links.get(id).is_some_and(|link| {
                pool.values().any(|other| other.link == *link && other.status == Status::Alive)
            })
    };
    let learner = peers.learners.iter().find(|id| gone(id) || replaced(id));
    let voter = peers
        .voters
        .iter()
        .find(|id| **id != me && (gone(id) || replaced(id)) && peers.voters.len() > 1);
    learner.or(voter).map(|id| Change::Remove(*id))
}

fn newcomer(peers: &Peers, pool: &BTreeMap<u64, Candidate>) -> Option<Change> {
    let unknown = |server: &&Candidate| match peers.links.get(&server.id) {
        None => true,
        Some(link) => *link != server.link,
    };
    let server = pool.values().filter(|server| server.status == Status::Alive).find(unknown)?;
    Some(Change::AddLearner { id: server.id, name: server.name.clone(), link: server.link })
}

fn promotable(
    settings: &Settings,
    peers: &Peers,
    pool: &BTreeMap<u64, Candidate>,
) -> Option<Change> {
    let stable = |id: &&u64| {
        pool.get(id).is_some_and(|server| {
            server.status == Status::Alive && server.since >= settings.stabilization
        })
    };
    peers.learners.iter().find(stable).map(|id| Change::Promote(*id))
}

fn dead(
    settings: &Settings,
    leader: Leader,
    peers: &Peers,
    pool: &BTreeMap<u64, Candidate>,
) -> Option<Change> {
    if !settings.cleanup_dead_servers {
        return None;
    }
    // One that the pool has reaped is as dead as one that it holds for failed; but a new leader
    // gives the pool time to find those that it does not know yet.
    let is_dead = |id: &u64| match pool.get(id) {
        None => *id != leader.id && leader.since >= settings.stabilization * ABSENCE_FACTOR,
        Some(server) => server.status == Status::Failed && server.since >= settings.stabilization,
    };
    if let Some(learner) = peers.learners.iter().find(|id| is_dead(id)) {
        return Some(Change::Remove(*learner));
    }
    let dead: Vec<u64> = peers.voters.iter().copied().filter(is_dead).collect();
    let minority = peers.voters.len().saturating_sub(1) / 2;
    let stays = peers.voters.len().saturating_sub(dead.len());
    match dead.first() {
        Some(id) if dead.len() <= minority && stays >= settings.quorum_min.max(1) => {
            Some(Change::Remove(*id))
        }
        _ => None,
    }
}

/// Reads the servers out of the members of the LAN pool; `since` tells for how long each has
/// been held for what it is.
pub fn candidates<'a>(
    members: impl IntoIterator<Item = &'a topology::Member>,
    since: impl Fn(&topology::Member) -> Duration,
) -> BTreeMap<u64, Candidate> {
    members
        .into_iter()
        .filter(|member| member.profile.role == Role::Server)
        .filter_map(|member| {
            let profile = &member.profile;
            let candidate = Candidate {
                id: profile.id.raft(),
                name: profile.name.clone(),
                link: profile.link?,
                status: member.status,
                since: since(member),
            };
            Some((candidate.id, candidate))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONG: Duration = Duration::from_secs(60);

    fn link(id: u64) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, u8::try_from(id % 256).unwrap()], 8300))
    }

    fn server(id: u64, status: Status, since: Duration) -> (u64, Candidate) {
        let name = NodeName::new(format!("s{id}")).unwrap();
        (id, Candidate { id, name, link: link(id), status, since })
    }

    fn peers(voters: &[u64], learners: &[u64]) -> Peers {
        Peers {
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
            links: voters.iter().chain(learners).map(|id| (*id, link(*id))).collect(),
        }
    }

    fn alive(ids: &[u64]) -> BTreeMap<u64, Candidate> {
        ids.iter().map(|id| server(*id, Status::Alive, LONG)).collect()
    }

    fn planned(peers: &Peers, pool: &BTreeMap<u64, Candidate>) -> Option<Change> {
        plan(&Settings::default(), Leader { id: 1, since: 10 * LONG }, peers, pool)
    }

    #[test]
    fn a_new_leader_waits_for_servers_that_it_has_not_seen_yet() {
        let fresh = Leader { id: 1, since: Duration::from_secs(11) };
        let voters = peers(&[1, 2, 3], &[]);
        assert_eq!(plan(&Settings::default(), fresh, &voters, &alive(&[1, 2])), None);
        assert_eq!(planned(&voters, &alive(&[1, 2])), Some(Change::Remove(3)));
    }

    #[test]
    fn nothing_changes_when_all_is_well() {
        assert_eq!(planned(&peers(&[1, 2, 3], &[]), &alive(&[1, 2, 3])), None);
    }

    #[test]
    fn a_new_server_follows_before_it_votes() {
        let mut pool = alive(&[1, 2, 3]);
        pool.extend([server(4, Status::Alive, Duration::ZERO)]);
        let change = planned(&peers(&[1, 2, 3], &[]), &pool);
        assert!(matches!(change, Some(Change::AddLearner { id: 4, .. })), "{change:?}");
        assert_eq!(planned(&peers(&[1, 2, 3], &[4]), &pool), None);
        pool.extend([server(4, Status::Alive, LONG)]);
        assert_eq!(planned(&peers(&[1, 2, 3], &[4]), &pool), Some(Change::Promote(4)));
    }

    #[test]
    fn a_failed_minority_is_removed_after_the_stabilization_time() {
        let mut pool = alive(&[1, 2]);
        pool.extend([server(3, Status::Failed, Duration::from_secs(1))]);
        assert_eq!(planned(&peers(&[1, 2, 3], &[]), &pool), None);
        pool.extend([server(3, Status::Failed, LONG)]);
        assert_eq!(planned(&peers(&[1, 2, 3], &[]), &pool), Some(Change::Remove(3)));
    }

    #[test]
    fn a_failed_majority_is_kept() {
        let mut pool = alive(&[1]);
        pool.extend([server(2, Status::Failed, LONG), server(3, Status::Failed, LONG)]);
        assert_eq!(planned(&peers(&[1, 2, 3], &[]), &pool), None);
    }

    #[test]
    fn one_of_two_is_kept_however_long_it_is_gone() {
        let mut pool = alive(&[1]);
        pool.extend([server(2, Status::Failed, LONG)]);
        assert_eq!(planned(&peers(&[1, 2], &[]), &pool), None);
    }

    #[test]
    fn a_server_that_left_is_removed_at_once() {
        let mut pool = alive(&[1, 2]);
        pool.extend([server(3, Status::Left, Duration::ZERO)]);
        assert_eq!(planned(&peers(&[1, 2, 3], &[]), &pool), Some(Change::Remove(3)));
    }

    #[test]
    fn a_wiped_server_is_removed_before_it_is_added_again() {
        let mut pool = alive(&[1, 2]);
        let (_, mut wiped) = server(9, Status::Alive, Duration::ZERO);
        wiped.link = link(3);
        pool.insert(9, wiped);
        assert_eq!(planned(&peers(&[1, 2, 3], &[]), &pool), Some(Change::Remove(3)));
    }

    #[test]
    fn a_changed_address_is_told_to_raft() {
        let mut pool = alive(&[1, 2, 3]);
        pool.get_mut(&3).unwrap().link = link(33);
        let change = planned(&peers(&[1, 2, 3], &[]), &pool);
        let expected =
            Change::AddLearner { id: 3, name: NodeName::new("s3").unwrap(), link: link(33) };
        assert_eq!(change, Some(expected));
    }

    fn status() -> impl Strategy<Value = Status> {
        prop_oneof![Just(Status::Alive), Just(Status::Failed), Just(Status::Left)]
    }

    proptest! {
        #[test]
        fn failures_alone_never_cost_the_quorum(
            statuses in proptest::collection::vec(status(), 1..8),
        ) {
            // Everyone votes; whatever the pool says, follow the plan to its end.
            let ids: Vec<u64> = (1..=statuses.len() as u64).collect();
            let mut pool: BTreeMap<_, _> =
                ids.iter().zip(&statuses).map(|(id, status)| server(*id, *status, LONG)).collect();
            pool.insert(1, server(1, Status::Alive, LONG).1);
            let alive_before = pool.values().filter(|s| s.status == Status::Alive).count();
            let mut now = peers(&ids, &[]);
            for _ in 0..32 {
                match planned(&now, &pool) {
                    Some(Change::Remove(id)) => {
                        prop_assert_ne!(id, 1);
                        prop_assert_ne!(pool[&id].status, Status::Alive);
                        now.voters.remove(&id);
                        now.links.remove(&id);
                    }
                    Some(other) => prop_assert!(false, "{:?}", other),
                    None => break,
                }
            }
            prop_assert!(now.voters.len() >= alive_before);
            prop_assert_eq!(planned(&now, &pool), None);
        }
    }
}
