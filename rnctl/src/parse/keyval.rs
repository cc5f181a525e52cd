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

/// A label, as Docker reads it: `key=value`, or `key` with an empty value; a key is one word.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let key = key.trim_start_matches(BLANKS);
    if key.is_empty() {
        return Err(format!("invalid label {text:?}: empty name: write KEY=VALUE"));
    }
    if key.contains(BLANKS) {
        return Err(format!("label {text:?} contains whitespace in its name: write KEY=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Environment: `NAME=value` stands; `NAME` takes the value from `lookup`, and without one stays as it is: the image's variable
/// of that name goes.
pub fn environment(given: &[String], lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    given.iter().map(|text| variable(text, &lookup)).collect()
}

fn variable(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    match text.split_once('=') {
        None if text.is_empty() => Err("an environment variable has no name: write NAME=value".into()),
        Some(("", _)) => Err(format!("invalid environment variable {text:?}: write NAME=value")),
        Some(_) => Ok(text.to_owned()),
        None => Ok(lookup(text).map_or_else(|| text.to_owned(), |value| format!("{text}={value}"))),
    }
}

/// Blanks as Docker counts them.
const BLANKS: [char; 2] = [' ', '\t'];

/// The variables of an `--env-file`, as Docker reads it: UTF-8, with or without a byte order mark; a variable a line; blank lines
/// and those that begin with # have none; a value is taken as it stands. `NAME` alone takes the value from `lookup`, and is left
/// out where there is none.
pub fn environment_file(
    bytes: &[u8],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| format!("line {}: not UTF-8", n + 1))?;
        let text = if n == 0 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        let text = text.trim_start();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("", None) => {}
            (comment, _) if comment.starts_with('#') => {}
            ("", Some(_)) => return Err(format!("line {}: no variable name on line {text:?}", n + 1)),
            (name, _) if name.contains(BLANKS) => {
                return Err(format!("line {}: variable {name:?} contains whitespaces", n + 1));
            }
            (_, Some(_)) => found.push(text.to_owned()),
            (name, None) => found.extend(lookup(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_takes_values_from_the_caller() {
        let given = ["A=1", "HOME", "NONE", "E="].map(str::to_owned);
        let env = environment(&given, |n| (n == "HOME").then(|| "/root".to_owned()));
        assert_eq!(env, Ok(vec!["A=1".into(), "HOME=/root".into(), "NONE".into(), "E=".into()]));
        assert!(environment(&["=x".into()], |_| None).is_err());
        assert!(environment(&[String::new()], |_| None).is_err());
        assert_eq!(environment(&["A B=c".into()], |_| None), Ok(vec!["A B=c".into()]), "as Docker");
    }

    #[test]
    fn files_of_variables() {
        let read =
            |text: &str| environment_file(text.as_bytes(), &|n| (n == "HOME").then(|| "/root".to_owned()));
        let lines = |list: &[&str]| Ok(list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(read("# c\n\nA=1\n  B=2 \n\t#x\nC=a=b\nD=\n"), lines(&["A=1", "B=2 ", "C=a=b", "D="]));
        assert_eq!(read("\u{feff}A=1\r\nB=\"q\"\r\n"), lines(&["A=1", "B=\"q\""]));
        assert_eq!(read("HOME\nNONE\nA=#x"), lines(&["HOME=/root", "A=#x"]));
        assert_eq!(read("\u{feff}# c"), lines(&[]));
        for (text, words) in [
            ("A=1\nA B=c", "line 2: variable \"A B\" contains whitespaces"),
            ("A =c", "contains whitespaces"),
            ("A\t", "contains whitespaces"),
            ("=c", "no variable name"),
        ] {
            assert!(read(text).is_err_and(|e| e.contains(words)), "{text:?}: {:?}", read(text));
        }
        assert!(environment_file(b"A=1\nB=\xff", &|_| None).is_err_and(|e| e.contains("line 2: not UTF-8")));
    }

    #[test]
    fn labels() {
        assert_eq!(label("a"), Ok(("a".into(), String::new())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        assert_eq!(label(" a=b c=d"), Ok(("a".into(), "b c=d".into())));
        for bad in ["", "=x", " =x", "a b=c"] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a"), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err());
        assert!(strict_pair("a").is_err());
    }
}
