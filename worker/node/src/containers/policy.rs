//! When a container that has ended starts again: pure.

use std::{fmt, str::FromStr, time::Duration};

/// First pause before a restart; doubles up to [`LONGEST`] (moby `restartmanager`).
pub const FIRST: Duration = Duration::from_millis(100);
/// Longest pause before a restart.
pub const LONGEST: Duration = Duration::from_secs(60);
/// One that has run for so long begins with the first pause again.
pub const STEADY: Duration = Duration::from_secs(10);

/// A restart policy, as `--restart` names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RestartRule {
    /// Never.
    #[default]
    No,
    /// After a failure; so many times, none = without limit.
    OnFailure(Option<u32>),
    /// Always, and with the daemon even if a user has stopped it.
    Always,
    /// Always, unless a user has stopped it.
    UnlessStopped,
}

impl RestartRule {
    /// Whether a container starts again that has ended with `code` after `restarts` restarts; `stopped` = a user wanted it so.
    pub fn again(self, code: i32, restarts: u32, stopped: bool) -> bool {
        match self {
            _ if stopped => false,
            RestartRule::No => false,
            RestartRule::OnFailure(limit) => code != 0 && limit.is_none_or(|limit| restarts < limit),
            RestartRule::Always | RestartRule::UnlessStopped => true,
        }
    }

    /// The same when the daemon starts.
    pub fn with_daemon(self, code: i32, restarts: u32, stopped: bool) -> bool {
        self == RestartRule::Always || self.again(code, restarts, stopped)
    }
}

/// The pause after this one, for a container that has run for `ran`.
pub fn pause(before: Duration, ran: Duration) -> Duration {
    if ran >= STEADY { FIRST } else { (before * 2).clamp(FIRST, LONGEST) }
}

/// Text that is no restart policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid restart policy {0:?}: no, on-failure[:times], always or unless-stopped")]
pub struct InvalidRule(String);

impl FromStr for RestartRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || InvalidRule(text.to_owned());
        match text.split_once(':') {
            None if text.is_empty() || text == "no" => Ok(RestartRule::No),
            None if text == "on-failure" => Ok(RestartRule::OnFailure(None)),
            None if text == "always" => Ok(RestartRule::Always),
            None if text == "unless-stopped" => Ok(RestartRule::UnlessStopped),
            Some(("on-failure", times)) => {
                let times: u32 = times.parse().map_err(|_| invalid())?;
                Ok(RestartRule::OnFailure((times != 0).then_some(times)))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for RestartRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartRule::No => f.write_str("no"),
            RestartRule::OnFailure(None) => f.write_str("on-failure"),
            RestartRule::OnFailure(Some(times)) => write!(f, "on-failure:{times}"),
            RestartRule::Always => f.write_str("always"),
            RestartRule::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_rule_in_each_case() {
        let rule = |text: &str| text.parse::<RestartRule>().unwrap();
        let cases = [
            ("no", 1, 0, false, false),
            ("on-failure", 0, 0, false, false),
            ("on-failure", 3, 9, false, true),
            ("on-failure:2", 3, 1, false, true),
            ("on-failure:2", 3, 2, false, false),
            ("always", 0, 99, false, true),
            ("always", 0, 0, true, false),
            ("unless-stopped", 137, 0, false, true),
            ("unless-stopped", 137, 0, true, false),
        ];
        for (text, code, restarts, stopped, again) in cases {
            assert_eq!(
                rule(text).again(code, restarts, stopped),
                again,
                "{text} {code} {restarts} {stopped}"
            );
            assert_eq!(rule(text).to_string(), text);
        }
        assert!(rule("always").with_daemon(0, 0, true) && !rule("unless-stopped").with_daemon(0, 0, true));
        assert!("sometimes".parse::<RestartRule>().is_err() && "always:3".parse::<RestartRule>().is_err());
    }

    #[test]
    fn pauses_grow_and_are_forgotten() {
        let short = Duration::from_secs(1);
        assert_eq!(pause(Duration::ZERO, short), FIRST);
        assert_eq!(pause(FIRST, short), FIRST * 2);
        assert_eq!(pause(LONGEST, short), LONGEST);
        assert_eq!(pause(LONGEST, STEADY), FIRST);
    }
}
