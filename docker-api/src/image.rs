//! Images.

use std::collections::BTreeMap;

use proto::{
    error::ApiError,
    model::Timestamp,
    parse::Reference,
    pb::{
        self, PullProgress,
        pull_progress::{Kind, layer::Step},
    },
};
use serde_json::{Value, json};

use crate::{filters::Filters, time, version::ApiVersion};

/// The filters of `GET /images/json`.
pub const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

/// The filters of `POST /images/prune`.
pub const PRUNE_FILTERS: [&str; 4] = ["dangling", "until", "label", "label!"];

/// Before this version an image without a name had one that says so.
const NAMELESS: ApiVersion = ApiVersion::minor(43);

fn document(image: &pb::Image) -> Value {
    serde_json::from_str(&image.config_json).unwrap_or_default()
}

fn labels(document: &Value) -> BTreeMap<String, String> {
    let labels = document["config"]["Labels"].as_object();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    labels.into_iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect()
}

/// A line of `GET /images/json`.
pub fn summary(image: &pb::Image, version: ApiVersion) -> Value {
    let or_none = |list: &[String], none: &str| match list.is_empty() && version < NAMELESS {
        true => vec![none.to_owned()],
        false => list.to_vec(),
    };
    json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": or_none(&image.tags, "<none>:<none>"),
        "RepoDigests": or_none(&image.digests, "<none>@<none>"),
        "Created": image.created_at / 1000,
        "Size": image.size,
        "VirtualSize": image.size,
        "SharedSize": -1,
        "Labels": labels(&document(image)),
        "Containers": -1,
    })
}

/// Whether an image is among those that filters ask for. `bounds`: when the images of `before` and `since` were made.
///
/// # Errors
/// `dangling` is no switch, or `until` no time.
pub fn is_wanted(
    image: &pb::Image,
    filters: &Filters,
    bounds: (Option<u64>, Option<u64>),
) -> Result<bool, ApiError> {
    let until = filters.values("until").map(|text| time::timestamp("until", text));
    let until = until.collect::<Result<Vec<_>, _>>()?.into_iter().min();
    let dangling = filters.switch("dangling")?;
    Ok(dangling.is_none_or(|wanted| wanted == image.tags.is_empty())
        && filters.labels("label", &labels(&document(image)))
        && filters.any("reference", |pattern| {
            image.tags.iter().chain(&image.digests).any(|tag| names(pattern, tag))
        })
        && until.is_none_or(|until| image.created_at.saturating_mul(1_000_000) < until)
        && bounds.0.is_none_or(|before| image.created_at < before)
        && bounds.1.is_none_or(|since| image.created_at > since))
}

/// Whether a pattern fits a name, with its tag or without.
fn names(pattern: &str, tag: &str) -> bool {
    let name = tag.split_once('@').map_or(tag, |(name, _)| name);
    let bare = match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    };
    fits(pattern.as_bytes(), name.as_bytes()) || fits(pattern.as_bytes(), bare.as_bytes())
}

/// `*` and `?`, neither of which is a slash.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            let end = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=end).any(|n| text.get(n..).is_some_and(|text| fits(rest, text)))
        }
        ([b'?', rest @ ..], [first, more @ ..]) => *first != b'/' && fits(rest, more),
        ([a, rest @ ..], [b, more @ ..]) => a == b && fits(rest, more),
        _ => false,
    }
}

/// `GET /images/{name}/json`.
pub fn inspect(image: &pb::Image) -> Value {
    let document = document(image);
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    let mut config = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "", "Volumes": null,
        "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Some(fields), Some(own)) = (config.as_object_mut(), document["config"].as_object()) {
        fields.extend(own.clone());
    }
    let last = document["history"].as_array().and_then(|h| h.last()).cloned().unwrap_or_default();
    json!({
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": "",
        "Comment": last["comment"].as_str().unwrap_or_default(),
        "Created": if text("created").is_empty() { time::rfc3339(Timestamp(image.created_at)) } else { text("created").into() },
        "DockerVersion": "",
        "Author": text("author"),
        "Config": config,
        "Architecture": text("architecture"),
        "Variant": text("variant"),
        "Os": text("os"),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": "overlayfs", "Data": null},
        "RootFS": {"Type": "layers", "Layers": document["rootfs"]["diff_ids"]},
        "Metadata": {"LastTagTime": time::NEVER},
    })
}

/// `GET /images/{name}/history`, the newest step first; `sizes` are those of its layers, the top one first.
pub fn history(image: &pb::Image, sizes: &[u64]) -> Vec<Value> {
    let document = document(image);
    let mut sizes = sizes.iter().copied();
    let steps = document["history"].as_array().cloned().unwrap_or_default();
    let shown = steps.iter().rev().enumerate().map(|(n, step)| {
        let text = |key: &str| step[key].as_str().unwrap_or_default();
        let empty = step["empty_layer"].as_bool().unwrap_or_default();
        let created = time::timestamp("created", text("created")).unwrap_or_default();
        json!({
            "Id": if n == 0 { image.id.as_str() } else { "<missing>" },
            "Created": created / 1_000_000_000,
            "CreatedBy": text("created_by"),
            "Tags": if n == 0 && !image.tags.is_empty() { json!(image.tags) } else { Value::Null },
            "Size": if empty { 0 } else { sizes.next().unwrap_or_default() },
            "Comment": text("comment"),
        })
    });
    shown.collect()
}

