//! Health check: flags of `service create` and `update`, `run` and `create`.

use clap::Args;
use proto::model::{ContainerSpec, Healthcheck, Millis};

use crate::parse::units;

/// Health check.
#[derive(Debug, Args)]
#[command(next_help_heading = "Health check")]
pub struct HealthFlags {
    /// Command that tells whether a container is healthy, run by a shell
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between checks [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    health_interval: Option<Millis>,
    /// Time that one check may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    health_timeout: Option<Millis>,
    /// Failures in a row that make a container unhealthy [default: 3]
    #[arg(long, value_name = "N")]
    health_retries: Option<u32>,
    /// Time at the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    health_start_period: Option<Millis>,
    /// Time between checks in that time [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    health_start_interval: Option<Millis>,
    /// Ignore the image's health check
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// Changes what was given.
    pub fn apply(&self, spec: &mut ContainerSpec) -> Result<(), String> {
        let given = self.health_cmd.is_some()
            || self.health_interval.is_some()
            || self.health_timeout.is_some()
            || self.health_retries.is_some()
            || self.health_start_period.is_some()
            || self.health_start_interval.is_some();
        if self.no_healthcheck {
            if given {
                return Err("--no-healthcheck conflicts with --health-* options".into());
            }
            spec.healthcheck = Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
            return Ok(());
        }
        if !given {
            return Ok(());
        }
        let check = spec.healthcheck.get_or_insert_default();
        // What is said of a check switches it on again (docker/cli).
        if check.test.first().is_some_and(|kind| kind == "NONE") {
            check.test.clear();
        }
        match self.health_cmd.as_deref() {
            Some("") => check.test.clear(),
            Some(command) => check.test = vec!["CMD-SHELL".into(), command.to_owned()],
            None => {}
        }
        check.interval = self.health_interval.unwrap_or(check.interval);
        check.timeout = self.health_timeout.unwrap_or(check.timeout);
        check.retries = self.health_retries.unwrap_or(check.retries);
        check.start_period = self.health_start_period.unwrap_or(check.start_period);
        check.start_interval = self.health_start_interval.unwrap_or(check.start_interval);
        Ok(())
    }
}
