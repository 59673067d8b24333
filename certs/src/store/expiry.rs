//! When to warn that a certificate ends.

use std::time::Duration;

use time::OffsetDateTime;

use crate::ca::Validity;

/// How long before its end a certificate is warned about; for one that lives shorter, the last
/// third of its life.
const WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// Between two warnings while there is time enough.
const DAILY: Duration = Duration::from_secs(24 * 3600);

/// Between two warnings on the last day.
const HOURLY: Duration = Duration::from_secs(3600);

/// Between two warnings when it is over: nothing works any more.
const OFTEN: Duration = Duration::from_secs(600);

/// Tells whether to warn of a certificate's end, and after what time to repeat that.
pub(super) fn warning(validity: &Validity, now: OffsetDateTime) -> Option<Duration> {
    let left = validity.not_after - now;
    let life = validity.not_after - validity.not_before;
    if left.is_negative() {
        return Some(OFTEN);
    }
    if left >= time::Duration::try_from(WARNING).unwrap_or(life).min(life / 3) {
        return None;
    }
    Some(if left < DAILY { HOURLY } else { DAILY })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(days: f64, of: f64) -> Option<Duration> {
        let not_before = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let date = |days: f64| not_before + time::Duration::seconds_f64(days * 86_400.0);
        let (serial, common_name) = (String::new(), String::new());
        let validity = Validity { not_before, not_after: date(of), serial, common_name };
        warning(&validity, date(days))
    }

    #[test]
    fn warnings_become_more_frequent_towards_the_end() {
        assert_eq!(after(350.0, 365.0), None);
        assert_eq!(after(352.0, 365.0), Some(DAILY));
        assert_eq!(after(364.5, 365.0), Some(HOURLY));
        assert_eq!(after(365.1, 365.0), Some(OFTEN));
    }

    #[test]
    fn a_short_life_is_warned_of_in_its_last_third() {
        assert_eq!(after(0.0, 3.0), None);
        assert_eq!(after(1.9, 3.0), None);
        assert_eq!(after(2.1, 3.0), Some(HOURLY));
    }
}
