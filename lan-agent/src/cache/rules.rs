//! When the cache may answer: functions of values.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Longest wait between two attempts to refresh an answer, as in Consul.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// First wait after an attempt that failed; doubled with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// What each answer that is kept fresh adds to the time over which all of them come back when
/// servers do: 1,000 in a second.
const STAGGER_PER_ENTRY: Duration = Duration::from_millis(1);

/// Longest time over which they come back.
const STAGGER_MAX: Duration = Duration::from_secs(15);

/// What the header `Cache-Control` of a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Control {
    /// Not an answer that is older.
    pub max_age: Option<Duration>,
    /// Not an answer that nobody can vouch for.
    pub must_revalidate: bool,
    /// An answer up to this old, if a fresher one can't be had.
    pub stale_if_error: Option<Duration>,
}

impl Control {
    /// Reads the header; `None` when a number in it is none. What is not known is passed over.
    pub fn parse(header: &str) -> Option<Self> {
        let mut control = Self::default();
        for part in header.split(',').map(str::trim) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let seconds = || value.trim().parse().ok().map(Duration::from_secs);
            match name.trim().to_ascii_lowercase().as_str() {
                "must-revalidate" => control.must_revalidate = true,
                "max-age" => control.max_age = Some(seconds()?),
                "stale-if-error" => control.stale_if_error = Some(seconds()?),
                _ => {}
            }
        }
        Some(control)
    }
}

/// How an answer is kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Not at all: it is what was said last to one who asked.
    None,
    /// By a query that waits for its next change.
    Alive,
    /// It was, until no server answered any more.
    Broken,
}

/// What is known of an answer that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How it is kept up to date.
    pub refresh: Refresh,
    /// How long ago it was the truth for certain.
    pub age: Duration,
}

/// What to do with one who wants to be answered from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Answer with what is held.
    Held,
    /// Ask the servers.
    Fetch {
        /// Whether what is held may answer if they don't.
        or_held: bool,
    },
}

/// Decides whether what is held may answer. `reachable` is whether the servers may be.
pub fn choose(control: Control, held: Option<Standing>, reachable: bool) -> Use {
    let Some(Standing { refresh, age }) = held else { return Use::Fetch { or_held: false } };
    if refresh == Refresh::Alive {
        // Whatever is wanted of its age: it is the truth now.
        return Use::Held;
    }
    let too_old = control.must_revalidate || control.max_age.is_some_and(|max| age > max);
    if too_old {
        return Use::Fetch { or_held: control.stale_if_error.is_some_and(|max| age <= max) };
    }
    match refresh {
        // Nobody has kept it fresh so far.
        Refresh::None if reachable => Use::Fetch { or_held: true },
        _ => Use::Held,
    }
}

/// How long to wait before a refresh is tried again that failed so many times in a row.
pub fn pause(failures: u32, random: &mut impl Rng) -> Duration {
    let doubled = PAUSE_FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(16));
    let longest = doubled.min(PAUSE_MAX);
    longest / 2 + longest.mul_f64(random.random_range(0.0..0.5))
}

/// When, after servers came back, one of so many refreshes does.
pub fn stagger(entries: usize, random: &mut impl Rng) -> Duration {
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    let over = STAGGER_PER_ENTRY.saturating_mul(entries).min(STAGGER_MAX);
    over.mul_f64(random.random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn chosen(header: &str, refresh: Refresh, age: u64, reachable: bool) -> Use {
        let held = Standing { refresh, age: secs(age) };
        choose(Control::parse(header).unwrap(), Some(held), reachable)
    }

    #[test]
    fn the_header_is_read() {
        let read =
            Control::parse("max-age=5, Must-Revalidate ,stale-if-error=60,no-cache").unwrap();
        let all = Control {
            max_age: Some(secs(5)),
            must_revalidate: true,
            stale_if_error: Some(secs(60)),
        };
        assert_eq!(read, all);
        assert_eq!(Control::parse(""), Some(Control::default()));
        for bad in ["max-age=x", "max-age", "stale-if-error=-1", "max-age=1.5"] {
            assert_eq!(Control::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_kept_fresh_answers_whatever_is_wanted_of_its_age() {
        for header in ["", "max-age=0", "must-revalidate"] {
            assert_eq!(chosen(header, Refresh::Alive, 0, true), Use::Held, "{header}");
        }
    }

    #[test]
    fn what_nobody_keeps_fresh_answers_only_when_no_server_does() {
        assert_eq!(chosen("", Refresh::None, 5, true), Use::Fetch { or_held: true });
        assert_eq!(chosen("", Refresh::None, 5, false), Use::Held);
        assert_eq!(chosen("", Refresh::Broken, 5, true), Use::Held);
    }

    #[test]
    fn what_is_older_than_wanted_answers_only_if_that_is_wanted_too() {
        for refresh in [Refresh::None, Refresh::Broken] {
            let refused = Use::Fetch { or_held: false };
            assert_eq!(chosen("max-age=4", refresh, 5, false), refused);
            assert_eq!(chosen("must-revalidate", refresh, 0, false), refused);
            let header = "max-age=4, stale-if-error=10";
            assert_eq!(chosen(header, refresh, 5, false), Use::Fetch { or_held: true });
            assert_eq!(chosen(header, refresh, 11, false), refused);
            assert_eq!(chosen("max-age=5", Refresh::Broken, 5, false), Use::Held);
        }
    }

    #[test]
    fn what_is_not_held_is_fetched() {
        assert_eq!(choose(Control::default(), None, false), Use::Fetch { or_held: false });
    }

    #[test]
    fn pauses_grow_to_a_minute_and_never_collapse() {
        let mut random = SmallRng::seed_from_u64(7);
        for failures in 1..100 {
            let pause = pause(failures, &mut random);
            let longest = secs(60).min(PAUSE_FIRST * 2u32.saturating_pow(failures.min(17) - 1));
            assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn refreshes_come_back_one_after_the_other() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut all: Vec<_> = (0..10_000).map(|_| stagger(10_000, &mut random)).collect();
        all.sort();
        let in_first_second = all.iter().filter(|it| **it < secs(1)).count();
        assert!((850..1150).contains(&in_first_second), "{in_first_second}");
        assert!(stagger(10, &mut random) <= Duration::from_millis(10));
        assert!(stagger(usize::MAX, &mut random) <= STAGGER_MAX);
    }
}
