//! Unpacking a layer.
//!
//! The archive is not trusted: it is unpacked by a thread whose root directory is the layer's (`chroot` after
//! `unshare(CLONE_FS)`, so the rest of the process is not concerned). Whatever links it contains, nothing leads out.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs::{self, File, Permissions},
    io::{self, BufReader, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat},
        time::TimeSpec,
    },
};
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;

use crate::runtime::{Result, RuntimeError};

/// Files by this prefix mean "what is below is gone" (OCI image specification, `layer.md`).
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Files by this prefix are notes that AUFS made for itself.
const AUFS_NOTE: &str = ".wh..wh.";

/// An unpacked layer.
pub struct Layer {
    /// `sha256:…` of the uncompressed tar.
    pub diff_id: String,
    /// Bytes of its files.
    pub size: u64,
}

impl Layer {
    /// Its digest without the algorithm.
    pub fn hex(&self) -> &str {
        super::hex_of(&self.diff_id)
    }
}

/// Unpacks a tar, compressed or not, into an empty directory.
pub fn unpack(input: impl Read + Send + 'static, dir: &Path) -> Result<Layer> {
    let dir = dir.to_owned();
    let thread = std::thread::Builder::new().name("unpack".to_owned()).spawn(move || {
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).map_err(RuntimeError::io("chmod", &dir))?;
        confine(&dir).map_err(|error| RuntimeError::io("enter", &dir)(error.into()))?;
        unpack_here(input).map_err(|error| RuntimeError::BadArchive(error.to_string()))
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

/// What arrives from a channel, as a reader.
pub struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl From<mpsc::Receiver<io::Result<Bytes>>> for Chunks {
    fn from(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { chunks, rest: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.rest = chunk?,
            }
        }
        let count = buffer.len().min(self.rest.len());
        let taken = self.rest.split_to(count);
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(&taken);
        Ok(count)
    }
}

/// Digests what passes through.
pub struct Digesting<R> {
    inner: R,
    digest: ring::digest::Context,
    passed: u64,
}

impl<R> Digesting<R> {
    /// Nothing has passed yet.
    pub fn new(inner: R) -> Self {
        Self { inner, digest: ring::digest::Context::new(&ring::digest::SHA256), passed: 0 }
    }

    /// `sha256:…` of what has passed.
    pub fn finish(self) -> String {
        format!("sha256:{}", super::hex(self.digest.finish().as_ref()))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.passed += u64::try_from(count).unwrap_or_default();
        self.digest.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The content of what may be compressed: by gzip, zstd, or not at all.
pub fn decompressed<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let (gzip, zstd) = (magic.starts_with(&[0x1f, 0x8b]), magic == [0x28, 0xb5, 0x2f, 0xfd]);
    let input = BufReader::with_capacity(64 << 10, io::Cursor::new(magic).chain(input));
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(flate2::read::MultiGzDecoder::new(input)),
        (_, true) => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        _ => Box::new(input),
    })
}

fn unpack_here(input: impl Read) -> io::Result<Layer> {
    let mut input = Digesting::new(decompressed(input)?);

    let mut size = 0;
    let mut entries = 0;
    let mut done = Done::default();
    let mut archive = Archive::new(BufReader::with_capacity(64 << 10, &mut input));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry_path(&entry)?;
        let what = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        size += entry.size();
        entries += 1;
        unpack_entry(&mut entry, &path, &mut done).map_err(what)?;
    }
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    let read = input.passed;
    // A layer that changes nothing is a tar of nothing but its end; something else has no end.
    if entries == 0 && read < 1024 {
        return Err(io::Error::other("it is empty, or not a tar"));
    }
    // Last, since making entries in a directory changes its times.
    for (path, mtime) in done.directories.iter().rev() {
        set_time(path, *mtime)?;
    }
    Ok(Layer { diff_id: input.finish(), size })
}

/// What has to be known of earlier entries.
#[derive(Default)]
struct Done {
    /// Directories with their times.
    directories: Vec<(PathBuf, u64)>,
    /// What this layer hides of those below.
    hidden: BTreeSet<PathBuf>,
}

