//! Times as Docker writes and reads them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use proto::{
    error::ApiError,
    model::{Millis, Timestamp},
};

/// Go's zero time: what Docker says where there is none.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC, without zeroes at the end of the fraction, as Go's `RFC3339Nano`.
pub fn rfc3339(at: Timestamp) -> String {
    rfc3339_nanos(at.0.saturating_mul(1_000_000))
}

/// The same for nanoseconds since the Unix epoch; 0 = never.
pub fn rfc3339_nanos(nanos: u64) -> String {
    if nanos == 0 {
        return NEVER.into();
    }
    let text = utc(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true);
    if nanos.is_multiple_of(1_000_000_000) {
        return utc(nanos).to_rfc3339_opts(SecondsFormat::Secs, true);
    }
    format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0'))
}

/// With all nine digits: the stamps of log lines, which are to be as wide as each other.
pub fn stamp(nanos: u64) -> String {
    utc(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

fn utc(nanos: u64) -> DateTime<Utc> {
    DateTime::<Utc>::from_timestamp_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// A point in time that a client names, in nanoseconds since the Unix epoch: seconds with or without a fraction, RFC 3339, or a
/// date with or without a time, which is UTC (Docker's `timetypes.GetTimestamp`; relative ones, `10m`, its clients work out).
///
/// # Errors
/// It is none of these.
pub fn timestamp(name: &str, text: &str) -> Result<u64, ApiError> {
    let bad = || {
        ApiError::invalid(format!(
            "invalid value for {name:?}: failed to parse value as time or duration: {text:?}"
        ))
    };
    if let Some(nanos) = seconds(text) {
        return Ok(nanos);
    }
    let nanos =
        |time: DateTime<Utc>| time.timestamp_nanos_opt().and_then(|n| u64::try_from(n).ok()).ok_or_else(bad);
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return nanos(time.to_utc());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return nanos(time.and_utc());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| bad())?;
    nanos(date.and_hms_opt(0, 0, 0).ok_or_else(bad)?.and_utc())
}

/// `1700000000`, `1700000000.5`: exact to the nanosecond, which a float would not be. Before the epoch is at the epoch.
fn seconds(text: &str) -> Option<u64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    if negative {
        return Some(0);
    }
    let nanos = format!("{fraction:0<9.9}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// A span of so many milliseconds in Docker's words (`units.HumanDuration`): "5 seconds", "About a minute", "3 weeks".
pub fn in_words(millis: u64) -> String {
    let seconds = millis / 1000;
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 0 | 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A span in nanoseconds, as Docker's JSON has it.
pub fn nanos(span: Millis) -> i64 {
    i64::try_from(span.0).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// A span that a client gives in nanoseconds, to the nearest millisecond, which is what rn counts in.
///
/// # Errors
/// It is negative, or less than a millisecond and not zero.
pub fn span(name: &str, nanos: i64) -> Result<Millis, ApiError> {
    match u64::try_from(nanos) {
        Ok(1..1_000_000) => {
            Err(ApiError::invalid(format!("{name} cannot be less than 1ms: it is {nanos}ns")))
        }
        Ok(nanos) => Ok(Millis(nanos.saturating_add(500_000) / 1_000_000)),
        Err(_) => Err(ApiError::invalid(format!("{name} cannot be negative: it is {nanos}ns"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        assert_eq!(rfc3339(Timestamp(0)), NEVER);
        assert_eq!(rfc3339(Timestamp(1_700_000_000_000)), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(Timestamp(1_700_000_000_120)), "2023-11-14T22:13:20.12Z");
        assert_eq!(stamp(1_700_000_000_120_000_000), "2023-11-14T22:13:20.120000000Z");
    }

    #[test]
    fn times_are_read_as_docker_does() {
        for (text, expected) in [
            ("0", 0),
            ("-62135596800", 0),
            ("1700000000", 1_700_000_000_000_000_000),
            ("1700000000.000000001", 1_700_000_000_000_000_001),
            ("1700000000.5", 1_700_000_000_500_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000_000_000),
            ("2023-11-14", 1_699_920_000_000_000_000),
        ] {
            assert_eq!(timestamp("since", text).unwrap(), expected, "{text}");
        }
        for bad in ["", "soon", "1e9", "99999999999999999999", "1.5.5", "2023-13-01", "."] {
            assert!(timestamp("since", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_milliseconds() {
        assert_eq!(span("Delay", 0).unwrap(), Millis(0));
        assert_eq!(span("Delay", 1_500_000).unwrap(), Millis(2));
        assert!(span("Delay", 1).is_err());
        assert_eq!(span("Delay", 5_000_000_000).unwrap(), Millis::secs(5));
        assert!(span("Delay", -1).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error(text in ".*") {
            let _ = timestamp("since", &text);
        }

        #[test]
        fn what_is_written_is_read(millis in 1u64..4_000_000_000_000) {
            prop_assert_eq!(timestamp("t", &rfc3339(Timestamp(millis))).unwrap(), millis * 1_000_000);
        }
    }
}
