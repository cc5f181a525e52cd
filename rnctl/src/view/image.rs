//! Images.

use std::collections::BTreeMap;

use proto::{model::Timestamp, pb::Image};
use serde_json::{Value, json};

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

/// The labels of an image.
pub fn labels(image: &Image) -> BTreeMap<String, String> {
    let config: Value = serde_json::from_str(&image.config_json).unwrap_or_default();
    let labels = config.pointer("/config/Labels").and_then(Value::as_object);
    let text =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or_default().to_owned());
    labels.into_iter().flatten().map(text).collect()
}

/// The lines of `image ls`: one for each tag, and with `digests` for each digest of it; one for each repository without a tag.
pub fn rows(image: &Image, no_trunc: bool, digests: bool, now: Timestamp) -> Vec<Row> {
    let created = Timestamp(image.created_at);
    let line = |repository: &str, tag: &str, digest: &str| {
        Object::default()
            .with("Repository", repository)
            .with("Tag", tag)
            .with("Digest", digest)
            .with("ID", if no_trunc { &image.id } else { short_id(&image.id) })
            .with("CreatedSince", time::ago(created, now))
            .with("CreatedAt", time::long(created))
            .with("Size", units::decimal(image.size))
            .build()
    };
    let by_repository: Vec<(&str, &str)> = image.digests.iter().filter_map(|d| d.split_once('@')).collect();
    let mut rows = Vec::new();
    for reference in &image.tags {
        let (repository, tag) = split(reference);
        let known: Vec<&str> =
            by_repository.iter().filter(|(r, _)| digests && *r == repository).map(|(_, d)| *d).collect();
        match known.is_empty() {
            true => rows.push(line(repository, tag, NONE)),
            false => rows.extend(known.into_iter().map(|digest| line(repository, tag, digest))),
        }
    }
    let tagged = |repository: &str| image.tags.iter().any(|tag| split(tag).0 == repository);
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

/// `image inspect`.
pub fn inspect(image: &Image) -> Row {
    let config: Value = serde_json::from_str(&image.config_json).unwrap_or_default();
    let part = |key: &str| config.get(key).cloned().unwrap_or_default();
    Object::default()
        .with("Id", image.id.as_str())
        .with("RepoTags", image.tags.clone())
        .with("RepoDigests", image.digests.clone())
        .with("Created", time::rfc3339(Timestamp(image.created_at)))
        .some("Comment", config.pointer("/history/0/comment").cloned().unwrap_or_default())
        .some("Architecture", part("architecture"))
        .some("Os", part("os"))
        .with("Size", image.size)
        .with("Config", part("config"))
        .with("RootFS", json!({"Type": "layers", "Layers": image.layers}))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_tag() {
        let image = Image {
            id: "sha256:0123456789abcdef".into(),
            tags: vec!["hello:1".into(), "localhost:5000/hello".into()],
            created_at: 1_000,
            size: 4_266_000,
            ..Image::default()
        };
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
