//! Decides whether what concurrent clients saw of a key-value store is linearizable.
//!
//! The search of Wing and Gong with Lowe's memoisation ("Testing for linearizability", 2017):
//! try each operation that may come next, remember the pairs of (operations done, state) that
//! led nowhere. Keys are independent, so each is searched alone. The model is a register: a
//! value or none; read, write, delete, and compare-and-set on the value.
//!
//! An operation whose answer was lost may have taken effect at any time after it began, or never:
//! it may be placed anywhere after its begin and needs no place. Every write carries a value of
//! its own, so a value says which write it came from, and one that is gone never comes back.
//!
//! That keeps the search narrow, and it loses no order that matters:
//!
//! - What changes nothing and fits the state (a read, a comparison that failed) is placed at once.
//! - A value is not overwritten while somebody is still to see it.
//! - Deletes that may have taken effect are all alike once they have begun: the first one is tried.
//!
//! The search is bounded by [`STEPS_MAX`]: beyond it the verdict is [`Flaw::TooHard`], which a
//! test must treat as a failure of its own and record shorter histories.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{Arc, Mutex},
};

/// Most steps of a search for one key: some seconds. Histories of a thousand calls by ten clients
/// take some ten thousand.
pub const STEPS_MAX: usize = 1_000_000;

/// Most steps of the second search, which may place writes that nobody saw: its space doubles
/// with each of them.
const STEPS_UNSEEN_MAX: usize = 100_000;

/// A value that was written, unique in its history.
pub type Value = u64;

/// What a client did with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Reads the value.
    Read,
    /// Sets the value.
    Write(Value),
    /// Removes the key.
    Delete,
    /// Sets the value if the present one is as expected; `None`: if there is none.
    Cas(Option<Value>, Value),
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A write, a delete or a successful comparison took effect.
    Done,
    /// The comparison failed: nothing was changed.
    Mismatch,
    /// What was read.
    Saw(Option<Value>),
    /// No answer: it may have taken effect, or may yet.
    Unknown,
}

/// One operation: when it began, when it ended, what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Who.
    pub client: usize,
    /// What.
    pub op: Op,
    /// Place in the history's order of events.
    pub begin: u64,
    /// Place in the history's order of events; `u64::MAX` when the outcome is unknown.
    pub end: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a history is not one of a linearizable store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// No order explains the answers.
    Impossible {
        /// The key.
        key: String,
        /// The longest order found, then the operations that can't follow it.
        story: String,
    },
    /// The search was given up.
    TooHard {
        /// The key.
        key: String,
        /// Its operations.
        calls: Vec<Call>,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Impossible { key, story } => write!(f, "key {key}: no order explains:\n{story}"),
            Flaw::TooHard { key, calls } => {
                let lost = calls.iter().filter(|call| call.outcome == Outcome::Unknown).count();
                let count = calls.len();
                write!(
                    f,
                    "key {key}: {count} operations, {lost} of them of unknown outcome, are too "
                )?;
                write!(f, "many to decide: record fewer\n{calls:?}")
            }
        }
    }
}

impl Call {
    /// Tells whether it changes nothing, whatever the state.
    fn leaves_alone(&self) -> bool {
        self.op == Op::Read || self.outcome == Outcome::Mismatch
    }

    /// Tells whether it changes nothing and its outcome is known and allowed in a state.
    fn fits_idly(&self, state: Option<Value>) -> bool {
        self.leaves_alone() && apply(self, state).is_some()
    }

    /// Tells whether its place is certainly after the write of the state, before the next one.
    fn wants(&self, state: Option<Value>) -> bool {
        state.is_some()
            && match (self.op, self.outcome) {
                (Op::Read, Outcome::Saw(value)) => value == state,
                (Op::Cas(expected, _), Outcome::Done) => expected == state,
                _ => false,
            }
    }

    fn is_lost_delete(&self) -> bool {
        (self.op, self.outcome) == (Op::Delete, Outcome::Unknown)
    }
}

/// What concurrent clients did and saw, recorded as it happens. Clones share one record.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Events>>);

#[derive(Debug, Default)]
struct Events {
    clock: u64,
    calls: BTreeMap<String, Vec<Call>>,
}

/// An operation that began. Dropped without an outcome, its outcome is unknown.
#[derive(Debug)]
pub struct Begun {
    history: History,
    key: String,
    index: usize,
}

