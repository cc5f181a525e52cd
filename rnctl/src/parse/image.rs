//! Names of images, as far as the client has to understand them.

pub use proto::parse::reference::DEFAULT_REGISTRY;

/// The registry that an image's name begins with. Docker's rule: the first component is one if it looks like a host.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some(("index.docker.io", _)) => DEFAULT_REGISTRY,
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => first,
        _ => DEFAULT_REGISTRY,
    }
}

/// The name without the digest behind it.
pub fn without_digest(image: &str) -> &str {
    image.split_once('@').map_or(image, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_and_digests() {
        for (image, want) in [
            ("busybox", "docker.io"),
            ("team/web:1", "docker.io"),
            ("docker.io/team/web", "docker.io"),
            ("index.docker.io/team/web", "docker.io"),
            ("localhost/web", "localhost"),
            ("10.0.0.1:5000/a/b:2", "10.0.0.1:5000"),
            ("[fd00::1]:5000/a", "[fd00::1]:5000"),
        ] {
            assert_eq!(registry(image), want, "{image}");
        }
        assert_eq!(without_digest("a.b/c:1@sha256:00"), "a.b/c:1");
    }
}
