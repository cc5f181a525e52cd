//! `load`: images from archives, as `docker save` writes them (old and new), and OCI layouts in a tar.

use std::{collections::BTreeMap, io::Read};

use super::{
    ImageDocument, ImageStore, Reference, digest_of, index::ImageFile, manifest::Platform, space::Space,
};
use crate::{Result, RuntimeError, now_millis};

mod layout;
mod spool;

use layout::Entry;
pub use spool::MAX_TEXT;
use spool::Spool;

/// An image that was brought here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: String,
    /// The tags that it has been given, `name:tag`.
    pub tags: Vec<String>,
    /// Tags that were taken from another image, which has no name left: the tag and that image's id.
    pub renamed: Vec<(String, String)>,
}

impl ImageStore {
    /// Brings in all images of an archive, a tar, compressed or not. Blocks. Where an image comes for several platforms, the
    /// one for `platform` is taken.
    pub fn load(&self, archive: impl Read, platform: &Platform) -> Result<Vec<Loaded>> {
        let dir = self.staging("load-")?;
        let space = Space::of(dir.path(), self.limit)?;
        let spool = Spool::read(dir, archive, &space)?;
        let entries = layout::entries(&spool, platform)?;
        let mut loaded = Vec::new();
        for entry in entries {
            loaded.push(self.load_one(&spool, entry)?);
        }
        Ok(loaded)
    }

    fn load_one(&self, spool: &Spool, entry: Entry) -> Result<Loaded> {
        let config = spool.text(&entry.config)?;
        let document = read_document(&config)?;
        let diff_ids = &document.rootfs.diff_ids;
        if diff_ids.len() != entry.layers.len() {
            return Err(RuntimeError::BadArchive(format!(
                "an image has {} layers, its configuration names {}",
                entry.layers.len(),
                diff_ids.len()
            )));
        }
        let _hold = self.hold(diff_ids.iter().cloned());
        for (diff_id, layer) in diff_ids.iter().zip(&entry.layers) {
            if !self.has_layer(diff_id) {
                self.add_layer(spool.open(layer)?, diff_id)?;
            }
        }
        self.install(config, document, &entry.names, entry.digest.as_deref())
    }

    /// Makes an image of its configuration, once all its layers are here and held. `digest` is what its manifest has.
    pub(super) fn install(
        &self,
        config: String,
        document: ImageDocument,
        names: &[Reference],
        digest: Option<&str>,
    ) -> Result<Loaded> {
        let id = digest_of(config.as_bytes());
        let mut index = self.lock();
        let layer_sizes: Vec<u64> =
            document.rootfs.diff_ids.iter().map(|diff_id| self.size_of_layer(&index, diff_id)).collect();
        let file =
            ImageFile { config, created_at: now_millis(), size: layer_sizes.iter().sum(), layer_sizes };
        index.insert(&self.root, &id, file, document)?;
        // What was asked for by its digest may be another image than the one that has the tag.
        let tags: Vec<String> =
            names.iter().filter(|name| name.digest().is_none()).map(Reference::tagged).collect();
        let canonical =
            digest.into_iter().flat_map(|d| names.iter().map(|name| name.canonical(d).to_string()));
        let all: Vec<String> = tags.iter().cloned().chain(canonical).collect();
        let renamed = index.name(&self.root, &all, &id)?;
        Ok(Loaded {
            id,
            tags,
            renamed: renamed.into_iter().filter(|(name, _)| !name.contains('@')).collect(),
        })
    }
}

/// What an archive holds, for the fuzz target.
#[cfg(any(test, fuzzing))]
pub(super) fn look(dir: tempfile::TempDir, archive: &[u8], platform: &Platform) {
    let Ok(space) = Space::of(dir.path(), super::UnpackLimit::Bytes(16 << 20)) else { return };
    let Ok(spool) = Spool::read(dir, archive, &space) else { return };
    for entry in layout::entries(&spool, platform).into_iter().flatten() {
        if let Ok(config) = spool.text(&entry.config) {
            let _ = read_document(&config);
        }
    }
}

/// An image's configuration.
pub(super) fn read_document(config: &str) -> Result<ImageDocument> {
    let document: ImageDocument = serde_json::from_str(config)
        .map_err(|e| RuntimeError::BadImage(format!("unreadable image configuration: {e}")))?;
    let whole = |id: &String| {
        id.strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if document.rootfs.diff_ids.is_empty() || !document.rootfs.diff_ids.iter().all(whole) {
        return Err(RuntimeError::BadImage("the image's configuration names no layers".to_owned()));
    }
    Ok(document)
}

/// Entries of the same configuration are one image with the names of all.
fn merge(entries: Vec<Entry>) -> Vec<Entry> {
    let mut merged: Vec<Entry> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries {
        match seen.get(&entry.config) {
            Some(at) => {
                if let Some(known) = merged.get_mut(*at) {
                    let new: Vec<Reference> =
                        entry.names.into_iter().filter(|name| !known.names.contains(name)).collect();
                    known.names.extend(new);
                    known.digest = known.digest.take().or(entry.digest);
                }
            }
            None => {
                seen.insert(entry.config.clone(), merged.len());
                merged.push(entry);
            }
        }
    }
    merged
}
