//! Times as people read them, and as JSON has them.

use chrono::{DateTime, SecondsFormat, Utc};
use proto::model::Timestamp;

/// RFC 3339 with as many digits of the second as there are, as Go's RFC3339Nano.
pub fn rfc3339(at: Timestamp) -> String {
    let Some(time) = utc(at) else { return "0001-01-01T00:00:00Z".into() };
    if at.0.is_multiple_of(1000) {
        return time.to_rfc3339_opts(SecondsFormat::Secs, true);
    }
    let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0'))
}

/// RFC 3339 with all nine digits of the second, for the stamps of log lines.
pub fn rfc3339_nanos(nanos: u64) -> String {
    let time = DateTime::<Utc>::from_timestamp_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A point in time as the API takes it: seconds, with nine digits behind the point.
pub fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// As Go prints a time: `2026-11-24 20:00:00 +0000 UTC`.
pub fn long(at: Timestamp) -> String {
    utc(at).map(|t| t.format("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default()
}

/// The same of RFC 3339; what is none stays as it is.
pub fn of_rfc3339(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

fn utc(at: Timestamp) -> Option<DateTime<Utc>> {
    let millis = i64::try_from(at.0).ok()?;
    if millis == 0 { None } else { DateTime::from_timestamp_millis(millis) }
}

/// How long ago, in Docker's words (`units.HumanDuration`): "5 seconds", "About a minute", "3 weeks".
pub use docker_api::time::in_words as span;

/// `span` between two times, with " ago".
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.0.saturating_sub(then.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_in_dockers_words() {
        const S: u64 = 1000;
        const H: u64 = 3600 * S;
        let table = [
            (900, "Less than a second"),
            (S, "1 second"),
            (59 * S, "59 seconds"),
            (61 * S, "About a minute"),
            (150 * S, "2 minutes"),
            (59 * 60 * S, "59 minutes"),
            (H, "About an hour"),
            (H + 29 * 60 * S, "About an hour"),
            (H + 31 * 60 * S, "2 hours"),
            (47 * H, "47 hours"),
            (48 * H, "2 days"),
            (15 * 24 * H, "2 weeks"),
            (90 * 24 * H, "3 months"),
            (800 * 24 * H, "2 years"),
        ];
        for (millis, want) in table {
            assert_eq!(span(millis), want, "{millis}");
        }
    }

    #[test]
    fn stamps() {
        assert_eq!(rfc3339(Timestamp(1_795_550_400_000)), "2026-11-24T20:00:00Z");
        assert_eq!(rfc3339(Timestamp(1_795_550_400_120)), "2026-11-24T20:00:00.12Z");
        assert_eq!(rfc3339(Timestamp(0)), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339_nanos(1_795_550_400_000_000_005), "2026-11-24T20:00:00.000000005Z");
        assert_eq!(long(Timestamp(1_795_550_400_000)), "2026-11-24 20:00:00 +0000 UTC");
    }
}
