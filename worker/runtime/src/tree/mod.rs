//! The files of a container, as it sees them: links inside lead nowhere outside.
//!
//! [`Tree`] is a root directory that every path is resolved in by the kernel (`openat2`, `RESOLVE_IN_ROOT`), whatever the container
//! does to its files meanwhile. [`pack`] writes what is there as a tar, [`extract`] puts a tar there, [`changes`] compares what a
//! container has written with its image, and [`view`] mounts the files of one that does not run.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
        },
    },
    path::{Component, Path, PathBuf},
};

use nix::errno::Errno;

pub mod changes;
pub mod extract;
pub mod pack;
pub mod view;

/// The root of a container's files.
pub struct Tree {
    root: File,
}

/// An open directory, without the right to read it.
const PLACE: i32 = libc::O_PATH | libc::O_DIRECTORY;
/// To read a directory.
const LIST: i32 = libc::O_RDONLY | libc::O_DIRECTORY;

/// A path in a container, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Absolute, without `.`, `..` and a slash at its end.
    pub path: PathBuf,
    /// Whether a link at its end is followed: where it ends with `/` or `/.`.
    pub follows: bool,
    /// What it is called, as Go's `filepath.Base` has it: `/` of the root, `.` where it ends with that.
    pub name: OsString,
}

impl Wanted {
    /// Reads a path: relative to the root, cleaned by its words alone, as Docker does.
    pub fn of(text: &str) -> Self {
        let mut path = PathBuf::from("/");
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => drop(path.pop()),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        let dot = text.ends_with("/.") || text == ".";
        let root = path == Path::new("/");
        let name = match path.file_name() {
            _ if dot && !root => ".".into(),
            Some(name) => name.to_owned(),
            None => "/".into(),
        };
        Self { follows: dot || root || text.ends_with('/'), path, name }
    }
}

/// A file by the directory that it is in and its name there: `/proc` leads past all links to it, and not past one that it is
/// itself.
pub struct Place {
    dir: File,
    name: OsString,
}

impl Place {
    /// A path of this process to it, for calls that do not follow links.
    pub fn path(&self) -> PathBuf {
        let dir = Path::new("/proc/self/fd").join(self.dir.as_raw_fd().to_string());
        if self.name.is_empty() { dir } else { dir.join(&self.name) }
    }

    /// What it is; of a link, the link.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match self.name.is_empty() {
            // The directory itself, behind the link in /proc.
            true => fs::metadata(self.path()),
            false => fs::symlink_metadata(self.path()),
        }
    }

    /// Opens it to read, if it is a file; nothing is waited for.
    pub fn open_file(&self) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(self.path())?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file any more")) }
    }
}

