//! Files of environment variables (`env_file`).

/// Reads one: `NAME=value` or `NAME` a line, `#` begins a comment; nothing is expanded and quotes are part of the value.
///
/// # Errors
/// A line has no name, or blanks in it; or it is no UTF-8.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Option<String>)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
    let mut variables = Vec::new();
    for (k, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), None),
        };
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("line {}: variable '{name}' contains whitespaces", k + 1));
        }
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = b"\xef\xbb\xbfA=1\n# c\n\n  B=\"x\" \nC\nD=a=b\r\n";
        let want = [("A", Some("1")), ("B", Some("\"x\" ")), ("C", None), ("D", Some("a=b"))];
        let want: Vec<_> = want.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).into();
        assert_eq!(read(text), Ok(want));
        for bad in [&b"=x"[..], b"A B=1", b"\xff"] {
            assert!(read(bad).is_err());
        }
    }
}