impl History {
    /// Records that a client begins an operation. Call it before the request is sent.
    pub fn begin(&self, client: usize, key: &str, op: Op) -> Begun {
        let mut events = self.0.lock().expect("nobody panics in here");
        events.clock += 1;
        let begin = events.clock;
        let calls = events.calls.entry(key.to_owned()).or_default();
        calls.push(Call { client, op, begin, end: u64::MAX, outcome: Outcome::Unknown });
        let index = calls.len() - 1;
        Begun { history: self.clone(), key: key.to_owned(), index }
    }

    /// Returns the operations on each key, in the order in which they began.
    pub fn calls(&self) -> BTreeMap<String, Vec<Call>> {
        self.0.lock().expect("nobody panics in here").calls.clone()
    }

    /// Counts the operations whose outcome is known.
    pub fn known(&self) -> usize {
        let calls = self.calls();
        calls.values().flatten().filter(|call| call.outcome != Outcome::Unknown).count()
    }

    /// Checks every key.
    pub fn check(&self) -> Result<(), Flaw> {
        self.calls().into_iter().try_for_each(|(key, calls)| check(&key, &calls))
    }
}

impl Begun {
    /// Records that it certainly had and will have no effect: the history goes on without it.
    pub fn never(self) {
        self.change(|call| call.op = Op::Read);
    }

    /// Records the outcome. Call it after the answer came.
    pub fn end(self, outcome: Outcome) {
        if outcome == Outcome::Unknown {
            return;
        }
        let end = {
            let mut events = self.history.0.lock().expect("nobody panics in here");
            events.clock += 1;
            events.clock
        };
        self.change(|call| (call.end, call.outcome) = (end, outcome));
    }

    fn change(&self, change: impl FnOnce(&mut Call)) {
        let mut events = self.history.0.lock().expect("nobody panics in here");
        let call = events.calls.get_mut(&self.key).and_then(|calls| calls.get_mut(self.index));
        change(call.expect("it was begun"));
    }
}

/// Checks the operations on one key.
pub fn check(key: &str, calls: &[Call]) -> Result<(), Flaw> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.begin);
    // Writes of unknown outcome that nobody saw are many and make the search long. An order
    // that explains the rest without them is an order; only a comparison that failed may need them.
    let seen: Vec<Call> = calls.iter().copied().filter(|call| is_seen(call, &calls)).collect();
    let flaw = match Search::new(&seen).run(key, STEPS_MAX) {
        Ok(()) => return Ok(()),
        Err(flaw) => flaw,
    };
    let failed = calls.iter().any(|call| call.outcome == Outcome::Mismatch);
    let again = failed && seen.len() < calls.len();
    match again && Search::new(&calls).run(key, STEPS_UNSEEN_MAX).is_ok() {
        true => Ok(()),
        false => Err(flaw),
    }
}

/// Tells whether another operation gives away that this one took effect, or it ended itself.
fn is_seen(call: &Call, calls: &[Call]) -> bool {
    let (Op::Write(value) | Op::Cas(_, value), Outcome::Unknown) = (call.op, call.outcome) else {
        return call.op != Op::Read || call.outcome != Outcome::Unknown;
    };
    calls.iter().any(|other| match (other.op, other.outcome) {
        (_, Outcome::Saw(saw)) => saw == Some(value),
        (Op::Cas(expected, _), Outcome::Done | Outcome::Unknown) => expected == Some(value),
        _ => false,
    })
}

/// Applies an operation to a state, if its outcome allows it there.
fn apply(call: &Call, state: Option<Value>) -> Option<Option<Value>> {
    match (call.op, call.outcome) {
        (Op::Read, Outcome::Saw(value)) => (value == state).then_some(state),
        (Op::Write(value), Outcome::Done | Outcome::Unknown) => Some(Some(value)),
        (Op::Delete, Outcome::Done | Outcome::Unknown) => Some(None),
        (Op::Cas(expected, value), Outcome::Done | Outcome::Unknown) => {
            (expected == state).then_some(Some(value))
        }
        (Op::Cas(expected, _), Outcome::Mismatch) => (expected != state).then_some(state),
        _ => None,
    }
}

/// Operations that have their place: all before `from`, and those of `after`.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Placed {
    from: usize,
    after: Vec<u64>,
}

impl Placed {
    fn contains(&self, index: usize) -> bool {
        index < self.from || {
            let offset = index - self.from;
            self.after.get(offset / 64).is_some_and(|word| word >> (offset % 64) & 1 == 1)
        }
    }

