//! Unpacking a layer.
//!
//! The archive is not trusted: it is unpacked by a thread whose root directory is the layer's (`chroot` after
//! `unshare(CLONE_FS)`, so the rest of the process is not concerned). Whatever links it contains, nothing leads out. What it may cost
//! is bounded: the disk by [`Space`], the memory by [`Limits`] and [`MAX_NAMES`].

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, File, Permissions},
    io::{self, BufReader, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat},
        time::TimeSpec,
    },
};
use tar_reader::{Entry, Kind, Limits, Reader, Time};

use super::{
    space::Space,
    stream::{Digesting, decompressed_tar},
    tar_record::Recorder,
};
use crate::{Result, RuntimeError, xattr};

/// Files by this prefix mean "what is below is gone" (OCI image specification, `layer.md`).
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Files by this prefix are notes that AUFS made for itself.
const AUFS_NOTE: &[u8] = b".wh..wh.";
/// Bytes of the names that have to be remembered to the end: of directories and of whiteouts. A million directories with names of
/// 200 bytes are within it.
const MAX_NAMES: usize = 256 << 20;
/// Bytes that may follow the end of the archive: writers fill up to a whole record, 10 KiB by default.
const MAX_TAIL: u64 = 64 << 20;

/// An unpacked layer.
pub struct Layer {
    /// `sha256:…` of the uncompressed tar.
    pub diff_id: String,
    /// Bytes of its files.
    pub size: u64,
    /// Directories that it has without listing them, from its root (`/`): what is below says what they are like.
    pub implied: BTreeSet<PathBuf>,
}

impl Layer {
    /// Its digest without the algorithm.
    pub fn hex(&self) -> &str {
        super::hex_of(&self.diff_id)
    }
}

/// Unpacks a tar, compressed or not, into an empty directory; what the tar is rebuilt from goes into `record`.
pub fn unpack(input: impl Read + Send + 'static, record: File, dir: &Path, space: Space) -> Result<Layer> {
    let dir = dir.to_owned();
    let thread = std::thread::Builder::new().name("unpack".to_owned()).spawn(move || {
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).map_err(RuntimeError::io("chmod", &dir))?;
        confine(&dir).map_err(|error| RuntimeError::io("enter", &dir)(error.into()))?;
        unpack_here(input, record, &space).map_err(|error| RuntimeError::BadArchive(error.to_string()))
    });
    let thread = thread
        .map_err(|error| RuntimeError::Io { what: "start a thread".to_owned(), cause: error.to_string() })?;
    thread.join().unwrap_or_else(|_| Err(RuntimeError::BadArchive("unpacking it has failed".to_owned())))
}

fn confine(dir: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    nix::unistd::chroot(dir)?;
    nix::unistd::chdir("/")
}