/// What a removal has done.
pub fn removed(untagged: &[String], deleted: &[String]) -> Vec<Value> {
    let untagged = untagged.iter().map(|name| json!({ "Untagged": name }));
    untagged.chain(deleted.iter().map(|id| json!({ "Deleted": id }))).collect()
}

/// The name that `fromImage` and `tag`, or `repo` and `tag`, mean together; a digest may stand for the tag.
pub fn name(repository: &str, tag: &str) -> String {
    match tag {
        "" => repository.to_owned(),
        digest if digest.contains(':') => format!("{repository}@{digest}"),
        tag => format!("{repository}:{tag}"),
    }
}

/// What goes on while an image is pulled, a line each.
pub fn progress(progress: PullProgress, reference: &Reference) -> Vec<Value> {
    match progress.kind {
        Some(Kind::Started(started)) => {
            let tag = reference.tag().unwrap_or("latest");
            vec![json!({"status": format!("Pulling from {}", started.from), "id": tag})]
        }
        Some(Kind::Layer(layer)) => {
            let (words, detail) = match layer.step() {
                Step::Waiting => ("Pulling fs layer", json!({})),
                Step::Exists => ("Already exists", json!({})),
                Step::Downloading => ("Downloading", json!({"current": layer.current, "total": layer.total})),
                Step::Downloaded => ("Download complete", json!({})),
                Step::Complete => ("Pull complete", json!({})),
            };
            vec![json!({"status": words, "progressDetail": detail, "id": layer.id})]
        }
        Some(Kind::Done(done)) => {
            let end = match done.newer {
                true => format!("Status: Downloaded newer image for {}", done.name),
                false => format!("Status: Image is up to date for {}", done.name),
            };
            vec![json!({"status": format!("Digest: {}", done.digest)}), json!({ "status": end })]
        }
        None => Vec::new(),
    }
}

/// An error in a stream that has begun.
pub fn failure(error: &ApiError) -> Value {
    json!({"errorDetail": {"message": error.message}, "error": error.message})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn image() -> pb::Image {
        pb::Image {
            id: "sha256:abc".into(),
            tags: vec!["reg/app:1".into()],
            created_at: 5000,
            size: 30,
            config_json: json!({
                "created": "2024-01-01T00:00:00Z", "os": "linux", "config": {"Labels": {"a": "b"}, "Cmd": ["x"]},
                "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "one"}, {"created_by": "two", "empty_layer": true}],
            })
            .to_string(),
            ..Default::default()
        }
    }

    #[test]
    fn filters_choose() {
        for (filters, expected) in [
            (r#"{"reference":["reg/app"]}"#, true),
            (r#"{"reference":["reg/*:1"]}"#, true),
            (r#"{"reference":["*"]}"#, false),
            (r#"{"reference":["reg/ap?"]}"#, true),
            (r#"{"dangling":["true"]}"#, false),
            (r#"{"label":["a=b"],"dangling":["0"]}"#, true),
            (r#"{"until":["4"]}"#, false),
        ] {
            let filters = Filters::parse(filters).unwrap();
            assert_eq!(is_wanted(&image(), &filters, (None, None)).unwrap(), expected, "{filters:?}");
        }
        assert!(!is_wanted(&image(), &Filters::default(), (Some(5000), None)).unwrap());
    }

    #[test]
    fn steps_without_a_layer_have_no_size() {
        let steps = history(&image(), &[30]);
        assert_eq!(
            (&steps[0]["CreatedBy"], &steps[0]["Size"], &steps[0]["Id"]),
            (&json!("two"), &json!(0), &json!("sha256:abc"))
        );
        assert_eq!((&steps[1]["Size"], &steps[1]["Id"]), (&json!(30), &json!("<missing>")));
    }

    #[test]
    fn names_without_a_tag_are_as_the_version_has_them() {
        let bare = pb::Image { tags: Vec::new(), ..image() };
        assert_eq!(summary(&bare, ApiVersion::minor(41))["RepoTags"], json!(["<none>:<none>"]));
        assert_eq!(summary(&bare, ApiVersion::minor(47))["RepoTags"], json!([]));
        assert_eq!(
            (name("a", "1"), name("a", "sha256:1"), name("a", "")),
            ("a:1".into(), "a@sha256:1".into(), "a".into())
        );
        assert_eq!(inspect(&image())["Config"]["Cmd"], json!(["x"]));
    }
}
