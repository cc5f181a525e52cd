//! Network namespaces: made, entered and removed, always on threads that live for one errand.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::Path,
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use super::{error::Cause, step::Ns};

/// Magic number of the file system that namespaces live on (`linux/magic.h`).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Runs something in a namespace and hands back what it made. Sockets that it opens stay with that namespace; the calling thread
/// stays in its own. Takes about 50 us besides the work itself.
pub fn in_ns<T: Send>(ns: &Ns, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    match ns {
        Ns::Host => Ok(work()),
        Ns::Path(path) => in_file(&open(path)?, work),
    }
}

/// Opens a namespace's file. One that no namespace is bound to counts as absent.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if is_namespace(&file)? { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn is_namespace(file: &File) -> io::Result<bool> {
    Ok(nix::sys::statfs::fstatfs(file)?.filesystem_type().0 as i64 == NSFS_MAGIC)
}

/// Whether a namespace is bound to this file.
pub(super) fn exists(path: &Path) -> bool {
    open(path).is_ok()
}

/// Identifies a namespace as long as it lives.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Runs something in the namespace of an open file.
pub(super) fn in_file<T: Send>(file: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("rn-netns".into())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes a namespace and binds it to a file. The file may exist, if nothing is bound to it.
pub(super) fn create(path: &Path) -> Result<(), Cause> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(Cause::system("make the directory"))?;
    }
    File::create(path).map_err(Cause::system("make the namespace's file"))?;
    let made = on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    made.map_err(|error| {
        let _ = fs::remove_file(path);
        Cause::System { what: "make the namespace", error }
    })
}

/// Unbinds a namespace's file and removes it. The namespace itself goes with its last user.
pub(super) fn delete(path: &Path) -> Result<(), Cause> {
    // More than one may have been bound over it; EINVAL says that none is left.
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(e) => return Err(Cause::system("unmount the namespace")(e)),
        }
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Cause::system("remove the namespace's file")(e)),
        _ => Ok(()),
    }
}

/// An anonymous namespace, for probing and tests: a file in `/proc/self/fd` leads to it while the value lives.
pub struct Scratch(File);

impl Scratch {
    /// Makes one. Needs CAP_SYS_ADMIN.
    pub fn new() -> io::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })
        .map(Self)
    }

    /// How to address it, from this process.
    pub fn ns(&self) -> Ns {
        Ns::Path(format!("/proc/self/fd/{}", self.0.as_raw_fd()).into())
    }

    /// Runs something in it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_file(&self.0, work)
    }
}
