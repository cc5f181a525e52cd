//! What GNU tar, BSD tar and Python's library write in each of their formats is read as it was on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
};

use skip::Need;
use tar_reader::{Kind, Limits, Reader};

const GNU_TAR: Need<'_> = Need::Tool { program: "tar", package: "tar" };
const BSD_TAR: Need<'_> = Need::Tool { program: "bsdtar", package: "libarchive-tools" };
const PYTHON: Need<'_> = Need::Tool { program: "python3", package: "python3" };

/// What can be known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: String,
    mode: u32,
    owner: (u64, u64),
    mtime: i64,
    content: Vec<u8>,
    link: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

type Tree = BTreeMap<Vec<u8>, Seen>;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    // Whether the file system has any is not what is tested: `tree` reads back what there is.
    let _ = Command::new("python3")
        .args(["-c", "import os,sys; os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]))"])
        .arg(path)
        .arg(name)
        .arg(value.iter().map(|b| format!("{b:02x}")).collect::<String>())
        .status();
}

/// Names that fit into every format.
fn plain(root: &Path) {
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), "content\n").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("block"), [7; 512]).unwrap();
    fs::write(root.join("more"), vec![9; 100_000]).unwrap();
    fs::hard_link(root.join("dir/file"), root.join("dir/same")).unwrap();
    symlink("../outside", root.join("dir/link")).unwrap();
    fs::set_permissions(root.join("dir/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("dir"), fs::Permissions::from_mode(0o1770)).unwrap();
    let status = Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(status.success());
    if is_root() {
        Command::new("mknod").arg(root.join("null")).args(["c", "1", "3"]).status().unwrap();
        std::os::unix::fs::chown(root.join("empty"), Some(12345), Some(54321)).unwrap();
    }
}

/// Names that do not, and owners that need more than eight digits.
fn long(root: &Path) {
    let long = "n".repeat(140);
    let deep = root.join("d".repeat(90)).join("e".repeat(90)).join("f".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join(&long), "deep").unwrap();
    symlink("t".repeat(300), root.join("far")).unwrap();
    fs::hard_link(deep.join(&long), deep.join("h".repeat(200))).unwrap();
    if is_root() {
        fs::write(root.join("big"), "owner").unwrap();
        std::os::unix::fs::chown(root.join("big"), Some(4_000_000_000), Some(3_999_999_999)).unwrap();
    }
}

fn bytes(root: &Path) {
    fs::write(root.join(std::ffi::OsString::from_vec(b"latin-\xe9\xff".to_vec())), "not UTF-8").unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"to-\xe9"), root.join("bytes")).unwrap();
    fs::write(root.join("new\nline"), "x").unwrap();
}

fn attributes(root: &Path) {
    fs::write(root.join("attributed"), "x").unwrap();
    set_xattr(&root.join("attributed"), "user.plain", b"value");
    set_xattr(&root.join("attributed"), "user.lines", b"a\nb\n12 path=evil\n");
    set_xattr(&root.join("attributed"), "user.bytes", b"\x00\xff\x00");
    set_xattr(&root.join("attributed"), "user.a=b%", b"=");
}

fn holes(root: &Path) {
    for (name, parts, size) in [
        ("front", &[(1 << 20, 5000)][..], (1 << 20) + 5000),
        ("back", &[(0, 4096)], 3 << 20),
        ("all", &[], 1 << 20),
        (
            "many",
            &[
                (0, 4096),
                (65536, 4096),
                (1 << 20, 4096),
                (2 << 20, 8192),
                (5 << 20, 1),
                (6 << 20, 1),
                (7 << 20, 9),
            ],
            8 << 20,
        ),
    ] {
        let file = File::create(root.join(name)).unwrap();
        for (offset, len) in parts {
            file.write_all_at(&vec![b'x'; *len], *offset).unwrap();
        }
        file.set_len(size).unwrap();
    }
    let file = File::create(root.join("fragments")).unwrap();
    (0..200).for_each(|n| file.write_all_at(&[n; 4096], u64::from(n) * 65536).unwrap());
}

fn xattrs_of(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let script = "import os,sys\nfor n in sorted(os.listxattr(sys.argv[1], follow_symlinks=False)):\n print(n.encode().hex(), os.getxattr(sys.argv[1], n, follow_symlinks=False).hex())";
    let output = Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
    let hex = |text: &str| {
        (0..text.len() / 2)
            .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
            .collect::<Vec<u8>>()
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, value)| (hex(name), hex(value)))
        .filter(|(name, _)| name.starts_with(b"user."))
        .collect()
}

fn tree(root: &Path, with_xattrs: bool) -> Tree {
    let mut tree = Tree::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let seen = Seen {
                kind: match () {
                    () if kind.is_dir() => "directory".to_owned(),
                    () if kind.is_symlink() => "symlink".to_owned(),
                    () if kind.is_fifo() => "fifo".to_owned(),
                    () if kind.is_char_device() => format!("char {}", meta.rdev()),
                    () => "file".to_owned(),
                },
                mode: meta.mode() & 0o7777,
                owner: (meta.uid().into(), meta.gid().into()),
                mtime: meta.mtime(),
                content: if kind.is_file() { fs::read(&path).unwrap() } else { vec![] },
                link: fs::read_link(&path).map(|to| to.into_os_string().into_vec()).unwrap_or_default(),
                xattrs: if with_xattrs && kind.is_file() { xattrs_of(&path) } else { vec![] },
            };
            if kind.is_dir() {
                dirs.push(path.clone());
            }
            tree.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), seen);
        }
    }
    tree
}

