//! Durations as Go writes them: `1h30m`, `1.5s`, `10ms`, `0`.
//!
//! Consul's configuration, HTTP parameters and answers use this syntax everywhere. Reading
//! fails with the sentences that Go's users know; nothing here is negative.

use std::{fmt::Write, time::Duration};

const NANOS_PER_MICRO: u128 = 1_000;
const NANOS_PER_MILLI: u128 = 1_000_000;
const NANOS_PER_SECOND: u128 = 1_000_000_000;
const NANOS_PER_MINUTE: u128 = 60 * NANOS_PER_SECOND;
const NANOS_PER_HOUR: u128 = 60 * NANOS_PER_MINUTE;

/// Longest duration that Go can hold (2^63 nanoseconds, about 292 years); longer ones are refused.
const NANOS_MAX: u128 = i64::MAX as u128;

/// Digits after the point that are looked at: finer ones are below a nanosecond in every unit.
const FRACTION_DIGITS_MAX: usize = 18;

/// Says why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It has no number, or its number has no digits.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number has no unit behind it.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A number has a unit that is none.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stood behind the number.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// It is below zero.
    #[error("duration {0:?} is negative")]
    Negative(String),
}

/// Reads a duration such as `300ms`, `1.5h` or `2h45m`; units are `ns`, `us` (`µs`), `ms`, `s`, `m`, `h`.
///
/// A bare `0` is a duration; any other number needs a unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let unit_nanos = nanos_in(unit).ok_or_else(|| DurationError::UnknownUnit {
            unit: unit.to_owned(),
            text: text.to_owned(),
        })?;
        let part = scaled(whole, fraction, unit_nanos).ok_or_else(invalid)?;
        nanos = nanos.checked_add(part).filter(|n| *n <= NANOS_MAX).ok_or_else(invalid)?;
        rest = after;
    }
    if text.starts_with('-') && nanos > 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    Ok(from_nanos(nanos))
}

/// Writes a duration as Go does: `1h30m0s`, `1.5s`, `10ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < NANOS_PER_SECOND {
        let (unit, name) = match nanos {
            n if n < NANOS_PER_MICRO => (1, "ns"),
            n if n < NANOS_PER_MILLI => (NANOS_PER_MICRO, "µs"),
            _ => (NANOS_PER_MILLI, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let mut text = String::new();
    let hours = nanos / NANOS_PER_HOUR;
    let minutes = nanos % NANOS_PER_HOUR / NANOS_PER_MINUTE;
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    text + &decimal(nanos % NANOS_PER_MINUTE, NANOS_PER_SECOND) + "s"
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn nanos_in(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => NANOS_PER_MICRO,
        "ms" => NANOS_PER_MILLI,
        "s" => NANOS_PER_SECOND,
        "m" => NANOS_PER_MINUTE,
        "h" => NANOS_PER_HOUR,
        _ => return None,
    })
}

/// Multiplies `whole.fraction` by a unit; `None` when it can't be held.
fn scaled(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let part = match fraction.len() {
        0 => 0,
        digits => fraction.parse::<u128>().ok()? * unit / 10u128.pow(digits as u32),
    };
    whole.checked_mul(unit)?.checked_add(part)
}

fn from_nanos(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % NANOS_PER_SECOND) as u32)
}

/// Writes `nanos / unit` without trailing zeros.
fn decimal(nanos: u128, unit: u128) -> String {
    let whole = nanos / unit;
    if nanos.is_multiple_of(unit) {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", nanos % unit);
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("5s", 5 * NANOS_PER_SECOND),
            ("1h30m", 90 * NANOS_PER_MINUTE),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", NANOS_PER_SECOND),
            ("10ms", 10_000_000),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("1ns", 1),
            ("87600h", 87_600 * NANOS_PER_HOUR),
        ] {
            assert_eq!(parse(text).map(|d| d.as_nanos()), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".", "time: invalid duration \".\""),
            ("5", "time: missing unit in duration \"5\""),
            ("12 hours", "time: unknown unit \" hours\" in duration \"12 hours\""),
            ("3d", "time: unknown unit \"d\" in duration \"3d\""),
            ("-1s", "duration \"-1s\" is negative"),
            ("9999999999999h", "time: invalid duration \"9999999999999h\""),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn writes_as_go_writes() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245 * NANOS_PER_SECOND, "4m5s"),
            (90 * NANOS_PER_MINUTE, "1h30m0s"),
            (72 * NANOS_PER_HOUR, "72h0m0s"),
        ] {
            assert_eq!(format(from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in 0..i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
