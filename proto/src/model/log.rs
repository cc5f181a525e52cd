//! Where a container's output is kept.

use std::collections::BTreeMap;

use crate::{error::ApiError, parse::size};

/// The one driver there is: JSON records in files of the node, rotated by size.
pub const JSON_FILE: &str = "json-file";

/// Docker's other drivers.
const DOCKERS: [&str; 10] =
    ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "local", "none", "splunk", "syslog"];

/// A log driver with its options, as a user names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogDriver {
    /// Its name; empty = [`JSON_FILE`].
    pub name: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// What the options of a [`LogDriver`] come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogFileOptions {
    /// A file that has grown beyond this is rotated, in bytes; none = the node's.
    pub max_size: Option<u64>,
    /// Files in all, at least 1; none = the node's.
    pub max_files: Option<u32>,
}

impl LogDriver {
    /// What is asked for.
    ///
    /// # Errors
    /// There is no such driver or option here, or a value makes no sense.
    pub fn check(&self) -> Result<LogFileOptions, ApiError> {
        if !matches!(self.name.as_str(), "" | JSON_FILE) {
            let what = match DOCKERS.contains(&self.name.as_str()) {
                true => format!("logging driver {:?} is not available in this version of rn", self.name),
                false => format!("logger: no log driver named '{}' is registered", self.name),
            };
            return Err(
                ApiError::unsupported(what).help(format!("leave --log-driver out, or say {JSON_FILE}"))
            );
        }
        let mut found = LogFileOptions::default();
        for (key, value) in &self.options {
            match key.as_str() {
                "max-size" => found.max_size = Some(max_size(value)?),
                "max-file" => {
                    let files = value.parse().ok().filter(|files| *files >= 1).ok_or_else(|| {
                        ApiError::invalid(format!(
                            "log option max-file: {value:?} is not a number of files, at least 1"
                        ))
                    })?;
                    found.max_files = Some(files);
                }
                _ => {
                    return Err(ApiError::invalid(format!(
                        "unknown log opt {key:?} for {JSON_FILE} log driver"
                    ))
                    .help("this version has max-size and max-file"));
                }
            }
        }
        Ok(found)
    }
}

/// A size as Docker's log options have it; -1 is without limit.
fn max_size(text: &str) -> Result<u64, ApiError> {
    if text == "-1" {
        return Ok(u64::MAX);
    }
    size::decimal(text).ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
        ApiError::invalid(format!("log option max-size: {text:?} is not a size, at least 1 byte"))
            .help("write for instance 10m")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn driver(name: &str, options: &[(&str, &str)]) -> Result<LogFileOptions, ApiError> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LogDriver { name: name.to_owned(), options }.check()
    }

    #[test]
    fn options_are_done_or_refused_by_name() {
        assert_eq!(driver("", &[]).unwrap(), LogFileOptions::default());
        let both = driver(JSON_FILE, &[("max-size", "1.5m"), ("max-file", "3")]).unwrap();
        assert_eq!(both, LogFileOptions { max_size: Some(1_500_000), max_files: Some(3) });
        for (text, bytes) in [(".5 kB", 500), ("2t", 2_000_000_000_000)] {
            assert_eq!(driver("", &[("max-size", text)]).unwrap().max_size, Some(bytes));
        }
        assert_eq!(driver("", &[("max-size", "-1")]).unwrap().max_size, Some(u64::MAX));
        for (name, options, words) in [
            ("syslog", &[][..], "syslog"),
            ("", &[("labels", "x")], "labels"),
            ("", &[("max-size", "many")], "max-size"),
            ("", &[("max-size", "0")], "max-size"),
            ("", &[("max-file", "0")], "max-file"),
        ] {
            let error = driver(name, options).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
    }
}
