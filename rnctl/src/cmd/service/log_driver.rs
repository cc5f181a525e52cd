//! Where output is kept: flags of `service create` and `update`, `run` and `create`.

use clap::Args;
use proto::model::{ContainerSpec, LogDriver};

use crate::parse::keyval;

/// Log driver.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct LogDriverFlags {
    /// How output is kept: json-file
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Option of the log driver: max-size=10m, max-file=3; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::strict_pair)]
    log_opt: Vec<(String, String)>,
}

impl LogDriverFlags {
    /// Changes what was given: a driver brings its own options, options alone go to the driver there is.
    ///
    /// # Errors
    /// There is no such driver or option.
    pub fn apply(&self, spec: &mut ContainerSpec) -> Result<(), String> {
        if self.log_driver.is_none() && self.log_opt.is_empty() {
            return Ok(());
        }
        let mut driver = match &self.log_driver {
            Some(name) => LogDriver { name: name.clone(), ..LogDriver::default() },
            None => spec.log_driver.clone().unwrap_or_default(),
        };
        driver.options.extend(self.log_opt.iter().cloned());
        driver.check().map_err(|e| e.to_string())?;
        spec.log_driver = Some(driver);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: LogDriverFlags,
    }

    fn apply(spec: &mut ContainerSpec, line: &str) -> Result<(), String> {
        Line::try_parse_from(line.split(' ')).map_err(|e| e.to_string())?.flags.apply(spec)
    }

    #[test]
    fn a_driver_brings_its_own_options() {
        let mut spec = ContainerSpec::default();
        assert_eq!(apply(&mut spec, "x"), Ok(()));
        assert_eq!(spec.log_driver, None);
        assert_eq!(apply(&mut spec, "x --log-opt max-size=1m"), Ok(()));
        assert_eq!(apply(&mut spec, "x --log-opt max-file=2"), Ok(()));
        assert_eq!(spec.log_driver.as_ref().map(|d| d.options.len()), Some(2));
        assert_eq!(apply(&mut spec, "x --log-driver json-file --log-opt max-file=2"), Ok(()));
        assert_eq!(spec.log_driver.as_ref().map(|d| d.options.len()), Some(1));
        for bad in ["x --log-driver syslog", "x --log-opt tag=a", "x --log-opt max-size"] {
            assert!(apply(&mut spec, bad).is_err(), "{bad}");
        }
    }
}
