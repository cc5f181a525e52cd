//! Where secrets and configs are seen in a container.

use crate::error::ApiError;

/// What a secret's target is relative to.
pub const SECRETS: &str = "/run/secrets";

/// The absolute path of the file, as Docker finds it: a relative target of a `secret` is below [`SECRETS`], one of a `config` below
/// the root.
///
/// # Errors
/// It is no file's path.
pub fn file_target(object: &str, kind: &str, target: &str) -> Result<String, ApiError> {
    let base = if kind == "secret" { SECRETS } else { "" };
    let whole = if target.starts_with('/') { target.to_owned() } else { format!("{base}/{target}") };
    let words: Vec<&str> = whole.split('/').filter(|word| !matches!(*word, "" | ".")).collect();
    let path = format!("/{}", words.join("/"));
    if target.ends_with('/')
        || words.is_empty()
        || words.contains(&"..")
        || path == SECRETS
        || path.contains('\0')
    {
        return Err(ApiError::invalid(format!("{object}: invalid target {target:?}"))
            .help("give the path of a file, without \"..\""));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_targets_have_their_place() {
        let path = |kind: &str, target: &str| file_target("x", kind, target).ok();
        for (kind, target, wanted) in [
            ("secret", "key", Some("/run/secrets/key")),
            ("secret", "a//./key", Some("/run/secrets/a/key")),
            ("secret", "/etc/key", Some("/etc/key")),
            ("config", "nginx.conf", Some("/nginx.conf")),
            ("config", "/etc/nginx.conf", Some("/etc/nginx.conf")),
            ("secret", "", None),
            ("config", "/", None),
            ("secret", "../key", None),
            ("secret", "dir/", None),
        ] {
            assert_eq!(path(kind, target).as_deref(), wanted, "{kind} {target}");
        }
    }
}
