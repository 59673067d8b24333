//! Which place answers a lookup: the own instances, or another datacenter's. A function of values.
//!
//! ```text
//! places in the order of preference, the own one first
//!    enough healthy instances  <  some  <  none, or out of reach
//!    the first of the best ones is the ideal; a worse one than now is left at once,
//!    one that is only preferred is moved to when it has been the ideal for the hold-down
//! ```
//!
//! So a service that comes and goes, or two datacenters that are as near as each other, don't drag clients to and
//! fro, and nobody waits for an answer that is there.

use std::time::Duration;

use super::policy::{Count, Policy};

/// A place that may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<P> {
    /// Which one.
    pub of: P,
    /// The service's instances there.
    pub count: Count,
    /// Whether its datacenter can be reached and what is known of it counts.
    pub open: bool,
}

/// What a choice remembers of the ones before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory<P> {
    /// Where lookups go.
    pub at: P,
    /// The place that would be better, and since when.
    pub better: Option<(P, Duration)>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<P> {
    /// The places, and how many instances of each; `None` for all that it has.
    pub parts: Vec<(P, Option<usize>)>,
    /// What to remember; `None` while there is nothing to.
    pub memory: Option<Memory<P>>,
    /// When to choose again even if nothing changed, on the clock of `now`.
    pub again_at: Option<Duration>,
}

/// How good a place is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Enough,
    Some,
    None,
}

/// Chooses at time `now` who answers. The first place is the own one, the others come in the order of preference; there
/// is at least the own one.
pub fn choose<P: Clone + Eq>(
    policy: &Policy,
    places: &[Place<P>],
    memory: Option<&Memory<P>>,
    now: Duration,
) -> Choice<P> {
    let Some((own, others)) = places.split_first() else {
        return Choice { parts: Vec::new(), memory: None, again_at: None };
    };
    if policy.spill {
        return Choice { parts: spilled(policy, own, others), memory: None, again_at: None };
    }
    let grade = |place: &Place<P>| grade(policy, place);
    // Of those that are as good the first one is found.
    let ideal = others.iter().fold(own, |best, it| if grade(it) < grade(best) { it } else { best });
    let settled = |at: &P| Choice {
        parts: vec![(at.clone(), None)],
        memory: (*at != own.of).then(|| Memory { at: at.clone(), better: None }),
        again_at: None,
    };
    let Some(memory) = memory else { return settled(&ideal.of) };
    // Nobody stays at, or is sent to, a place that has nothing.
    let is_as_good = |place: &&Place<P>| {
        place.of == memory.at && grade(place) == grade(ideal) && grade(place) != Grade::None
    };
    let Some(now_at) = places.iter().find(is_as_good) else { return settled(&ideal.of) };
    if now_at.of == ideal.of {
        return settled(&ideal.of);
    }
    let since = memory.better.as_ref().filter(|(better, _)| *better == ideal.of);
    let since = since.map_or(now, |(_, since)| *since);
    let moves_at = since + policy.hold_down;
    if now >= moves_at {
        return settled(&ideal.of);
    }
    let memory = Memory { at: now_at.of.clone(), better: Some((ideal.of.clone(), since)) };
    let parts = vec![(now_at.of.clone(), None)];
    Choice { parts, memory: Some(memory), again_at: Some(moves_at) }
}

fn grade<P>(policy: &Policy, place: &Place<P>) -> Grade {
    match place.count.healthy {
        _ if !place.open => Grade::None,
        0 => Grade::None,
        _ if policy.min_healthy.missing(place.count) == 0 => Grade::Enough,
        _ => Grade::Some,
    }
}

/// The own instances, and as many of the others as are missing.
fn spilled<P: Clone>(
    policy: &Policy,
    own: &Place<P>,
    others: &[Place<P>],
) -> Vec<(P, Option<usize>)> {
    let mut missing = policy.min_healthy.missing(own.count);
    let mut parts = vec![(own.of.clone(), None)];
    for place in others.iter().filter(|place| place.open && place.count.healthy > 0) {
        if missing == 0 {
            break;
        }
        let taken = missing.min(place.count.healthy);
        parts.push((place.of.clone(), Some(taken)));
        missing -= taken;
    }
    parts
}

#[cfg(test)]
mod tests;
