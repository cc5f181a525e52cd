//! Manifests and indices (OCI image specification; Docker's schema 2 has the same fields).

use serde::Deserialize;

use super::config::architecture;
use crate::{Result, RuntimeError};

/// Media types of manifests that we read, for `Accept`.
pub const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// What a descriptor points at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// Of what it points at.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// Of what it points at, in an index.
    pub platform: Option<Platform>,
    /// Names, among other things.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `amd64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, …
    pub variant: String,
}

impl Platform {
    /// Of `os/arch[/variant]`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(arch), variant, None) if !os.is_empty() && !arch.is_empty() => Ok(Self {
                architecture: arch.to_owned(),
                os: os.to_owned(),
                variant: variant.unwrap_or_default().to_owned(),
            }),
            _ => Err(RuntimeError::Invalid(format!("{text:?} is not a platform: os/arch[/variant]"))),
        }
    }

    /// This machine's.
    pub fn own() -> Self {
        Self { architecture: architecture().to_owned(), os: "linux".to_owned(), variant: String::new() }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// An image's manifest, or a list of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// An image.
    Image {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, the lowest first.
        layers: Vec<Descriptor>,
    },
    /// One manifest for each platform, or for each image of an archive.
    Index(Vec<Descriptor>),
}

impl Manifest {
    /// Reads either.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Either {
            #[serde(default)]
            schema_version: u32,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        let bad = |why: String| RuntimeError::BadImage(format!("unreadable image manifest: {why}"));
        let either: Either = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        match either {
            Either { manifests: Some(manifests), .. } => Ok(Self::Index(manifests)),
            Either { config: Some(config), layers: Some(layers), .. } => Ok(Self::Image { config, layers }),
            Either { schema_version: 1, .. } => {
                Err(bad("schema 1 is obsolete; push the image again with a current tool".to_owned()))
            }
            _ => Err(bad("it is neither an image nor an index".to_owned())),
        }
    }
}

/// What form a manifest says that it has; OCI's own need not say.
pub fn media_type(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Form {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let form = serde_json::from_slice(bytes).unwrap_or(Form { media_type: None, manifests: None });
    let usual = match form.manifests {
        Some(_) => "application/vnd.oci.image.index.v1+json",
        None => "application/vnd.oci.image.manifest.v1+json",
    };
    form.media_type.unwrap_or_else(|| usual.to_owned())
}

/// The manifest of an index for a platform: the first whose variant fits best. Attestations are no images.
pub fn select<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor> {
    let usual = match wanted.architecture.as_str() {
        "arm64" => "v8",
        "arm" => "v7",
        _ => "v1",
    };
    let fits = |d: &&Descriptor| match &d.platform {
        Some(p) => p.os == wanted.os && p.architecture == wanted.architecture,
        // Some tools leave it out where there is but one image.
        None => manifests.len() == 1,
    };
    let rank = |d: &&Descriptor| match d.platform.as_ref().map_or("", |p| p.variant.as_str()) {
        variant if variant == wanted.variant => 0,
        variant if wanted.variant.is_empty() && variant == usual => 1,
        _ => 2,
    };
    let best = manifests.iter().filter(fits).min_by_key(rank);
    best.filter(|d| wanted.variant.is_empty() || rank(d) == 0).ok_or_else(|| {
        let there: Vec<String> = manifests
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .filter(|p| p.os != "unknown")
            .map(Platform::to_string)
            .collect();
        RuntimeError::BadImage(format!(
            "no matching manifest for {wanted} in the manifest list entries (there are: {})",
            if there.is_empty() { "none".to_owned() } else { there.join(", ") }
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn the_best_platform_is_chosen() {
        let entry = |platform: &str| Descriptor {
            digest: platform.to_owned(),
            platform: Some(Platform::parse(platform).unwrap()),
            ..Descriptor::default()
        };
        let list: Vec<Descriptor> = [
            "unknown/unknown",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/amd64",
            "linux/arm64/v8",
            "windows/amd64",
        ]
        .map(entry)
        .into();
        for (wanted, want) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm64", Some("linux/arm64/v8")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v5", None),
            ("linux/s390x", None),
        ] {
            let found = select(&list, &Platform::parse(wanted).unwrap());
            assert_eq!(found.ok().map(|d| d.digest.as_str()), want, "{wanted}");
        }
        let error = select(&list, &Platform::parse("linux/s390x").unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("no matching manifest for linux/s390x") && error.contains("linux/arm/v7"),
            "{error}"
        );
    }

    #[test]
    fn either_kind_is_read() {
        let image = br#"{"schemaVersion":2,"config":{"digest":"sha256:c","size":1},"layers":[{"digest":"sha256:l","size":2}]}"#;
        assert!(
            matches!(Manifest::parse(image).unwrap(), Manifest::Image { layers, .. } if layers.len() == 1)
        );
        let index =
            br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:m","size":1,"annotations":{"a":"b"}}]}"#;
        assert!(matches!(Manifest::parse(index).unwrap(), Manifest::Index(list) if list.len() == 1));
        assert!(Manifest::parse(br#"{"schemaVersion":1}"#).unwrap_err().to_string().contains("schema 1"));
        assert!(Manifest::parse(b"{}").is_err());
    }
}
