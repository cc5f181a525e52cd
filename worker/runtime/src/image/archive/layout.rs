//! Where an archive keeps what: Docker's `manifest.json`, OCI's `index.json`, or both.

use serde::Deserialize;

use super::{merge, spool::Spool};
use crate::{
    Result, RuntimeError,
    image::{
        Reference,
        manifest::{Descriptor, Manifest, Platform, select},
    },
};

/// An index in an index in an index is no image any more.
const MAX_DEPTH: usize = 4;

/// An image of the archive, by the names of files in it.
pub struct Entry {
    /// Its configuration.
    pub config: String,
    /// Its layers, the lowest first.
    pub layers: Vec<String>,
    /// What it is called.
    pub names: Vec<Reference>,
    /// The digest of its manifest, or of the index that leads to it.
    pub digest: Option<String>,
}

/// The images of an archive.
pub fn entries(spool: &Spool, platform: &Platform) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    if spool.has("index.json") {
        entries.extend(oci(spool, platform)?);
    }
    if spool.has("manifest.json") {
        entries.extend(docker(spool)?);
    }
    match entries.is_empty() {
        true => Err(RuntimeError::BadArchive(
            "it holds no image (neither manifest.json nor index.json); a root file system is brought in by rnctl import"
                .to_owned(),
        )),
        false => Ok(merge(entries)),
    }
}

fn docker(spool: &Spool) -> Result<Vec<Entry>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Saved {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Option<Vec<String>>,
    }
    let saved: Vec<Saved> = serde_json::from_str(&spool.text("manifest.json")?)
        .map_err(|error| RuntimeError::BadArchive(format!("manifest.json: {error}")))?;
    let entry = |saved: Saved| {
        let names = saved.repo_tags.unwrap_or_default();
        Ok(Entry {
            config: saved.config,
            layers: saved.layers.unwrap_or_default(),
            names: names.iter().map(|name| Ok(name.parse()?)).collect::<Result<_>>()?,
            digest: None,
        })
    };
    saved.into_iter().map(entry).collect()
}

fn oci(spool: &Spool, platform: &Platform) -> Result<Vec<Entry>> {
    let Manifest::Index(list) = Manifest::parse(spool.text("index.json")?.as_bytes())? else {
        return Err(RuntimeError::BadArchive("index.json is not an index".to_owned()));
    };
    let images: Vec<&Descriptor> = list.iter().filter(|d| !is_attestation(d)).collect();
    let ours = |d: &&&Descriptor| {
        d.platform.as_ref().is_none_or(|p| p.os == platform.os && p.architecture == platform.architecture)
    };
    // Several images, or one image for several platforms: then those for others are left aside.
    let chosen: Vec<&Descriptor> = match images.iter().filter(ours).count() {
        0 => images,
        _ => images.iter().filter(ours).copied().collect(),
    };
    chosen.into_iter().map(|descriptor| follow(spool, descriptor, platform)).collect()
}

/// From an entry of `index.json` to an image.
fn follow(spool: &Spool, top: &Descriptor, platform: &Platform) -> Result<Entry> {
    let mut digest = top.digest.clone();
    for _ in 0..MAX_DEPTH {
        match Manifest::parse(spool.text(&spool.blob(&digest)?)?.as_bytes())? {
            Manifest::Index(list) => digest = select(&list, platform)?.digest.clone(),
            Manifest::Image { config, layers } => {
                return Ok(Entry {
                    config: spool.blob(&config.digest)?,
                    layers: layers.iter().map(|layer| spool.blob(&layer.digest)).collect::<Result<_>>()?,
                    names: names(top),
                    digest: Some(top.digest.clone()),
                });
            }
        }
    }
    Err(RuntimeError::BadArchive("its indices lead nowhere".to_owned()))
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key("vnd.docker.reference.type")
        || descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown")
}

/// containerd and Docker write the whole name; others write it where the specification wants the tag.
fn names(descriptor: &Descriptor) -> Vec<Reference> {
    let whole = descriptor.annotations.get("io.containerd.image.name");
    let usual = descriptor.annotations.get("org.opencontainers.image.ref.name");
    let usual = usual.filter(|name| name.contains([':', '/']));
    whole.or(usual).and_then(|name| name.parse().ok()).into_iter().collect()
}
