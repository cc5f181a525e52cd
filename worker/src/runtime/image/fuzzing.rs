//! What the fuzz targets reach of this module.

use super::{
    archive,
    manifest::{Manifest, Platform, select},
};

/// An archive of images: spooled, and looked through for images. Nothing is unpacked.
pub fn image_archive(bytes: &[u8]) {
    let Ok(dir) = tempfile::Builder::new().tempdir_in("/dev/shm") else { return };
    archive::look(dir, bytes, &Platform::own());
}

/// A manifest or an index.
pub fn image_manifest(bytes: &[u8]) {
    match Manifest::parse(bytes) {
        Ok(Manifest::Index(list)) => {
            if let Ok(chosen) = select(&list, &Platform::own()) {
                assert!(list.contains(chosen));
            }
        }
        Ok(Manifest::Image { .. }) | Err(_) => {}
    }
}

/// An image's configuration.
pub fn image_config(text: &str) {
    if let Ok(document) = archive::read_document(text) {
        assert!(!document.rootfs.diff_ids.is_empty());
        let _ = document.created_at();
        let again: super::ImageDocument = serde_json::from_str(&document.to_json()).unwrap_or_default();
        assert_eq!(again, document);
    }
}
