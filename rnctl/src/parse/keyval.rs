//! `key=value` lists.

use std::collections::BTreeMap;

/// `key=value`; without `=` the value is empty, as for labels.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("{text:?} has no key: write key=value"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `key=value`, both needed.
pub fn strict_pair(text: &str) -> Result<(String, String), String> {
    if text.contains('=') { pair(text) } else { Err(format!("{text:?}: write key=value")) }
}

/// A map; the last of equal keys wins.
pub fn map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

/// Environment: `NAME=value` stands, `NAME` takes the value from `lookup` and is left out when there is none.
pub fn environment(given: &[String], lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let mut env = Vec::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => return Err(format!("invalid environment variable: {text}")),
            Some(_) => env.push(text.clone()),
            None => env.extend(lookup(text).map(|value| format!("{text}={value}"))),
        }
    }
    Ok(env)
}

/// The lines of an `--env-file`: blank ones and comments are left out.
pub fn environment_file(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_takes_values_from_the_caller() {
        let given = ["A=1", "HOME", "NONE", "E="].map(str::to_owned);
        let env = environment(&given, |n| (n == "HOME").then(|| "/root".to_owned()));
        assert_eq!(env, Ok(vec!["A=1".into(), "HOME=/root".into(), "E=".into()]));
        assert!(environment(&["=x".into()], |_| None).is_err());
        assert_eq!(environment_file("# c\n\nA=1\n  B\n"), ["A=1", "B"]);
    }

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a"), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err());
        assert!(strict_pair("a").is_err());
    }
}
