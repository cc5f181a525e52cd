//! `GET /system/df`.

use std::collections::BTreeMap;

use proto::{error::ApiError, model::Timestamp, pb};
use serde_json::{Map, Value, json};

use crate::{
    container::{self, Listed},
    image,
    version::ApiVersion,
    volume::Shown,
};

/// From this version on a client can say what it wants to know of.
const CHOICE: ApiVersion = ApiVersion::minor(42);

/// What a client wants to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Containers.
    pub containers: bool,
    /// Images, and the layers of all.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// What a builder keeps: nothing.
    pub builds: bool,
}

impl Wanted {
    /// Of the parameter `type`, which may be there more than once; everything without it.
    ///
    /// # Errors
    /// It names something else.
    pub fn of<'a>(types: impl Iterator<Item = &'a str>, version: ApiVersion) -> Result<Self, ApiError> {
        let types: Vec<&str> = types.filter(|_| version >= CHOICE).collect();
        let all = types.is_empty();
        let mut wanted = Self { containers: all, images: all, volumes: all, builds: all };
        for kind in types {
            match kind {
                "container" => wanted.containers = true,
                "image" => wanted.images = true,
                "volume" => wanted.volumes = true,
                "build-cache" => wanted.builds = true,
                other => {
                    return Err(ApiError::invalid(format!("unknown object type: {other}"))
                        .help("there are: container, image, volume, build-cache"));
                }
            }
        }
        Ok(wanted)
    }
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskUsage {
    /// Containers, with their sizes.
    pub containers: Option<Vec<Listed>>,
    /// Images, with their layers' digests and sizes.
    pub images: Option<Vec<(pb::Image, Vec<(String, u64)>)>>,
    /// How many containers each image has, by its id.
    pub users: BTreeMap<String, usize>,
    /// Volumes, with their sizes and how many containers have them.
    pub volumes: Option<Vec<(Shown, u64, usize)>>,
    /// Whether the client wants to know of a builder's.
    pub builds: bool,
}

/// Its JSON. What was not asked for is not there.
pub fn usage(usage: &DiskUsage, version: ApiVersion, now: Timestamp) -> Value {
    let mut fields = Map::new();
    if let Some(images) = &usage.images {
        let mut layers = BTreeMap::<&str, (u64, usize)>::new();
        for (digest, size) in images.iter().flat_map(|(_, layers)| distinct(layers)) {
            layers.entry(digest).or_insert((size, 0)).1 += 1;
        }
        let shared = |own: &[(String, u64)]| -> u64 {
            let others = |digest: &str| layers.get(digest).is_some_and(|(_, images)| *images > 1);
            distinct(own).into_iter().filter(|(digest, _)| others(digest)).map(|(_, size)| size).sum()
        };
        let shown = images.iter().map(|(image, own)| {
            let mut shown = image::summary(image, version);
            if let Some(fields) = shown.as_object_mut() {
                let users = usage.users.get(&image.id).copied().unwrap_or_default();
                fields.insert("Containers".into(), users.into());
                fields.insert("SharedSize".into(), shared(own).into());
            }
            shown
        });
        fields.insert("Images".into(), shown.collect());
        fields.insert("LayersSize".into(), layers.values().map(|(size, _)| size).sum::<u64>().into());
    }
    if let Some(containers) = &usage.containers {
        fields.insert("Containers".into(), containers.iter().map(|c| container::summary(c, now)).collect());
    }
    if let Some(volumes) = &usage.volumes {
        let shown = volumes.iter().map(|(volume, size, users)| {
            let mut shown = volume.json();
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("UsageData".into(), json!({"Size": size, "RefCount": users}));
            }
            shown
        });
        fields.insert("Volumes".into(), shown.collect());
    }
    if usage.builds {
        fields.insert("BuildCache".into(), json!([]));
        if version < CHOICE {
            fields.insert("BuilderSize".into(), 0.into());
        }
    }
    fields.into()
}

/// A layer that an image has twice is there once.
fn distinct(layers: &[(String, u64)]) -> BTreeMap<&str, u64> {
    layers.iter().map(|(digest, size)| (digest.as_str(), *size)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_images_share_is_counted_once() {
        let image = |id: &str| pb::Image { id: id.into(), size: 30, ..Default::default() };
        let layer = |name: &str, size| (name.to_owned(), size);
        let all = DiskUsage {
            images: Some(vec![
                (image("a"), vec![layer("base", 20), layer("one", 10)]),
                (image("b"), vec![layer("base", 20), layer("two", 5), layer("two", 5)]),
            ]),
            users: [("a".to_owned(), 2)].into(),
            ..DiskUsage::default()
        };
        let json = usage(&all, ApiVersion::NEWEST, Timestamp(0));
        assert_eq!(json["LayersSize"], 35);
        assert_eq!(
            (&json["Images"][0]["SharedSize"], &json["Images"][0]["Containers"]),
            (&json!(20), &json!(2))
        );
        assert!(json.get("Containers").is_none() && json.get("BuildCache").is_none());
    }

    #[test]
    fn a_client_chooses() {
        let wanted = Wanted::of(["image", "volume"].into_iter(), ApiVersion::NEWEST).unwrap();
        assert_eq!(wanted, Wanted { containers: false, images: true, volumes: true, builds: false });
        assert!(Wanted::of(["image"].into_iter(), ApiVersion::minor(41)).unwrap().containers);
        assert!(Wanted::of(["x"].into_iter(), ApiVersion::NEWEST).is_err());
    }
}
