//! How many results in a row it takes until a check says something else.
//!
//! A result counts as a success when it is passing or warning, else as a failure. The first
//! result of a check is believed at once, whatever the thresholds; after it, one that has not come
//! often enough in a row leaves the check as it was. Consul's rules for `success_before_passing`,
//! `failures_before_warning` and `failures_before_critical`.

use crate::{catalog::Health, definition::Thresholds};

/// Judges the results of one check.
#[derive(Debug)]
pub(super) struct Judge {
    thresholds: Thresholds,
    successes: u16,
    failures: u16,
}

impl Judge {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        // As if it had been going on for long, so that the first result is believed.
        Self { thresholds, successes: thresholds.passing, failures: thresholds.critical }
    }

    /// Says what the check is after this result; `None` when it stays what it was.
    pub(super) fn judge(&mut self, result: Health) -> Option<Health> {
        match result {
            Health::Passing | Health::Warning => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                (self.successes >= self.thresholds.passing).then_some(result)
            }
            Health::Critical => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.thresholds.critical {
                    return Some(Health::Critical);
                }
                (self.failures >= self.thresholds.warning).then_some(Health::Warning)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges results by their initials and says the same way what the check is; `.` for no change.
    fn judged([passing, warning, critical]: [u16; 3], results: &str) -> String {
        let mut judge = Judge::new(Thresholds { passing, warning, critical });
        let initial = |health: Health| health.as_str().chars().next().unwrap();
        let healths = [Health::Passing, Health::Warning, Health::Critical];
        let read = |name| healths.into_iter().find(|health| initial(*health) == name).unwrap();
        results.chars().map(|name| judge.judge(read(name)).map_or('.', initial)).collect()
    }

    #[test]
    fn without_thresholds_every_result_counts() {
        assert_eq!(judged([0, 0, 0], "pcwpcp"), "pcwpcp");
        assert_eq!(judged([1, 1, 1], "pcwpcp"), "pcwpcp");
    }

    #[test]
    fn the_first_result_counts_whatever_the_thresholds() {
        assert_eq!(judged([3, 3, 3], "p"), "p");
        assert_eq!(judged([3, 3, 3], "w"), "w");
        assert_eq!(judged([3, 3, 3], "c"), "c");
    }

    #[test]
    fn successes_and_failures_count_in_a_row() {
        assert_eq!(judged([2, 3, 3], "pccpcccpp"), "p.....c.p");
    }

    #[test]
    fn a_warning_is_a_success() {
        assert_eq!(judged([2, 2, 2], "pcwcww"), "p....w");
    }

    #[test]
    fn failures_pass_through_warning_when_that_comes_first() {
        assert_eq!(judged([0, 2, 4], "pccccc"), "p.wwcc");
        assert_eq!(judged([2, 1, 3], "pccpccc"), "pww.wwc");
    }
}
