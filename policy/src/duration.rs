//! Go-style durations, the spelling Kubernetes users know: `300ms`, `5s`, `1m30s`, `1.5h`.
//!
//! Not read: negative durations (nothing here can wait a negative time) and bare numbers other than `0` (five what?).

use std::time::Duration;

/// Why a text is not a duration; the message says what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: expected a number and a unit (ns, us, ms, s, m, h), such as 300ms, 5s or 1m30s")]
pub struct DurationError(String);

/// Reads a Go-style duration.
///
/// # Errors
/// When the text is empty, negative, lacks a unit, has an unknown one, or is longer than [`Duration`] holds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parts(text).ok_or_else(|| DurationError(text.to_owned()))
}

fn parts(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total: u128 = 0;
    loop {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(number_end)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        total = total.checked_add(nanoseconds(number, unit)?)?;
        if tail.is_empty() {
            break;
        }
        rest = tail;
    }
    let seconds = u64::try_from(total / NANOS_PER_SECOND).ok()?;
    let nanos = u32::try_from(total % NANOS_PER_SECOND).ok()?;
    Some(Duration::new(seconds, nanos))
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

fn nanoseconds(number: &str, unit: &str) -> Option<u128> {
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut total = if whole.is_empty() { 0 } else { whole.parse::<u128>().ok()?.checked_mul(scale)? };
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(place.checked_mul(u128::from(digit.to_digit(10)?))?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("300ms", Duration::from_millis(300)),
            ("5s", Duration::from_secs(5)),
            ("1m30s", Duration::from_secs(90)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("1h2m3s4ms5us6ns", Duration::new(3723, 4_005_006)),
            ("10µs", Duration::from_micros(10)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn says_what_was_expected() {
        for text in ["", "5", "s", "-1s", "5 s", "5sec", "1m30", ".s", "1.2.3s", "999999999999999999999999h", "1e3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("5").unwrap_err().to_string(),
            "`5` is not a duration: expected a number and a unit (ns, us, ms, s, m, h), such as 300ms, 5s or 1m30s"
        );
    }

    proptest! {
        #[test]
        fn milliseconds_are_read_back(ms in 0u64..1_000_000_000_000) {
            prop_assert_eq!(parse(&format!("{ms}ms")), Ok(Duration::from_millis(ms)));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
