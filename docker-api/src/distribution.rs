//! What registries know of images.

use serde::{Deserialize, Serialize};

use crate::json::empty;

/// The answer to `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// What the name means.
    pub descriptor: Descriptor,
    /// What the image is there for.
    pub platforms: Vec<OciPlatform>,
}

/// What a name means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    /// The form of the manifest.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size, bytes.
    pub size: u64,
}

/// What an image is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OciPlatform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8`, …
    #[serde(skip_serializing_if = "empty")]
    pub variant: String,
}

/// Of `linux/arm64/v8`.
pub fn platform(text: &str) -> OciPlatform {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    OciPlatform { os: part(), architecture: part(), variant: part() }
}
