//! `filters` of lists.

use std::collections::{BTreeMap, BTreeSet};

use proto::error::ApiError;
use serde_json::Value;

/// What a list is to be cut down to: of each filter that is named, one of the values has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads `{"name":{"a":true}}` (Go's clients) and `{"name":["a"]}` (docker-py and others).
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = |why: &str| ApiError::invalid(format!("invalid filter: {why}"));
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Value::Object(fields) =
            serde_json::from_str(text).map_err(|error| bad(&format!("invalid JSON: {error}")))?
        else {
            return Err(bad("an object is expected"));
        };
        let mut filters = BTreeMap::new();
        for (name, values) in fields {
            let values: BTreeSet<String> = match values {
                // Docker takes whatever is there for true.
                Value::Object(values) if values.values().all(Value::is_boolean) => {
                    values.into_iter().map(|(value, _)| value).collect()
                }
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| match value {
                        Value::String(text) => Ok(text),
                        other => Err(bad(&format!("{name}: {other} is not a string"))),
                    })
                    .collect::<Result<_, _>>()?,
                other => {
                    return Err(bad(&format!("{name}: {other} is neither a list nor a map of booleans")));
                }
            };
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    /// Refuses filters that a list does not have.
    ///
    /// # Errors
    /// One is not among `known` (wording as Docker's).
    pub fn check(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ApiError::invalid(format!("invalid filter '{name}'"))
                .help(format!("there are: {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    /// The values of a filter; none where it is not named.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether a filter is named with a value at least.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Whether one of the values of a filter fits; true where it is not named.
    pub fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        !self.has(name) || self.values(name).any(fits)
    }

    /// Whether one of the values is `text`; true where the filter is not named.
    pub fn exact(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| value == text)
    }

    /// Whether one of the values is how `text` begins; true where the filter is not named.
    pub fn begins(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| text.starts_with(value))
    }

    /// Whether all values of a filter of labels fit: `key`, or `key=value`.
    pub fn labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        })
    }

    /// What a filter of which one value makes sense says: a switch.
    ///
    /// # Errors
    /// It is no switch, or says two things.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let values: Vec<&str> = self.values(name).collect();
        match values.as_slice() {
            [] => Ok(None),
            ["1" | "true" | "True" | "TRUE" | "t" | "T"] => Ok(Some(true)),
            ["0" | "false" | "False" | "FALSE" | "f" | "F"] => Ok(Some(false)),
            _ => Err(ApiError::invalid(format!("invalid filter '{name}=[{}]'", values.join(" ")))),
        }
    }

    /// Refuses values that a filter cannot have.
    ///
    /// # Errors
    /// One is not among `known` (wording as Docker's).
    pub fn check_values(&self, name: &str, known: &[&str]) -> Result<(), ApiError> {
        match self.values(name).find(|value| !known.contains(value)) {
            Some(value) => Err(ApiError::invalid(format!("invalid filter '{name}={value}'"))
                .help(format!("there are: {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_one() {
        let map = Filters::parse(r#"{"name":{"a":true,"b":true}}"#).unwrap();
        assert_eq!(map, Filters::parse(r#"{"name":["b","a"]}"#).unwrap());
        assert!(map.exact("name", "a") && !map.exact("name", "c") && map.exact("id", "anything"));
        assert!(map.begins("name", "abc") && !map.begins("name", "ca"));
        assert_eq!(Filters::parse("").unwrap(), Filters::default());
        assert!(Filters::parse(r#"{"name":[]}"#).unwrap().exact("name", "x"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for bad in ["x", "[]", "7", r#"{"a":7}"#, r#"{"a":[7]}"#, r#"{"a":{"b":1}}"#, r#"{"a":"b"}"#] {
            assert!(Filters::parse(bad).unwrap_err().message.starts_with("invalid filter"), "{bad}");
        }
        let filters = Filters::parse(r#"{"nam":["a"]}"#).unwrap();
        assert_eq!(filters.check(&["name"]).unwrap_err().message, "invalid filter 'nam'");
        assert!(filters.check(&["nam"]).is_ok());
        assert!(Filters::parse(r#"{"s":["maybe"]}"#).unwrap().switch("s").is_err());
        assert_eq!(Filters::parse(r#"{"s":["1"]}"#).unwrap().switch("s").unwrap(), Some(true));
    }

    #[test]
    fn labels_have_all_to_fit() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (filters, expected) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","c"]}"#, false),
            (r#"{"label":["b="]}"#, true),
        ] {
            assert_eq!(Filters::parse(filters).unwrap().labels("label", &labels), expected, "{filters}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_filters_or_an_error(text in ".*") {
            let _ = Filters::parse(&text);
        }
    }
}
