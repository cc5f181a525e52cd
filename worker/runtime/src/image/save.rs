//! `docker save`: images as an archive that `docker load` reads, with the same ids.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

use serde_json::json;

use super::{Image, ImageStore, Pin, Reference, hex_of, stream::Digesting, tar_record::Rebuilt};
use crate::{Result, RuntimeError, tree::pack::Writer};

/// What goes into an archive: images, with the names that they are to have after it is loaded.
#[derive(Debug)]
pub struct Selection {
    images: Vec<(Image, Vec<String>)>,
    _held: Vec<Pin>,
}

/// Whether a name says neither tag nor digest.
pub fn is_repository(name: &str) -> bool {
    !name.contains('@') && !name.rsplit('/').next().unwrap_or_default().contains(':')
}

/// A layer's tar as it was, or an error at its end.
struct Checked<R> {
    inner: Option<Digesting<R>>,
    diff_id: String,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        let len = inner.read(buffer)?;
        if len == 0
            && !buffer.is_empty()
            && let Some(inner) = self.inner.take()
            && inner.digest() != self.diff_id
        {
            return Err(io::Error::other(format!("layer {} is not what it was any more", self.diff_id)));
        }
        Ok(len)
    }
}

impl ImageStore {
    /// A layer's tar, which is checked while it is read: at its end it is an error if it is not the one that it was.
    pub(super) fn layer_tar(&self, diff_id: &str) -> Result<(u64, impl Read + Send + use<>)> {
        let record = self.root.join("tars").join(hex_of(diff_id));
        let layer = self.layers_dir().join(hex_of(diff_id));
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => RuntimeError::Conflict(format!(
                "layer {diff_id} was unpacked by an earlier version of rn, which has not kept what its archive is rebuilt from; \
                 remove the image and bring it again (pull, load)"
            )),
            _ => RuntimeError::io("read", &record)(error),
        };
        let size = Rebuilt::size(&record).map_err(failed)?;
        let rebuilt = Rebuilt::open(&record, &layer).map_err(failed)?;
        Ok((size, Checked { inner: Some(Digesting::new(rebuilt)), diff_id: diff_id.to_owned() }))
    }

    /// The images that keys mean, kept until they are saved: `name:tag` alone has that name in the archive, `name` all tags of it, an id
    /// none.
    pub fn select(&self, keys: &[String]) -> Result<Selection> {
        let mut selection = Selection { images: Vec::new(), _held: Vec::new() };
        for key in keys {
            let bare = key.parse::<Reference>().ok().filter(|_| is_repository(key));
            let prefix = bare.map(|r| format!("{}:", r.name()));
            let all: Vec<(Image, Vec<String>)> = self
                .list()
                .into_iter()
                .filter_map(|image| {
                    let of_it = |tag: &&String| {
                        prefix
                            .as_ref()
                            .is_some_and(|p| tag.strip_prefix(p).is_some_and(|tag| !tag.contains('/')))
                    };
                    let tags: Vec<String> = image.tags.iter().filter(of_it).cloned().collect();
                    (!tags.is_empty()).then_some((image, tags))
                })
                .collect();
            let chosen = if all.is_empty() {
                let image = self.resolve(key)?;
                let tag = key.parse::<Reference>().ok().map(|r| r.tagged());
                let tags = tag.filter(|tag| image.tags.contains(tag)).into_iter().collect();
                vec![(image, tags)]
            } else {
                all
            };
            for (image, tags) in chosen {
                let (image, held) = self.resolve_and_hold(&image.id)?;
                selection._held.push(held);
                match selection.images.iter_mut().find(|(known, _)| known.id == image.id) {
                    Some((_, known)) => {
                        let new = tags.into_iter().filter(|tag| !known.contains(tag)).collect::<Vec<_>>();
                        known.extend(new);
                    }
                    None => selection.images.push((image, tags)),
                }
            }
        }
        // Said before anything is sent.
        for (image, _) in &selection.images {
            for diff_id in &image.document.rootfs.diff_ids {
                self.layer_tar(diff_id)?;
            }
        }
        Ok(selection)
    }

    /// Writes the archive. Blocks.
    pub fn save(&self, selection: &Selection, out: impl Write) -> io::Result<()> {
        let mut tar = Writer::new(out);
        let mut written = BTreeSet::new();
        let mut manifest = Vec::new();
        let file_of = |diff_id: &str| format!("{}/layer.tar", hex_of(diff_id));
        for (image, tags) in &selection.images {
            let at = image.created_at / 1000;
            let diff_ids = &image.document.rootfs.diff_ids;
            for diff_id in diff_ids.iter().filter(|id| written.insert((*id).clone())) {
                let (size, mut layer) =
                    self.layer_tar(diff_id).map_err(|e| io::Error::other(e.to_string()))?;
                tar.directory(hex_of(diff_id), at)?;
                tar.file(&file_of(diff_id), size, at, &mut layer)?;
                // It is found at the end whether it is the right one.
                io::copy(&mut layer, &mut io::sink())?;
            }
            let config = format!("{}.json", hex_of(&image.id));
            let len = u64::try_from(image.config_json.len()).unwrap_or(u64::MAX);
            if written.insert(config.clone()) {
                tar.file(&config, len, at, &mut image.config_json.as_bytes())?;
            }
            let layers: Vec<String> = diff_ids.iter().map(|id| file_of(id)).collect();
            let tags = if tags.is_empty() { json!(null) } else { json!(tags) };
            manifest.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
        }
        let manifest = serde_json::to_vec(&manifest)?;
        tar.file(
            "manifest.json",
            u64::try_from(manifest.len()).unwrap_or(u64::MAX),
            0,
            &mut manifest.as_slice(),
        )?;
        tar.finish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_says_no_tag() {
        for name in ["app", "team/app", "127.0.0.1:5000/app"] {
            assert!(is_repository(name), "{name}");
        }
        for name in ["app:1", "127.0.0.1:5000/app:1", "app@sha256:00"] {
            assert!(!is_repository(name), "{name}");
        }
    }
}