fn entry_path(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let raw = PathBuf::from(std::ffi::OsString::from_vec(entry.path_bytes().into_owned()));
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

fn unpack_entry(entry: &mut Entry<'_, impl Read>, path: &Path, done: &mut Done) -> io::Result<()> {
    let header = entry.header().clone();
    let kind = header.entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    make_parents(path, done)?;
    if let Some(name) = path.file_name().and_then(|name| name.to_str())
        && let Some(hidden) = name.strip_prefix(WHITEOUT)
    {
        let parent = path.parent().unwrap_or(Path::new("/"));
        return match name {
            OPAQUE => make_opaque(parent),
            _ if name.starts_with(AUFS_NOTE) => Ok(()),
            _ if matches!(hidden, "" | "." | "..") => Err(io::Error::other("a whiteout of nothing")),
            _ => hide(parent.join(hidden), done),
        };
    }
    // Some programs leave fields that mean zero empty.
    let mode = header.mode().unwrap_or(0o755) & 0o7777;
    let is_dir = kind == EntryType::Directory;
    make_way(path, is_dir)?;
    match kind {
        EntryType::Directory => {
            if path.symlink_metadata().is_err() {
                fs::create_dir(path)?;
                if done.hidden.contains(path) {
                    // It takes the place of what is below instead of being merged with it.
                    make_opaque(path)?;
                }
            }
        }
        EntryType::Symlink => {
            let target =
                entry.link_name_bytes().ok_or_else(|| io::Error::other("a link without a target"))?;
            symlink(std::ffi::OsStr::from_bytes(&target), path)?;
        }
        EntryType::Link => {
            let target =
                entry.link_name_bytes().ok_or_else(|| io::Error::other("a link without a target"))?;
            // Its owner, mode and times are those of the file that it names.
            return fs::hard_link(Path::new("/").join(std::ffi::OsStr::from_bytes(&target)), path);
        }
        EntryType::Char => make_node(&header, path, SFlag::S_IFCHR)?,
        EntryType::Block => make_node(&header, path, SFlag::S_IFBLK)?,
        EntryType::Fifo => mknod(path, SFlag::S_IFIFO, Mode::empty(), 0)?,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mut file = File::create_new(path)?;
            io::copy(entry, &mut file)?;
        }
        // An unknown kind is to be treated as a regular file (POSIX pax).
        _ => {
            let mut file = File::create_new(path)?;
            io::copy(entry, &mut file)?;
        }
    }
    let id = |field: io::Result<u64>| u32::try_from(field.unwrap_or(0)).ok();
    let owner = (id(header.uid()), id(header.gid()));
    let (uid, gid) = pax_owner(entry, owner)?;
    lchown(path, uid, gid)?;
    if kind != EntryType::Symlink {
        // After the owner: changing that clears the set-user-id bit.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    for (name, value) in pax_xattrs(entry)? {
        set_xattr(path, &name, &value)?;
    }
    let mtime = header.mtime().unwrap_or(0);
    if is_dir {
        done.directories.push((path.to_owned(), mtime));
        Ok(())
    } else {
        set_time(path, mtime)
    }
}

/// Our form of a whiteout is the one that overlayfs itself writes. It concerns the layers below alone: what this layer has
/// under that name stays, whichever comes first in the archive.
fn hide(path: PathBuf, done: &mut Done) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() => make_opaque(&path)?,
        Ok(_) => {}
        Err(_) => mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0)?,
    }
    done.hidden.insert(path);
    Ok(())
}

fn make_opaque(dir: &Path) -> io::Result<()> {
    set_xattr(dir, b"trusted.overlay.opaque", b"y")
}

/// Makes the directories above an entry that the archive does not mention, or not yet. A parent that was hidden and comes
/// back with something in it must not show what is below.
fn make_parents(path: &Path, done: &Done) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if let Ok(there) = parent.metadata()
        && there.is_dir()
    {
        return Ok(());
    }
    make_parents(parent, done)?;
    match parent.symlink_metadata() {
        Ok(there) if there.file_type().is_char_device() && there.rdev() == 0 => fs::remove_file(parent)?,
        _ => {}
    }
    fs::create_dir(parent)?;
    if done.hidden.contains(parent) { make_opaque(parent) } else { Ok(()) }
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

fn make_node(header: &tar::Header, path: &Path, kind: SFlag) -> io::Result<()> {
    let major = header.device_major().ok().flatten().unwrap_or(0);
    let minor = header.device_minor().ok().flatten().unwrap_or(0);
    Ok(mknod(path, kind, Mode::empty(), makedev(major.into(), minor.into()))?)
}

/// Owners that do not fit into the header are in a pax record.
fn pax_owner(
    entry: &mut Entry<'_, impl Read>,
    mut owner: (Option<u32>, Option<u32>),
) -> io::Result<(Option<u32>, Option<u32>)> {
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        match extension.key() {
            Ok("uid") => owner.0 = extension.value().ok().and_then(|text| text.parse().ok()).or(owner.0),
            Ok("gid") => owner.1 = extension.value().ok().and_then(|text| text.parse().ok()).or(owner.1),
            _ => {}
        }
    }
    Ok(owner)
}

type Xattr = (Vec<u8>, Vec<u8>);

fn pax_xattrs(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<Xattr>> {
    let mut found = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") {
            // Overlayfs's own attributes would let an image hide or redirect files of the layers below.
            if !name.starts_with(b"trusted.overlay.") {
                found.push((name.to_vec(), extension.value_bytes().to_vec()));
            }
        }
    }
    Ok(found)
}

fn set_xattr(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: both strings are NUL-terminated and the length is the value's.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    match Errno::result(result) {
        // A file system without such attributes is no reason to refuse an image.
        Ok(_) | Err(Errno::ENOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn set_time(path: &Path, mtime: u64) -> io::Result<()> {
    let time = TimeSpec::new(i64::try_from(mtime).unwrap_or(0), 0);
    Ok(utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}
