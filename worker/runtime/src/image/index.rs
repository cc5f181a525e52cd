//! What the store knows: images and their names, in memory and on disk.

use std::{collections::BTreeMap, fs, path::Path};

use durable::Loaded;
use serde::{Deserialize, Serialize};

use super::{Image, ImageDocument, Reference, digest_of, hex_of, save_record};
use crate::{Result, RuntimeError};

/// An image's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageFile {
    /// Its configuration, as the bytes that its id is the digest of.
    pub config: String,
    /// When it was brought here, ms since the epoch.
    pub created_at: u64,
    /// Bytes of all its layers, unpacked.
    pub size: u64,
    /// Bytes of each layer, the lowest first.
    #[serde(default)]
    pub layer_sizes: Vec<u64>,
}

/// Images by id; names to ids. A name is `name:tag`, or `name@digest` for what a registry gave under that digest.
#[derive(Debug, Default)]
pub struct Index {
    pub images: BTreeMap<String, (ImageFile, ImageDocument)>,
    pub tags: BTreeMap<String, String>,
    /// Sizes of layers that were unpacked by this process.
    pub fresh: BTreeMap<String, u64>,
}

impl Index {
    /// Reads the store's directory. What is damaged is set aside: images can be brought again.
    pub fn load(root: &Path) -> Result<Self> {
        let mut index = Self::default();
        let failed = |e: durable::ReadError| RuntimeError::Io {
            what: "open the images".to_owned(),
            cause: e.to_string(),
        };
        let images = root.join("images");
        for entry in fs::read_dir(&images).map_err(RuntimeError::io("read", &images))? {
            let path = entry.map_err(RuntimeError::io("read", &images))?.path();
            if path.extension().is_none_or(|ext| ext != "json") {
                continue;
            }
            let Some(hex) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let id = format!("sha256:{hex}");
            match durable::load_or_set_aside(&path, |text| image_file(&id, text)).map_err(failed)? {
                Loaded::Whole(image) => drop(index.images.insert(id, image)),
                Loaded::Absent => {}
                Loaded::Damaged(aside) => {
                    tracing::error!("{aside}; the image is no longer known: pull or load it again");
                }
            }
        }
        let tags = durable::load_or_set_aside(&root.join("tags.json"), |text| serde_json::from_slice(text));
        if let Loaded::Damaged(aside) = tags.map_err(failed)?.map(|tags| index.tags = tags) {
            tracing::error!(
                "{aside}; images have lost their names: pull or load them again, or rnctl tag ID NAME"
            );
        }
        index.tags.retain(|_, id| index.images.contains_key(id));
        Ok(index)
    }

    /// Writes an image's file and remembers it.
    pub fn insert(&mut self, root: &Path, id: &str, file: ImageFile, document: ImageDocument) -> Result<()> {
        let path = image_path(root, id);
        save_record(&path, &serde_json::to_vec(&file).unwrap_or_default())?;
        self.images.insert(id.to_owned(), (file, document));
        Ok(())
    }

    /// Forgets an image and its file.
    pub fn delete(&mut self, root: &Path, id: &str) -> Result<()> {
        let path = image_path(root, id);
        durable::remove(&path).map_err(RuntimeError::io("remove", &path))?;
        self.images.remove(id);
        Ok(())
    }

    /// Gives an image names; the id of an image that thereby lost its last one, with the name, for each.
    pub fn name(&mut self, root: &Path, names: &[String], id: &str) -> Result<Vec<(String, String)>> {
        let mut orphans = Vec::new();
        for name in names {
            match self.tags.insert(name.clone(), id.to_owned()) {
                Some(old) if old != id => orphans.push((name.clone(), old)),
                _ => {}
            }
        }
        self.save_tags(root)?;
        orphans.retain(|(_, old)| !self.tags.values().any(|to| to == old));
        Ok(orphans)
    }

    pub fn save_tags(&self, root: &Path) -> Result<()> {
        save_record(&root.join("tags.json"), &serde_json::to_vec_pretty(&self.tags).unwrap_or_default())
    }

    /// The id of the image that a name, an id or a unique beginning of an id means.
    pub fn find(&self, key: &str) -> Option<String> {
        if let Ok(reference) = key.parse::<Reference>() {
            let name = match reference.digest() {
                Some(digest) => reference.canonical(digest).to_string(),
                None => reference.tagged(),
            };
            if let Some(id) = self.tags.get(&name) {
                return Some(id.clone());
            }
            // `name@<image id>`: the name has to be one of the image's.
            if let Some(digest) = reference.digest()
                && self.images.contains_key(digest)
                && self.names(digest).any(|name| repository(name) == reference.name())
            {
                return Some(digest.to_owned());
            }
        }
        let prefix = hex_of(key);
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut matching = self.images.keys().filter(|id| hex_of(id).starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Some(id.clone()),
            _ => None,
        }
    }

    /// All names of an image.
    pub fn names<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        self.tags.iter().filter(move |(_, to)| *to == id).map(|(name, _)| name.as_str())
    }

    /// An image as others see it.
    pub fn image(&self, id: &str) -> Option<Image> {
        let (file, document) = self.images.get(id)?;
        let mut layers: Vec<std::path::PathBuf> = Vec::new();
        for diff_id in document.rootfs.diff_ids.iter().rev() {
            // Overlayfs takes a directory once. A layer that comes twice is hidden by itself the second time.
            let layer = hex_of(diff_id).into();
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        let (digests, tags) = self.names(id).map(str::to_owned).partition(|name| name.contains('@'));
        Some(Image {
            id: id.to_owned(),
            tags,
            digests,
            created_at: document.created_at().unwrap_or(file.created_at),
            size: file.size,
            config_json: file.config.clone(),
            document: document.clone(),
            layers,
        })
    }

    /// Bytes of a layer that an image here has.
    pub fn layer_size(&self, diff_id: &str) -> Option<u64> {
        self.images.values().find_map(|(file, document)| {
            let at = document.rootfs.diff_ids.iter().position(|id| id == diff_id)?;
            match file.layer_sizes.get(at) {
                Some(size) => Some(*size),
                None => (document.rootfs.diff_ids.len() == 1).then_some(file.size),
            }
        })
    }
}

/// The name without its tag or digest.
pub fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// What an image's file says, if its configuration is the one that the id is the digest of.
fn image_file(id: &str, text: &[u8]) -> std::result::Result<(ImageFile, ImageDocument), String> {
    let file: ImageFile = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    match digest_of(file.config.as_bytes()) {
        digest if digest == id => {}
        digest => return Err(format!("its configuration has the digest {digest}")),
    }
    let document = serde_json::from_str(&file.config).map_err(|e| e.to_string())?;
    Ok((file, document))
}

fn image_path(root: &Path, id: &str) -> std::path::PathBuf {
    root.join("images").join(format!("{}.json", hex_of(id)))
}