impl Tree {
    /// Of this directory.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { root: File::open(root)? })
    }

    fn open_with(&self, path: &Path, flags: i32, resolve: u64) -> io::Result<File> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let name = CString::new(relative.as_os_str().as_bytes())?;
        // SAFETY: all-zero is a valid `open_how`.
        let mut how: libc::open_how = unsafe { std::mem::zeroed() };
        how.flags = u64::from((flags | libc::O_CLOEXEC).unsigned_abs());
        how.resolve = libc::RESOLVE_IN_ROOT | resolve;
        loop {
            // SAFETY: the name is NUL-terminated and the size is that of the structure passed.
            let fd = unsafe {
                libc::syscall(
                    libc::SYS_openat2,
                    self.root.as_raw_fd(),
                    name.as_ptr(),
                    &raw const how,
                    size_of::<libc::open_how>(),
                )
            };
            match Errno::result(fd) {
                // Something was renamed while it looked.
                Err(Errno::EAGAIN) => continue,
                Err(error) => return Err(error.into()),
                Ok(fd) => {
                    let fd = i32::try_from(fd).map_err(io::Error::other)?;
                    // SAFETY: the kernel has just made this descriptor for us.
                    return Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
        }
    }

    /// Opens a path; links in it are followed, inside.
    pub fn open(&self, path: &Path, flags: i32) -> io::Result<File> {
        self.open_with(path, flags, 0)
    }

    /// Where a path leads: a link at its end is not followed.
    pub fn place(&self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Place { dir: self.open(Path::new("/"), PLACE)?, name: OsString::new() });
        };
        Ok(Place { dir: self.open(parent, PLACE)?, name: name.to_owned() })
    }

    /// Whether another file system is mounted at a path.
    fn is_mounted(&self, path: &Path) -> bool {
        let opened = self.open_with(path, libc::O_PATH | libc::O_NOFOLLOW, libc::RESOLVE_NO_XDEV);
        opened.is_err_and(|error| error.raw_os_error() == Some(libc::EXDEV))
    }

    /// The path, from the root, of what is open.
    fn name_of(&self, file: &File) -> Option<PathBuf> {
        let name = |fd: i32| fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        let inside = name(file.as_raw_fd())?;
        Some(Path::new("/").join(inside.strip_prefix(name(self.root.as_raw_fd())?).ok()?))
    }

    /// `mkdir -p`; what is made belongs to root.
    fn make_dirs(&self, path: &Path) -> io::Result<()> {
        for dir in path.ancestors().collect::<Vec<_>>().into_iter().rev().skip(1) {
            match self.open(dir, PLACE) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir(self.place(dir)?.path())?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind and permissions, as `stat` has them.
    pub mode: u32,
    /// Last change, in ns since the epoch.
    pub modified_nanos: u64,
    /// Where a link leads to in the container, followed to its end; empty otherwise.
    pub link_target: String,
}

impl Tree {
    /// What is at a path.
    pub fn stat(&self, wanted: &Wanted) -> io::Result<PathStat> {
        let there = match wanted.follows {
            true => self.open(&wanted.path, libc::O_PATH)?.metadata()?,
            false => self.place(&wanted.path)?.metadata()?,
        };
        let link_target = match there.is_symlink() {
            true => self.link_target(&wanted.path)?,
            false => PathBuf::new(),
        };
        let nanos = i128::from(there.mtime()) * 1_000_000_000 + i128::from(there.mtime_nsec());
        Ok(PathStat {
            name: wanted.name.to_string_lossy().into_owned(),
            size: there.len(),
            mode: there.mode(),
            modified_nanos: u64::try_from(nanos).unwrap_or_default(),
            link_target: link_target.to_string_lossy().into_owned(),
        })
    }

    fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        if let Ok(end) = self.open(path, libc::O_PATH)
            && let Some(name) = self.name_of(&end)
        {
            return Ok(name);
        }
        // It leads to nothing, which has a name all the same.
        let target = fs::read_link(self.place(path)?.path())?;
        let joined = path.parent().unwrap_or(Path::new("/")).join(target);
        Ok(Wanted::of(&joined.to_string_lossy()).path)
    }
}

/// A name joined to a path as bytes: `/` between them.
fn joined(dir: &[u8], name: &OsStr) -> Vec<u8> {
    [dir, b"/", name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_read_as_docker_does() {
        for (text, path, follows, name) in [
            ("/etc/passwd", "/etc/passwd", false, "passwd"),
            ("etc/", "/etc", true, "etc"),
            ("/etc/.", "/etc", true, "."),
            ("/", "/", true, "/"),
            ("/..", "/", true, "/"),
            ("/a/../../b", "/b", false, "b"),
        ] {
            let expected = Wanted { path: path.into(), follows, name: name.into() };
            assert_eq!(Wanted::of(text), expected, "{text}");
        }
    }

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(root.join("secret"), "in").unwrap();
        symlink("../../../secret", root.join("etc/up")).unwrap();
        symlink("/etc", root.join("way")).unwrap();
        symlink("/none/../gone", root.join("nowhere")).unwrap();
        let tree = Tree::new(&root).unwrap();
        let stat = tree.stat(&Wanted::of("/way/up")).unwrap();
        assert_eq!((stat.name.as_str(), stat.link_target.as_str()), ("up", "/secret"));
        assert_eq!(stat.mode & libc::S_IFMT, libc::S_IFLNK);
        assert_eq!(tree.stat(&Wanted::of("/nowhere")).unwrap().link_target, "/gone");
        assert_eq!(tree.stat(&Wanted::of("/../secret")).unwrap().size, 2);
        assert_eq!(tree.stat(&Wanted::of("/way/")).unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
        tree.make_dirs(Path::new("/way/new/er")).unwrap();
        assert!(root.join("etc/new/er").is_dir());
        let kind = tree.stat(&Wanted::of("/none")).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::NotFound);
    }
}
