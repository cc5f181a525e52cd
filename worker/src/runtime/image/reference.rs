//! Names of images.

use std::{fmt, str::FromStr};

use crate::runtime::RuntimeError;

/// `name:tag`, in the short form that `ls` shows: without `docker.io/library/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    name: String,
    tag: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

impl FromStr for Reference {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let invalid = || RuntimeError::Invalid(format!("invalid reference format: {text:?}"));
        // A digest says which content is meant; here a name means whatever it was imported as.
        let named = text.split_once('@').map_or(text, |(named, _)| named);
        let (name, tag) = match named.rsplit_once(':') {
            // A colon before a slash is a registry's port.
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (named, "latest"),
        };
        let short = name.strip_prefix("docker.io/").unwrap_or(name);
        let short = short.strip_prefix("library/").unwrap_or(short);
        let component = |part: &str| {
            let inner =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-:".contains(&byte);
            let edge = |byte: Option<&u8>| {
                byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            };
            part.bytes().all(inner) && edge(part.as_bytes().first()) && edge(part.as_bytes().last())
        };
        let tag_ok = !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if short.len() > 255 || !short.split('/').all(component) || !tag_ok {
            return Err(invalid());
        }
        Ok(Self { name: short.to_owned(), tag: tag.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn references_are_normalised_or_refused() {
        for (text, want) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1.36", "busybox:1.36"),
            ("localhost:5000/team/web", "localhost:5000/team/web:latest"),
            ("web@sha256:abc", "web:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), want);
        }
        for text in ["", "Web", "web:", "a//b", "../x", "web:-t", "we b", "-web"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
