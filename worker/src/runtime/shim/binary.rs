//! The shim program, held in memory.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
};

use crate::runtime::{Result, RuntimeError};

/// A sealed copy of `rn-shim`, made when the daemon starts and shared by all shims that it starts.
///
/// Sealed, because a container's root can reach the program that enters it (`/proc/self/exe`) and would, if it could write to
/// it, own the machine with the next container (CVE-2019-5736). In memory, so that an upgrade may replace the file at any time.
#[derive(Debug, Clone)]
pub struct ShimBinary {
    path: PathBuf,
    _memory: Arc<OwnedFd>,
}

impl ShimBinary {
    /// Copies the program.
    pub fn open(program: &Path) -> Result<Self> {
        let sealed = || -> io::Result<OwnedFd> {
            let name = CString::new("rn-shim")?;
            let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
            // SAFETY: the name is NUL-terminated.
            let fd = Errno::result(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
            // SAFETY: the kernel has just made this descriptor for us.
            let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
            io::copy(&mut File::open(program)?, &mut memory)?;
            let seals = SealFlag::F_SEAL_WRITE
                | SealFlag::F_SEAL_GROW
                | SealFlag::F_SEAL_SHRINK
                | SealFlag::F_SEAL_SEAL;
            fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
            Ok(memory.into())
        };
        let memory = sealed().map_err(RuntimeError::io("load the shim", program))?;
        // Resolved by the child between fork and exec, where the descriptor is still open.
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        Ok(Self { path, _memory: Arc::new(memory) })
    }

    /// What to execute.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