    fn with(&self, index: usize, calls: usize) -> Self {
        let mut placed: Vec<usize> =
            (self.from..calls).filter(|other| *other == index || self.contains(*other)).collect();
        let mut from = self.from;
        while placed.first() == Some(&from) {
            placed.remove(0);
            from += 1;
        }
        let mut after = Vec::new();
        for offset in placed.iter().map(|other| other - from) {
            after.resize(offset / 64 + 1, 0_u64);
            after[offset / 64] |= 1 << (offset % 64);
        }
        Self { from, after }
    }
}

/// A place in the search: what is placed, the state after it, what may come next.
struct Frame {
    placed: Placed,
    state: Option<Value>,
    next: Vec<usize>,
}

struct Search<'a> {
    calls: &'a [Call],
    known: usize,
    dead: HashSet<(Placed, Option<Value>)>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let known = calls.iter().filter(|call| call.outcome != Outcome::Unknown).count();
        Self { calls, known, dead: HashSet::new() }
    }

    /// Operations that may come next, best guess last: known ones that end soonest.
    fn next(&self, placed: &Placed, state: Option<Value>) -> Vec<usize> {
        let open = || (placed.from..self.calls.len()).filter(|index| !placed.contains(*index));
        let first_end = open().map(|index| self.calls[index].end).min().unwrap_or(u64::MAX);
        let begun = || open().take_while(|index| self.calls[*index].begin < first_end);
        if let Some(idle) = begun().find(|index| self.calls[*index].fits_idly(state)) {
            return vec![idle];
        }
        let wanted: Vec<usize> = open().filter(|index| self.calls[*index].wants(state)).collect();
        let alike = begun().find(|index| self.calls[*index].is_lost_delete());
        let may = |index: &usize| {
            let call = &self.calls[*index];
            let overwrites = !call.leaves_alone();
            let others_want = wanted.iter().any(|other| other != index);
            let is_another = call.is_lost_delete() && alike != Some(*index);
            !(is_another || overwrites && others_want)
        };
        let mut next: Vec<usize> = begun().filter(may).collect();
        next.sort_by_key(|index| std::cmp::Reverse(self.calls[*index].end));
        next
    }

    fn frame(&self, placed: Placed, state: Option<Value>) -> Frame {
        let next = self.next(&placed, state);
        Frame { placed, state, next }
    }

    fn run(mut self, key: &str, steps_max: usize) -> Result<(), Flaw> {
        let mut steps = 0;
        let mut order: Vec<usize> = Vec::new();
        let mut longest: Vec<usize> = Vec::new();
        let mut stack = vec![self.frame(Placed { from: 0, after: Vec::new() }, None)];
        let mut placed_known = 0;
        while placed_known < self.known {
            steps += 1;
            if steps > steps_max {
                return Err(Flaw::TooHard { key: key.to_owned(), calls: self.calls.to_vec() });
            }
            let Some(top) = stack.last_mut() else {
                return Err(Flaw::Impossible { key: key.to_owned(), story: self.story(&longest) });
            };
            let Some(index) = top.next.pop() else {
                stack.pop();
                placed_known -= order.pop().map_or(0, |index| self.is_known(index));
                continue;
            };
            let Some(state) = apply(&self.calls[index], top.state) else { continue };
            let placed = top.placed.with(index, self.calls.len());
            if !self.dead.insert((placed.clone(), state)) {
                continue;
            }
            let frame = self.frame(placed, state);
            stack.push(frame);
            order.push(index);
            placed_known += self.is_known(index);
            if order.len() > longest.len() {
                longest.clone_from(&order);
            }
        }
        Ok(())
    }

    fn is_known(&self, index: usize) -> usize {
        usize::from(self.calls[index].outcome != Outcome::Unknown)
    }

    /// The last operations of the longest order, and what could not follow.
    fn story(&self, longest: &[usize]) -> String {
        let line = |mark: &str, index: usize| {
            let Call { client, op, begin, end, outcome } = self.calls[index];
            let end = if end == u64::MAX { "..".to_owned() } else { end.to_string() };
            format!("  {mark} client {client} [{begin}, {end}] {op:?} -> {outcome:?}\n")
        };
        let shown = longest.len().saturating_sub(12);
        let mut story: String = longest[shown..].iter().map(|index| line(" ", *index)).collect();
        let open = (0..self.calls.len()).filter(|index| !longest.contains(index));
        story.extend(open.take(12).map(|index| line("?", index)));
        story
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn call(client: usize, op: Op, begin: u64, end: u64, outcome: Outcome) -> Call {
        let end = if outcome == Outcome::Unknown { u64::MAX } else { end };
        Call { client, op, begin, end, outcome }
    }

    #[test]
    fn a_read_sees_the_write_before_it() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(1, Op::Read, 3, 4, Outcome::Saw(Some(1))),
        ];
        assert_eq!(check("k", &calls), Ok(()));
    }

    #[test]
    fn a_stale_read_is_a_flaw() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(0, Op::Write(2), 3, 4, Outcome::Done),
            call(1, Op::Read, 5, 6, Outcome::Saw(Some(1))),
        ];
        assert!(matches!(check("k", &calls), Err(Flaw::Impossible { .. })));
    }

    #[test]
    fn a_lost_write_is_a_flaw() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(1, Op::Read, 3, 4, Outcome::Saw(None)),
        ];
        assert!(check("k", &calls).is_err());
    }

    #[test]
    fn reads_that_go_back_in_time_are_a_flaw() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(0, Op::Write(2), 3, 20, Outcome::Done),
            call(1, Op::Read, 4, 5, Outcome::Saw(Some(2))),
            call(2, Op::Read, 6, 7, Outcome::Saw(Some(1))),
        ];
        assert!(check("k", &calls).is_err());
    }

    #[test]
    fn overlapping_writes_may_come_in_either_order() {
        for last in [1, 2] {
            let calls = [
                call(0, Op::Write(1), 1, 4, Outcome::Done),
                call(1, Op::Write(2), 2, 3, Outcome::Done),
                call(2, Op::Read, 5, 6, Outcome::Saw(Some(last))),
            ];
            assert_eq!(check("k", &calls), Ok(()), "last {last}");
        }
    }

    #[test]
    fn a_write_of_unknown_outcome_may_show_late_or_never() {
        let lost = call(0, Op::Write(1), 1, 0, Outcome::Unknown);
        let other = call(1, Op::Write(2), 2, 3, Outcome::Done);
        for value in [1, 2] {
            let calls = [lost, other, call(1, Op::Read, 8, 9, Outcome::Saw(Some(value)))];
            assert_eq!(check("k", &calls), Ok(()), "value {value}");
        }
    }

    #[test]
    fn a_write_of_unknown_outcome_shows_only_once() {
        let calls = [
            call(0, Op::Write(1), 1, 0, Outcome::Unknown),
            call(1, Op::Read, 2, 3, Outcome::Saw(Some(1))),
            call(1, Op::Write(2), 4, 5, Outcome::Done),
            call(1, Op::Read, 6, 7, Outcome::Saw(Some(1))),
        ];
        assert!(check("k", &calls).is_err());
    }

    #[test]
    fn only_one_of_two_comparisons_with_the_same_value_succeeds() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(0, Op::Cas(Some(1), 2), 3, 6, Outcome::Done),
            call(1, Op::Cas(Some(1), 3), 4, 5, Outcome::Done),
        ];
        assert!(check("k", &calls).is_err());
        let mut one_fails = calls;
        one_fails[2].outcome = Outcome::Mismatch;
        assert_eq!(check("k", &one_fails), Ok(()));
    }

    #[test]
    fn a_failed_comparison_may_be_the_only_trace_of_a_lost_write() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(1, Op::Write(7), 3, 0, Outcome::Unknown),
            call(0, Op::Cas(Some(1), 2), 4, 5, Outcome::Mismatch),
        ];
        assert_eq!(check("k", &calls), Ok(()));
        assert!(check("k", &[calls[0], calls[2]]).is_err());
    }

    #[test]
    fn a_deleted_key_reads_as_none() {
        let calls = [
            call(0, Op::Write(1), 1, 2, Outcome::Done),
            call(0, Op::Delete, 3, 4, Outcome::Done),
            call(1, Op::Read, 5, 6, Outcome::Saw(Some(1))),
        ];
        assert!(check("k", &calls).is_err());
    }

    /// Plays clients against a real register; effects take place at a random point of each call, and so
    /// many of a hundred answers are lost.
    fn play(seed: u64, count: usize, lost: u32) -> Vec<Call> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut state, mut clock, mut value) = (None, 0_u64, 0_u64);
        let mut open: Vec<(Call, bool)> = Vec::new();
        let mut done = Vec::new();
        while done.len() < count {
            clock += 1;
            let client = rng.random_range(0..10_usize);
            match open.iter().position(|(call, _)| call.client == client) {
                None => {
                    value += 1;
                    let op = match rng.random_range(0..8) {
                        0 | 1 => Op::Write(value),
                        2 | 3 => Op::Cas(state, value),
                        4 => Op::Delete,
                        _ => Op::Read,
                    };
                    open.push((call(client, op, clock, u64::MAX, Outcome::Unknown), false));
                }
                Some(index) if !open[index].1 => {
                    let (call, effected) = &mut open[index];
                    *effected = true;
                    call.outcome = match call.op {
                        Op::Read => Outcome::Saw(state),
                        Op::Cas(expected, _) if expected != state => Outcome::Mismatch,
                        _ => Outcome::Done,
                    };
                    state = apply(call, state).expect("it was just decided");
                }
                Some(index) => {
                    let (mut call, _) = open.remove(index);
                    call.end = clock;
                    if rng.random_ratio(lost, 100) {
                        (call.end, call.outcome) = (u64::MAX, Outcome::Unknown);
                    }
                    done.push(call);
                }
            }
        }
        let open = open.into_iter().filter(|(_, effected)| *effected);
        done.extend(open.map(|(call, _)| Call { outcome: Outcome::Unknown, ..call }));
        done
    }

    #[test]
    fn histories_of_a_real_register_pass() {
        for (seed, lost) in (0..60).zip([5, 15, 30].into_iter().cycle()) {
            assert_eq!(check("k", &play(seed, 600, lost)), Ok(()), "seed {seed}");
        }
    }

    /// Tries every order.
    fn has_an_order(open: &[Call], state: Option<Value>) -> bool {
        let first_end = open.iter().map(|call| call.end).min().unwrap_or(u64::MAX);
        open.iter().all(|call| call.outcome == Outcome::Unknown)
            || open.iter().enumerate().any(|(index, call)| {
                let others = || [&open[..index], &open[index + 1..]].concat();
                call.begin < first_end
                    && apply(call, state).is_some_and(|state| has_an_order(&others(), state))
            })
    }

    #[test]
    fn the_search_finds_an_order_where_there_is_one_and_only_there() {
        let mut found = [0, 0];
        for seed in 0..3000 {
            let mut calls = play(seed, 7, 20);
            calls.truncate(8);
            let mut rng = SmallRng::seed_from_u64(seed);
            let values = [None, Some(1), Some(2), Some(3), Some(4)];
            let place = rng.random_range(0..calls.len());
            match (calls[place].op, calls[place].outcome) {
                (Op::Read, Outcome::Saw(_)) => {
                    calls[place].outcome = Outcome::Saw(values[rng.random_range(0..5)]);
                }
                (Op::Cas(_, value), Outcome::Done | Outcome::Mismatch) => {
                    calls[place].op = Op::Cas(values[rng.random_range(0..5)], value);
                }
                _ => {}
            }
            let expected = has_an_order(&calls, None);
            assert_eq!(check("k", &calls).is_ok(), expected, "seed {seed}: {calls:?}");
            found[usize::from(expected)] += 1;
        }
        assert!(found.iter().all(|count| *count > 300), "{found:?}");
    }

    #[test]
    fn a_lie_in_a_long_history_is_found() {
        for seed in 0..20 {
            let mut calls = play(seed, 100, 5);
            calls.sort_by_key(|call| call.begin);
            let saw = |call: &Call| matches!(call.outcome, Outcome::Saw(Some(_)));
            let early = *calls.iter().find(|call| saw(call)).expect("there are reads");
            let late = calls.iter_mut().rev().find(|call| saw(call)).expect("there are reads");
            assert_ne!(late.outcome, early.outcome, "seed {seed}");
            late.outcome = early.outcome;
            assert!(check("k", &calls).is_err(), "seed {seed}");
        }
    }

    #[test]
    fn a_dropped_operation_is_of_unknown_outcome() {
        let history = History::default();
        drop(history.begin(0, "a", Op::Write(1)));
        history.begin(1, "a", Op::Read).end(Outcome::Saw(Some(1)));
        assert_eq!(history.known(), 1);
        assert_eq!(history.check(), Ok(()));
    }
}
