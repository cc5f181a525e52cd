//! Amounts: memory, CPUs, durations, limits.

use proto::model::{Millis, Ulimit};

/// Memory with Docker's binary suffixes: `512m`, `1.5g`, `64MiB`, bytes without one.
pub fn memory(text: &str) -> Result<u64, String> {
    let bad = || format!("invalid size: {text:?}: write a number and b, k, m, g or t");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let suffix = text.get(digits.len()..).unwrap_or_default().trim().to_lowercase();
    let shift = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    scaled(digits, 1u64 << shift).ok_or_else(bad)
}

/// CPUs, in billionths: `0.5`, `2`.
pub fn cpus(text: &str) -> Result<u64, String> {
    let bad = || format!("invalid number of CPUs: {text:?}: write for instance 0.5");
    let digits = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if digits > 9 {
        return Err(format!("{text:?} is too precise: at most nine digits after the point"));
    }
    scaled(text, 1_000_000_000).ok_or_else(bad)
}

/// A decimal number times `unit`, rounded down. Exact: sizes do not go through floating point.
fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 18
    {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let power = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let total = whole.checked_mul(unit.into())?.checked_add(part * u128::from(unit) / power)?;
    u64::try_from(total).ok()
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100ms`, `0`.
pub fn duration(text: &str) -> Result<Millis, String> {
    let bad = || format!("invalid duration {text:?}: write a number with ms, s, m or h, for instance 1m30s");
    if text == "0" {
        return Ok(Millis(0));
    }
    if text.starts_with('-') {
        return Err(format!("duration {text} must not be negative"));
    }
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let number =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|n| *n > 0).ok_or_else(bad)?;
        let (value, tail) = rest.split_at(number);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(bad()),
        };
        nanos = scaled(value, unit).and_then(|n| nanos.checked_add(n)).ok_or_else(bad)?;
        rest = next;
    }
    if text.is_empty() {
        return Err(bad());
    }
    Ok(Millis(nanos / 1_000_000))
}

/// `--tail`: `all` or a number of lines. All negative numbers mean all, which on the wire is -1.
pub fn tail(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .map(|n: i64| n.max(-1))
        .map_err(|_| format!("invalid number of lines {text:?}: write a number or all"))
}

/// `name=soft[:hard]`; -1 is unlimited.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let bad = || format!("invalid ulimit argument: {text}: write name=soft[:hard]");
    let (name, limits) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let soft: i64 = soft.parse().map_err(|_| bad())?;
    let hard: i64 = hard.parse().map_err(|_| bad())?;
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `host:ip` (or `host=ip`), as the line that goes into /etc/hosts.
pub fn host(text: &str) -> Result<String, String> {
    let (name, addr) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, addr)| !name.is_empty() && !addr.is_empty())
        .ok_or_else(|| format!("bad format for add-host: {text:?}: write host:ip"))?;
    let addr = addr.trim_start_matches('[').trim_end_matches(']');
    let addr: std::net::IpAddr =
        addr.parse().map_err(|_| format!("invalid IP address in add-host: {addr:?}"))?;
    Ok(format!("{addr} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        let table = [
            ("0", 0),
            ("1024", 1024),
            ("64b", 64),
            ("512m", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5g", 3 << 29),
            ("1 GB", 1 << 30),
            (".5k", 512),
        ];
        for (text, want) in table {
            assert_eq!(memory(text), Ok(want), "{text}");
        }
        for bad in ["", "g", "-1m", "1x", "1..5g", "99999999999t"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpu_numbers() {
        assert_eq!(cpus("0.5"), Ok(500_000_000));
        assert_eq!(cpus("2"), Ok(2_000_000_000));
        assert_eq!(cpus("0.001"), Ok(1_000_000));
        for bad in ["", "-1", "half", "0.0000000001"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        let table = [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5s", 1500),
            ("100ms", 100),
            ("2160h", 7_776_000_000),
            ("1h0m5s", 3_605_000),
        ];
        for (text, want) in table {
            assert_eq!(duration(text), Ok(Millis(want)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1d", "1s5", "1 s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_lines() {
        assert_eq!((tail("all"), tail("10"), tail("-1"), tail("-5")), (Ok(-1), Ok(10), Ok(-1), Ok(-1)));
        assert!(tail("few").is_err() && tail("").is_err());
    }

    #[test]
    fn limits_and_hosts() {
        assert!(ulimit("nofile=10:20").is_ok_and(|u| (u.soft, u.hard) == (10, 20)));
        assert!(ulimit("nproc=5").is_ok_and(|u| (u.soft, u.hard) == (5, 5)));
        for bad in ["nofile", "=1", "nofile=a", "nofile=20:10", "nofile=-1:5"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
        assert_eq!(host("db:10.0.0.1"), Ok("10.0.0.1 db".into()));
        assert_eq!(host("db:fd00::1"), Ok("fd00::1 db".into()));
        assert_eq!(host("db=[fd00::1]"), Ok("fd00::1 db".into()));
        for bad in ["db", "db:", ":10.0.0.1", "db:x"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
