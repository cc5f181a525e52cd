//! What stands behind the question mark of a request.

use std::str::FromStr;

use proto::error::ApiError;

use crate::{filters::Filters, time};

/// The parameters of a request, decoded. Of one that is there twice the first counts, as in Go's `FormValue`.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Of decoded pairs.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// A parameter's text; empty where it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All texts of a parameter that may be there more than once.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch. Docker's rule: off when it is absent, empty, `0`, `no`, `false` or `none`; on with anything else.
    pub fn flag(&self, name: &str) -> bool {
        let text = self.text(name).trim().to_ascii_lowercase();
        !matches!(text.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The same, for what is on by default.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.text(name).is_empty() { default } else { self.flag(name) }
    }

    /// A number; none where it is absent or empty.
    ///
    /// # Errors
    /// It is no number, or out of the type's range.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::invalid(format!(
                    "invalid value for {name:?}: {text:?} is not a number in its range"
                ))
            }),
        }
    }

    /// A number that has to be there.
    ///
    /// # Errors
    /// It is not there, or no number.
    pub fn version(&self) -> Result<u64, ApiError> {
        let text = self.text("version");
        text.parse().map_err(|_| {
            // Docker's words, which are those of Go's parser.
            let why = if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                "invalid syntax"
            } else {
                "value out of range"
            };
            ApiError::invalid(format!("invalid version '{text}': strconv.ParseUint: parsing {text:?}: {why}"))
        })
    }

    /// A point in time, in nanoseconds since the epoch; none where it is absent or empty.
    ///
    /// # Errors
    /// It is no time.
    pub fn time(&self, name: &str) -> Result<Option<u64>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => time::timestamp(name, text).map(Some),
        }
    }

    /// The filters of a list.
    ///
    /// # Errors
    /// They are not in one of the two forms that clients send, or one of them is not among `known`.
    pub fn filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        let filters = Filters::parse(self.text("filters"))?;
        filters.check(known)?;
        Ok(filters)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        Query::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn switches_are_read_as_docker_does() {
        for on in ["1", "true", "True", "yes", "x"] {
            assert!(query(&[("all", on)]).flag("all"), "{on}");
        }
        for off in ["", "0", "false", "False", "no", "none", " 0 "] {
            assert!(!query(&[("all", off)]).flag("all"), "{off}");
        }
        assert!(!query(&[]).flag("all") && query(&[]).flag_or("all", true));
        assert!(!query(&[("all", "0")]).flag_or("all", true));
    }

    #[test]
    fn numbers_and_versions_are_checked() {
        assert_eq!(query(&[("n", "7")]).number::<u32>("n").unwrap(), Some(7));
        assert_eq!(query(&[]).number::<u32>("n").unwrap(), None);
        assert!(query(&[("n", "-1")]).number::<u32>("n").is_err());
        assert_eq!(query(&[("version", "12")]).version().unwrap(), 12);
        let error = query(&[]).version().unwrap_err();
        assert_eq!(error.message, "invalid version '': strconv.ParseUint: parsing \"\": invalid syntax");
        assert!(query(&[("version", "1a")]).version().is_err());
    }
}
