//! What Go's library writes in each of its formats, which is what Docker's own archives are. The archives lie beside the program that
//! wrote them (`go/write.go`), so that no test needs Go.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Read;

use tar_reader::{Entry, Kind, Limits, Reader};

type File = (Entry, Vec<u8>);

fn read(archive: &[u8]) -> Vec<File> {
    let mut files = Vec::new();
    let mut tar = Reader::new(archive, Limits::default());
    while let Some(entry) = tar.next_entry().unwrap() {
        let mut content = Vec::new();
        tar.content().read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, entry.size);
        assert_eq!((entry.mtime.secs, entry.mtime.nanos), (1_700_000_000, 0));
        files.push((entry, content));
    }
    files
}

fn named<'a>(files: &'a [File], path: &[u8]) -> &'a File {
    let found = files.iter().find(|(entry, _)| entry.path == path);
    found.unwrap_or_else(|| panic!("no {} in the archive", String::from_utf8_lossy(path)))
}

fn has_content(files: &[File], path: &[u8]) {
    let (entry, content) = named(files, path);
    assert_eq!(entry.kind, Kind::File);
    assert_eq!(*content, [&b"content of "[..], path].concat());
}

fn plain(files: &[File]) {
    let (dir, _) = named(files, b"dir/");
    assert_eq!((dir.kind, dir.mode), (Kind::Directory, Some(0o1770)));
    let (file, _) = named(files, b"dir/file");
    assert_eq!((file.mode, file.uid, file.gid), (Some(0o4751), 12345, 54321));
    has_content(files, b"dir/file");
    let (same, _) = named(files, b"dir/same");
    assert_eq!((same.kind, &same.link[..]), (Kind::HardLink, &b"dir/file"[..]));
    let (link, _) = named(files, b"dir/link");
    assert_eq!((link.kind, &link.link[..]), (Kind::Symlink, &b"../outside"[..]));
    assert_eq!(named(files, b"empty").0.size, 0);
    assert_eq!(named(files, b"null").0.kind, Kind::Char(1, 3));
    assert_eq!(named(files, b"fifo").0.kind, Kind::Fifo);
}

fn large(files: &[File]) {
    has_content(files, &[vec![b'd'; 120], b"/".to_vec(), vec![b'n'; 140]].concat());
    let (far, _) = named(files, b"far");
    assert_eq!((far.kind, &far.link), (Kind::Symlink, &vec![b't'; 300]));
    let (big, _) = named(files, b"big");
    assert_eq!((big.uid, big.gid), (4_000_000_000, 3_999_999_999));
    has_content(files, b"new\nline");
    has_content(files, "umlaut-\u{e4}".as_bytes());
}

#[test]
fn ustar() {
    let files = read(include_bytes!("go/ustar.tar"));
    assert_eq!(files.len(), 7);
    plain(&files);
}

#[test]
fn gnu() {
    let files = read(include_bytes!("go/gnu.tar"));
    assert_eq!(files.len(), 13);
    plain(&files);
    large(&files);
    has_content(&files, b"latin-\xe9");
}

#[test]
fn pax() {
    let files = read(include_bytes!("go/pax.tar"));
    assert_eq!(files.len(), 13);
    plain(&files);
    large(&files);
    has_content(&files, b"attributed");
    let mut xattrs = named(&files, b"attributed").0.xattrs.clone();
    xattrs.sort();
    let want: [(&[u8], &[u8]); 3] = [
        (b"user.bytes", b"\x00\xff\x00"),
        (b"user.lines", b"a\nb\n12 path=evil\n"),
        (b"user.plain", b"value"),
    ];
    assert_eq!(xattrs, want.map(|(name, value)| (name.to_vec(), value.to_vec())));
}