fn name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path).to_vec()
}

fn read(archive: &[u8]) -> Tree {
    let mut tree = Tree::new();
    let mut tar = Reader::new(archive, Limits::default());
    while let Some(entry) = tar.next_entry().unwrap() {
        let mut content = Vec::new();
        tar.content().read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, entry.size, "{}", String::from_utf8_lossy(&entry.path));
        let mut seen = Seen {
            kind: match entry.kind {
                Kind::File | Kind::HardLink => "file".to_owned(),
                Kind::Symlink => "symlink".to_owned(),
                Kind::Directory => "directory".to_owned(),
                Kind::Fifo => "fifo".to_owned(),
                Kind::Char(major, minor) => format!("char {}", major * 256 + minor),
                Kind::Block(..) => "block".to_owned(),
            },
            mode: entry.mode.unwrap(),
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime.secs,
            content,
            link: entry.link.clone(),
            xattrs: entry.xattrs,
        };
        if entry.kind == Kind::HardLink {
            seen = tree.get(&name(&entry.link)).expect("a link's target comes before it").clone();
        }
        if seen.kind == "symlink" {
            // Links have no permissions of their own.
            seen.mode = 0o777;
        }
        tree.insert(name(&entry.path), seen);
    }
    tree.remove(&b"."[..]);
    tree.remove(&b""[..]);
    tree
}

fn compare(what: &str, want: &Tree, archive: &[u8]) {
    let have = read(archive);
    let names =
        |tree: &Tree| tree.keys().map(|k| String::from_utf8_lossy(k).into_owned()).collect::<Vec<_>>();
    assert_eq!(names(&have), names(want), "{what}");
    for (name, seen) in want {
        let got = &have[name];
        let (name, brief) = (String::from_utf8_lossy(name), |s: &Seen| Seen { content: vec![], ..s.clone() });
        assert_eq!(brief(got), brief(seen), "{what}: {name}");
        assert!(got.content == seen.content, "{what}: the content of {name}");
    }
}

fn written(program: &str, args: &[&str], root: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).current_dir(root).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn made(parts: &[fn(&Path)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    parts.iter().for_each(|part| part(root.path()));
    root
}

#[test]
fn gnu_tar_in_all_its_formats() {
    if skip::unless(&[GNU_TAR]) {
        return;
    }
    let small = made(&[plain]);
    for format in ["ustar", "oldgnu", "gnu", "pax", "v7"] {
        // v7 knows no devices and pipes, and comes last: they are gone then.
        let archive = match format {
            "v7" => {
                for special in ["fifo", "null"] {
                    let _ = fs::remove_file(small.path().join(special));
                }
                written("tar", &["--format=v7", "-cf", "-", "."], small.path())
            }
            _ => written("tar", &[&format!("--format={format}"), "-cf", "-", "."], small.path()),
        };
        compare(format, &tree(small.path(), false), &archive);
    }
    let large = made(&[plain, long, bytes, holes]);
    let want = tree(large.path(), false);
    for format in ["oldgnu", "gnu", "pax"] {
        let format = format!("--format={format}");
        for args in [&[&format, "-cf", "-", "."][..], &[&format, "-S", "-cf", "-", "."]] {
            compare(&format!("{args:?}"), &want, &written("tar", args, large.path()));
        }
    }
    for version in ["0.0", "0.1", "1.0"] {
        let args = ["--format=pax", "-S", &format!("--sparse-version={version}"), "-cf", "-", "."];
        compare(version, &want, &written("tar", &args, large.path()));
    }
}

#[test]
fn gnu_tar_with_attributes() {
    if skip::unless(&[GNU_TAR, PYTHON]) {
        return;
    }
    let root = made(&[plain, attributes, bytes, holes]);
    let want = tree(root.path(), true);
    for args in [&["--xattrs", "-cf", "-", "."][..], &["--xattrs", "-S", "-cf", "-", "."]] {
        compare(&format!("{args:?}"), &want, &written("tar", args, root.path()));
    }
}

#[test]
fn bsd_tar_in_all_its_formats() {
    if skip::unless(&[BSD_TAR]) {
        return;
    }
    let small = made(&[plain]);
    for format in ["ustar", "gnutar", "pax", "paxr"] {
        let archive = written("bsdtar", &["--format", format, "-cf", "-", "."], small.path());
        compare(format, &tree(small.path(), false), &archive);
    }
    let large = made(&[plain, long, bytes, holes]);
    for format in ["gnutar", "pax"] {
        let archive = written("bsdtar", &["--format", format, "-cf", "-", "."], large.path());
        compare(format, &tree(large.path(), false), &archive);
    }
    if !skip::unless(&[PYTHON]) {
        let root = made(&[plain, attributes, holes]);
        let archive = written("bsdtar", &["--format", "pax", "--xattrs", "-cf", "-", "."], root.path());
        compare("pax with attributes", &tree(root.path(), true), &archive);
    }
}

#[test]
fn python_in_all_its_formats() {
    if skip::unless(&[PYTHON]) {
        return;
    }
    let script = "import sys, tarfile\n\
        with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=int(sys.argv[1]), errors='surrogateescape') as t: t.add('.')";
    let small = made(&[plain]);
    let large = made(&[plain, long, bytes, holes]);
    for (format, root) in [("0", &small), ("1", &small), ("2", &small), ("1", &large), ("2", &large)] {
        let archive = written("python3", &["-c", script, format], root.path());
        compare(&format!("python {format}"), &tree(root.path(), false), &archive);
    }
}
