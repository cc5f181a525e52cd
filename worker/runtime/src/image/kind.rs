//! Names the format of a file that is not a tar archive, for the error message; its content is not shown.

/// A name for what begins so, once it is not a tar.
pub fn describe(head: &[u8]) -> &'static str {
    const MAGIC: [(&[u8], &str); 12] = [
        (b"\x1f\x8b", "gzip within gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd within zstd"),
        (b"\xfd7zXZ\0", "compressed by xz: unpack it first (xz -d)"),
        (b"BZh", "compressed by bzip2: unpack it first (bzip2 -d)"),
        (b"\x04\x22\x4d\x18", "compressed by lz4: unpack it first (lz4 -d)"),
        (b"PK\x03\x04", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"hsqs", "a squashfs image"),
        (b"\x7fELF", "a program (ELF)"),
        (b"QFI\xfb", "a disk of a virtual machine (qcow2)"),
        (b"07070", "a cpio archive"),
        (b"!<arch>\n", "an ar archive or a Debian package"),
    ];
    if head.is_empty() {
        return "empty";
    }
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return name;
    }
    // A character may be cut at the end.
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    let printable = head.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace());
    if valid && printable { "text" } else { "data of a kind unknown here" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_no_tar_has_a_name() {
        assert_eq!(describe(b"hello, w\xc3\xb6rld\n"), "text");
        assert_eq!(describe(&[0xff, 0, 1, 2]), "data of a kind unknown here");
        assert!(describe(b"\xfd7zXZ\0...").contains("xz -d"));
        assert_eq!(describe(b""), "empty");
    }
}
