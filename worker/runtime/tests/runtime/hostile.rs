//! Archives as strangers write them: larger than they look, or in ways that few programs write.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
    process::Command,
};

use runtime::{ImportOptions, Platform, RuntimeError, UnpackLimit};
use skip::Need;

use crate::{
    archives::{archive, config, gzip},
    lab::{Lab, busybox_tar, chunks, skip},
};

/// A tar, compressed as it is made: what it stands for would not fit into memory.
fn compressed(write: impl FnOnce(&mut flate2::write::GzEncoder<Vec<u8>>)) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write(&mut out);
    out.finish().unwrap()
}

fn header(kind: tar::EntryType, name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

/// Brings in an image of two layers.
async fn load(lab: &Lab, name: &str, base: Vec<u8>, top: Vec<u8>) {
    let manifest =
        format!(r#"[{{"Config":"c.json","RepoTags":["{name}"],"Layers":["base.tar","top.tar"]}}]"#);
    let files = [
        ("c.json".to_owned(), config(&[&base, &top], "x")),
        ("base.tar".to_owned(), base),
        ("top.tar".to_owned(), top),
        ("manifest.json".to_owned(), manifest.into()),
    ];
    lab.runtime.load(chunks(archive(&files, &[])), Platform::own()).await.unwrap();
}

/// Peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_archive_costs_neither_memory_nor_disk_without_bound() {
    if skip() {
        return;
    }
    let lab = Lab::with_limit(UnpackLimit::Bytes(64 << 20)).await;
    let zeros = |size: u64, out: &mut dyn Write| {
        std::io::copy(&mut std::io::repeat(0).take(size), out).unwrap();
    };
    let giant = 96 << 20;
    let record = |kind: u8| {
        compressed(|out| {
            out.write_all(header(tar::EntryType::new(kind), "x", giant).as_bytes()).unwrap();
            zeros(giant, out);
        })
    };
    let file = compressed(|out| {
        out.write_all(header(tar::EntryType::Regular, "manifest.json", giant).as_bytes()).unwrap();
        zeros(giant, out);
    });
    let sparse = {
        // Two parts of an old GNU sparse file that is eight exabytes long.
        let mut header = tar::Header::new_gnu();
        header.set_path("manifest.json").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_size(1);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(1 << 20);
        gnu.sparse[0].set_length(1);
        gnu.set_real_size(1 << 62);
        header.set_cksum();
        [header.as_bytes(), &[0; 1536][..]].concat()
    };
    let entries = compressed(|out| {
        let mut block = header(tar::EntryType::Symlink, "x", 0);
        block.set_link_name("y").unwrap();
        block.set_cksum();
        (0..200_000).for_each(|_| out.write_all(block.as_bytes()).unwrap());
    });
    let before = peak();
    for (name, bytes, words) in [
        ("pax", record(b'x'), "bytes of an extended header"),
        ("global", record(b'g'), "bytes of an extended header"),
        ("name", record(b'L'), "bytes of a long name"),
        ("link", record(b'K'), "bytes of a long name"),
        ("file", file, "unpack-limit"),
        ("entries", entries, "unpack-limit"),
    ] {
        assert!(bytes.len() < 4 << 20, "{name}");
        for load in [false, true] {
            let error = match load {
                true => lab.runtime.load(chunks(bytes.clone()), Platform::own()).await.unwrap_err(),
                false => {
                    lab.runtime.import(chunks(bytes.clone()), ImportOptions::default()).await.unwrap_err()
                }
            };
            assert!(matches!(error, RuntimeError::BadArchive(_)), "{name}: {error}");
            let error = error.to_string();
            assert!(error.contains(words) || (load && error.contains("no image")), "{name}: {error}");
        }
    }
    let error = lab.runtime.load(chunks(sparse), Platform::own()).await.unwrap_err().to_string();
    assert!(error.contains("unpack-limit"), "{error}");
    // A manifest that is too large to be one.
    let manifest = "[".repeat(5 << 20);
    let error =
        lab.runtime.load(chunks(archive(&[("manifest.json".into(), manifest.into())], &[])), Platform::own());
    let error = error.await.unwrap_err().to_string();
    assert!(error.contains("manifest.json has 5242880 bytes"), "{error}");
    let grown = peak().saturating_sub(before);
    assert!(grown < 512 << 20, "it took {grown} bytes of memory");
    assert_eq!(fs::read_dir(lab.config.data_root.join("images/new")).unwrap().count(), 0, "left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_a_layer_does_not_list_keeps_its_looks() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let dir = |name: &str, mode: u32, owner: u64| {
        let mut header = header(tar::EntryType::Directory, name, 0);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let file = |name: &str| {
        [header(tar::EntryType::Regular, name, 1).as_bytes(), &[b'x'; 1][..], &[0; 511]].concat()
    };
    let busybox = busybox_tar();
    // Listed before busybox's files, so that they are there when those come.
    let base = [
        dir("./", 0o751, 0),
        dir("tmp", 0o1777, 0),
        dir("opt", 0o711, 0),
        dir("opt/app", 0o700, 1000),
        busybox,
    ]
    .concat();
    let top = [file("tmp/a"), file("opt/app/b"), file("new/c"), vec![0; 1024]].concat();
    load(&lab, "looks:1", base, top).await;
    let look = "stat -c '%n %a %u %g %Y' /tmp /opt /opt/app | grep -v '^$'; stat -c '%n %a %u' / /new; cat /tmp/a /opt/app/b /new/c";
    let mut container = lab.sh(look);
    container.spec.image = "looks:1".into();
    let (_, output) = lab.output(container).await;
    let wanted = "/tmp 1777 0 0 1000000000\n/opt 711 0 0 1000000000\n/opt/app 700 1000 1000 1000000000\n/ 751 0\n/new 755 0\nxxx\n";
    assert_eq!(output, wanted);
}

/// The layer of an image that was made of what `tar` writes of a directory.
async fn imported(lab: &Lab, program: &str, args: &[&str], dir: &Path) -> std::path::PathBuf {
    let tar =
        Command::new(program).args(args).arg("-cf").arg("-").arg(".").current_dir(dir).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let id = lab.runtime.import(chunks(gzip(&tar.stdout)), ImportOptions::default()).await.unwrap();
    let image = lab.runtime.images().resolve(&id).unwrap();
    lab.runtime.images().layers_dir().join(&image.layers[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_usual_programs_write_is_unpacked_byte_by_byte() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let root = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| root.path().join(std::ffi::OsStr::from_bytes(name));
    fs::write(at(b"latin-\xe9"), "bytes").unwrap();
    std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(b"latin-\xe9"), at(b"to-\xff")).unwrap();
    fs::hard_link(at(b"latin-\xe9"), at(b"same-\xe9")).unwrap();
    fs::write(at(b"owned"), "by many digits").unwrap();
    std::os::unix::fs::chown(at(b"owned"), Some(4_000_000_000), Some(3_000_000_000)).unwrap();
    fs::set_permissions(at(b"owned"), fs::Permissions::from_mode(0o6711)).unwrap();
    let deep = root.path().join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f".repeat(200)), "far down").unwrap();
    let holes = fs::File::create(at(b"holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", 8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, &[7; 4096], 1 << 20).unwrap();
    holes.set_len(32 << 20).unwrap();
    let no_bsd = skip::unless(&[Need::Tool { program: "bsdtar", package: "libarchive-tools" }]);
    for (program, args) in [
        ("tar", &["--format=gnu", "-S"][..]),
        ("tar", &["--format=gnu"]),
        ("tar", &["--format=pax", "-S", "--sparse-version=0.0"]),
        ("tar", &["--format=pax", "-S", "--sparse-version=0.1"]),
        ("tar", &["--format=pax", "-S", "--sparse-version=1.0"]),
        ("bsdtar", &["--format=pax"]),
        ("bsdtar", &["--format=gnutar"]),
    ] {
        if program == "bsdtar" && no_bsd {
            continue;
        }
        let layer = imported(&lab, program, args, root.path()).await;
        let diff = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .arg(root.path())
            .arg(&layer)
            .output()
            .unwrap();
        assert!(diff.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&diff.stdout));
        let there = fs::metadata(layer.join("owned")).unwrap();
        assert_eq!((there.uid(), there.gid(), there.mode() & 0o7777), (4_000_000_000, 3_000_000_000, 0o6711));
        let names = fs::metadata(layer.join(std::ffi::OsStr::from_bytes(b"same-\xe9"))).unwrap();
        assert_eq!(names.nlink(), 2, "{program} {args:?}");
        if args.contains(&"-S") {
            assert!(fs::metadata(layer.join("holes")).unwrap().blocks() < 200, "holes stay holes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_bytes_also_of_whiteouts_and_odd_attributes_are_left_out() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let raw = |kind: tar::EntryType, name: &[u8], size: u64| {
        let mut header = header(kind, "x", size);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let pax = |records: &[(&str, &[u8])]| {
        let mut all = Vec::new();
        for (key, value) in records {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let len = (1..).find(|n: &usize| n.to_string().len() + body.len() == *n).unwrap();
            all.extend([len.to_string().as_bytes(), &body].concat());
        }
        let mut out = raw(tar::EntryType::XHeader, b"pax", all.len() as u64);
        out.extend(&all);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    };
    // Without its end.
    let mut base = busybox_tar();
    base.truncate(base.len() - 1024);
    base.extend(raw(tar::EntryType::Regular, b"gone-\xe9", 0));
    base.extend(raw(tar::EntryType::Regular, b"stays-\xe9", 0));
    base.extend(pax(&[
        ("SCHILY.xattr.nosuch.kind", b"x"),
        ("SCHILY.xattr.security.capability", b"nonsense"),
        ("SCHILY.xattr.user.kept", b"a\nb"),
        ("uid", b"5000000000"),
    ]));
    base.extend(raw(tar::EntryType::Regular, b"attributed", 0));
    base.extend([0; 1024]);
    let top = [raw(tar::EntryType::Regular, b".wh.gone-\xe9", 0), vec![0; 1024]].concat();
    load(&lab, "bytes:1", base, top).await;
    let mut container = lab.sh("ls / | grep -c gone; ls / | grep -c stays; stat -c %u /attributed");
    container.spec.image = "bytes:1".into();
    assert_eq!(lab.output(container).await.1, "0\n1\n0\n");
}
