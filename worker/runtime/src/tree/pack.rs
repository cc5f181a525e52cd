//! Writing files as a tar, as `docker cp` and `docker export` give them out.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

use tar::{EntryType, Header};

use super::{LIST, Place, Tree, Wanted, joined};
use crate::xattr;

/// The bytes of a name that a header has room for.
const NAME: usize = 100;
const BLOCK: usize = tar_reader::BLOCK;

/// A tar that is being written.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Nothing is in it yet.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// One entry, with as much content as `size` says. What a header has no room for stands in one of its own before it (pax).
    fn entry(
        &mut self,
        header: &mut Header,
        name: &[u8],
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
        content: Option<&mut dyn Read>,
    ) -> io::Result<()> {
        let mut records = Vec::new();
        for (key, value) in [(&b"path"[..], name), (b"linkpath", link)] {
            if value.len() > NAME {
                record(&mut records, key, value);
            }
        }
        for (key, value) in xattrs {
            record(&mut records, &[b"SCHILY.xattr.", key.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            let mut pax = Header::new_ustar();
            pax.set_entry_type(EntryType::XHeader);
            pax.set_size(u64::try_from(records.len()).unwrap_or_default());
            pax.set_mode(0o644);
            self.header(&mut pax, b"PaxHeader", b"")?;
            self.out.write_all(&records)?;
            self.pad(u64::try_from(records.len()).unwrap_or_default())?;
        }
        let size = header.size()?;
        self.header(header, name, link)?;
        let Some(content) = content else { return Ok(()) };
        let written = io::copy(&mut content.take(size), &mut self.out)?;
        // It has become shorter meanwhile: the rest is what it would be of a file with a hole.
        io::copy(&mut io::repeat(0).take(size - written), &mut self.out)?;
        self.pad(size)
    }

    fn header(&mut self, header: &mut Header, name: &[u8], link: &[u8]) -> io::Result<()> {
        let old = header.as_old_mut();
        for (field, value) in [(&mut old.name, name), (&mut old.linkname, link)] {
            field.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// A file of this content, which belongs to root.
    pub fn file(&mut self, name: &str, size: u64, modified: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(modified);
        self.entry(&mut header, name.as_bytes(), b"", &[], Some(content))
    }

    /// A directory, which belongs to root.
    pub fn directory(&mut self, name: &str, modified: u64) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        header.set_mtime(modified);
        self.entry(&mut header, format!("{name}/").as_bytes(), b"", &[], None)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK][over..]) }
    }

    /// Its end.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A line of an extended header: it begins with its own length.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, `=` and the newline.
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    records.extend_from_slice((rest + digits).to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Files on their way into a tar.
pub struct Packer<'a, W> {
    tree: &'a Tree,
    tar: Writer<W>,
    /// What is mounted is left out, but for the place where it is.
    one_file_system: bool,
    /// Files with more than one name, by device and number.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
}

impl<'a, W: Write> Packer<'a, W> {
    /// Nothing is in it yet.
    pub fn new(tree: &'a Tree, out: W, one_file_system: bool) -> Self {
        Self { tree, tar: Writer::new(out), one_file_system, seen: BTreeMap::new() }
    }

    /// What is at a path, under its own name, and all below.
    pub fn pack(mut self, wanted: &Wanted) -> io::Result<W> {
        let place = match wanted.follows {
            true => Place { dir: self.tree.open(&wanted.path, libc::O_PATH)?, name: Default::default() },
            false => self.tree.place(&wanted.path)?,
        };
        let there = place.metadata()?;
        if there.is_dir() {
            // The names below `/` begin with a slash: clients put what they want before it.
            let name = if wanted.name == "/" { &[][..] } else { wanted.name.as_bytes() };
            self.directory(&wanted.path, name, &there)?;
        } else {
            self.single(&place, wanted.name.as_bytes(), &there)?;
        }
        self.tar.finish()
    }

    /// Everything from the root on, by names without a slash before them.
    pub fn pack_root(mut self) -> io::Result<W> {
        let root = Path::new("/");
        let names = self.list(&self.tree.open(root, LIST)?)?;
        for name in names {
            let path = root.join(&name);
            let place = self.tree.place(&path)?;
            // What goes meanwhile is not there.
            let Ok(there) = place.metadata() else { continue };
            match there.is_dir() {
                true => self.directory(&path, name.as_bytes(), &there)?,
                false => self.single(&place, name.as_bytes(), &there)?,
            }
        }
        self.tar.finish()
    }

    fn list(&self, dir: &File) -> io::Result<Vec<std::ffi::OsString>> {
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mut names: Vec<_> =
            fs::read_dir(path)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    }

