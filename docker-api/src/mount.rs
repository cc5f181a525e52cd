//! Mounts of services.

use std::collections::BTreeMap;

use proto::{
    error::ApiError,
    model,
    rules::mount::{self as rules, Recursion},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    json::{empty, means_something},
    swarm::Driver,
};

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume` (also where it is empty), `tmpfs`.
    #[serde(rename = "Type", skip_serializing_if = "empty")]
    pub kind: String,
    /// A path of the host, or a volume.
    #[serde(skip_serializing_if = "empty")]
    pub source: String,
    /// Where in the container.
    #[serde(skip_serializing_if = "empty")]
    pub target: String,
    /// Not to be written.
    #[serde(skip_serializing_if = "empty")]
    pub read_only: bool,
    /// For Docker Desktop.
    #[serde(skip_serializing_if = "empty")]
    pub consistency: String,
    /// Of `bind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Of `volume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Of `tmpfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    /// Of `image`. Refused.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub image_options: Value,
    /// Of `cluster`. Refused.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub cluster_options: Value,
}

/// Options of a directory of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    /// Whether later mounts below the source are seen.
    #[serde(skip_serializing_if = "empty")]
    pub propagation: String,
    /// Without what is mounted below.
    #[serde(skip_serializing_if = "empty")]
    pub non_recursive: bool,
    /// Makes the source where it is missing. Refused.
    #[serde(skip_serializing_if = "empty")]
    pub create_mountpoint: bool,
    /// Only the mount itself is read-only.
    #[serde(skip_serializing_if = "empty")]
    pub read_only_non_recursive: bool,
    /// All below is read-only, or it fails.
    #[serde(skip_serializing_if = "empty")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    /// A new one stays empty.
    #[serde(skip_serializing_if = "empty")]
    pub no_copy: bool,
    /// Labels of a new one.
    #[serde(skip_serializing_if = "empty")]
    pub labels: BTreeMap<String, String>,
    /// Its driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<Driver>,
    /// A directory in it. Refused.
    #[serde(skip_serializing_if = "empty")]
    pub subpath: String,
}

/// Options of a file system in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    /// Its size.
    #[serde(skip_serializing_if = "empty")]
    pub size_bytes: i64,
    /// The mode of its root directory.
    #[serde(skip_serializing_if = "empty")]
    pub mode: u32,
    /// Further ones. Refused.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub options: Value,
}

impl TryFrom<Mount> for model::Mount {
    type Error = ApiError;

    fn try_from(mount: Mount) -> Result<Self, ApiError> {
        let at = format!("mount at {:?}", mount.target);
        for (name, value) in
            [("ImageOptions", &mount.image_options), ("ClusterOptions", &mount.cluster_options)]
        {
            if means_something(value) {
                return Err(ApiError::unsupported(format!("{at}: {name} is not supported")));
            }
        }
        let mut made = model::Mount {
            kind: if mount.kind.is_empty() { "volume".into() } else { mount.kind },
            source: mount.source,
            target: mount.target,
            read_only: mount.read_only,
            ..model::Mount::default()
        };
        let mut put = |key: &str, value: String| made.options.insert(key.to_owned(), value);
        if !mount.consistency.is_empty() {
            put("consistency", mount.consistency);
        }
        if let Some(bind) = mount.bind_options {
            if bind.create_mountpoint {
                return Err(ApiError::unsupported(format!(
                    "{at}: BindOptions.CreateMountpoint is not supported"
                ))
                .help("make the directory on each node first"));
            }
            if !bind.propagation.is_empty() {
                put("bind-propagation", bind.propagation);
            }
            let recursive = [
                (bind.non_recursive, "disabled"),
                (bind.read_only_non_recursive, "writable"),
                (bind.read_only_force_recursive, "readonly"),
            ];
            let mut asked = recursive.iter().filter(|(asked, _)| *asked);
            if let Some((_, word)) = asked.next() {
                put("bind-recursive", (*word).to_owned());
            }
            if asked.next().is_some() {
                return Err(ApiError::invalid(format!(
                    "{at}: NonRecursive, ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other"
                )));
            }
        }
        if let Some(tmpfs) = mount.tmpfs_options {
            if means_something(&tmpfs.options) {
                return Err(ApiError::unsupported(format!("{at}: TmpfsOptions.Options is not supported")));
            }
            if tmpfs.size_bytes < 0 {
                return Err(ApiError::invalid(format!("{at}: TmpfsOptions.SizeBytes cannot be negative")));
            }
            if tmpfs.size_bytes != 0 {
                put("tmpfs-size", tmpfs.size_bytes.to_string());
            }
            if tmpfs.mode != 0 {
                put("tmpfs-mode", format!("{:o}", tmpfs.mode));
            }
        }
        if let Some(volume) = mount.volume_options {
            if volume.no_copy {
                put("volume-nocopy", "true".into());
            }
            if !volume.subpath.is_empty() {
                put("volume-subpath", volume.subpath);
            }
            made.labels = volume.labels;
            if let Some(driver) = volume.driver_config {
                made.driver = driver.name;
                made.driver_options = driver.options;
            }
        }
        Ok(made)
    }
}

