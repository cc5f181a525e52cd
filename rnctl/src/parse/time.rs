//! Moments that users name: `--since`, `--until`. As Docker's `GetTimestamp`: what is without a zone is this machine's local time.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone};
use proto::parse::{billionths, duration};

/// The time, ns since the epoch.
pub fn now() -> u64 {
    nanos(Local::now().timestamp_nanos_opt()).unwrap_or_default()
}

fn nanos(of: Option<i64>) -> Option<u64> {
    u64::try_from(of?).ok()
}

/// A moment, in ns since the epoch: a duration before now (`10m`, `1h30m`), a date and time down to what matters
/// (`2006-01-02T15:04`, with or without a zone), a date, or seconds since 1970 with a fraction.
///
/// # Errors
/// It is none of these.
pub fn moment(text: &str) -> Result<u64, String> {
    moment_in(&Local, now(), text)
}

/// The same, pure.
fn moment_in<Z: TimeZone>(zone: &Z, now: u64, text: &str) -> Result<u64, String> {
    let bad =
        || format!("invalid time {text:?}: write 10m, 2026-01-31T10:00:00, 2026-01-31 or seconds since 1970");
    // First, for 0 is a duration too.
    if let Some(nanos) = seconds(text) {
        return Ok(nanos);
    }
    if let Some(span) = duration(text) {
        return Ok(match span {
            Span::Before(span) => now.saturating_sub(span),
            Span::After(span) => now.saturating_add(span),
        });
    }
    let (moment, offset) = split_zone(text);
    let moment = naive(moment).ok_or_else(bad)?;
    let at = match offset {
        // RFC 3339's parser knows what a zone may look like.
        Some(offset) => {
            let text = format!("{}{offset}", moment.format("%Y-%m-%dT%H:%M:%S%.f"));
            DateTime::parse_from_rfc3339(&text).ok().and_then(|at| at.timestamp_nanos_opt())
        }
        // There are two in the hour in which clocks are set back.
        None => zone.from_local_datetime(&moment).earliest().and_then(|at| at.timestamp_nanos_opt()),
    };
    nanos(at).ok_or_else(bad)
}

/// What of a time is its zone: `Z`, `+hh:mm` or `-hh:mm` at the end.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    if let Some(moment) = text.strip_suffix(['Z', 'z']) {
        return (moment, Some("Z"));
    }
    let at = text.len().saturating_sub(6);
    match text.get(at..).map(str::as_bytes) {
        // Not the day of a date: a zone has a colon.
        Some([b'+' | b'-', _, _, b':', _, _]) => (text.get(..at).unwrap_or_default(), text.get(at..)),
        _ => (text, None),
    }
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    let full = match text.split_once('T') {
        None => return NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0),
        Some((date, time)) => match time.matches(':').count() {
            0 => format!("{date}T{time}:00:00"),
            1 => format!("{date}T{time}:00"),
            _ => text.to_owned(),
        },
    };
    NaiveDateTime::parse_from_str(&full, "%Y-%m-%dT%H:%M:%S%.f").ok()
}

enum Span {
    Before(u64),
    After(u64),
}

/// A duration as Go writes it, in ns; a negative one lies after now.
fn duration(text: &str) -> Option<Span> {
    let nanos = duration::nanos(text).ok()?;
    let span = nanos.unsigned_abs();
    Some(if nanos < 0 { Span::After(span) } else { Span::Before(span) })
}

/// Seconds since the epoch, with up to nine digits of a fraction.
fn seconds(text: &str) -> Option<u64> {
    billionths(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chrono::{FixedOffset, Utc};

    use super::*;

    const NOW: u64 = 1_795_550_400_000_000_000;
    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn each_form_of_dockers() {
        let table = [
            ("10m", NOW - HOUR / 6),
            ("1h30m", NOW - HOUR * 3 / 2),
            ("1.5s", NOW - 1_500_000_000),
            ("-1h", NOW + HOUR),
            ("2026-11-24T20:00:00Z", NOW),
            ("2026-11-24T20:00:00.000000005Z", NOW + 5),
            ("2026-11-24T22:00:00+02:00", NOW),
            ("2026-11-24T15:00-05:00", NOW),
            ("2026-11-24T20:00:00.5", NOW + 500_000_000),
            ("2026-11-24T20:00:00", NOW),
            ("2026-11-24T20:00", NOW),
            ("2026-11-24T20", NOW),
            ("2026-11-24T20Z", NOW),
            ("2026-11-24", NOW - 20 * HOUR),
            ("2026-11-24Z", NOW - 20 * HOUR),
            ("2026-11-24+01:00", NOW - 21 * HOUR),
            ("1795550400", NOW),
            ("1795550400.5", NOW + 500_000_000),
            ("1795550400.000000005", NOW + 5),
            ("0", 0),
        ];
        for (text, want) in table {
            assert_eq!(moment_in(&Utc, NOW, text), Ok(want), "{text}");
        }
        for bad in ["yesterday", "", "2026-13-01", "2026-11-24T25:00", "2026-11-24 20:00", "1x", "1.5.2", "-"]
        {
            assert!(moment_in(&Utc, NOW, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_has_no_zone_is_local() {
        let zone = FixedOffset::east_opt(2 * 3600).unwrap();
        for (text, want) in [
            ("2026-11-24T22:00:00", NOW),
            ("2026-11-24T22:00", NOW),
            ("2026-11-24", NOW - 22 * HOUR),
            ("2026-11-24T20:00:00Z", NOW),
            ("1795550400", NOW),
        ] {
            assert_eq!(moment_in(&zone, NOW, text), Ok(want), "{text}");
        }
    }
}
