//! Names of images.

use std::{fmt, str::FromStr};

/// Text that is no name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format: {text:?}{why}")]
pub struct InvalidReference {
    /// What was given.
    text: String,
    /// What is wrong with it, where that can be said; with a separator in front.
    why: String,
}

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// `[registry/]name[:tag][@digest]`, in the short form that `ls` shows: without `docker.io/library/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// The name without tag and digest, in short form.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its tag; `latest` if it says neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// The digest that says which content is meant, `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// `name:tag`, whatever digest there is.
    pub fn tagged(&self) -> String {
        format!("{}:{}", self.name, self.tag.as_deref().unwrap_or("latest"))
    }

    /// The same name with this digest instead of a tag: what a pulled image is remembered by.
    pub fn canonical(&self, digest: &str) -> Self {
        Self { name: self.name.clone(), tag: None, digest: Some(digest.to_owned()) }
    }

    /// The registry that it names, with its port: `docker.io` if it names none.
    pub fn registry(&self) -> &str {
        self.explicit_registry().map_or(DEFAULT_REGISTRY, |(registry, _)| registry)
    }

    /// Whether it names a registry itself.
    pub fn names_registry(&self) -> bool {
        self.explicit_registry().is_some()
    }

    /// The repository within its registry.
    pub fn repository(&self) -> String {
        match self.explicit_registry() {
            Some((_, repository)) => repository.to_owned(),
            None if self.name.contains('/') => self.name.clone(),
            None => format!("library/{}", self.name),
        }
    }

    /// Docker's rule: the first component is a registry if it looks like a host.
    fn explicit_registry(&self) -> Option<(&str, &str)> {
        self.name.split_once('/').filter(|(first, _)| is_host(first))
    }
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match named.rsplit_once(':') {
            // A colon before a slash is a registry's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (named, None),
        };
        let hub = ["docker.io/", "index.docker.io/"].iter().find_map(|prefix| name.strip_prefix(prefix));
        let short = hub.unwrap_or(name);
        let short = match short.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest,
            _ => short,
        };
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let component = |part: &str| {
            let edge = |byte: Option<&u8>| byte.is_some_and(|byte| lower(*byte));
            part.bytes().all(|byte| lower(byte) || b"._-".contains(&byte))
                && edge(part.as_bytes().first())
                && edge(part.as_bytes().last())
        };
        let host = |part: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
            !part.is_empty() && part.bytes().all(inner) && !part.starts_with(['.', '-', ':'])
        };
        let name_ok = match short.split_once('/') {
            Some((first, rest)) if is_host(first) => host(first) && rest.split('/').all(component),
            _ => short.split('/').all(component),
        };
        let tag_ok = tag.is_none_or(|tag| {
            !tag.is_empty()
                && tag.len() <= 128
                && !tag.starts_with(['.', '-'])
                && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        });
        let digest_ok = digest.is_none_or(|digest| {
            digest.strip_prefix("sha256:").is_some_and(|hex| {
                hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
            })
        });
        // What is said to be Docker Hub's must not, in its short form, name another registry.
        if hub.is_some() && short.split_once('/').is_some_and(|(first, _)| is_host(first)) {
            let why = ": a repository of docker.io does not begin with the name of a host".to_owned();
            return Err(InvalidReference { text: text.to_owned(), why });
        }
        if short.len() > 255 || !name_ok || !tag_ok || !digest_ok {
            let repository = match short.split_once('/') {
                Some((first, rest)) if is_host(first) => rest,
                _ => short,
            };
            let upper = repository.bytes().any(|byte| byte.is_ascii_uppercase());
            let why =
                if upper { format!(": repository name ({short}) must be lowercase") } else { String::new() };
            return Err(InvalidReference { text: text.to_owned(), why });
        }
        Ok(Self { name: short.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn references_are_normalised_or_refused() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = format!("web@{digest}");
        let both = format!("reg.example:5000/web:1@{digest}");
        for (text, want) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1.36", "busybox:1.36"),
            ("library/busybox", "busybox:latest"),
            ("docker.io/team/web", "team/web:latest"),
            ("localhost:5000/team/web", "localhost:5000/team/web:latest"),
            ("[fd00::1]:5000/web:2", "[fd00::1]:5000/web:2"),
            (&pinned, &pinned),
            (&both, &both),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), want);
        }
        for text in
            ["", "Web", "web:", "a//b", "../x", "web:-t", "we b", "-web", "web@sha256:abc", "web@md5:0"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        // In short they would be taken for images of another registry, and asked for there.
        for text in ["docker.io/evil.example/x", "index.docker.io/localhost/x", "docker.io/docker.io/x"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        let error = "UPPER:1".parse::<Reference>().unwrap_err().to_string();
        assert!(error.contains("repository name (UPPER) must be lowercase"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_read_back(text in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let printed = reference.to_string();
                proptest::prop_assert_eq!(printed.parse::<Reference>().map(|r| r.to_string()), Ok(printed));
            }
        }
    }

    #[test]
    fn registries_are_told_from_repositories() {
        for (text, registry, repository) in [
            ("busybox", "docker.io", "library/busybox"),
            ("team/web:1", "docker.io", "team/web"),
            ("localhost/web", "localhost", "web"),
            ("10.0.0.1:5000/a/b", "10.0.0.1:5000", "a/b"),
            ("ghcr.io/x/y:2", "ghcr.io", "x/y"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (reference.registry(), reference.repository().as_str()),
                (registry, repository),
                "{text}"
            );
        }
    }
}
