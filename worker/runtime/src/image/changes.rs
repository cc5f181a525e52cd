//! `import --change`: Dockerfile instructions that set an image's configuration. Pure.

use std::path::Path;

use proto::parse::{duration, signal};

use super::{ImageConfig, config::Empty};
use crate::{ImageHealthcheck, Result, RuntimeError};

/// Carries one instruction out.
pub fn apply(config: &mut ImageConfig, change: &str) -> Result<()> {
    let change = change.trim();
    let (word, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    let invalid = |why: &str| RuntimeError::Invalid(format!("invalid change {change:?}: {why}"));
    if rest.is_empty() {
        return Err(invalid("the instruction needs an argument"));
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => config.entrypoint = command(rest),
        "ENV" => {
            for (name, value) in pairs(rest).ok_or_else(|| invalid("expected NAME=value"))? {
                let prefix = format!("{name}=");
                config.env.retain(|entry| !entry.starts_with(&prefix));
                config.env.push(format!("{prefix}{value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).ok_or_else(|| invalid("expected NAME=value"))?),
        "EXPOSE" => {
            for word in rest.split_whitespace() {
                let (port, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
                let protocol = protocol.to_ascii_lowercase();
                if port.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
                    return Err(invalid("expected PORT[/tcp|udp|sctp]"));
                }
                config.exposed_ports.insert(format!("{port}/{protocol}"), Empty {});
            }
        }
        "VOLUME" => {
            for path in list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect()) {
                config.volumes.insert(path, Empty {});
            }
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => {
            let base = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
            config.working_dir = Path::new(base).join(rest).to_string_lossy().into_owned();
        }
        "STOPSIGNAL" => {
            signal::number(rest).ok_or_else(|| invalid("no such signal"))?;
            config.stop_signal = rest.to_owned();
        }
        "HEALTHCHECK" => {
            config.healthcheck = Some(healthcheck(rest).ok_or_else(|| {
                invalid("expected [--interval=5s] [--timeout=5s] [--start-period=5s] [--retries=3] CMD command, or NONE")
            })?);
        }
        _ => {
            return Err(invalid(
                "only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR can be set",
            ));
        }
    }
    Ok(())
}

/// `[--interval=5s …] CMD command`, or `NONE`.
fn healthcheck(text: &str) -> Option<ImageHealthcheck> {
    let mut check = ImageHealthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace)?;
        let (name, value) = option.split_once('=')?;
        match name {
            "interval" => check.interval = nanos(value)?,
            "timeout" => check.timeout = nanos(value)?,
            "start-period" => check.start_period = nanos(value)?,
            "start-interval" => check.start_interval = nanos(value)?,
            "retries" => check.retries = value.parse().ok()?,
            _ => return None,
        }
        rest = after.trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = match (word.to_ascii_uppercase().as_str(), command.trim()) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", "") => return None,
        ("CMD", command) => match list(command) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        _ => return None,
    };
    check.test = Some(test);
    Some(check)
}

/// A duration as Go writes it, in ns.
fn nanos(text: &str) -> Option<u64> {
    u64::try_from(duration::nanos(text).ok()?).ok()
}

fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A JSON list is run as it is, anything else by a shell.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// `a=b c="d e"`, or the old form `a b c`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text)?;
    let first = words.first()?;
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .map(|pair| pair.filter(|(name, _)| !name.is_empty()))
        .collect()
}

/// Splits at blanks that are neither quoted nor escaped; none if a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn instructions_set_the_configuration() {
        let mut config = ImageConfig::default();
        for change in [
            "CMD [\"httpd\", \"-f\"]",
            "entrypoint exec \"$@\"",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV A=2",
            "ENV OLD some value",
            "EXPOSE 80 53/udp",
            "WORKDIR /srv",
            "WORKDIR data",
            "LABEL a.b=\"c\"",
            "USER app:app",
            "STOPSIGNAL SIGQUIT",
            "VOLUME [\"/data\"]",
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD wget -q localhost",
        ] {
            apply(&mut config, change).unwrap();
        }
        assert_eq!(config.cmd, ["httpd", "-f"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "exec \"$@\""]);
        assert_eq!(config.env, ["B=two words", "C=x y", "A=2", "OLD=some value"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.working_dir, "/srv/data");
        assert_eq!((config.user.as_str(), config.stop_signal.as_str()), ("app:app", "SIGQUIT"));
        assert!(config.volumes.contains_key("/data"));
        let check = config.healthcheck.unwrap();
        assert_eq!(check.test.unwrap(), ["CMD-SHELL", "wget -q localhost"]);
        assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 500_000_000, 2));
    }

    #[test]
    fn wrong_instructions_say_why() {
        for change in [
            "CMD",
            "ENV",
            "EXPOSE http",
            "FROM scratch",
            "ENV A=\"open",
            "STOPSIGNAL SIGNOPE",
            "LABEL =x",
            "HEALTHCHECK --every=1s CMD true",
            "HEALTHCHECK CMD",
        ] {
            let error = apply(&mut ImageConfig::default(), change).unwrap_err();
            assert!(error.to_string().contains("invalid change"), "{error}");
        }
    }
}
