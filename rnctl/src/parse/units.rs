//! Amounts: memory, CPUs, durations, limits.

use proto::{
    model::{Millis, Ulimit},
    parse::billionths,
    rules,
};

use super::{keyval, refusal};

pub use proto::parse::{duration::millis as duration, size::bytes as memory};

/// Seconds from a stop signal to SIGKILL; all negative numbers mean never.
pub fn stop_timeout(text: &str) -> Result<Millis, String> {
    let seconds: i64 =
        text.parse().map_err(|_| format!("invalid number of seconds {text:?}: -1 waits without a limit"))?;
    Ok(u64::try_from(seconds).map_or(Millis::UNLIMITED, |seconds| Millis(seconds.saturating_mul(1000))))
}

/// CPUs, in billionths: `0.5`, `2`.
pub fn cpus(text: &str) -> Result<u64, String> {
    billionths(text).map_err(|e| format!("invalid number of CPUs: {e}"))
}

/// A signal by its name or number, as it was written.
pub fn signal(text: &str) -> Result<String, String> {
    rules::stop_signal(text).map_err(refusal)?;
    Ok(text.to_owned())
}

/// A capability.
pub fn capability(text: &str) -> Result<String, String> {
    rules::capability::check(text).map_err(refusal)?;
    Ok(text.to_owned())
}

/// A search domain.
pub fn search_domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    rules::search_domain(text).map_err(refusal)?;
    Ok(text.to_owned())
}

/// An option of the resolver.
pub fn resolver_option(text: &str) -> Result<String, String> {
    rules::resolver_option(text).map_err(refusal)?;
    Ok(text.to_owned())
}

/// `key=value` of a kernel setting; whether it is allowed on the machine's own network is the daemon's to say.
pub fn sysctl(text: &str) -> Result<(String, String), String> {
    let (key, value) = keyval::strict_pair(text)?;
    rules::sysctl::check(&key, &value, false).map_err(refusal)?;
    Ok((key, value))
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
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    let limit = Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? };
    rules::ulimit(&limit).map_err(refusal)?;
    Ok(limit)
}

/// `host:ip` (or `host=ip`), as the line that goes into /etc/hosts.
pub fn host(text: &str) -> Result<String, String> {
    let (name, addr) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, addr)| !name.is_empty() && !addr.is_empty() && !name.contains(char::is_whitespace))
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
    fn cpu_numbers() {
        assert_eq!(cpus("0.5"), Ok(500_000_000));
        assert_eq!(cpus("2"), Ok(2_000_000_000));
        assert_eq!(cpus("0.001"), Ok(1_000_000));
        for bad in ["", "-1", "half", "0.0000000001"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stop_timeouts() {
        assert_eq!((stop_timeout("0"), stop_timeout("10")), (Ok(Millis(0)), Ok(Millis(10_000))));
        assert_eq!((stop_timeout("-1"), stop_timeout("-7")), (Ok(Millis::UNLIMITED), Ok(Millis::UNLIMITED)));
        for bad in ["", "10s", "1.5", "soon"] {
            assert!(stop_timeout(bad).is_err(), "{bad}");
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
        for bad in ["nofile", "=1", "nofile=a", "nofile=20:10", "nofile=-1:5", "nosuch=1", "nofile=-2"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
        assert_eq!(host("db:10.0.0.1"), Ok("10.0.0.1 db".into()));
        assert_eq!(host("db:fd00::1"), Ok("fd00::1 db".into()));
        assert_eq!(host("db=[fd00::1]"), Ok("fd00::1 db".into()));
        for bad in ["db", "db:", ":10.0.0.1", "db:x", "a b:10.0.0.1"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_that_the_rules_know() {
        assert_eq!(signal("sigint"), Ok("sigint".into()));
        assert!(signal("SIGNOPE").is_err_and(|e| e.contains("SIGTERM")));
        assert_eq!(capability("net_admin"), Ok("net_admin".into()));
        assert!(capability("NOPE").is_err());
        assert_eq!(search_domain(" corp.example "), Ok("corp.example".into()));
        assert!(search_domain("a b").is_err() && search_domain("").is_err());
        assert!(resolver_option("ndots:1 debug").is_err() && resolver_option("").is_err());
        assert_eq!(sysctl("net.core.somaxconn=9"), Ok(("net.core.somaxconn".into(), "9".into())));
        assert!(sysctl("net.core.somaxconn").is_err() && sysctl("vm.swappiness=1").is_err());
    }
}
