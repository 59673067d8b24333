//! When a handler hears of an answer, and how long to wait after a failure.

use std::time::Duration;

use serde_json::Value;

/// The pause after the first failure; it grows with the square of their number, as in Consul.
const RETRY_MIN: Duration = Duration::from_secs(5);

/// The longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(180);

/// How far a watch has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    index: u64,
    last: Option<Value>,
    failures: u32,
}

impl Progress {
    /// Returns the index to wait beyond; `None` to be answered at once.
    pub fn index(&self) -> Option<u64> {
        (self.index > 0).then_some(self.index)
    }

    /// Takes an answer; tells whether the handler is to hear of it. It hears of the first one, and of
    /// each that is another than the last.
    pub fn take(&mut self, index: u64, value: &Value) -> bool {
        self.failures = 0;
        // An index that went back is of servers that were restored: they are asked from the start.
        self.index = if index < self.index { 0 } else { index };
        if self.last.as_ref() == Some(value) {
            return false;
        }
        self.last = Some(value.clone());
        true
    }

    /// Notes a failure; returns how long to wait. The next answer comes at once, wherever from.
    pub fn fail(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.index = 0;
        let times = self.failures.saturating_mul(self.failures);
        RETRY_MIN.saturating_mul(times).min(RETRY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_answer_is_told_and_then_each_that_differs() {
        let mut progress = Progress::default();
        assert_eq!(progress.index(), None);
        assert!(progress.take(7, &Value::Null), "also that there is nothing");
        assert_eq!(progress.index(), Some(7));
        assert!(!progress.take(9, &Value::Null), "something else changed");
        assert!(progress.take(10, &json!([1])));
        assert!(!progress.take(3, &json!([1])));
        assert_eq!(progress.index(), None, "the servers begin anew");
    }

    #[test]
    fn failures_are_waited_after_longer_and_longer() {
        let mut progress = Progress::default();
        progress.take(7, &json!(1));
        let pauses: Vec<u64> = (0..7).map(|_| progress.fail().as_secs()).collect();
        assert_eq!(pauses, [5, 20, 45, 80, 125, 180, 180]);
        assert_eq!(progress.index(), None);
        assert!(!progress.take(8, &json!(1)), "what it was before the failures is known");
        assert_eq!(progress.fail().as_secs(), 5);
    }
}
