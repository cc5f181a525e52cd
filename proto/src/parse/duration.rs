//! Durations, as Go writes them (`time.ParseDuration`): `1h30m`, `-1.5s`, `500us`, `0`.

use crate::model::Millis;

/// Nanoseconds in each unit. The micro sign and the Greek letter mu look the same.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds in a millisecond, the unit in which durations are kept.
const MILLI: u64 = 1_000_000;

/// A duration in ns.
///
/// # Errors
/// A sentence that shows how durations are written.
pub fn nanos(text: &str) -> Result<i64, String> {
    let bad =
        || format!("invalid duration {text:?}: write numbers with ns, us, ms, s, m or h, for instance 1m30s");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits == "0" {
        return Ok(0);
    }
    let mut rest = digits;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (value, tail) = rest.split_at(number);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        total = super::scaled(value, *unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        rest = next;
    }
    let total = i64::try_from(total).map_err(|_| format!("duration {text:?} is too long"))?;
    match digits {
        "" => Err(bad()),
        _ => Ok(if negative { -total } else { total }),
    }
}

/// A duration that cannot be negative, to the nearest millisecond.
///
/// # Errors
/// As [`nanos`]; it is negative, or so short that nothing would be left of it.
pub fn millis(text: &str) -> Result<Millis, String> {
    let nanos = nanos(text)?;
    let positive = u64::try_from(nanos).map_err(|_| format!("duration {text} must not be negative"))?;
    if positive > 0 && positive < MILLI {
        return Err(format!("duration {text} is too short: 1ms is the least"));
    }
    Ok(Millis((positive + MILLI / 2) / MILLI))
}

/// A duration as Go prints it (`Duration.String`).
pub fn text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |n: u64, unit: u64| {
        let (whole, part) = (n / unit, n % unit);
        let width = unit.ilog10() as usize;
        let fraction = format!("{part:0width$}");
        match fraction.trim_end_matches('0') {
            _ if part == 0 => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    };
    let (micro, milli, second) = (1_000, 1_000_000, 1_000_000_000);
    match total {
        0 => "0s".to_owned(),
        n if n < micro => format!("{sign}{n}ns"),
        n if n < milli => format!("{sign}{}µs", decimal(n, micro)),
        n if n < second => format!("{sign}{}ms", decimal(n, milli)),
        n => {
            let (minutes, seconds) = (n / (60 * second), decimal(n % (60 * second), second));
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, m) => format!("{sign}{m}m{seconds}s"),
                (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_gos_parser_takes() {
        // The cases of Go's own test (`time/time_test.go`, `parseDurationTests`); it rounds the third of an hour up by a nanosecond.
        let (ms, s, m, h) = (1_000_000i64, 1_000_000_000i64, 60_000_000_000i64, 3_600_000_000_000i64);
        for (text, want) in [
            ("0", 0),
            ("5s", 5 * s),
            ("30s", 30 * s),
            ("1478s", 1478 * s),
            ("-5s", -5 * s),
            ("+5s", 5 * s),
            ("-0", 0),
            ("+0", 0),
            ("5.0s", 5 * s),
            ("5.6s", 5 * s + 600 * ms),
            ("5.s", 5 * s),
            (".5s", 500 * ms),
            ("1.004s", s + 4 * ms),
            ("100.00100s", 100 * s + ms),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13 * ms),
            ("14s", 14 * s),
            ("15m", 15 * m),
            ("16h", 16 * h),
            ("3h30m", 3 * h + 30 * m),
            ("10.5s4m", 4 * m + 10 * s + 500 * ms),
            ("-2m3.4s", -(2 * m + 3 * s + 400 * ms)),
            ("1h2m3s4ms5us6ns", h + 2 * m + 3 * s + 4 * ms + 5_006),
            ("39h9m14.425s", 39 * h + 9 * m + 14 * s + 425 * ms),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * m - 1),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036s", 9_223_372_036 * s),
        ] {
            assert_eq!(nanos(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_gos_parser_refuses() {
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "1s5",
            "1 s",
            "1.2.3s",
            "--1s",
            "3000000h",
            "9223372036854775808ns",
        ] {
            assert!(nanos(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_whole_milliseconds_and_never_nothing() {
        assert_eq!(millis("0s"), Ok(Millis(0)));
        assert_eq!(millis("1m30s"), Ok(Millis(90_000)));
        assert_eq!(millis("1.4999ms"), Ok(Millis(1)));
        assert_eq!(millis("1.5ms"), Ok(Millis(2)));
        assert!(millis("500us").is_err_and(|e| e.contains("1ms is the least")));
        assert!(millis("-1s").is_err_and(|e| e.contains("negative")));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(n in any::<i64>()) {
            let n = n.max(-i64::MAX);
            prop_assert_eq!(nanos(&text(n)), Ok(n));
        }

        #[test]
        fn anything_is_read_or_refused(text in "[-+.0-9a-zµμ ]{0,12}") {
            if let Ok(n) = nanos(&text) {
                prop_assert_eq!(nanos(&super::text(n)), Ok(n));
            }
        }
    }
}
