//! Runs a randomised test for many seeds and says which one failed.
//!
//! `SEED=n` in the environment runs that seed alone, `SEED=200..900` goes on a longer hunt.

use std::{
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Threads that run seeds in [`spread`]: what a CI machine has.
const THREADS: usize = 2;

/// Runs a test for each seed, one after the other.
pub fn each(seeds: Range<u64>, test: impl Fn(u64)) {
    for seed in chosen().unwrap_or(seeds) {
        run(seed, &test);
    }
}

/// Runs a test for each seed, on two threads. Stops at the first that fails.
pub fn spread(seeds: Range<u64>, test: impl Fn(u64) + Sync) {
    let seeds = chosen().unwrap_or(seeds);
    let next = AtomicU64::new(seeds.start);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failure.lock().expect("nobody panics in here").is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = panic::catch_unwind(AssertUnwindSafe(|| run(seed, &test)));
                    if let Err(panic) = result {
                        failure.lock().expect("nobody panics in here").get_or_insert(panic);
                    }
                }
            });
        }
    });
    if let Some(panic) = failure.into_inner().expect("nobody panics in here") {
        panic::resume_unwind(panic);
    }
}

fn run(seed: u64, test: impl Fn(u64)) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| test(seed))) {
        eprintln!("\nseed {seed} failed; SEED={seed} runs it alone\n");
        panic::resume_unwind(panic);
    }
}

#[allow(clippy::disallowed_methods, reason = "whoever reproduces a failure has no other way in")]
fn chosen() -> Option<Range<u64>> {
    let given = std::env::var("SEED").ok()?;
    let number = |text: &str| text.parse().expect("SEED is a number, or two as in 200..900");
    Some(match given.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&given)..number(&given) + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_runs_once() {
        let seen = Mutex::new(Vec::new());
        spread(0..50, |seed| seen.lock().unwrap().push(seed));
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_failing_seed_fails_the_test() {
        assert!(panic::catch_unwind(|| spread(0..9, |seed| assert_ne!(seed, 5))).is_err());
    }
}
