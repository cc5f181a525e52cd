//! Layers: unpacked once, shared by the images that have them, removed when none does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    ImageStore, Removed, Users, hex_of, implied,
    index::Index,
    space::Space,
    unpack::{self, Layer},
};
use crate::{Result, RuntimeError};

/// What something is being made of: images (ids) and layers (diff ids), and how often each.
#[derive(Debug, Clone, Default)]
pub struct PinnedImages(Arc<Mutex<BTreeMap<String, usize>>>);

impl PinnedImages {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is held.
    pub fn has(&self, key: &str) -> bool {
        self.lock().contains_key(key)
    }
}

/// Keeps images and layers from being collected as long as it lives.
#[derive(Debug)]
pub struct Pin {
    held: PinnedImages,
    keys: Vec<String>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        for key in &self.keys {
            match held.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(held.remove(key)),
            }
        }
    }
}

/// A layer that is unpacked, and not yet under its name.
pub(super) struct Unpacked {
    staging: tempfile::TempDir,
    /// What its tar is rebuilt from.
    record: tempfile::NamedTempFile,
    pub(super) layer: Layer,
}

impl ImageStore {
    /// Holds layers (diff ids) and images (ids), there already or yet to come.
    pub(super) fn hold(&self, keys: impl IntoIterator<Item = String>) -> Pin {
        let keys: Vec<String> = keys.into_iter().collect();
        // A collection that is going on is over before anyone looks whether something is there.
        let _index = self.lock();
        let mut held = self.held.lock();
        for key in &keys {
            *held.entry(key.clone()).or_default() += 1;
        }
        drop(held);
        Pin { held: self.held.clone(), keys }
    }

    /// Whether the layer is here, unpacked.
    pub(super) fn has_layer(&self, diff_id: &str) -> bool {
        self.layers_dir().join(hex_of(diff_id)).exists()
    }

    /// A directory for something that is not complete yet.
    pub(super) fn staging(&self, prefix: &str) -> Result<tempfile::TempDir> {
        let new = self.root.join("new");
        tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(&new)
            .map_err(RuntimeError::io("create a directory in", &new))
    }

    /// Unpacks a tar, compressed or not, durably, but not yet under its name.
    pub(super) fn unpack(&self, input: impl Read + Send + 'static) -> Result<Unpacked> {
        let staging = self.staging("layer-")?;
        let new = self.root.join("new");
        let record = tempfile::Builder::new()
            .prefix("tar-")
            .tempfile_in(&new)
            .map_err(RuntimeError::io("create a file in", &new))?;
        let file = record.reopen().map_err(RuntimeError::io("open", record.path()))?;
        let layer = unpack::unpack(input, file, staging.path(), Space::of(staging.path(), self.limit)?)?;
        sync_file_system(staging.path())?;
        Ok(Unpacked { staging, record, layer })
    }

    /// Puts an unpacked layer under its name, unless it is there.
    pub(super) fn commit(&self, _index: &mut Index, unpacked: Unpacked) -> Result<Layer> {
        let Unpacked { staging, record, layer } = unpacked;
        let target = self.layers_dir().join(layer.hex());
        let tar = self.root.join("tars").join(layer.hex());
        if !target.exists() || !tar.exists() {
            durable::rename(record.path(), &tar).map_err(RuntimeError::io("rename to", &tar))?;
        }
        if !target.exists() {
            implied::save(&self.root.join("implied"), &layer)?;
            durable::rename(staging.path(), &target).map_err(RuntimeError::io("rename to", &target))?;
            let _ = staging.keep();
        }
        Ok(layer)
    }

    /// Unpacks the layer that an image calls `diff_id`; the caller holds it. Does nothing if it is here.
    pub(super) fn add_layer(&self, input: impl Read + Send + 'static, diff_id: &str) -> Result<()> {
        if self.has_layer(diff_id) {
            return Ok(());
        }
        let unpacked = self.unpack(input)?;
        let layer = &unpacked.layer;
        if layer.diff_id != diff_id {
            return Err(RuntimeError::BadImage(format!(
                "a layer's content is {}, the image's configuration says {diff_id}",
                layer.diff_id
            )));
        }
        let mut index = self.lock();
        let layer = self.commit(&mut index, unpacked)?;
        index.fresh.insert(diff_id.to_owned(), layer.size);
        Ok(())
    }

    /// Bytes of a layer that is here.
    pub(super) fn size_of_layer(&self, index: &Index, diff_id: &str) -> u64 {
        index
            .fresh
            .get(diff_id)
            .copied()
            .or_else(|| index.layer_size(diff_id))
            .unwrap_or_else(|| bytes_below(&self.layers_dir().join(hex_of(diff_id))))
    }

    /// Digests and bytes of an image's layers, the lowest first. Blocks.
    pub fn layer_sizes(&self, id: &str) -> Vec<(String, u64)> {
        let index = self.lock();
        let Some((_, document)) = index.images.get(id) else { return Vec::new() };
        let diff_ids = &document.rootfs.diff_ids;
        diff_ids.iter().map(|diff_id| (diff_id.clone(), self.size_of_layer(&index, diff_id))).collect()
    }

    /// Deletes the layers that no image has and nothing holds; none of them while a container runs whose image is not known, as
    /// after its file was damaged: they may be what it runs on.
    pub fn remove_unused_layers(&self, users: &Users, removed: &mut Removed) -> Result<()> {
        let mut doomed = Vec::new();
        {
            let mut index = self.lock();
            let unknown = users.live.iter().find(|(id, _)| !index.images.contains_key(*id));
            if let Some((image, containers)) = unknown {
                tracing::warn!(%image, ?containers, "no layers are removed while containers run whose image is not known");
                return Ok(());
            }
            let used: BTreeSet<&str> = index
                .images
                .values()
                .flat_map(|(_, document)| &document.rootfs.diff_ids)
                .map(|id| hex_of(id))
                .collect();
            let unused = |hex: &str| !used.contains(hex) && !self.held.has(&format!("sha256:{hex}"));
            let layers = self.layers_dir();
            for entry in fs::read_dir(&layers).map_err(RuntimeError::io("read", &layers))? {
                let entry = entry.map_err(RuntimeError::io("read", &layers))?;
                let name = entry.file_name();
                if name.to_str().is_some_and(unused) {
                    // First out of the way, so that a crash cannot leave half a layer under its name, and nobody
                    // takes it for one that is here.
                    let staging = self.staging("doomed-")?;
                    let away = staging.path().join("layer");
                    durable::rename(&entry.path(), &away).map_err(RuntimeError::io("move", &entry.path()))?;
                    doomed.push((name.to_string_lossy().into_owned(), staging));
                }
            }
            for (hex, _) in &doomed {
                for kind in ["implied", "tars"] {
                    let path = self.root.join(kind).join(hex);
                    durable::remove(&path).map_err(RuntimeError::io("remove", &path))?;
                }
            }
            let gone: Vec<String> = doomed.iter().map(|(hex, _)| format!("sha256:{hex}")).collect();
            index.fresh.retain(|id, _| !gone.contains(id));
            removed.deleted.extend(gone);
        }
        for (_, staging) in doomed {
            removed.reclaimed += bytes_below(staging.path());
            let path = staging.path().to_owned();
            staging.close().map_err(RuntimeError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Bytes of the files below a directory; a file with several names counts once.
fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let (mut total, mut seen) = (0, BTreeSet::new());
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if meta.is_file() && (meta.nlink() == 1 || seen.insert(meta.ino())) {
                total += meta.len();
            }
        }
    }
    total
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
