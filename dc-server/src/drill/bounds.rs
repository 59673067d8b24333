//! The bounds that a lost datacenter is held to, and whether they were kept. Functions of the
//! history.

use std::time::Duration;

use serde::Serialize;
use topology::{Datacenter, Role};

use crate::drill::{
    audit::Audit,
    history::{History, Operation, Outcome},
    timeline::{self, Timeline},
};

/// Every surviving server knows of the loss within this.
const VERDICT_WITHIN: Duration = Duration::from_secs(5);

/// Until it knows, a request for the lost datacenter fails within this.
const ERROR_BEFORE_VERDICT: Duration = Duration::from_secs(2);

/// When it knows, 99 of 100 fail within this: it asks nobody. The rest is left to a machine that
/// is busy with more processes than it has processors.
const ERROR_AFTER_VERDICT: Duration = Duration::from_millis(50);

/// The datacenter answers everyone again, and everyone sees everyone, so long after its servers
/// were started again: an election, the return of the links with their back-off, and gossip.
pub const RECOVERY_WITHIN: Duration = Duration::from_secs(15);

/// A bound and what was measured against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// What is bounded.
    pub what: String,
    /// The bound.
    pub limit: String,
    /// What was measured.
    pub measured: String,
    /// Whether it was kept.
    pub kept: bool,
}

/// How long requests of one sort took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: usize,
    /// The median, in seconds.
    pub p50_seconds: f64,
    /// 99 of 100 took at most this, in seconds.
    pub p99_seconds: f64,
    /// The longest, in seconds.
    pub max_seconds: f64,
}

impl Latency {
    /// Sums up durations; all zero when there are none.
    pub fn of(durations: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = durations.collect();
        sorted.sort_unstable();
        Self {
            count: sorted.len(),
            p50_seconds: rank(&sorted, 50),
            p99_seconds: rank(&sorted, 99),
            max_seconds: rank(&sorted, 100),
        }
    }
}

/// Returns the nearest-rank percentile of sorted durations, in seconds.
fn rank(sorted: &[Duration], percent: usize) -> f64 {
    let nth = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(nth).map_or(0.0, Duration::as_secs_f64)
}

/// Holds a history to the bounds.
pub fn judge(history: &History, timeline: &Timeline, audit: &Audit) -> Vec<Bound> {
    let down = While::new(history, timeline);
    vec![
        verdicts(history, timeline),
        before_verdict(&down),
        after_verdict(&down),
        clear_answers(&down),
        others_answered(history),
        answers_back(history, timeline),
        whole(history),
        none_lost(audit),
        none_doubled(audit),
    ]
}

/// What clients elsewhere asked of the datacenter while it was lost, split by what the server
/// that they asked knew. A client agent asks any of its servers: it knows when all of them do.
struct While<'a> {
    before: Vec<&'a Operation>,
    after: Vec<&'a Operation>,
}

impl<'a> While<'a> {
    fn new(history: &'a History, timeline: &Timeline) -> Self {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for operation in timeline::across(history) {
            let marks = &history.marks;
            if operation.end <= marks.killed || operation.start >= marks.restarted {
                continue;
            }
            match known_at(operation, timeline) {
                Some(known) if operation.start >= known => after.push(operation),
                _ => before.push(operation),
            }
        }
        // What was still under way when the servers came back may wait for them.
        after.retain(|operation| operation.end <= history.marks.restarted);
        Self { before, after }
    }
}