impl From<&model::Mount> for Mount {
    fn from(mount: &model::Mount) -> Self {
        let option = |key: &str| mount.options.get(key).cloned().unwrap_or_default();
        let recursion = rules::recursion(mount).unwrap_or_default();
        let bind = BindOptions {
            propagation: option("bind-propagation"),
            non_recursive: recursion == Recursion::Disabled,
            create_mountpoint: false,
            read_only_non_recursive: recursion == Recursion::Writable,
            read_only_force_recursive: recursion == Recursion::ReadOnly,
        };
        let driver = Driver { name: mount.driver.clone(), options: mount.driver_options.clone() };
        let volume = VolumeOptions {
            no_copy: rules::is_nocopy(mount),
            labels: mount.labels.clone(),
            driver_config: (driver != Driver::default()).then_some(driver),
            subpath: String::new(),
        };
        let size = rules::tmpfs_size(mount).ok().flatten().unwrap_or_default();
        let tmpfs = TmpfsOptions {
            size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
            mode: rules::tmpfs_mode(mount).ok().flatten().unwrap_or_default(),
            options: Value::Null,
        };
        Self {
            kind: mount.kind.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            read_only: mount.read_only,
            consistency: option("consistency"),
            bind_options: (bind != BindOptions::default()).then_some(bind),
            volume_options: (volume != VolumeOptions::default()).then_some(volume),
            tmpfs_options: (tmpfs != TmpfsOptions::default()).then_some(tmpfs),
            image_options: Value::Null,
            cluster_options: Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::json::read;

    fn mount(body: &str) -> Result<model::Mount, ApiError> {
        model::Mount::try_from(read::<Mount>(body.as_bytes())?)
    }

    #[test]
    fn mounts_survive_a_client() {
        for body in [
            r#"{"Source":"data","Target":"/d"}"#,
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave","ReadOnlyNonRecursive":true}}"#,
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":448}}"#,
            r#"{"Type":"volume","Source":"v","Target":"/v","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},
                "DriverConfig":{"Name":"local","Options":{"type":"nfs","device":":/x"}}}}"#,
        ] {
            let made = mount(body).unwrap();
            rules::one(&made).unwrap();
            let again = serde_json::to_string(&Mount::from(&made)).unwrap();
            assert_eq!(mount(&again).unwrap(), made, "{body}");
        }
        assert_eq!(
            mount(r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"Mode":448}}"#).unwrap().options["tmpfs-mode"],
            "700"
        );
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (body, words) in [
            (r#"{"BindOptions":{"CreateMountpoint":true}}"#, "CreateMountpoint"),
            (r#"{"ImageOptions":{"Subpath":"x"}}"#, "ImageOptions"),
            (r#"{"TmpfsOptions":{"SizeBytes":-1}}"#, "SizeBytes"),
            (r#"{"TmpfsOptions":{"Options":[["noexec"]]}}"#, "TmpfsOptions.Options"),
            (r#"{"BindOptions":{"NonRecursive":true,"ReadOnlyForceRecursive":true}}"#, "exclude"),
        ] {
            assert!(mount(body).unwrap_err().message.contains(words), "{body}");
        }
        // The rules for all mounts say no to it by name.
        let subpath = mount(r#"{"Source":"v","Target":"/v","VolumeOptions":{"Subpath":"x"}}"#).unwrap();
        assert!(rules::one(&subpath).unwrap_err().message.contains("subpath"));
    }
}
