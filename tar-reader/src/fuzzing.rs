//! What fuzz targets, and their small version here, give to this crate.

use std::io::Read;

use crate::{Limits, Reader, pax::Pax};

/// A whole archive: as it is, and with the checksums of what looks like headers made right, without which little of it is read.
pub fn tar(bytes: &[u8]) {
    entries(bytes);
    let mut right = bytes.to_vec();
    for block in right.chunks_exact_mut(512).filter(|block| block.get(257..262) == Some(&b"ustar"[..])) {
        let byte = |(n, byte): (usize, &u8)| u32::from(if (148..156).contains(&n) { b' ' } else { *byte });
        let sum: u32 = block.iter().enumerate().map(byte).sum();
        if let Some(field) = block.get_mut(148..156) {
            field.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    entries(&right);
}

/// Entry by entry, within narrow limits.
fn entries(bytes: &[u8]) {
    let limits = Limits { record: 4096, headers: 1000, sparse_parts: 100 };
    let mut tar = Reader::new(bytes, limits);
    let mut buffer = [0; 1000];
    while let Ok(Some(entry)) = tar.next_entry() {
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0), "a name with a NUL");
        assert!(entry.mtime.nanos < 1_000_000_000, "a fraction that is a second");
        let mut end = 0;
        // Half of the entries as parts, half with their holes.
        if entry.at % 1024 == 0 {
            while let Ok(Some(chunk)) = tar.read_chunk(&mut buffer) {
                assert!(chunk.offset >= end && chunk.len > 0, "parts overlap");
                end = chunk.offset + u64::try_from(chunk.len).unwrap_or_default();
                assert!(end <= entry.size || entry.size == 0, "a part behind the end");
            }
        } else {
            let mut content = tar.content().take(1 << 16);
            while let Ok(len @ 1..) = content.read(&mut buffer) {
                end += u64::try_from(len).unwrap_or_default();
            }
            assert!(end <= entry.size || entry.size == 0, "more than there is");
        }
    }
    assert!(tar.headers() <= limits.headers + 1, "more headers than allowed");
}

/// The records of an extended header, without the header around them.
pub fn pax(bytes: &[u8]) {
    if let Ok(mut pax) = Pax::parse(bytes, 0) {
        let xattrs = pax.take_xattrs();
        assert!(xattrs.iter().all(|(name, _)| !name.is_empty() && !name.contains(&0)), "a name that is none");
        let kept: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(kept <= bytes.len(), "it grows");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_with_slips() {
        let seeds: [&[u8]; 9] = [
            include_bytes!("../../fuzz/seeds/tar/v7"),
            include_bytes!("../../fuzz/seeds/tar/ustar"),
            include_bytes!("../../fuzz/seeds/tar/gnu"),
            include_bytes!("../../fuzz/seeds/tar/oldgnu"),
            include_bytes!("../../fuzz/seeds/tar/pax-0.0"),
            include_bytes!("../../fuzz/seeds/tar/pax-0.1"),
            include_bytes!("../../fuzz/seeds/tar/pax-1.0"),
            include_bytes!("../../fuzz/seeds/tar/bsd"),
            include_bytes!("../../fuzz/seeds/tar/python"),
        ];
        smoke::smoke(seeds, 500, tar);
    }

    #[test]
    fn records_with_slips() {
        let seeds: [&[u8]; 2] =
            [include_bytes!("../../fuzz/seeds/pax/one"), include_bytes!("../../fuzz/seeds/pax/two")];
        smoke::smoke(seeds, 5000, pax);
    }
}
