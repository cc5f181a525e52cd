//! `--filter key=value`.

use std::collections::BTreeMap;

use crate::exit::Failure;

/// Parsed filters. Values of one key are alternatives; different keys must all hold.
#[derive(Debug, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Parses what was given; a key outside `known` is an error that lists them.
    pub fn parse(given: &[String], known: &[&str]) -> Result<Self, Failure> {
        let mut filters = Vec::new();
        for text in given {
            // `label!=x` is the filter `label!`.
            let Some((key, value)) = text.split_once('=') else {
                return Err(Failure::local(format!(
                    "invalid argument {text:?} for \"-f, --filter\": bad format of filter (expected name=value)"
                )));
            };
            let key = key.trim().to_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(Failure::local(format!("invalid filter {key:?}"))
                    .with_help(format!("the filters are: {}", known.join(", "))));
            }
            filters.push((key, value.trim().to_owned()));
        }
        Ok(Self(filters))
    }

    /// The same; a value of `key` that is none of `words` is an error that lists them.
    pub fn one_of(self, key: &str, words: &[&str]) -> Result<Self, Failure> {
        let is_known = |value: &str| words.iter().any(|word| word.eq_ignore_ascii_case(value));
        if let Some(value) = self.values(key).find(|value| !is_known(value)) {
            return Err(Failure::local(format!("invalid filter '{key}={value}'"))
                .with_help(format!("{key} may be: {}", words.join(", "))));
        }
        Ok(self)
    }

    /// As the API takes them; none where there are none.
    pub fn to_json(&self) -> Option<String> {
        let mut keys: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
        for (key, value) in &self.0 {
            keys.entry(key).or_default().insert(value, true);
        }
        if keys.is_empty() { None } else { serde_json::to_string(&keys).ok() }
    }

    /// One more.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The values of `key` as points in time, which are told the daemon in seconds: only here is it known what time it is for the
    /// user.
    pub fn with_moments(mut self, key: &str) -> Result<Self, Failure> {
        for (name, value) in &mut self.0 {
            if name == key {
                *value = super::time::seconds(crate::parse::time::moment(value).map_err(Failure::local)?);
            }
        }
        Ok(self)
    }

    /// The values of a key.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Whether `key` was given.
    pub fn has(&self, key: &str) -> bool {
        self.values(key).next().is_some()
    }

    /// True when `key` was not given, or one of its values passes.
    pub fn any(&self, key: &str, test: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(test)
    }

    /// `label=k` or `label=k=v`: all given ones must hold.
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_key_or_different_key_and() {
        let given = ["name=web", "name=db", "label=tier=front"].map(str::to_owned);
        let filters = Filters::parse(&given, &["name", "label"]).unwrap_or_default();
        let sent = r#"{"label":{"tier=front":true},"name":{"db":true,"web":true}}"#;
        assert_eq!(filters.to_json().as_deref(), Some(sent));
        assert_eq!(Filters::default().to_json(), None);
        assert!(filters.any("name", |v| "db".starts_with(v)));
        assert!(!filters.any("name", |v| "cache".starts_with(v)));
        assert!(filters.any("id", |_| false));
        let labels = [("tier".to_owned(), "front".to_owned())].into();
        assert!(filters.labels("label", &labels));
        assert!(!filters.labels("label", &Default::default()));
        assert!(Filters::parse(&["color=red".into()], &["name"]).is_err());
        assert!(Filters::parse(&["name".into()], &["name"]).is_err());
        let named = |value: &str| {
            Filters::parse(&[format!("role={value}")], &["role"]).and_then(|f| f.one_of("role", &["worker"]))
        };
        assert!(named("worker").is_ok() && named("Worker").is_ok());
        let error = named("boss").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("invalid filter 'role=boss'") && error.contains("may be: worker"), "{error}");
    }
}
