//! Decides where an ask is answered: another datacenter, the leader, or here.
//!
//! ```text
//! HTTP, DNS, link ──▶ Ask ──▶ way ──┬─▶ Datacenter   another datacenter's servers decide on
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

use std::time::Duration;

use lan_agent::ask::{Ask, Consistency, Question};
use topology::Datacenter;

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

/// Where an ask is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the servers of another datacenter.
    Datacenter(Datacenter),
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
}

/// Decides where an ask that came in at a server of `home` is answered.
pub fn decide(ask: &Ask, origin: Origin, home: &Datacenter, leadership: Leadership) -> Way {
    if let Some(dc) = &ask.dc
        && dc != home
    {
        return Way::Datacenter(dc.clone());
    }
    if answers_without_leader(ask) {
        return Way::Local;
    }
    match (leadership, origin) {
        (Leadership::Mine, _) => Way::Here,
        (Leadership::Other, Origin::Agent | Origin::Federation | Origin::Detour) => Way::Leader,
        (Leadership::Missing, Origin::Agent) => Way::Detour,
        (Leadership::Other, Origin::Follower)
        | (Leadership::Missing, Origin::Follower | Origin::Federation | Origin::Detour)
        | (Leadership::Unknown, _) => Way::Await,
    }
}

/// Tells whether what any server has is good enough.
fn answers_without_leader(ask: &Ask) -> bool {
    match &ask.question {
        Question::StatusLeader | Question::StatusPeers | Question::Datacenters => true,
        question => question.reads() && ask.consistency == Consistency::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use lan_agent::ask::{RequestId, TraceId};
    use uuid::Uuid;

    fn read(consistency: Consistency, dc: Option<&str>) -> Ask {
        asked(Question::KvGet { key: "k".into(), raw: false }, consistency, dc)
    }

    fn asked(question: Question, consistency: Consistency, dc: Option<&str>) -> Ask {
        Ask {
            dc: dc.map(|name| Datacenter::new(name).unwrap()),
            consistency,
            blocking: None,
            token: String::new(),
            trace: TraceId(Uuid::nil()),
            request: RequestId(Uuid::nil()),
            deadline: tokio::time::Instant::now() + Duration::from_secs(1),
            question,
        }
    }

    fn way(ask: &Ask, origin: Origin, leadership: Leadership) -> Way {
        decide(ask, origin, &Datacenter::new("dc1").unwrap(), leadership)
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
