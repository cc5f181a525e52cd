//! Where a container's output is kept.

use std::collections::BTreeMap;

use crate::error::ApiError;

/// The one driver there is: JSON records in files of the node, rotated by size.
pub const JSON_FILE: &str = "json-file";

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
            return Err(ApiError::unsupported(format!(
                "logging driver {:?} is not available in this version of rn",
                self.name
            ))
            .help(format!("leave --log-driver out, or say {JSON_FILE}")));
        }
        let mut found = LogFileOptions::default();
        for (key, value) in &self.options {
            match key.as_str() {
                "max-size" => found.max_size = max_size(value)?,
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

/// A size as Docker's log options have it: thousands, not 1024s (`10m` is ten million bytes); -1 is without limit.
fn max_size(text: &str) -> Result<Option<u64>, ApiError> {
    if text == "-1" {
        return Ok(Some(u64::MAX));
    }
    let bad = || {
        ApiError::invalid(format!("log option max-size: {text:?} is not a size"))
            .help("write for instance 10m")
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match lower.get(digits.len()..).unwrap_or_default() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        _ => return Err(bad()),
    };
    let (whole, fraction) = digits.trim_end().split_once('.').unwrap_or((digits.trim_end(), ""));
    if whole.is_empty()
        || fraction.len() > 9
        || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return Err(bad());
    }
    let unit = 1000u64.pow(power);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().map_err(|_| bad())? };
    let scale = 10u64.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let bytes = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit)).and_then(|bytes| {
        bytes.checked_add(u64::try_from(u128::from(part) * u128::from(unit) / u128::from(scale)).ok()?)
    });
    bytes.filter(|bytes| *bytes > 0).map(Some).ok_or_else(bad)
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
