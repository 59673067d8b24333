//! Decides where an ask is answered: another datacenter, the leader, or here.
//!
//! ```text
//! HTTP, DNS, link ──▶ Ask ──▶ way ──┬─▶ Datacenter   another datacenter's servers decide on
//!                                   ├─▶ Mirror       what is mirrored of that one here
//!                                   ├─▶ Leader       this datacenter's leader answers
//!                                   ├─▶ Here         this server answers from its state
//!                                   ├─▶ Detour       home by way of another datacenter
//!                                   └─▶ Await        nobody leads now: hold on for a moment
//! ```
//!
//! The test for another datacenter comes first: whether this one has a leader must not matter to
//! a request for that one. A request that a fellow server passed on goes no further: when this server
//! does not lead, the other one has to look again, so that two servers that take each other for
//! the leader don't pass a request to and fro. Nor does a request that took a detour take another.
//!
//! What is written in the primary datacenter goes there, whichever one was named. It is sent once: datacenters that take
//! each other for the primary refuse it.

use std::time::Duration;

use lan_agent::ask::{Ask, Consistency, Question};
use topology::Datacenter;

use crate::mirror::rule::Use;

/// How long nobody must have led before a server looks for its leader by way of another datacenter:
/// an election takes less, and is no reason to.
pub const DETOUR_AFTER: Duration = Duration::from_secs(1);

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This server's own interfaces, or a client agent's link.
    Agent,
    /// A server of this datacenter, which took this one for the leader.
    Follower,
    /// A server of another datacenter.
    Federation,
    /// A server of this datacenter that can't reach its leader, by way of another datacenter.
    Detour,
}

/// What this server knows about the leader of its datacenter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// This server leads.
    Mine,
    /// Another one does.
    Other,
    /// Nobody does, as far as this server knows.
    Unknown,
    /// Nobody has for longer than an election takes, and another datacenter may know better.
    Missing,
}

impl Leadership {
    /// Returns what it is without a known leader, for so long; `may_detour` tells whether there is
    /// another datacenter to go through.
    pub fn without(leaderless_for: Duration, may_detour: bool) -> Self {
        match may_detour && leaderless_for >= DETOUR_AFTER {
            true => Leadership::Missing,
            false => Leadership::Unknown,
        }
    }
}

/// What this server knows that bears on where an ask is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// What it knows about the leader.
    pub leadership: Leadership,
    /// How old its state is at most, for an ask that bounds that.
    pub last_contact: Duration,
    /// What may be done with its mirror of the datacenter that is asked.
    pub mirror: Use,
}

/// Which datacenters there are for a server, by name.
#[derive(Debug, Clone)]
pub struct Map {
    /// Its own.
    pub home: Datacenter,
    /// Where what is the same in all of them is written.
    pub primary: Datacenter,
}

/// Where an ask is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the servers of another datacenter.
    Datacenter(Datacenter),
    /// By this server, with what it mirrors of another datacenter.
    Mirror(Datacenter),
    /// By this datacenter's leader.
    Leader,
    /// By this server, as the leader.
    Here,
    /// By this server, with what it has.
    Local,
    /// By this datacenter's leader, asked by way of another datacenter.
    Detour,
    /// By nobody, until there is a leader.
    Await,
    /// Nowhere: somebody takes this datacenter for the primary, and it takes another one for that.
    NotPrimary,
}

/// Decides where an ask that came in at a server is answered.
pub fn decide(ask: &Ask, origin: Origin, map: &Map, scene: Scene) -> Way {
    if ask.question.is_for_primary() && map.primary != map.home {
        return match origin {
            Origin::Agent => Way::Datacenter(map.primary.clone()),
            Origin::Follower | Origin::Federation | Origin::Detour => Way::NotPrimary,
        };
    }
    if let Some(dc) = &ask.dc
        && *dc != map.home
        && !ask.question.is_for_primary()
    {
        return match (&ask.question, origin) {
            // One feed crosses the WAN: the leader's.
            (Question::Feed(_), Origin::Follower) => Way::Mirror(dc.clone()),
            (Question::Feed(_), Origin::Agent) if scene.leadership == Leadership::Other => {
                Way::Leader
            }
            _ if scene.mirror == Use::First => Way::Mirror(dc.clone()),
            _ => Way::Datacenter(dc.clone()),
        };
    }
    if answers_without_leader(ask, scene.last_contact) {
        return Way::Local;
    }
    match (scene.leadership, origin) {
        (Leadership::Mine, _) => Way::Here,
        (Leadership::Other, Origin::Agent | Origin::Federation | Origin::Detour) => Way::Leader,
        (Leadership::Missing, Origin::Agent) => Way::Detour,
        (Leadership::Other, Origin::Follower)
        | (Leadership::Missing, Origin::Follower | Origin::Federation | Origin::Detour)
        | (Leadership::Unknown, _) => Way::Await,
    }
}

