//! The image store: `<data root>/images`.
//!
//! ```text
//! layers/<sha256 of the tar>/   one unpacked layer, never changed again
//! images/<image id>.json        an image: its OCI configuration, which names its layers, and what else we know
//! tags.json                     names
//! new/                          what is being unpacked; emptied at start
//! ```
//! Everything appears by a rename of something complete, so a crash leaves only files in `new/` and, at worst, a layer that
//! no image names; both are removed when the store is opened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Result, RuntimeError, now_millis};

mod changes;
mod config;
mod reference;
mod unpack;

pub use config::{ImageConfig, ImageDocument};
pub use reference::Reference;

/// What an import is told.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// `name[:tag]`; empty = the image has only its id.
    pub reference: String,
    /// A comment for its history.
    pub message: String,
    /// Dockerfile instructions that set its configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME,
    /// WORKDIR.
    pub changes: Vec<String>,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`, the digest of its configuration.
    pub id: String,
    /// Its names, `name:tag`.
    pub tags: Vec<String>,
    /// When it was brought here, ms since the epoch.
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

/// What a removal has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away.
    pub untagged: Vec<String>,
    /// Images and layers deleted.
    pub deleted: Vec<String>,
}

/// An image's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageFile {
    config: String,
    created_at: u64,
    size: u64,
}

#[derive(Debug, Default)]
struct Index {
    images: BTreeMap<String, (ImageFile, ImageDocument)>,
    tags: BTreeMap<String, String>,
}

/// The images of this node.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    index: Mutex<Index>,
}

impl ImageStore {
    /// Opens the store in a directory, made if it is not there; clears what a crash has left.
    pub fn open(root: PathBuf) -> Result<Self> {
        for name in ["layers", "images"] {
            fs::create_dir_all(root.join(name)).map_err(RuntimeError::io("create", &root.join(name)))?;
        }
        let new = root.join("new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(RuntimeError::io("remove", &new))?;
        }
        fs::create_dir_all(&new).map_err(RuntimeError::io("create", &new))?;
        let store = Self { root, index: Mutex::default() };
        let index = store.load()?;
        *store.lock() = index;
        store.remove_unused_layers(&mut Removed::default())?;
        Ok(store)
    }

    fn load(&self) -> Result<Index> {
        let mut index = Index::default();
        let images = self.root.join("images");
        for entry in fs::read_dir(&images).map_err(RuntimeError::io("read", &images))? {
            let path = entry.map_err(RuntimeError::io("read", &images))?.path();
            let Some(hex) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let text = fs::read(&path).map_err(RuntimeError::io("read", &path))?;
            let parsed = serde_json::from_slice::<ImageFile>(&text)
                .and_then(|file| serde_json::from_str(&file.config).map(|document| (file, document)));
            match parsed {
                Ok(image) => {
                    index.images.insert(format!("sha256:{hex}"), image);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an image's file is damaged; ignored")
                }
            }
        }
        let tags = self.root.join("tags.json");
        if tags.exists() {
            let text = fs::read(&tags).map_err(RuntimeError::io("read", &tags))?;
            index.tags = serde_json::from_slice(&text).map_err(|error| RuntimeError::Io {
                what: format!("read {}", tags.display()),
                cause: error.to_string(),
            })?;
            index.tags.retain(|_, id| index.images.contains_key(id));
        }
        Ok(index)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the layers are.
    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
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
        let id = index.find(key).ok_or_else(|| RuntimeError::NoSuchImage(key.to_owned()))?;
        index.image(&id).ok_or_else(|| RuntimeError::NoSuchImage(key.to_owned()))
    }

    /// Makes an image of a root file system that arrives in pieces: a tar, gzipped or not. Blocks; its id.
    pub fn import(
        &self,
        chunks: mpsc::Receiver<std::io::Result<Bytes>>,
        options: &ImportOptions,
    ) -> Result<String> {
        let reference = match options.reference.as_str() {
            "" => None,
            text => Some(text.parse::<Reference>()?),
        };
        let mut config = ImageConfig::default();
        for change in &options.changes {
            changes::apply(&mut config, change)?;
        }
        let staging = tempfile::Builder::new()
            .prefix("layer-")
            .tempdir_in(self.root.join("new"))
            .map_err(RuntimeError::io("create a directory in", &self.root.join("new")))?;
        let layer = unpack::unpack(chunks, staging.path())?;
        let document = ImageDocument::of_layer(config, &layer.diff_id, &options.message);
        let text = document.to_json();
        let hex = sha256_hex(text.as_bytes());
        let id = format!("sha256:{hex}");

        let mut index = self.lock();
        let target = self.layers_dir().join(layer.hex());
        if !target.exists() {
            sync_file_system(staging.path())?;
            fs::rename(staging.path(), &target).map_err(RuntimeError::io("rename to", &target))?;
            let _ = staging.keep();
        }
        let file = ImageFile { config: text, created_at: now_millis(), size: layer.size };
        let path = self.root.join("images").join(format!("{hex}.json"));
        replace_file(&path, &serde_json::to_vec(&file).unwrap_or_default())?;
        index.images.insert(id.clone(), (file, document));
        if let Some(reference) = reference {
            index.tags.insert(reference.to_string(), id.clone());
            self.save_tags(&index)?;
        }
        Ok(id)
    }

    /// Takes a name away, and deletes the image with its last name; an id takes all names away if forced.
    /// `users` lists the containers that need each image.
    pub fn remove(&self, key: &str, force: bool, users: &BTreeMap<String, Vec<String>>) -> Result<Removed> {
        let mut removed = Removed::default();
        {
            let mut index = self.lock();
            let id = index.find(key).ok_or_else(|| RuntimeError::NoSuchImage(key.to_owned()))?;
            let tags: Vec<String> =
                index.tags.iter().filter(|(_, to)| **to == id).map(|(tag, _)| tag.clone()).collect();
            let named =
                key.parse::<Reference>().ok().map(|name| name.to_string()).filter(|name| tags.contains(name));
            let going: Vec<String> = match &named {
                Some(name) => vec![name.clone()],
                None => tags.clone(),
            };
            let refuse = |why: String| Err(RuntimeError::ImageInUse { image: key.to_owned(), why });
            if named.is_none() && tags.len() > 1 && !force {
                return refuse(format!("it has several names ({}); use force", tags.join(", ")));
            }
            let last = going.len() == tags.len();
            if last
                && let Some(containers) = users.get(&id)
                && !containers.is_empty()
            {
                // Even force cannot take a layer from under a container.
                match (force, &named) {
                    (true, Some(_)) => {}
                    _ => return refuse(format!("it is used by container {}", containers.join(", "))),
                }
            }
            for tag in going {
                index.tags.remove(&tag);
                removed.untagged.push(tag);
            }
            self.save_tags(&index)?;
            if last && users.get(&id).is_none_or(Vec::is_empty) {
                let path = self.root.join("images").join(format!("{}.json", hex_of(&id)));
                fs::remove_file(&path).map_err(RuntimeError::io("remove", &path))?;
                index.images.remove(&id);
                removed.deleted.push(id);
            }
        }
        self.remove_unused_layers(&mut removed)?;
        Ok(removed)
    }

    fn remove_unused_layers(&self, removed: &mut Removed) -> Result<()> {
        let index = self.lock();
        let used: BTreeSet<&str> = index
            .images
            .values()
            .flat_map(|(_, document)| &document.rootfs.diff_ids)
            .map(|id| hex_of(id))
            .collect();
        let layers = self.layers_dir();
        for entry in fs::read_dir(&layers).map_err(RuntimeError::io("read", &layers))? {
            let entry = entry.map_err(RuntimeError::io("read", &layers))?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| !used.contains(name)) {
                // First out of the way, so that a crash cannot leave half a layer under its name.
                let doomed = self.root.join("new").join(&name);
                fs::rename(entry.path(), &doomed).map_err(RuntimeError::io("move", &entry.path()))?;
                fs::remove_dir_all(&doomed).map_err(RuntimeError::io("remove", &doomed))?;
                removed.deleted.push(format!("sha256:{}", name.to_string_lossy()));
            }
        }
        Ok(())
    }

    fn save_tags(&self, index: &Index) -> Result<()> {
        replace_file(
            &self.root.join("tags.json"),
            &serde_json::to_vec_pretty(&index.tags).unwrap_or_default(),
        )
    }
}

impl Index {
    fn find(&self, key: &str) -> Option<String> {
        if let Ok(reference) = key.parse::<Reference>()
            && let Some(id) = self.tags.get(&reference.to_string())
        {
            return Some(id.clone());
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

    fn image(&self, id: &str) -> Option<Image> {
        let (file, document) = self.images.get(id)?;
        Some(Image {
            id: id.to_owned(),
            tags: self.tags.iter().filter(|(_, to)| *to == id).map(|(tag, _)| tag.clone()).collect(),
            created_at: file.created_at,
            size: file.size,
            config_json: file.config.clone(),
            document: document.clone(),
            layers: document.rootfs.diff_ids.iter().rev().map(|id| PathBuf::from(hex_of(id))).collect(),
        })
    }
}

fn hex_of(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file so that it is there whole, old or new, whenever power is cut.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(RuntimeError::io("write", path))
}

/// A layer has thousands of files: one call makes them all durable.
fn sync_file_system(dir: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(dir).map_err(RuntimeError::io("open", dir))?;
    // SAFETY: takes a descriptor, touches no memory.
    nix::errno::Errno::result(unsafe { libc::syncfs(file.as_raw_fd()) })
        .map_err(|error| RuntimeError::io("sync", dir)(error.into()))
        .map(drop)
}
