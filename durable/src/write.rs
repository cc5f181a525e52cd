//! Writing.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::record;

/// How temporary files end.
const NEW: &str = ".new";

/// Replaces a file by these bytes, as they are: for files that other programs read too. On the disk when this returns.
/// `mode` is that of a new file.
///
/// # Errors
/// The file system's; the old file is untouched then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, &[bytes], mode)?;
    sync_dir(parent(path))
}

/// Replaces a file by a [record](record) with this content. On the disk when this returns.
///
/// # Errors
/// The file system's; the old file is untouched then.
pub fn save(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put(path, &[&record::header(content), content], mode)?;
    sync_dir(parent(path))
}

/// Replaces a file that nobody reads after the machine has gone down: it is there whole or not at all as long as the machine is
/// up, and costs no wait for the disk.
///
/// # Errors
/// The file system's; the old file is untouched then.
pub fn scratch(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = Temporary::create(path, &[bytes], mode)?;
    new.rename(path)
}

/// Renames what is on the disk already, and brings the new name to the disk.
///
/// # Errors
/// The file system's.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(parent(to))?;
    if parent(from) == parent(to) { Ok(()) } else { sync_dir(parent(from)) }
}

/// Removes a file that may be there, for good.
///
/// # Errors
/// The file system's.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Brings the names in a folder to the disk.
///
/// # Errors
/// The file system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes what interrupted writes have left in a folder. For its owner, before anyone writes there.
///
/// # Errors
/// The folder cannot be read.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(NEW.as_bytes()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn put(path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<()> {
    let new = Temporary::create(path, parts, mode)?;
    new.file.sync_all()?;
    new.rename(path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// A file beside the one that it will be; gone if it is dropped before.
pub(crate) struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    /// Under a name that nobody else uses: two writers of one file must not write into each other's.
    pub(crate) fn create(path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| io::Error::other("not the name of a file"))?;
        let own = format!(".{}-{}{NEW}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path =
            parent(path).join([OsStr::new("."), name, OsStr::new(&own)].into_iter().collect::<OsString>());
        // Of a process with the same number that did not get to its end.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        let mut new = Self { path, file, renamed: false };
        for part in parts {
            new.file.write_all(part)?;
        }
        Ok(new)
    }

    pub(crate) fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{PRIVATE, load};

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for content in [&b"one"[..], b"", b"three"] {
            save(&path, content, PRIVATE).unwrap();
            assert_eq!(load(&path).unwrap().unwrap(), content);
        }
        replace(&path, b"raw", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"raw");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // What cannot be done leaves the old file and no other.
        assert!(save(&dir.path().join("none/f"), b"", PRIVATE).is_err());
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(save(&dir.path().join("d"), b"", PRIVATE).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        fs::write(dir.path().join(".f.1-2.new"), "half").unwrap();
        sweep(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn writers_of_one_file_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::thread::scope(|scope| {
            for n in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    (0..20).for_each(|_| scratch(path, &record::seal(&[n; 5000]), PRIVATE).unwrap())
                });
            }
        });
        assert_eq!(load(&path).unwrap().unwrap().len(), 5000);
    }
}
