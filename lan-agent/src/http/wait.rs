//! How long a blocking query waits, as in `?wait=1m30s`.

use std::time::Duration;

use crate::duration::{self, DurationError};

/// Reads the `wait` of a blocking query.
///
/// `None` when it is no duration. A negative one is as good as 0, as in Consul.
pub(super) fn parse_wait(text: &str) -> Option<Duration> {
    match duration::parse(text) {
        Ok(wait) => Some(wait),
        Err(DurationError::Negative(_)) => Some(Duration::ZERO),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("250ms", 250),
            ("+5s", 5_000),
            (".5s", 500),
            ("1µs1ms", 1),
            ("10m", 600_000),
        ] {
            let wait = parse_wait(text).map(|wait| wait.as_millis());
            assert_eq!(wait, Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_not_above_zero_is_zero() {
        for text in ["0", "0s", "-1s", "-5m"] {
            assert_eq!(parse_wait(text), Some(Duration::ZERO), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "x", "5", "1d", "1 s", "s", ".s", "1s5", "--1s", "1..5s", "-"] {
            assert_eq!(parse_wait(text), None, "{text}");
        }
    }
}