fn known_at(operation: &Operation, timeline: &Timeline) -> Option<Duration> {
    if operation.via.role == Role::Server {
        return timeline.verdicts.get(&operation.via.label).copied().flatten();
    }
    let suffix = format!(".{}", operation.via.dc);
    let servers = timeline.verdicts.iter().filter(|(server, _)| server.ends_with(&suffix));
    servers.map(|(_, at)| *at).collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn verdicts(history: &History, timeline: &Timeline) -> Bound {
    let missing: Vec<&str> = timeline
        .verdicts
        .iter()
        .filter(|(_, at)| at.is_none())
        .map(|(server, _)| server.as_str())
        .collect();
    let last = timeline.verdicts.values().flatten().max();
    let last = last.map(|at| at.saturating_sub(history.marks.killed));
    Bound {
        what: "every surviving server knows that the datacenter is lost".to_owned(),
        limit: format!("within {}", seconds(VERDICT_WITHIN)),
        measured: match last {
            Some(last) if missing.is_empty() => format!("the last after {}", seconds(last)),
            _ => format!("never at {}", missing.join(", ")),
        },
        kept: missing.is_empty() && last.is_some_and(|last| last <= VERDICT_WITHIN),
    }
}

fn before_verdict(down: &While<'_>) -> Bound {
    let errors: Vec<_> = down.before.iter().copied().filter(|op| !op.is_answer()).collect();
    let latency = Latency::of(errors.iter().map(|op| op.took()));
    Bound {
        what: "a request for it fails while the server does not know".to_owned(),
        limit: format!("within {}", seconds(ERROR_BEFORE_VERDICT)),
        measured: measured(&latency, &errors),
        kept: latency.max_seconds <= ERROR_BEFORE_VERDICT.as_secs_f64(),
    }
}

fn after_verdict(down: &While<'_>) -> Bound {
    let latency = Latency::of(down.after.iter().map(|op| op.took()));
    Bound {
        what: "a request for it fails when the server knows".to_owned(),
        limit: format!("99 of 100 within {}", seconds(ERROR_AFTER_VERDICT)),
        measured: measured(&latency, &down.after),
        kept: latency.count > 0 && latency.p99_seconds <= ERROR_AFTER_VERDICT.as_secs_f64(),
    }
}

fn measured(latency: &Latency, operations: &[&Operation]) -> String {
    let Some(longest) = operations.iter().max_by_key(|op| op.took()) else {
        return "no request".to_owned();
    };
    let Latency { count, p99_seconds, max_seconds, .. } = latency;
    let (at, kind) = (&longest.via.label, longest.kind);
    format!("99 of 100 in {p99_seconds:.3} s, all {count} in {max_seconds:.3} s ({kind:?} at {at})")
}

fn clear_answers(down: &While<'_>) -> Bound {
    let silent = || {
        let all = down.before.iter().chain(&down.after).copied();
        all.filter(|op| matches!(op.outcome, Outcome::Silence(_)))
    };
    none("no request for it goes without a clear answer", silent().count(), first(silent()))
}

fn others_answered(history: &History) -> Bound {
    let lost = &history.lost;
    let failed = || {
        history
            .operations
            .iter()
            .filter(|op| op.to != *lost && op.via.dc != *lost && !op.is_answer())
    };
    none("no request fails that does not name it", failed().count(), first(failed()))
}

fn first<'a>(operations: impl Iterator<Item = &'a Operation>) -> Option<String> {
    let operation = operations.min_by_key(|op| op.end)?;
    Some(format!("{} for {}: {:?}", operation.via.label, operation.to, operation.outcome))
}

fn none(what: &str, count: usize, first: Option<String>) -> Bound {
    let first = first.map(|first| format!("; the first: {first}")).unwrap_or_default();
    Bound {
        what: what.to_owned(),
        limit: "0".to_owned(),
        measured: format!("{count}{first}"),
        kept: count == 0,
    }
}

fn answers_back(history: &History, timeline: &Timeline) -> Bound {
    let backs: Option<Vec<(&Datacenter, Duration)>> =
        timeline.answers_back.iter().map(|(dc, at)| Some((dc, (*at)?))).collect();
    let last = backs.and_then(|backs| backs.into_iter().max_by_key(|(_, at)| *at));
    let after = last.map(|(dc, at)| (dc, at.saturating_sub(history.marks.restarted)));
    Bound {
        what: "it answers every other datacenter again".to_owned(),
        limit: format!("within {} of its start", seconds(RECOVERY_WITHIN)),
        measured: match after {
            Some((dc, after)) => format!("the last, {dc}, after {}", seconds(after)),
            None => "not every one".to_owned(),
        },
        kept: after.is_some_and(|(_, after)| after <= RECOVERY_WITHIN),
    }
}

