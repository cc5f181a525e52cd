//! Making a container: its root file system, then all the rest by libcontainer.
//!
//! This runs in a child of the shim with a mount namespace of its own, so that the overlay is seen by the container only and
//! goes with it: there is no mount to clean up, whatever dies first.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use shim_wire::{CopyUp, Directory, FILES_DIR, Rootfs, ShimSpec, VolumeMount};

use crate::{
    error_log::{self, ErrorLog},
    files,
    program::Program,
};

/// Where libcontainer keeps its state, in the run directory.
pub const STATE_DIR: &str = "state";
/// The socket that a container's terminal arrives on, in the run directory.
pub const CONSOLE_FILE: &str = "console.sock";

/// Makes the container; its first process, which waits to be started and is our *parent's* child.
/// Without `stdin`, its standard input is empty. `contents` is what is in its files in memory.
pub fn create(
    spec: &ShimSpec,
    contents: &[Vec<u8>],
    stdin: Option<OwnedFd>,
    [stdout, stderr]: [OwnedFd; 2],
) -> Result<i32> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare the mount namespace")?;
    // libcontainer's copies of bind sources take part in what their originals take part in here.
    let propagation = if spec.sees_later_mounts { MsFlags::MS_SLAVE } else { MsFlags::MS_PRIVATE };
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | propagation, None::<&str>)
        .context("make mounts private")?;
    for volume in &spec.volume_mounts {
        mount_volume(volume)?;
    }
    files::place(&spec.run_dir.join(FILES_DIR), &spec.files, contents)?;
    mount_rootfs(&spec.rootfs)?;
    let root = open_directory(&spec.rootfs.target)?;
    for directory in &spec.directories {
        make_directory(&root, directory).with_context(|| format!("create {}", directory.path.display()))?;
    }
    for copy in &spec.copy_up {
        copy_up(&root, copy).with_context(|| format!("fill the volume at {}", copy.from.display()))?;
    }
    drop(root);

    // libcontainer's socket names are relative to where it is.
    std::env::set_current_dir("/").context("chdir /")?;
    let state = spec.run_dir.join(STATE_DIR);
    fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let causes = ErrorLog::keep();
    let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_executor(Program)
        .with_root_path(state)
        .and_then(ContainerBuilder::validate_id)?;
    if spec.terminal {
        builder = builder.with_console_socket(Some(spec.run_dir.join(CONSOLE_FILE)));
    } else {
        let stdin = match stdin {
            Some(stdin) => stdin,
            None => fs::File::open("/dev/null").context("open /dev/null")?.into(),
        };
        builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
    }
    let container = builder
        .as_init(&spec.bundle)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| anyhow!(error_log::readable(&error, causes)))?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| anyhow!("the container has no process"))
}

/// Mounts a file system as a volume. Its options are not named in an error: there may be a password among them.
fn mount_volume(volume: &VolumeMount) -> Result<()> {
    let flags = MsFlags::from_bits_truncate(volume.flags);
    let target = volume.target.as_path();
    let failed = || format!("failed to mount local volume: type {}, device {}", volume.kind, volume.device);
    let (device, kind, data) = (volume.device.as_str(), volume.kind.as_str(), volume.data.as_str());
    mount(Some(device), target, Some(kind), flags, Some(data)).map_err(|e| anyhow!("{}: {e}", failed()))?;
    // The other flags of a bind mount count in a second step only.
    let rest = flags - (MsFlags::MS_BIND | MsFlags::MS_REC);
    if flags.contains(MsFlags::MS_BIND) && !rest.is_empty() {
        let again = flags | MsFlags::MS_REMOUNT;
        mount(None::<&str>, target, None::<&str>, again, None::<&str>)
            .map_err(|e| anyhow!("{}: {e}", failed()))?;
    }
    Ok(())
}

fn mount_rootfs(rootfs: &Rootfs) -> Result<()> {
    std::env::set_current_dir(&rootfs.layers_dir)
        .with_context(|| format!("chdir {}", rootfs.layers_dir.display()))?;
    let mut options = b"index=off,lowerdir=".to_vec();
    for (n, layer) in rootfs.lower.iter().enumerate() {
        if n > 0 {
            options.push(b':');
        }
        options.extend(escaped(layer));
    }
    options.extend(b",upperdir=");
    options.extend(escaped(&rootfs.upper));
    options.extend(b",workdir=");
    options.extend(escaped(&rootfs.work));
    if options.len() >= 4096 {
        bail!(
            "the image has too many layers ({}): their names do not fit into one mount",
            rootfs.lower.len()
        );
    }
    let options = CString::new(options).context("a path contains a NUL")?;
    mount(Some("overlay"), &rootfs.target, Some("overlay"), MsFlags::empty(), Some(options.as_c_str()))
        .with_context(|| format!("mount the root file system on {}", rootfs.target.display()))
}

/// A path as overlayfs options want it.
fn escaped(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    fs::File::open(path).map(OwnedFd::from).with_context(|| format!("open {}", path.display()))
}

/// Opens a path as the container would resolve it: links in it cannot lead out of `root`.
fn open_in_root(root: &OwnedFd, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let name = CString::new(relative.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid `open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(flags | libc::O_CLOEXEC).unwrap_or_default();
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
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

/// `mkdir -p` inside the container.
fn make_directory(root: &OwnedFd, directory: &Directory) -> Result<()> {
    let mut prefix = PathBuf::new();
    for component in directory.path.components() {
        let Component::Normal(name) = component else { continue };
        let parent = prefix.clone();
        prefix.push(name);
        match open_in_root(root, &prefix, libc::O_PATH) {
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let parent = open_in_root(root, &parent, libc::O_PATH | libc::O_DIRECTORY)?;
        let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        fs::create_dir(&path)?;
        std::os::unix::fs::lchown(&path, Some(directory.uid), Some(directory.gid))?;
    }
    Ok(())
}

/// Copies what the image has at a volume's place into the volume, if that is empty and the image has something.
fn copy_up(root: &OwnedFd, copy: &CopyUp) -> Result<()> {
    let Ok(from) = open_in_root(root, &copy.from, libc::O_RDONLY | libc::O_DIRECTORY) else { return Ok(()) };
    // Of two containers that begin with one new volume, the second waits until the first has filled it.
    let volume = fs::File::open(&copy.to).with_context(|| format!("open {}", copy.to.display()))?;
    let _filling = Flock::lock(volume, FlockArg::LockExclusive)
        .map_err(|(_, why)| anyhow!("lock {}: {why}", copy.to.display()))?;
    if fs::read_dir(&copy.to)?.next().is_some() {
        return Ok(());
    }
    // `cp -a` keeps owners, modes, times, links, devices and extended attributes; it is on every machine.
    // By our descriptor, which it does not inherit.
    let from = format!("/proc/{}/fd/{}/.", std::process::id(), from.as_raw_fd());
    let status =
        Command::new("cp").arg("-a").arg("--").arg(&from).arg(&copy.to).status().context("run cp")?;
    if status.success() { Ok(()) } else { bail!("cp ended with {status}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_options_are_escaped() {
        assert_eq!(escaped(Path::new("/a:b,c\\d")), b"/a\\:b\\,c\\\\d");
    }
}
