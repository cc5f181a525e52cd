//! Putting a tar's files into a container, as `docker cp` sends them.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io::{self, BufReader, Read},
    os::unix::{
        ffi::OsStringExt,
        fs::{FileExt, PermissionsExt, lchown, symlink},
    },
    path::{Component, Path, PathBuf},
};

use nix::sys::{
    stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat},
    time::TimeSpec,
};
use tar_reader::{Entry, Kind, Limits, Reader, Time};

use super::{PLACE, Tree};
use crate::{image::decompressed_tar, xattr};

/// How a tar's files are put into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// A directory takes no other file's place, and no other file a directory's.
    pub keep_kinds: bool,
    /// Who everything belongs to, user and group; none = as the tar says.
    pub owner: Option<(u32, u32)>,
}

/// Why files cannot be put into a container.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// There is nothing at the path.
    #[error("there is no such directory")]
    Missing,
    /// What is there is no directory.
    #[error("extraction point is not a directory")]
    NotADirectory,
    /// It cannot be written to.
    #[error("{0} is marked read-only")]
    ReadOnly(&'static str),
    /// The archive is none, or does not fit what is there.
    #[error("{0}")]
    Archive(io::Error),
}

impl Tree {
    /// Puts the files of a tar, compressed or not, into a directory that is there.
    pub fn extract(
        &self,
        to: &Path,
        archive: impl Read,
        options: ExtractOptions,
    ) -> Result<(), ExtractError> {
        let target = match self.open(to, libc::O_PATH) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ExtractError::Missing),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(ExtractError::NotADirectory);
            }
            Err(error) => return Err(ExtractError::Archive(error)),
        };
        if !target.metadata().map_err(ExtractError::Archive)?.is_dir() {
            return Err(ExtractError::NotADirectory);
        }
        let is_read_only = |file: &File| {
            nix::sys::statvfs::fstatvfs(file)
                .is_ok_and(|s| s.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY))
        };
        if is_read_only(&target) {
            let root = self.open(Path::new("/"), PLACE).is_ok_and(|root| is_read_only(&root));
            return Err(ExtractError::ReadOnly(if root { "container rootfs" } else { "mounted volume" }));
        }
        self.extract_into(to, archive, options).map_err(ExtractError::Archive)
    }

    fn extract_into(&self, to: &Path, archive: impl Read, options: ExtractOptions) -> io::Result<()> {
        let input = BufReader::with_capacity(64 << 10, decompressed_tar(archive)?);
        let mut tar = Reader::new(input, Limits::default());
        let mut directories = Vec::new();
        while let Some(entry) = tar.next_entry()? {
            let name = inside(&entry.path)?;
            if name.as_os_str().is_empty() {
                // The directory itself stays as it is.
                continue;
            }
            let path = to.join(&name);
            let put = self.put(&mut tar, &entry, to, &path, options);
            put.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", name.display())))?;
            if entry.kind == Kind::Directory {
                directories.push((path, entry.mtime));
            }
        }
        // Last, since making entries in a directory changes its times.
        for (path, modified) in directories.iter().rev() {
            set_time(&self.place(path)?.path(), *modified)?;
        }
        // Whoever sends it may go on after its end.
        io::copy(&mut tar.into_inner(), &mut io::sink())?;
        Ok(())
    }

    fn put(
        &self,
        tar: &mut Reader<impl Read>,
        entry: &Entry,
        to: &Path,
        path: &Path,
        options: ExtractOptions,
    ) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.make_dirs(parent)?;
        }
        let place = self.place(path)?;
        let own = place.path();
        let directory = entry.kind == Kind::Directory;
        let there = fs::symlink_metadata(&own).ok();
        if let Some(there) = &there {
            if options.keep_kinds && there.is_dir() != directory {
                let (old, new) = if there.is_dir() {
                    ("directory", "non-directory")
                } else {
                    ("non-directory", "directory")
                };
                return Err(io::Error::other(format!("cannot overwrite {old} with {new}")));
            }
            match (there.is_dir(), directory) {
                (true, true) => {}
                (true, false) => fs::remove_dir_all(&own)?,
                (false, _) => fs::remove_file(&own)?,
            }
        }
        match entry.kind {
            Kind::Directory if there.is_some_and(|there| there.is_dir()) => {}
            Kind::Directory => fs::create_dir(&own)?,
            Kind::Symlink => symlink(PathBuf::from(OsString::from_vec(entry.link.clone())), &own)?,
            Kind::HardLink => {
                let target = self.place(&to.join(inside(&entry.link)?))?;
                // Its owner, mode and times are those of the file that it names.
                return fs::hard_link(target.path(), &own);
            }
            Kind::Char(major, minor) => node(&own, SFlag::S_IFCHR, major, minor)?,
            Kind::Block(major, minor) => node(&own, SFlag::S_IFBLK, major, minor)?,
            Kind::Fifo => mknod(&own, SFlag::S_IFIFO, Mode::empty(), 0)?,
            Kind::File => write_file(tar, entry, &own)?,
        }
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (uid, gid) = match options.owner {
            Some((uid, gid)) => (Some(uid), Some(gid)),
            None => (id(entry.uid), id(entry.gid)),
        };
        lchown(&own, uid, gid)?;
        if entry.kind != Kind::Symlink {
            // After the owner: changing that clears the set-user-id bit.
            fs::set_permissions(&own, Permissions::from_mode(entry.mode.unwrap_or(0o755) & 0o7777))?;
        }
        for (name, value) in &entry.xattrs {
            if name == b"security.capability" || name.starts_with(b"user.") {
                // A file system without such attributes is no reason to refuse a file.
                let _ = xattr::set(&own, name, value);
            }
        }
        if directory { Ok(()) } else { set_time(&own, entry.mtime) }
    }
}

