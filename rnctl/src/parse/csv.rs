//! One line of comma-separated fields, as Go's encoding/csv reads it.

/// Splits `a,"b,c",d`. A field in double quotes may hold commas; `""` inside is a quote.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err(format!("missing closing quote in {text:?}")),
                }
            }
            if !matches!(chars.peek(), None | Some(',')) {
                return Err(format!("extra text after a quoted field in {text:?}"));
            }
        } else {
            while let Some(c) = chars.next_if(|&c| c != ',') {
                if c == '"' {
                    return Err(format!("a quote inside an unquoted field in {text:?}"));
                }
                field.push(c);
            }
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

/// Fields of the form `key=value` or `key`; keys in lower case.
pub fn pairs(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    Ok(fields(text)?
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), Some(value.to_owned())),
            None => (field.trim().to_lowercase(), None),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_plain() {
        assert_eq!(fields("a,b=c,"), Ok(vec!["a".into(), "b=c".into(), String::new()]));
        assert_eq!(fields(r#"a,"b,""c""",d"#), Ok(vec!["a".into(), r#"b,"c""#.into(), "d".into()]));
        assert!(fields(r#"a,"b"#).is_err());
        assert!(fields(r#"a"b"#).is_err());
        assert_eq!(
            pairs("Type=bind,RO"),
            Ok(vec![("type".into(), Some("bind".into())), ("ro".into(), None)])
        );
    }
}
