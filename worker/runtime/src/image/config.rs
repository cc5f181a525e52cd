//! An image's configuration (OCI image specification, `config.md`), as much of it as matters to us.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::health::ImageHealthcheck;

/// How containers of an image run unless they are told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// Program, in front of `cmd`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments, or the program if there is no entrypoint.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// Paths that want a volume.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What asks a container to stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// How a container's health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<ImageHealthcheck>,
}

/// Docker writes `null` for what is not set.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Which layers an image has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsDigests {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tars, the lowest first.
    pub diff_ids: Vec<String>,
}

/// How a layer came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339.
    pub created: String,
    /// What for.
    pub comment: String,
}

/// An image's configuration document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageDocument {
    /// RFC 3339.
    pub created: String,
    /// `amd64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Defaults for containers.
    #[serde(deserialize_with = "null_is_empty")]
    pub config: ImageConfig,
    /// Layers.
    pub rootfs: RootfsDigests,
    /// Where they are from.
    #[serde(deserialize_with = "null_is_empty")]
    pub history: Vec<History>,
}

impl ImageDocument {
    /// The document of a new image of one layer.
    pub fn of_layer(config: ImageConfig, diff_id: &str, message: &str) -> Self {
        let created = now_rfc3339();
        let comment = if message.is_empty() { "Imported from -" } else { message };
        Self {
            created: created.clone(),
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            config,
            rootfs: RootfsDigests { kind: "layers".to_owned(), diff_ids: vec![diff_id.to_owned()] },
            history: vec![History { created, comment: comment.to_owned() }],
        }
    }

    /// When it was made, ms since the epoch; none if it does not say.
    pub fn created_at(&self) -> Option<u64> {
        let at = DateTime::parse_from_rfc3339(&self.created).ok()?;
        u64::try_from(at.timestamp_millis()).ok().filter(|at| *at > 0)
    }

    /// Its text; what an image's id is the digest of.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// This machine's, in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Now, RFC 3339 in UTC, to the second.
fn now_rfc3339() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_document_of_docker_is_read() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{"Hostname":"","User":"app",
            "Env":["PATH=/bin"],"Cmd":["sh"],"Entrypoint":null,"WorkingDir":"/srv","ExposedPorts":{"80/tcp":{}},"Labels":null},
            "rootfs":{"type":"layers","diff_ids":["sha256:aa","sha256:bb"]},"history":[{"created_by":"x"}]}"#;
        let document: ImageDocument = serde_json::from_str(text).unwrap();
        assert_eq!(document.config.user, "app");
        assert!(
            document.config.entrypoint.is_empty() && document.config.exposed_ports.contains_key("80/tcp")
        );
        assert_eq!(document.rootfs.diff_ids.len(), 2);
        assert_eq!(document.created_at(), Some(1_704_067_200_000));
    }
}