fn unpack_here(input: impl Read, record: File, space: &Space) -> io::Result<Layer> {
    let mut input = Digesting::new(space.bound(decompressed_tar(input)?));
    let mut done = Done::default();
    done.implied.insert("/".into());
    let recorder = Recorder::new(record)?;
    let recorded = recorder.reader(BufReader::with_capacity(64 << 10, &mut input));
    let mut tar = Reader::new(recorded, Limits::default());
    while let Some(entry) = tar.next_entry()? {
        let path = entry_path(&entry.path)?;
        unpack_entry(&mut tar, &entry, &path, &mut done, &recorder)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    let headers = tar.headers();
    let mut tail = tar.into_inner().take(MAX_TAIL);
    if io::copy(&mut tail, &mut io::sink())? == MAX_TAIL {
        return Err(io::Error::other(format!("it goes on for more than {MAX_TAIL} bytes after its end")));
    }
    drop(tail);
    recorder.finish()?;
    let read = input.passed();
    // A layer that changes nothing is a tar of nothing but its end; something else has no end.
    if headers == 0 && read < 1024 {
        return Err(io::Error::other("it is empty, or not a tar"));
    }
    // Last, since making entries in a directory changes its times.
    for (path, mtime) in done.directories.iter().rev() {
        set_time(path, *mtime)?;
    }
    if let Some(first) = done.left_out {
        tracing::warn!(layer = %input.digest(), entries = done.left_out_count, %first, "left out what cannot be set here");
    }
    Ok(Layer { diff_id: input.finish(), size: done.size, implied: done.implied })
}

/// What has to be known of earlier entries.
#[derive(Default)]
struct Done {
    /// Bytes of content.
    size: u64,
    /// Directories with their times.
    directories: Vec<(PathBuf, Time)>,
    /// What this layer hides of those below.
    hidden: BTreeSet<PathBuf>,
    /// Directories that were made on the way to an entry, and are not listed, or not yet.
    implied: BTreeSet<PathBuf>,
    /// Bytes of all these names.
    names: usize,
    /// The first owner or attribute that could not be set, and of how many entries.
    left_out: Option<String>,
    left_out_count: u64,
}

impl Done {
    fn remember(&mut self, path: &Path) -> io::Result<()> {
        self.names += path.as_os_str().len() + size_of::<PathBuf>();
        if self.names > MAX_NAMES {
            return Err(io::Error::other(format!(
                "the names of its directories and whiteouts take more than {MAX_NAMES} bytes"
            )));
        }
        Ok(())
    }

    fn leave_out(&mut self, what: impl FnOnce() -> String) {
        self.left_out_count += 1;
        self.left_out.get_or_insert_with(what);
    }
}

fn entry_path(raw: &[u8]) -> io::Result<PathBuf> {
    // Longer than what the kernel takes; and short enough to be walked.
    if raw.len() >= 4096 {
        return Err(io::Error::other(format!("a name of {} bytes: at most 4095 can be made", raw.len())));
    }
    let raw = PathBuf::from(OsString::from_vec(raw.to_vec()));
    let mut path = PathBuf::from("/");
    for component in raw.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                return Err(io::Error::other(format!("{}: leads out of the archive", raw.display())));
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(path)
}

fn unpack_entry(
    tar: &mut Reader<impl Read>,
    entry: &Entry,
    path: &Path,
    done: &mut Done,
    recorder: &Recorder,
) -> io::Result<()> {
    make_parents(path, done)?;
    if let Some(name) = path.file_name().map(OsStrExt::as_bytes)
        && let Some(hidden) = name.strip_prefix(WHITEOUT)
    {
        let parent = path.parent().unwrap_or(Path::new("/"));
        return match name {
            OPAQUE => make_opaque(parent),
            _ if name.starts_with(AUFS_NOTE) => Ok(()),
            _ if matches!(hidden, b"" | b"." | b"..") => Err(io::Error::other("a whiteout of nothing")),
            _ => hide(parent.join(OsStr::from_bytes(hidden)), done),
        };
    }
    let target = || -> io::Result<&Path> {
        match entry.link.as_slice() {
            b"" => Err(io::Error::other("a link without a target")),
            link => Ok(Path::new(OsStr::from_bytes(link))),
        }
    };
    make_way(path, entry.kind == Kind::Directory)?;
    match entry.kind {
        Kind::Directory => {
            if path.symlink_metadata().is_err() {
                fs::create_dir(path)?;
                if done.hidden.contains(path) {
                    // It takes the place of what is below instead of being merged with it.
                    make_opaque(path)?;
                }
            }
            done.implied.remove(path);
        }
        Kind::Symlink => symlink(target()?, path)?,
        // Its owner, mode and times are those of the file that it names.
        Kind::HardLink => return fs::hard_link(Path::new("/").join(target()?), path),
        Kind::Char(major, minor) => make_node(path, SFlag::S_IFCHR, major, minor)?,
        Kind::Block(major, minor) => make_node(path, SFlag::S_IFBLK, major, minor)?,
        Kind::Fifo => mknod(path, SFlag::S_IFIFO, Mode::empty(), 0)?,
        Kind::File => done.size += write_file(tar, entry, path, recorder)?,
    }
    // The greatest number means "leave it as it is".
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    let (uid, gid) = (id(entry.uid), id(entry.gid));
    if uid.is_none() || gid.is_none() {
        done.leave_out(|| format!("{}: owner {}:{}", path.display(), entry.uid, entry.gid));
    }
    lchown(path, uid, gid)?;
    if entry.kind != Kind::Symlink {
        // After the owner: changing that clears the set-user-id bit. Some programs leave fields that mean zero empty.
        fs::set_permissions(path, Permissions::from_mode(entry.mode.unwrap_or(0o755) & 0o7777))?;
    }
    for (name, value) in &entry.xattrs {
        // Overlayfs's own attributes would let an image hide or redirect files of the layers below.
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        // A file system, or a security module, without such attributes is no reason to refuse an image.
        if let Err(error) = xattr::set(path, name, value) {
            done.leave_out(|| {
                format!("{}: attribute {}: {error}", path.display(), String::from_utf8_lossy(name))
            });
        }
    }
    if entry.kind == Kind::Directory {
        done.remember(path)?;
        done.directories.push((path.to_owned(), entry.mtime));
        Ok(())
    } else {
        set_time(path, entry.mtime)
    }
}

/// Holes stay holes. How many bytes were written.
fn write_file(
    tar: &mut Reader<impl Read>,
    entry: &Entry,
    path: &Path,
    recorder: &Recorder,
) -> io::Result<u64> {
    let file = File::create_new(path)?;
    let mut buffer = vec![0; 64 << 10];
    let (mut end, mut written) = (0, 0);
    while let Some(chunk) = recorder.content(|| tar.read_chunk(&mut buffer))? {
        file.write_all_at(buffer.get(..chunk.len).unwrap_or_default(), chunk.offset)?;
        let len = u64::try_from(chunk.len).unwrap_or_default();
        recorder.refer(path, chunk.offset, len)?;
        end = chunk.offset + len;
        written += len;
    }
    if end < entry.size {
        file.set_len(entry.size)?;
    }
    Ok(written)
}

/// Our form of a whiteout is the one that overlayfs itself writes. It concerns the layers below alone: what this layer has
/// under that name stays, whichever comes first in the archive.
fn hide(path: PathBuf, done: &mut Done) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() => {
            make_opaque(&path)?;
            done.implied.remove(&path);
        }
        Ok(_) => {}
        Err(_) => mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0)?,
    }
    done.remember(&path)?;
    done.hidden.insert(path);
    Ok(())
}