/// Tells whether what any server has is good enough.
fn answers_without_leader(ask: &Ask, last_contact: Duration) -> bool {
    match &ask.question {
        Question::StatusLeader
        | Question::StatusPeers
        | Question::Datacenters
        | Question::Refuges
        | Question::FederationStatus
        | Question::FederationTimeline { .. }
        | Question::CoordinateDatacenters
        // Each part of it is asked for by itself, as fresh as it is wanted.
        | Question::Union(_)
        // What is said of a datacenter spreads from any server, and is no business of Raft.
        | Question::FederationRemove { .. } => true,
        question => {
            let fresh = ask.max_stale.is_none_or(|max| last_contact <= max);
            question.reads() && ask.consistency == Consistency::Stale && fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use lan_agent::ask::{Feed, RequestId, TraceId};
    use uuid::Uuid;

    const CONTACT: Duration = Duration::from_millis(50);

    fn read(consistency: Consistency, dc: Option<&str>) -> Ask {
        asked(Question::KvGet { key: "k".into(), raw: false }, consistency, dc)
    }

    fn asked(question: Question, consistency: Consistency, dc: Option<&str>) -> Ask {
        Ask {
            dc: dc.map(|name| Datacenter::new(name).unwrap()),
            consistency,
            max_stale: None,
            blocking: None,
            token: String::new(),
            trace: TraceId(Uuid::nil()),
            request: RequestId(Uuid::nil()),
            deadline: tokio::time::Instant::now() + Duration::from_secs(1),
            question,
        }
    }

    fn way(ask: &Ask, origin: Origin, leadership: Leadership) -> Way {
        within(ask, origin, Scene { leadership, last_contact: CONTACT, mirror: Use::Never })
    }

    fn within(ask: &Ask, origin: Origin, scene: Scene) -> Way {
        let dc1 = Datacenter::new("dc1").unwrap();
        decide(ask, origin, &Map { home: dc1.clone(), primary: dc1 }, scene)
    }

    #[test]
    fn config_entries_are_written_in_the_primary_datacenter_and_sent_there_once() {
        let delete =
            Question::ConfigDelete { kind: "service-resolver".into(), name: "a".into(), cas: None };
        let map = |home: &str| Map {
            home: Datacenter::new(home).unwrap(),
            primary: Datacenter::new("dc1").unwrap(),
        };
        let scene =
            Scene { leadership: Leadership::Mine, last_contact: CONTACT, mirror: Use::Never };
        for dc in [None, Some("dc1"), Some("dc2"), Some("dc3")] {
            let ask = asked(delete.clone(), Consistency::Default, dc);
            let to_primary = Way::Datacenter(Datacenter::new("dc1").unwrap());
            assert_eq!(decide(&ask, Origin::Agent, &map("dc2"), scene), to_primary);
            for origin in [Origin::Follower, Origin::Federation, Origin::Detour] {
                assert_eq!(decide(&ask, origin, &map("dc2"), scene), Way::NotPrimary);
            }
            for origin in [Origin::Agent, Origin::Follower, Origin::Federation, Origin::Detour] {
                assert_eq!(decide(&ask, origin, &map("dc1"), scene), Way::Here);
            }
        }
        let read = Question::ConfigRead { kind: None, name: None };
        let ask = asked(read, Consistency::Default, None);
        assert_eq!(decide(&ask, Origin::Agent, &map("dc2"), scene), Way::Here);
    }

    #[test]
    fn another_datacenter_comes_before_everything_else() {
        let dc2 = Way::Datacenter(Datacenter::new("dc2").unwrap());
        for leadership in [Leadership::Mine, Leadership::Other, Leadership::Unknown] {
            let stale = read(Consistency::Stale, Some("dc2"));
            assert_eq!(way(&stale, Origin::Agent, leadership), dc2);
        }
    }

    #[test]
    fn the_own_datacenter_by_name_is_the_own_datacenter() {
        let ask = read(Consistency::Default, Some("dc1"));
        assert_eq!(way(&ask, Origin::Agent, Leadership::Mine), Way::Here);
    }

    #[test]
    fn stale_reads_need_no_leader() {
        let ask = read(Consistency::Stale, None);
        for leadership in [Leadership::Mine, Leadership::Other, Leadership::Unknown] {
            assert_eq!(way(&ask, Origin::Agent, leadership), Way::Local);
        }
    }

    #[test]
    fn stale_reads_that_may_not_be_so_old_need_the_leader() {
        let bounded =
            |max_stale| Ask { max_stale: Some(max_stale), ..read(Consistency::Stale, None) };
        assert_eq!(way(&bounded(CONTACT), Origin::Agent, Leadership::Other), Way::Local);
        let less = bounded(CONTACT - Duration::from_millis(1));
        assert_eq!(way(&less, Origin::Agent, Leadership::Other), Way::Leader);
    }

    #[test]
    fn a_mirror_answers_for_its_datacenter_where_it_may() {
        let dc2 = Datacenter::new("dc2").unwrap();
        let scene = |mirror| Scene { leadership: Leadership::Other, last_contact: CONTACT, mirror };
        let stale = read(Consistency::Stale, Some("dc2"));
        assert_eq!(within(&stale, Origin::Agent, scene(Use::First)), Way::Mirror(dc2.clone()));
        for asked_first in [Use::Last, Use::Never] {
            let found = within(&stale, Origin::Agent, scene(asked_first));
            assert_eq!(found, Way::Datacenter(dc2.clone()));
        }
    }

    #[test]
    fn the_leader_feeds_the_mirrors_of_its_followers() {
        let dc2 = Datacenter::new("dc2").unwrap();
        let feed = asked(Question::Feed(Feed::default()), Consistency::Stale, Some("dc2"));
        assert_eq!(way(&feed, Origin::Agent, Leadership::Other), Way::Leader);
        assert_eq!(way(&feed, Origin::Follower, Leadership::Mine), Way::Mirror(dc2.clone()));
        for leadership in [Leadership::Mine, Leadership::Unknown, Leadership::Missing] {
            let direct = Way::Datacenter(dc2.clone());
            assert_eq!(way(&feed, Origin::Agent, leadership), direct, "{leadership:?}");
        }
        let home = asked(Question::Feed(Feed::default()), Consistency::Stale, None);
        assert_eq!(way(&home, Origin::Federation, Leadership::Other), Way::Local);
    }

    #[test]
    fn a_stale_write_is_a_write() {
        let question =
            Question::KvPut { key: "k".into(), value: Bytes::new(), flags: 0, cas: None };
        let ask = asked(question, Consistency::Stale, None);
        assert_eq!(way(&ask, Origin::Agent, Leadership::Other), Way::Leader);
    }

    #[test]
    fn a_request_is_passed_on_to_the_leader_once() {
        let ask = read(Consistency::Default, None);
        assert_eq!(way(&ask, Origin::Agent, Leadership::Other), Way::Leader);
        assert_eq!(way(&ask, Origin::Federation, Leadership::Other), Way::Leader);
        assert_eq!(way(&ask, Origin::Follower, Leadership::Other), Way::Await);
    }

    #[test]
    fn a_server_that_misses_its_leader_asks_by_way_of_another_datacenter_once() {
        let ask = read(Consistency::Default, None);
        assert_eq!(way(&ask, Origin::Agent, Leadership::Missing), Way::Detour);
        assert_eq!(way(&ask, Origin::Detour, Leadership::Other), Way::Leader);
        assert_eq!(way(&ask, Origin::Detour, Leadership::Mine), Way::Here);
        for origin in [Origin::Detour, Origin::Follower, Origin::Federation] {
            assert_eq!(way(&ask, origin, Leadership::Missing), Way::Await, "{origin:?}");
        }
        let stale = read(Consistency::Stale, None);
        assert_eq!(way(&stale, Origin::Agent, Leadership::Missing), Way::Local);
    }

    #[test]
    fn a_leader_is_missing_after_an_election_has_had_its_time() {
        let just = DETOUR_AFTER - Duration::from_millis(1);
        assert_eq!(Leadership::without(just, true), Leadership::Unknown);
        assert_eq!(Leadership::without(DETOUR_AFTER, true), Leadership::Missing);
        assert_eq!(Leadership::without(DETOUR_AFTER, false), Leadership::Unknown);
    }

    #[test]
    fn without_a_leader_leader_reads_wait() {
        for consistency in [Consistency::Default, Consistency::Consistent] {
            let ask = read(consistency, None);
            assert_eq!(way(&ask, Origin::Agent, Leadership::Unknown), Way::Await);
        }
    }
}
