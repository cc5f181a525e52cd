//! A shell's words, for `--entrypoint`.

/// Splits as a POSIX shell does: blanks separate, quotes and backslashes protect. Nothing is expanded.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(format!("missing closing ' in {text:?}")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(format!("missing closing \" in {text:?}")),
                        },
                        Some(c) => word.push(c),
                        None => return Err(format!("missing closing \" in {text:?}")),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err(format!("{text:?} ends with a backslash")),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The words of `--entrypoint`. None at all switch the image's off, which Docker's API says with one empty word.
pub fn entrypoint(text: &str) -> Result<Vec<String>, String> {
    let words = words(text).map_err(|e| format!("--entrypoint: {e}"))?;
    Ok(if words.is_empty() { vec![String::new()] } else { words })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell() {
        assert_eq!(
            words("/bin/sh -c 'a b' \"c \\\" d\" e\\ f ''").unwrap_or_default(),
            ["/bin/sh", "-c", "a b", "c \" d", "e f", ""]
        );
        assert_eq!(words("   "), Ok(vec![]));
        assert_eq!(entrypoint(""), Ok(vec![String::new()]));
        assert!(words("'a").is_err() && words("\"a").is_err() && words("a\\").is_err());
    }
}