fn make_opaque(dir: &Path) -> io::Result<()> {
    xattr::set(dir, b"trusted.overlay.opaque", b"y")
}

/// Makes the directories above an entry that the archive does not mention, or not yet. A parent that was hidden and comes
/// back with something in it must not show what is below.
fn make_parents(path: &Path, done: &mut Done) -> io::Result<()> {
    let is_there = |dir: &Path| dir.metadata().is_ok_and(|there| there.is_dir());
    if path.parent().is_none_or(is_there) {
        return Ok(());
    }
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for parent in above.into_iter().rev() {
        if is_there(parent) {
            continue;
        }
        match parent.symlink_metadata() {
            Ok(there) if there.file_type().is_char_device() && there.rdev() == 0 => fs::remove_file(parent)?,
            _ => {}
        }
        fs::create_dir(parent)?;
        if done.hidden.contains(parent) {
            make_opaque(parent)?;
        } else {
            done.remember(parent)?;
            done.implied.insert(parent.to_owned());
        }
    }
    Ok(())
}

/// A later entry of the same name replaces an earlier one; directories are merged.
fn make_way(path: &Path, for_dir: bool) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() && for_dir => Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn make_node(path: &Path, kind: SFlag, major: u32, minor: u32) -> io::Result<()> {
    Ok(mknod(path, kind, Mode::empty(), makedev(major.into(), minor.into()))?)
}

fn set_time(path: &Path, mtime: Time) -> io::Result<()> {
    let time = TimeSpec::new(mtime.secs, mtime.nanos.into());
    Ok(utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}
