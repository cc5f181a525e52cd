//! Files in memory: a container's secrets and configs.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use shim_wire::MemoryFile;

/// What is in each of them, from the standard input.
pub fn read(files: &[MemoryFile]) -> Result<Vec<Vec<u8>>> {
    let mut input = std::io::stdin().lock();
    let one = |file: &MemoryFile| {
        let mut data = Vec::new();
        let read = input.by_ref().take(file.size).read_to_end(&mut data)?;
        if read as u64 == file.size { Ok(data) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    };
    files.iter().map(one).collect::<std::io::Result<_>>().context("read the container's files")
}

/// Puts them on a tmpfs of their own at `dir`, in this process's mount namespace.
pub fn place(dir: &Path, files: &[MemoryFile], contents: &[Vec<u8>]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tmpfs = |options: &str| mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options));
    // Kernels before 6.4 cannot keep it out of the swap.
    tmpfs("mode=0700,noswap")
        .or_else(|_| tmpfs("mode=0700"))
        .with_context(|| format!("mount a tmpfs on {}", dir.display()))?;
    for (n, (file, data)) in files.iter().zip(contents).enumerate() {
        let path = dir.join(n.to_string());
        write(&path, file, data).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn write(path: &Path, file: &MemoryFile, data: &[u8]) -> std::io::Result<()> {
    let mut made: File = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    made.write_all(data)?;
    // The owner first: a change of owner takes away set-user-id.
    fchown(&made, Some(file.uid), Some(file.gid))?;
    made.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))
}