/// A name of the archive, below where it is extracted.
fn inside(raw: &[u8]) -> io::Result<PathBuf> {
    let raw = PathBuf::from(OsString::from_vec(raw.to_vec()));
    let mut path = PathBuf::new();
    for component in raw.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::ParentDir => {
                return Err(io::Error::other(format!("{}: leads out of the archive", raw.display())));
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

fn write_file(tar: &mut Reader<impl Read>, entry: &Entry, path: &Path) -> io::Result<()> {
    // Nobody has put a link there meanwhile.
    let file = File::create_new(path)?;
    let mut buffer = vec![0; 64 << 10];
    while let Some(chunk) = tar.read_chunk(&mut buffer)? {
        file.write_all_at(buffer.get(..chunk.len).unwrap_or_default(), chunk.offset)?;
    }
    if file.metadata()?.len() < entry.size {
        file.set_len(entry.size)?;
    }
    Ok(())
}

fn node(path: &Path, kind: SFlag, major: u32, minor: u32) -> io::Result<()> {
    Ok(mknod(path, kind, Mode::empty(), makedev(major.into(), minor.into()))?)
}

fn set_time(path: &Path, modified: Time) -> io::Result<()> {
    let time = TimeSpec::new(modified.secs, modified.nanos.into());
    Ok(utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            // Root is who makes directories on the way, and who tests are run by.
            let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
            header.set_size(if link { 0 } else { content.len() as u64 });
            if link {
                header.set_link_name(content).unwrap();
            }
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, if link { &[][..] } else { content.as_bytes() }).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn what_is_sent_stays_inside() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("to")).unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        let tree = Tree::new(&root).unwrap();
        let owner = Some((nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()));
        let options = ExtractOptions { owner, ..ExtractOptions::default() };
        let put = |entries: &[(&str, tar::EntryType, &str)], options| {
            tree.extract(Path::new("/to"), archive(entries).as_slice(), options)
        };
        put(
            &[("./", Directory, ""), ("d/", Directory, ""), ("d/f", Regular, "one"), ("d/l", Link, "d/f")],
            options,
        )
        .unwrap();
        assert_eq!(fs::read_to_string(root.join("to/d/l")).unwrap(), "one");
        // A link in the archive itself leads to the container's own files.
        put(&[("way", Symlink, "../../.."), ("way/outside", Regular, "in")], options).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "outside");
        assert_eq!(fs::read_to_string(root.join("outside")).unwrap(), "in");
        assert!(put(&[("../x", Regular, "")], options).unwrap_err().to_string().contains("leads out"));
        let careful = ExtractOptions { keep_kinds: true, ..options };
        let error = put(&[("d", Regular, "x")], careful).unwrap_err().to_string();
        assert!(error.contains("cannot overwrite directory with non-directory"), "{error}");
        put(&[("d", Regular, "x")], options).unwrap();
        assert!(root.join("to/d").is_file());
        assert!(matches!(tree.extract(Path::new("/none"), &[][..], options), Err(ExtractError::Missing)));
        let on_file = tree.extract(Path::new("/to/d"), &[][..], options);
        assert!(matches!(on_file, Err(ExtractError::NotADirectory)));
    }
}