fn whole(history: &History) -> Bound {
    let after = history.whole.map(|at| at.saturating_sub(history.marks.restarted));
    Bound {
        what: "every node sees every member alive again".to_owned(),
        limit: format!("within {} of its start", seconds(RECOVERY_WITHIN)),
        measured: after.map_or("not seen".to_owned(), |after| format!("after {}", seconds(after))),
        kept: after.is_some_and(|after| after <= RECOVERY_WITHIN),
    }
}

fn none_lost(audit: &Audit) -> Bound {
    let count = audit.lost + audit.contradictions;
    let unread = match audit.unread.as_slice() {
        [] => String::new(),
        unread => format!("; {} did not say what they hold", unread.join(", ")),
    };
    Bound {
        what: "no acknowledged write is lost".to_owned(),
        limit: "0".to_owned(),
        measured: format!("{count} of {}{unread}", audit.acknowledged),
        kept: count == 0 && audit.unread.is_empty() && audit.acknowledged > 0,
    }
}

fn none_doubled(audit: &Audit) -> Bound {
    none("no write is applied twice", audit.doubled, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::{
        audit,
        history::Kind,
        sample::{self, ms},
    };

    fn broken(history: &History) -> Vec<String> {
        let bounds = judge(history, &timeline::read(history), &audit::check(history));
        bounds.into_iter().filter(|bound| !bound.kept).map(|bound| bound.what).collect()
    }

    #[test]
    fn a_history_in_order_breaks_nothing() {
        assert!(broken(&sample::history()).is_empty(), "{:?}", broken(&sample::history()));
    }

    #[test]
    fn a_late_verdict_breaks_its_bound() {
        let mut history = sample::history();
        for probe in history.probes.iter_mut().filter(|probe| probe.start > ms(12_000)) {
            *probe = crate::drill::history::Probe {
                start: ms(15_500),
                end: ms(15_501),
                ..probe.clone()
            };
        }
        assert_eq!(broken(&history)[0], "every surviving server knows that the datacenter is lost");
    }

    #[test]
    fn a_request_that_hangs_breaks_its_bound() {
        let mut history = sample::history();
        let silence = Outcome::Silence("no answer".to_owned());
        let hung = sample::operation("dc1", "dc2", Kind::Read, (10_500, 16_500), silence);
        history.operations.push(hung);
        assert_eq!(
            broken(&history),
            [
                "a request for it fails while the server does not know",
                "no request for it goes without a clear answer",
            ]
        );
    }

    #[test]
    fn a_slow_error_after_the_verdict_breaks_its_bound() {
        let mut history = sample::history();
        let late = history.operations.iter_mut().find(|op| op.end == ms(15_010)).unwrap();
        late.end = ms(15_060);
        assert_eq!(broken(&history), ["a request for it fails when the server knows"]);
    }

    #[test]
    fn a_failure_that_does_not_concern_the_lost_datacenter_breaks_its_bound() {
        let mut history = sample::history();
        let error = Outcome::Error { status: 500, text: "No cluster leader".to_owned() };
        history.operations.push(sample::operation("dc1", "dc1", Kind::Read, (5, 9), error));
        assert_eq!(broken(&history), ["no request fails that does not name it"]);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let latency = Latency::of((1..=100).map(Duration::from_secs));
        assert_eq!((latency.p50_seconds, latency.p99_seconds), (50.0, 99.0));
        assert_eq!(latency.max_seconds, 100.0);
        assert_eq!(Latency::of(std::iter::empty()), Latency::default());
    }
}
