//! Images.

use proto::model::Timestamp;
use serde_json::Value;

use super::Object;
use crate::output::{
    listing::{Listing, Row},
    short_id, time, units,
};

/// `image ls`.
pub const LISTING: Listing = Listing {
    table: "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}",
    quiet: "{{.ID}}",
    configured: |c| c.images_format,
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
    ],
};

/// `image ls --digests`.
pub const LISTING_DIGESTS: Listing = Listing {
    table: "{{.Repository}}\\t{{.Tag}}\\t{{.Digest}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}",
    ..LISTING
};

/// The lines of `image ls` of one of `GET /images/json`: one for each tag, and with `digests` for each digest of it; one for each
/// repository without a tag.
pub fn rows(image: &Value, no_trunc: bool, digests: bool, now: Timestamp) -> Vec<Row> {
    let created = Timestamp(image["Created"].as_u64().unwrap_or_default().saturating_mul(1000));
    let id = image["Id"].as_str().unwrap_or_default();
    // Daemons of old say so of an image without a name.
    let names = |key: &str| {
        let all = image[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|name| !name.starts_with(NONE)).collect::<Vec<_>>()
    };
    let line = |repository: &str, tag: &str, digest: &str| {
        Object::default()
            .with("Repository", repository)
            .with("Tag", tag)
            .with("Digest", digest)
            .with("ID", if no_trunc { id } else { short_id(id) })
            .with("CreatedSince", time::ago(created, now))
            .with("CreatedAt", time::long(created))
            .with("Size", units::decimal(image["Size"].as_u64().unwrap_or_default()))
            .build()
    };
    let (tags, all_digests) = (names("RepoTags"), names("RepoDigests"));
    let by_repository: Vec<(&str, &str)> = all_digests.iter().filter_map(|d| d.split_once('@')).collect();
    let mut rows = Vec::new();
    for reference in &tags {
        let (repository, tag) = split(reference);
        let known: Vec<&str> =
            by_repository.iter().filter(|(r, _)| digests && *r == repository).map(|(_, d)| *d).collect();
        match known.is_empty() {
            true => rows.push(line(repository, tag, NONE)),
            false => rows.extend(known.into_iter().map(|digest| line(repository, tag, digest))),
        }
    }
    let tagged = |repository: &str| tags.iter().any(|tag| split(tag).0 == repository);
    for (repository, digest) in by_repository.iter().filter(|(repository, _)| !tagged(repository)) {
        rows.push(line(repository, NONE, if digests { digest } else { NONE }));
    }
    if rows.is_empty() {
        rows.push(line(NONE, NONE, NONE));
    }
    rows
}

/// What there is not.
const NONE: &str = "<none>";

/// `repository:tag`; a colon before the last slash belongs to a registry's port.
pub fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_tag() {
        let image = json!({
            "Id": "sha256:0123456789abcdef", "RepoTags": ["hello:1", "localhost:5000/hello"], "Created": 1, "Size": 4_266_000,
        });
        let bare = json!({"Id": "sha256:1", "RepoTags": ["<none>:<none>"], "RepoDigests": null});
        assert_eq!(super::rows(&bare, false, false, Timestamp(0)).len(), 1);
        let rows = rows(&image, false, false, Timestamp(61_000));
        let text = LISTING.render(&rows, &Default::default()).unwrap_or_default();
        assert_eq!(
            text,
            "REPOSITORY             TAG       IMAGE ID       CREATED              SIZE\n\
             hello                  1         0123456789ab   About a minute ago   4.27MB\n\
             localhost:5000/hello   latest    0123456789ab   About a minute ago   4.27MB\n"
        );
    }
}
