//! Health checks: what a container's own and its image's settings come to, and what the outcomes of checks say. Pure.

use std::time::Duration;

use proto::model::{Healthcheck, Millis};
use serde::{Deserialize, Serialize};

// Docker's defaults (moby `daemon/health.go`).
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// A health check as an image's configuration has it: times in ns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHealthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`.
    pub test: Option<Vec<String>>,
    /// Between checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// For one check.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Between checks in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl ImageHealthcheck {
    fn of_spec(&self) -> Healthcheck {
        let millis = |nanos: u64| Millis(nanos.div_ceil(1_000_000));
        Healthcheck {
            test: self.test.clone().unwrap_or_default(),
            interval: millis(self.interval),
            timeout: millis(self.timeout),
            retries: u32::try_from(self.retries).unwrap_or(u32::MAX),
            start_period: millis(self.start_period),
            start_interval: millis(self.start_interval),
        }
    }
}

/// How a container's health is checked, with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments to run in the container; exit code 0 = healthy.
    pub args: Vec<String>,
    /// Between checks, and before the first.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Since its start, in which failures do not count unless it has been healthy.
    pub start_period: Duration,
    /// Between checks in that time.
    pub start_interval: Duration,
}

/// What is checked in a container: what was asked for, and where that says nothing, what the image says. None = nothing.
pub fn effective(asked: Option<&Healthcheck>, image: Option<&ImageHealthcheck>) -> Option<HealthCheck> {
    let image = image.map(ImageHealthcheck::of_spec).unwrap_or_default();
    let asked = asked.cloned().unwrap_or_default();
    let test = if asked.test.is_empty() { image.test } else { asked.test };
    let args = match test.split_first() {
        Some((kind, command)) if kind == "CMD" && !command.is_empty() => command.to_vec(),
        Some((kind, command)) if kind == "CMD-SHELL" && !command.is_empty() => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), command.join(" ")]
        }
        _ => return None,
    };
    let time = |asked: Millis, image: Millis, default: Duration| match (asked.0, image.0) {
        (0, 0) => default,
        (0, millis) | (millis, _) => Duration::from_millis(millis),
    };
    Some(HealthCheck {
        args,
        interval: time(asked.interval, image.interval, INTERVAL),
        timeout: time(asked.timeout, image.timeout, TIMEOUT),
        retries: match (asked.retries, image.retries) {
            (0, 0) => RETRIES,
            (0, n) | (n, _) => n,
        },
        start_period: time(asked.start_period, image.start_period, Duration::ZERO),
        start_interval: time(asked.start_interval, image.start_interval, START_INTERVAL),
    })
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not yet known.
    Starting,
    /// The last checks say so; or nothing is checked.
    Healthy,
    /// Too many checks in a row have failed.
    Unhealthy,
}

impl Health {
    /// Docker's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// When it began, ns since the epoch.
    pub start: u64,
    /// When it was over, ns since the epoch.
    pub end: u64,
    /// Its exit code; -1 if it could not be run, or took too long.
    pub exit_code: i32,
    /// What it said, or what was wrong with it.
    pub output: String,
}

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// How it is.
    pub health: Health,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, the oldest first.
    pub log: std::collections::VecDeque<Check>,
}

impl HealthReport {
    /// Checks that are remembered (moby `maxLogEntries`).
    const KEPT: usize = 5;

    /// Before the first check.
    pub fn new(health: Health) -> Self {
        Self { health, failing_streak: 0, log: Default::default() }
    }

    /// Takes in a check.
    pub fn note(&mut self, tracker: &Tracker, check: Check) {
        if self.log.len() == Self::KEPT {
            self.log.pop_front();
        }
        self.failing_streak = if check.exit_code == 0 { 0 } else { tracker.failures };
        self.health = tracker.health;
        self.log.push_back(check);
    }
}

/// Outcomes of checks, counted.
#[derive(Debug, Clone)]
pub struct Tracker {
    health: Health,
    failures: u32,
}

impl Tracker {
    /// Before the first check.
    pub fn new(health: Health) -> Self {
        Self { health, failures: 0 }
    }

    /// What is known.
    pub fn health(&self) -> Health {
        self.health
    }

    /// From one check to the next, so long after the start.
    pub fn pause(&self, check: &HealthCheck, since_start: Duration) -> Duration {
        let starting = self.health == Health::Starting && since_start < check.start_period;
        if starting { check.start_interval } else { check.interval }
    }

    /// Takes in the outcome of a check that began so long after the start.
    pub fn note(&mut self, check: &HealthCheck, passed: bool, since_start: Duration) -> Health {
        if passed {
            (self.health, self.failures) = (Health::Healthy, 0);
        } else if self.health != Health::Starting || since_start >= check.start_period {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= check.retries {
                self.health = Health::Unhealthy;
            }
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn spec(test: &[&str]) -> Healthcheck {
        Healthcheck { test: test.iter().map(|s| (*s).to_owned()).collect(), ..Healthcheck::default() }
    }

    #[test]
    fn what_is_asked_for_goes_before_the_image_and_both_before_the_defaults() {
        let image: ImageHealthcheck = serde_json::from_str(
            r#"{"Test":["CMD-SHELL","wget -q localhost"],"Interval":2000000000,"Retries":7}"#,
        )
        .unwrap();
        assert_eq!(effective(None, None), None);
        let check = effective(Some(&spec(&["CMD", "/bin/true"])), None).unwrap();
        assert_eq!((check.args, check.interval, check.retries), (vec!["/bin/true".into()], INTERVAL, 3));
        let check = effective(None, Some(&image)).unwrap();
        assert_eq!(check.args, ["/bin/sh", "-c", "wget -q localhost"]);
        assert_eq!((check.interval, check.retries), (Duration::from_secs(2), 7));
        let asked = Healthcheck { retries: 1, ..Healthcheck::default() };
        let check = effective(Some(&asked), Some(&image)).unwrap();
        assert_eq!((check.args.len(), check.retries), (3, 1), "the image's command, the service's count");
        assert_eq!(effective(Some(&spec(&["NONE"])), Some(&image)), None, "--no-healthcheck");
    }

    #[test]
    fn failures_count_in_a_row_and_not_while_it_starts() {
        let check = HealthCheck {
            start_period: Duration::from_secs(10),
            ..effective(Some(&spec(&["CMD", "x"])), None).unwrap()
        };
        let at = Duration::from_secs;
        let mut tracker = Tracker::new(Health::Starting);
        assert_eq!(tracker.pause(&check, at(1)), START_INTERVAL);
        for _ in 0..5 {
            assert_eq!(tracker.note(&check, false, at(9)), Health::Starting);
        }
        assert_eq!(tracker.note(&check, false, at(10)), Health::Starting);
        assert_eq!(tracker.pause(&check, at(10)), INTERVAL);
        assert_eq!(tracker.note(&check, false, at(11)), Health::Starting);
        assert_eq!(tracker.note(&check, true, at(12)), Health::Healthy);
        assert_eq!(tracker.note(&check, false, at(13)), Health::Healthy);
        assert_eq!(tracker.note(&check, false, at(14)), Health::Healthy);
        assert_eq!(tracker.note(&check, false, at(15)), Health::Unhealthy);
        // Healthy once, the start is over.
        let mut tracker = Tracker::new(Health::Starting);
        tracker.note(&check, true, at(1));
        assert_eq!(tracker.pause(&check, at(1)), INTERVAL);
        for _ in 0..3 {
            tracker.note(&check, false, at(2));
        }
        assert_eq!(tracker.health(), Health::Unhealthy);
    }
}