    fn directory(&mut self, path: &Path, name: &[u8], there: &Metadata) -> io::Result<()> {
        self.single_dir(path, name, there)?;
        let mut left: Vec<(PathBuf, Vec<u8>)> = vec![(path.to_owned(), name.to_owned())];
        while let Some((path, name)) = left.pop() {
            if self.one_file_system && self.tree.is_mounted(&path) {
                continue;
            }
            let Ok(dir) = self.tree.open(&path, LIST) else { continue };
            let mut below = Vec::new();
            for file in self.list(&dir)? {
                let (path, name) = (path.join(&file), joined(&name, &file));
                let place = Place { dir: dir.try_clone()?, name: file };
                let Ok(there) = place.metadata() else { continue };
                if there.is_dir() {
                    self.single_dir(&path, &name, &there)?;
                    below.push((path, name));
                } else if self.one_file_system && self.tree.is_mounted(&path) {
                    // A mounted file covers one that was made for it, and is empty.
                    let mut header = header(&there, EntryType::Regular, 0);
                    self.tar.entry(&mut header, &name, b"", &[], None)?;
                } else {
                    self.single(&place, &name, &there)?;
                }
            }
            left.extend(below.into_iter().rev());
        }
        Ok(())
    }

    fn single_dir(&mut self, path: &Path, name: &[u8], there: &Metadata) -> io::Result<()> {
        let xattrs = match self.tree.open(path, libc::O_PATH | libc::O_NOFOLLOW) {
            Ok(dir) => xattr::kept(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())), true),
            Err(_) => Vec::new(),
        };
        let name = [name, b"/"].concat();
        self.tar.entry(&mut header(there, EntryType::Directory, 0), &name, b"", &xattrs, None)
    }

    /// What is no directory. Sockets have no place in a tar.
    fn single(&mut self, place: &Place, name: &[u8], there: &Metadata) -> io::Result<()> {
        let kind = there.file_type();
        if there.nlink() > 1 {
            let key = (there.dev(), there.ino());
            if let Some(first) = self.seen.get(&key) {
                let first = first.clone();
                return self.tar.entry(&mut header(there, EntryType::Link, 0), name, &first, &[], None);
            }
            self.seen.insert(key, name.to_owned());
        }
        let xattrs = xattr::kept(&place.path(), false);
        if kind.is_file() {
            // What goes meanwhile is not there.
            let Ok(mut file) = place.open_file() else { return Ok(()) };
            let size = file.metadata()?.len();
            let mut header = header(there, EntryType::Regular, size);
            return self.tar.entry(&mut header, name, b"", &xattrs, Some(&mut file));
        }
        if kind.is_symlink() {
            let target = fs::read_link(place.path())?.into_os_string().into_vec();
            return self.tar.entry(&mut header(there, EntryType::Symlink, 0), name, &target, &[], None);
        }
        let kind = match () {
            () if kind.is_fifo() => EntryType::Fifo,
            () if kind.is_char_device() => EntryType::Char,
            () if kind.is_block_device() => EntryType::Block,
            () => return Ok(()),
        };
        let mut header = header(there, kind, 0);
        if kind != EntryType::Fifo {
            let number = |n: u64| u32::try_from(n).unwrap_or_default();
            header.set_device_major(number(nix::sys::stat::major(there.rdev())))?;
            header.set_device_minor(number(nix::sys::stat::minor(there.rdev())))?;
        }
        self.tar.entry(&mut header, name, b"", &xattrs, None)
    }
}

fn header(there: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(there.mode() & 0o7777);
    header.set_uid(there.uid().into());
    header.set_gid(there.gid().into());
    header.set_mtime(u64::try_from(there.mtime()).unwrap_or_default());
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::os::unix::fs::symlink;

    use tar_reader::{Kind, Limits, Reader};

    use super::*;

    fn names(archive: &[u8]) -> Vec<(String, Kind)> {
        let mut tar = Reader::new(archive, Limits::default());
        let mut names = Vec::new();
        while let Some(entry) = tar.next_entry().unwrap() {
            names.push((String::from_utf8(entry.path).unwrap(), entry.kind));
        }
        names
    }

    #[test]
    fn what_is_packed_has_the_names_that_clients_expect() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(150);
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b").join(&long), "content").unwrap();
        fs::hard_link(dir.path().join("a/b").join(&long), dir.path().join("a/z")).unwrap();
        symlink("b", dir.path().join("a/link")).unwrap();
        let tree = Tree::new(dir.path()).unwrap();
        let pack =
            |path: &str| names(&Packer::new(&tree, Vec::new(), false).pack(&Wanted::of(path)).unwrap());
        let of = |name: &str, kind: Kind| (name.to_owned(), kind);
        let all = pack("/a");
        // Directories are listed in full before what is below them.
        assert_eq!(
            all[..3],
            [of("a/", Kind::Directory), of("a/b/", Kind::Directory), of("a/link", Kind::Symlink)]
        );
        assert_eq!(all[3..], [of("a/z", Kind::File), of(&format!("a/b/{long}"), Kind::HardLink)]);
        assert_eq!(pack("/a/."), all.iter().map(|(n, k)| (n.replacen('a', ".", 1), *k)).collect::<Vec<_>>());
        assert_eq!(pack("/")[..2], [of("/", Kind::Directory), of("/a/", Kind::Directory)]);
        assert_eq!(pack("/a/link"), [of("link", Kind::Symlink)]);
        assert_eq!(pack("/a/link/")[0], of("link/", Kind::Directory));
        assert_eq!(pack("/a/z"), [of("z", Kind::File)]);
    }
}
