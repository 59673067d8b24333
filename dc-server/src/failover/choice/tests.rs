//! Who is chosen as places come and go: by example, and by rules that hold whatever happens.

use proptest::prelude::*;

use super::*;
use crate::failover::policy::MinHealthy;

const HOLD: Duration = Duration::from_secs(30);

fn policy(min: u32) -> Policy {
    Policy { min_healthy: MinHealthy::Instances(min), hold_down: HOLD, ..Policy::default() }
}

fn places(healthy: &[usize]) -> Vec<Place<usize>> {
    let place = |(of, healthy): (usize, &usize)| Place {
        of,
        count: Count { healthy: *healthy, total: 10 },
        open: true,
    };
    healthy.iter().enumerate().map(place).collect()
}

/// Chooses again and again, with these numbers of healthy instances at these seconds; returns where lookups go.
fn course(policy: &Policy, seen: &[(u64, &[usize])]) -> Vec<usize> {
    let mut memory = None;
    let choose = |(seconds, healthy): &(u64, &[usize])| {
        let now = Duration::from_secs(*seconds);
        let choice = choose(policy, &places(healthy), memory.as_ref(), now);
        memory = choice.memory;
        choice.parts[0].0
    };
    seen.iter().map(choose).collect()
}

#[test]
fn the_own_instances_answer_while_there_are_enough() {
    assert_eq!(course(&policy(1), &[(0, &[1, 5]), (1, &[9, 5])]), [0, 0]);
    assert_eq!(course(&policy(2), &[(0, &[1, 5, 5])]), [1]);
}

#[test]
fn the_first_that_has_enough_comes_before_a_nearer_one_that_has_some() {
    assert_eq!(course(&policy(2), &[(0, &[0, 1, 2])]), [2]);
    assert_eq!(course(&policy(2), &[(0, &[0, 1, 1])]), [1]);
    assert_eq!(course(&policy(2), &[(0, &[1, 1, 1])]), [0]);
    assert_eq!(course(&policy(2), &[(0, &[0, 0, 0])]), [0]);
}

#[test]
fn a_place_that_is_not_open_never_answers_for_another_one() {
    let mut places = places(&[0, 3, 2]);
    places[1].open = false;
    let choice = choose(&policy(1), &places, None, Duration::ZERO);
    assert_eq!(choice.parts, [(2, None)]);
}

#[test]
fn what_fails_is_left_at_once_and_what_is_well_again_is_held_down() {
    let seen: [(u64, &[usize]); 7] = [
        (0, &[3, 3]),
        (10, &[0, 3]),
        (20, &[3, 3]),
        (49, &[3, 3]),
        (50, &[3, 3]),
        (51, &[0, 3]),
        (52, &[0, 0]),
    ];
    assert_eq!(course(&policy(1), &seen), [0, 1, 1, 1, 0, 1, 0]);
}

#[test]
fn who_comes_and_goes_is_waited_for_anew() {
    let seen: [(u64, &[usize]); 6] =
        [(0, &[0, 3]), (1, &[1, 3]), (20, &[0, 3]), (25, &[1, 3]), (54, &[1, 3]), (55, &[1, 3])];
    assert_eq!(course(&policy(1), &seen), [1, 1, 1, 1, 1, 0]);
}

#[test]
fn it_says_when_to_look_again() {
    let away = Memory { at: 1, better: None };
    let now = Duration::from_secs(7);
    let choice = choose(&policy(1), &places(&[2, 2]), Some(&away), now);
    assert_eq!((choice.parts, choice.again_at), (vec![(1, None)], Some(now + HOLD)));
}

#[test]
fn a_spill_adds_only_what_is_missing() {
    let spill = |min| Policy { spill: true, ..policy(min) };
    let parts =
        |min, healthy: &[usize]| choose(&spill(min), &places(healthy), None, Duration::ZERO).parts;
    assert_eq!(parts(2, &[2, 9]), [(0, None)]);
    assert_eq!(parts(4, &[1, 2, 9]), [(0, None), (1, Some(2)), (2, Some(1))]);
    assert_eq!(parts(4, &[1, 0, 0]), [(0, None)]);
}

/// Steps of time in seconds with what is seen then: healthy instances and whether a place is open.
fn any_course() -> impl Strategy<Value = Vec<(u64, Vec<(usize, bool)>)>> {
    (1usize..5).prop_flat_map(|count| {
        let place = (0usize..4, prop::bool::weighted(0.8));
        let seen = proptest::collection::vec(place, count);
        proptest::collection::vec((0u64..40, seen), 1..40)
    })
}

proptest! {
    #[test]
    fn an_answer_is_never_worse_than_it_could_be_and_stays_where_it_is_without_need(
        min in 1u32..4,
        steps in any_course(),
    ) {
        let policy = policy(min);
        let (mut now, mut memory, mut at) = (Duration::ZERO, None, None);
        let mut moved_freely: Option<Duration> = None;
        for (seconds, seen) in steps {
            now += Duration::from_secs(seconds);
            let mut places = places(&seen.iter().map(|(healthy, _)| *healthy).collect::<Vec<_>>());
            places.iter_mut().zip(&seen).skip(1).for_each(|(place, (_, open))| place.open = *open);
            let choice = choose(&policy, &places, memory.as_ref(), now);
            let (chosen, all) = choice.parts[0];
            prop_assert_eq!(all, None);
            let grade_of = |place: usize| grade(&policy, &places[place]);
            let best = (0..places.len()).map(grade_of).min().unwrap();
            prop_assert_eq!(grade_of(chosen), best, "the best that there is");
            if best == Grade::None {
                prop_assert_eq!(chosen, 0, "nobody is sent to what does not answer");
            }
            if let Some(at) = at.filter(|at| *at != chosen)
                && grade_of(at) == best
                && best != Grade::None
            {
                // Nothing forced it: the better place was there for the hold-down.
                prop_assert!(moved_freely.is_none_or(|before| now - before >= HOLD) || at == 0);
                moved_freely = Some(now);
            }
            // Given time and quiet, it ends at the first of the best.
            let mut settled = choice.clone();
            for _ in 0..3 {
                let later = settled.again_at.unwrap_or(now);
                settled = choose(&policy, &places, settled.memory.as_ref(), later);
            }
            let ideal = (0..places.len()).find(|it| grade_of(*it) == best).unwrap_or(0);
            let ideal = if best == Grade::None { 0 } else { ideal };
            prop_assert_eq!(settled.parts[0].0, ideal);
            prop_assert_eq!(settled.again_at, None);
            at = Some(chosen);
            memory = choice.memory;
        }
    }
}
