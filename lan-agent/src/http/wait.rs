//! Durations as Go writes them (`1m30s`, `1.5h`, `250ms`), as in `?wait=`.

use std::time::Duration;

/// How long a blocking query waits when the client does not say.
pub(super) const WAIT_DEFAULT: Duration = Duration::from_secs(300);

/// How long a blocking query waits at most, whatever the client says.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(600);

/// Reads the `wait` of a blocking query and holds it to its bounds.
///
/// `None` when it is no duration. A negative one or 0 is the default, as in Consul.
pub(super) fn parse_wait(text: &str) -> Option<Duration> {
    let wait = match text.strip_prefix('-') {
        Some(magnitude) => parse_duration(magnitude).map(|_| Duration::ZERO)?,
        None => parse_duration(text.strip_prefix('+').unwrap_or(text))?,
    };
    Some(if wait.is_zero() { WAIT_DEFAULT } else { wait.min(WAIT_MAX) })
}

/// Reads numbers with units one after the other; a lone `0` needs no unit.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut sum = 0f64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        sum += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = tail;
    }
    // Go's durations end at 292 years; far more than any bound here.
    Duration::try_from_secs_f64(sum).ok()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    match unit {
        "ns" => Some(1e-9),
        "us" | "µs" | "μs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
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
    fn longer_waits_are_cut_and_empty_ones_are_the_default() {
        assert_eq!(parse_wait("11m"), Some(WAIT_MAX));
        assert_eq!(parse_wait("99999999999h"), Some(WAIT_MAX));
        assert_eq!(parse_wait("0"), Some(WAIT_DEFAULT));
        assert_eq!(parse_wait("0s"), Some(WAIT_DEFAULT));
        assert_eq!(parse_wait("-1s"), Some(WAIT_DEFAULT));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in ["", "x", "5", "1d", "1 s", "s", ".s", "1s5", "--1s", "1..5s", "-"] {
            assert_eq!(parse_wait(text), None, "{text}");
        }
    }
}
