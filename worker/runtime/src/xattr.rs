//! Extended attributes of files.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

use nix::errno::Errno;

/// No attribute that is kept is longer (Linux's `XATTR_SIZE_MAX`).
const MAX: usize = 64 << 10;

/// Sets one; of a link, the link's.
pub fn set(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    // SAFETY: both strings are NUL-terminated and the length is the value's.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result)?;
    Ok(())
}

/// Those that belong to a file's meaning and go with it wherever it goes: capabilities, and what users set. `follow` = the path is
/// a link of `/proc`.
pub fn kept(path: &Path, follow: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Vec::new() };
    let mut names = vec![0_u8; MAX];
    let list = if follow { libc::listxattr } else { libc::llistxattr };
    // SAFETY: the path is NUL-terminated and the length is the buffer's.
    let len = unsafe { list(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(usize::try_from(len).unwrap_or_default());
    let get = if follow { libc::getxattr } else { libc::lgetxattr };
    let wanted = |name: &&[u8]| *name == b"security.capability" || name.starts_with(b"user.");
    let read = |name: &[u8]| {
        let key = CString::new(name).ok()?;
        let mut value = vec![0_u8; MAX];
        // SAFETY: both names are NUL-terminated and the length is the buffer's.
        let len = unsafe { get(path.as_ptr(), key.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(usize::try_from(len).ok()?);
        Some((name.to_vec(), value))
    };
    names.split(|byte| *byte == 0).filter(wanted).filter_map(read).collect()
}
