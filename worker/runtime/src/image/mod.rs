//! The image store: `<data root>/images`.
//!
//! ```text
//! layers/<sha256 of the tar>/   one unpacked layer, never changed again, shared by all images that have it
//! implied/<sha256 of the tar>   names of directories that a layer has without listing them; only where there are any
//! tars/<sha256 of the tar>      what the layer's tar is rebuilt from, bit by bit, together with its files
//! images/<image id>.json        an image: its OCI configuration, which names its layers, and what else we know
//! tags.json                     names: name:tag, and name@digest for what came from a registry
//! partial/<sha256 of the blob>  what has arrived of a layer that is being pulled
//! new/                          what is being unpacked; emptied at start
//! ```
//! Everything appears by a rename of something complete, so a crash leaves only files in `new/` and, at worst, a layer that
//! no image names; both are removed when the store is opened.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Result, RuntimeError, private_dir};

mod archive;
mod changes;
mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod implied;
mod import;
mod index;
mod kind;
mod layers;
mod manifest;
pub mod registry;
mod remove;
mod save;
mod space;
mod stream;
mod tar_record;
mod unpack;

pub use archive::Loaded;
pub use config::{ImageConfig, ImageDocument};
pub use import::ImportOptions;
use index::Index;
pub use layers::Pin;
use layers::PinnedImages;
pub use proto::parse::Reference;
pub use remove::{PruneFilter, Removed, Users};
pub use save::{Selection, is_repository};
pub use space::UnpackLimit;
pub use stream::Chunks;
pub(crate) use stream::decompressed_tar;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`, the digest of its configuration.
    pub id: String,
    /// Its names, `name:tag`.
    pub tags: Vec<String>,
    /// What registries call it, `name@sha256:…`.
    pub digests: Vec<String>,
    /// When it was made; of an import, when it was brought here. In ms since the epoch.
    pub created_at: u64,
    /// Bytes of all its layers, unpacked.
    pub size: u64,
    /// Its OCI configuration, as the bytes that `id` is the digest of.
    pub config_json: String,
    /// Its OCI configuration.
    pub document: ImageDocument,
    /// Its layers' directories, relative to [`ImageStore::layers_dir`], the top one first.
    pub layers: Vec<PathBuf>,
}

/// The images of this node.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    limit: UnpackLimit,
    index: Mutex<Index>,
    held: PinnedImages,
}

impl ImageStore {
    /// Opens the store in a directory, made if it is not there; clears what a crash has left, but for layers that nobody needs: who
    /// needs them, containers say.
    pub fn open(root: PathBuf, limit: UnpackLimit) -> Result<Self> {
        private_dir(&root)?;
        for name in ["layers", "implied", "tars", "images", "partial"] {
            fs::create_dir_all(root.join(name)).map_err(RuntimeError::io("create", &root.join(name)))?;
        }
        let new = root.join("new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(RuntimeError::io("remove", &new))?;
        }
        fs::create_dir_all(&new).map_err(RuntimeError::io("create", &new))?;
        for dir in [root.clone(), root.join("images"), root.join("implied")] {
            durable::sweep(&dir).map_err(RuntimeError::io("read", &dir))?;
        }
        let index = Mutex::new(Index::load(&root)?);
        Ok(Self { root, limit, index, held: PinnedImages::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the layers are.
    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// What a container's own layer, on top of these, has to have from the beginning: its root, and directories that a layer has
    /// without listing them; each with the directory that it takes owner, mode and times from.
    pub fn directories_on_top(&self, layers: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>> {
        implied::on_top(&self.root.join("implied"), &self.layers_dir(), layers)
    }

    /// All images, the newest first.
    pub fn list(&self) -> Vec<Image> {
        let index = self.lock();
        let mut images: Vec<Image> = index.images.keys().filter_map(|id| index.image(id)).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created_at));
        images
    }

    /// The image that a name, an id or a unique beginning of an id means.
    pub fn resolve(&self, key: &str) -> Result<Image> {
        let index = self.lock();
        index.find(key).and_then(|id| index.image(&id)).ok_or_else(|| RuntimeError::no_such_image(key))
    }

    /// The same, kept from removal as long as the second part lives.
    pub fn resolve_and_hold(&self, key: &str) -> Result<(Image, Pin)> {
        let image = self.resolve(key)?;
        let hold = self.hold([image.id.clone()]);
        // It may have gone in between; now that it is held, it cannot any more.
        Ok((self.resolve(&image.id).map_err(|_| RuntimeError::no_such_image(key))?, hold))
    }

    /// Remembers the digest that a registry has given an image.
    fn name_by_digest(&self, id: &str, name: &Reference, digest: &str) -> Result<()> {
        let mut index = self.lock();
        index.name(&self.root, &[name.canonical(digest).to_string()], id).map(drop)
    }

    /// Gives an image another name, `name[:tag]`.
    pub fn tag(&self, key: &str, name: &str) -> Result<()> {
        let reference: Reference = name.parse()?;
        if reference.digest().is_some() {
            return Err(RuntimeError::Invalid(format!(
                "refusing to create a tag with a digest reference: {name:?}"
            )));
        }
        let mut index = self.lock();
        let id = index.find(key).ok_or_else(|| RuntimeError::no_such_image(key))?;
        index.name(&self.root, &[reference.tagged()], &id)?;
        Ok(())
    }
}

fn hex_of(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

/// `sha256:…`.
fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a record so that it is there whole, old or new, whenever power is cut.
pub fn save_record(path: &Path, content: &[u8]) -> Result<()> {
    durable::save(path, content, durable::PRIVATE).map_err(RuntimeError::io("write", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    #[test]
    fn interrupted_writes_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let open = || ImageStore::open(dir.path().to_owned(), UnpackLimit::default()).unwrap();
        drop(open());
        let left = [".tags.json.7-0.new", "images/.a.json.7-1.new", "implied/.a.7-2.new", "new/layer-x"];
        left.iter().for_each(|name| fs::write(dir.path().join(name), "x").unwrap());
        drop(open());
        assert!(left.iter().all(|name| !dir.path().join(name).exists()));
    }
}
