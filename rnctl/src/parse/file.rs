//! `--secret` and `--config`: a name, or `source=NAME,target=PATH,uid=0,gid=0,mode=0444`.

use proto::model::FileReference;

use super::csv;

/// Parses one `--secret` or `--config`; `kind` says which.
fn reference<Id>(kind: &str, text: &str) -> Result<FileReference<Id>, String> {
    let none =
        FileReference { id: None, name: String::new(), target: String::new(), uid: 0, gid: 0, mode: 0o444 };
    let mut reference = none;
    for (n, field) in csv::fields(text)?.into_iter().enumerate() {
        let Some((key, value)) = field.split_once('=') else {
            if n == 0 && field == text {
                reference.name = field;
                continue;
            }
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        };
        let number = |what: &str| {
            value.parse().map_err(|_| format!("invalid {what} specified: {value:?}: give its number"))
        };
        match key.trim().to_lowercase().as_str() {
            "source" | "src" => reference.name = value.to_owned(),
            "target" => reference.target = value.to_owned(),
            "uid" => reference.uid = number("uid")?,
            "gid" => reference.gid = number("gid")?,
            "mode" => reference.mode = mode(value)?,
            _ => return Err(format!("invalid field in {kind} request: {key}")),
        }
    }
    if reference.name.is_empty() {
        return Err("source is required".to_owned());
    }
    if reference.target.is_empty() {
        reference.target.clone_from(&reference.name);
    }
    Ok(reference)
}

/// As Go reads a number: octal behind a 0.
fn mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let mode = match digits {
        Some(octal) => u32::from_str_radix(octal, 8),
        None => text.parse(),
    };
    match mode {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("invalid mode specified: {text:?}: write it in octal digits, such as 0444")),
    }
}

/// `--secret`.
pub fn secret(text: &str) -> Result<FileReference<proto::model::SecretId>, String> {
    reference("secret", text)
}

/// `--config`.
pub fn config(text: &str) -> Result<FileReference<proto::model::ConfigId>, String> {
    reference("config", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long() {
        let file = |name: &str, target: &str, uid, gid, mode| {
            Ok(FileReference { id: None, name: name.into(), target: target.into(), uid, gid, mode })
        };
        assert_eq!(secret("key"), file("key", "key", 0, 0, 0o444));
        assert_eq!(secret("source=key"), file("key", "key", 0, 0, 0o444));
        assert_eq!(secret("src=key,target=/a,uid=7,gid=8,mode=0400"), file("key", "/a", 7, 8, 0o400));
        assert_eq!(secret("src=key,mode=0"), file("key", "key", 0, 0, 0));
        for bad in [
            "",
            "target=x",
            "key,target=x",
            "source=a,mode=abc",
            "source=a,mode=0999",
            "source=a,uid=root",
            "source=a,x=1",
        ] {
            assert!(config(bad).is_err(), "{bad}");
        }
    }
}
