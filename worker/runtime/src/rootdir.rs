//! Reading files of a container or an image as it would see them: links inside lead nowhere outside.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
};

use nix::errno::Errno;

/// No file that we read this way is longer.
const MAX_FILE: u64 = 4 << 20;

/// A file's text; none if it is not there.
pub fn read(root: &Path, path: &str) -> io::Result<Option<String>> {
    match open(&File::open(root)?, path) {
        Ok(file) => {
            let mut text = Vec::new();
            file.take(MAX_FILE).read_to_end(&mut text)?;
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file's text in a stack of layers, the top one first; none if it is not there.
pub fn read_layered(layers_dir: &Path, layers: &[PathBuf], path: &str) -> io::Result<Option<String>> {
    for layer in layers {
        let root = layers_dir.join(layer);
        if let Some(text) = read(&root, path)? {
            return Ok(Some(text));
        }
        if hides_below(&root, path) {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Whether a layer hides what the layers below it have under this path: by a whiteout of it or of a directory above, or by an
/// opaque directory above.
fn hides_below(root: &Path, path: &str) -> bool {
    let mut here = root.to_owned();
    for part in Path::new(path.trim_start_matches('/')) {
        here.push(part);
        let Ok(there) = here.symlink_metadata() else { return false };
        if there.file_type().is_char_device() && there.rdev() == 0 {
            return true;
        }
        if !there.is_dir() || is_opaque(&here) {
            return true;
        }
    }
    false
}

pub(super) fn is_opaque(dir: &Path) -> bool {
    let Ok(path) = CString::new(dir.as_os_str().as_bytes()) else { return false };
    let mut value = [0_u8; 1];
    // SAFETY: both names are NUL-terminated and the length is the buffer's.
    let got = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            c"trusted.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    got == 1 && value == *b"y"
}

fn open(root: &File, path: &str) -> io::Result<File> {
    let name = CString::new(Path::new(path.trim_start_matches('/')).as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid `open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // Not to wait for the other end of a fifo.
    how.flags = u64::from((libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK).unsigned_abs());
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: the name is NUL-terminated and the size is that of the structure passed.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            name.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    let fd = i32::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        std::os::unix::fs::symlink("../../../secret", root.join("etc/up")).unwrap();
        std::os::unix::fs::symlink("/secret", root.join("etc/absolute")).unwrap();
        for path in ["/etc/up", "etc/absolute"] {
            assert_eq!(read(&root, path).unwrap().as_deref(), Some("inside"));
        }
        assert_eq!(read(&root, "etc/none").unwrap(), None);
    }
}
