//! The shim program, held in memory, and what it is run for.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
};

use shim_wire::{EXIT_FILE, ExitStatus};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{ContainerFile, ContainerState, Result, RuntimeError};

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

    /// Makes and watches over the container in a directory; returns once it is created. `files` are its secrets and configs, which no
    /// file of ours holds.
    pub async fn run(&self, dir: &Path, files: &[ContainerFile]) -> Result<()> {
        let failed = || RuntimeError::io("run", self.path());
        let mut command = self.command("run");
        command.arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !files.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut shim = command.spawn().map_err(failed())?;
        let mut stdin = shim.stdin.take();
        let give = async {
            if let Some(stdin) = &mut stdin {
                for file in files {
                    // One that has ended already says why.
                    if stdin.write_all(&file.data.0).await.is_err() {
                        break;
                    }
                }
            }
            drop(stdin);
        };
        let (output, ()) = tokio::join!(shim.wait_with_output(), give);
        let output = output.map_err(failed())?;
        if output.stdout.starts_with(shim_wire::CREATED.as_bytes()) {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(RuntimeError::Create(match reason.is_empty() {
            true => "the container's shim died without a word".to_owned(),
            false => reason,
        }))
    }

    /// Ends whatever is left of a container without a shim.
    pub async fn reap(&self, dir: &Path) {
        if dir.join(shim_wire::SPEC_FILE).exists() {
            let _ = self.command("reap").arg(dir).output().await;
        }
    }

    /// The state of a container that has no shim any more.
    pub async fn ended(&self, dir: &Path) -> ContainerState {
        if exit_status(dir).is_none() {
            self.reap(dir).await;
        }
        ContainerState::Exited(exit_status(dir).unwrap_or_else(|| ExitStatus {
            code: 137,
            error: "its exit status is lost".to_owned(),
            ..ExitStatus::default()
        }))
    }

    /// The program with what to do.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.path());
        command.arg0("rn-shim").arg(verb).stdin(Stdio::null());
        command
    }
}

/// How a container has ended, from its directory.
fn exit_status(dir: &Path) -> Option<ExitStatus> {
    // A damaged one is as good as none: the caller says that it is lost.
    durable::load_as(&dir.join(EXIT_FILE), |text| serde_json::from_slice(text)).ok()?
}
