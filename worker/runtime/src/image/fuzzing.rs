//! What fuzz targets, and their small version here, give to this module.

use super::{
    Reference, archive,
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

/// A name of an image: what is taken is said again as it was meant.
pub fn reference(text: &str) {
    if let Ok(reference) = text.parse::<Reference>() {
        let said = reference.to_string();
        assert_eq!(said.parse::<Reference>().map(|again| again.to_string()).ok(), Some(said));
        assert!(!reference.name().is_empty() && !reference.repository().is_empty(), "an empty name");
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], parse: fn(&str)) {
        parse(&String::from_utf8_lossy(bytes));
    }

    #[test]
    fn names_manifests_and_configurations_with_slips() {
        let names: [&[u8]; 2] = [
            include_bytes!("../../../../fuzz/seeds/reference/full"),
            include_bytes!("../../../../fuzz/seeds/reference/short"),
        ];
        smoke::smoke(names, 3000, |bytes| text(bytes, reference));
        let manifests: [&[u8]; 2] = [
            include_bytes!("../../../../fuzz/seeds/image_manifest/image"),
            include_bytes!("../../../../fuzz/seeds/image_manifest/index"),
        ];
        smoke::smoke(manifests, 3000, image_manifest);
        let config: &[u8] = include_bytes!("../../../../fuzz/seeds/image_config/docker");
        smoke::smoke([config], 3000, |bytes| text(bytes, image_config));
    }

    #[test]
    fn archives_with_slips() {
        let archives: [&[u8]; 3] = [
            include_bytes!("../../../../fuzz/seeds/image_archive/docker"),
            include_bytes!("../../../../fuzz/seeds/image_archive/oci"),
            include_bytes!("../../../../fuzz/seeds/image_archive/gzip"),
        ];
        smoke::smoke(archives, 200, image_archive);
    }
}
