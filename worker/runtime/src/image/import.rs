//! `import`: an image of one layer, made of a root file system archive.

use std::io::Read;

use super::{ImageConfig, ImageDocument, ImageStore, Reference, changes, digest_of, index::ImageFile};
use crate::{Result, now_millis};

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

impl ImageStore {
    /// Makes an image of a root file system that arrives in pieces: a tar, compressed or not. Blocks; its id.
    pub fn import(&self, archive: impl Read + Send + 'static, options: &ImportOptions) -> Result<String> {
        let reference = match options.reference.as_str() {
            "" => None,
            text => Some(text.parse::<Reference>()?),
        };
        let mut config = ImageConfig::default();
        for change in &options.changes {
            changes::apply(&mut config, change)?;
        }
        let unpacked = self.unpack(archive)?;
        let layer = &unpacked.layer;
        let document = ImageDocument::of_layer(config, &layer.diff_id, &options.message);
        let text = document.to_json();
        let id = digest_of(text.as_bytes());
        let file = ImageFile {
            config: text,
            created_at: now_millis(),
            size: layer.size,
            layer_sizes: vec![layer.size],
        };
        let mut index = self.lock();
        self.commit(&mut index, unpacked)?;
        index.insert(&self.root, &id, file, document)?;
        if let Some(reference) = reference {
            index.name(&self.root, &[reference.tagged()], &id)?;
        }
        Ok(id)
    }
}
