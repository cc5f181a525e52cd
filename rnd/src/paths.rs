//! Where everything lies. All of it below the daemon's own roots, so that any number of daemons share a machine.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use durable::{Loaded, PRIVATE};
use rand::Rng;

/// The daemon's directories.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What must survive a reboot.
    pub data_root: PathBuf,
    /// What need not.
    pub exec_root: PathBuf,
}

/// Held while the daemon lives; a second one with the same data root is refused.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] nix::fcntl::Flock<fs::File>);

impl Paths {
    /// Makes them where missing. Nobody but root gets below the data root, where set-uid programs and devices of any image lie (as
    /// dockerd since CVE-2021-41091): one of an older daemon is closed, and one that is closed further stays so. The exec root may be passed on the way to the socket,
    /// which has permissions of its own; whatever else is in it is closed by itself.
    pub fn create(data_root: &Path, exec_root: &Path) -> Result<Self> {
        for (dir, mode) in [(data_root, 0o710), (exec_root, 0o711)] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let close = || {
            let mode = fs::metadata(data_root)?.permissions().mode();
            fs::set_permissions(data_root, fs::Permissions::from_mode(mode & 0o710))
        };
        close().with_context(|| format!("cannot close {} to others", data_root.display()))?;
        Ok(Self { data_root: data_root.into(), exec_root: exec_root.into() })
    }

    /// Takes the data root for this process, and removes what interrupted writes of an earlier one have left: it may hold keys.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.data_root.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => self.sweep().map(|()| Lock(lock)),
            Err(_) => bail!(
                "data root {} is in use by another rnd; give this one its own --data-root, --exec-root and -H",
                self.data_root.display()
            ),
        }
    }

    fn sweep(&self) -> Result<()> {
        let swarm = self.swarm();
        for dir in [&self.data_root, &self.exec_root, &swarm, &swarm.join("certificates"), &self.raft()] {
            match durable::sweep(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot read {}", dir.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The swarm's files.
    pub fn swarm(&self) -> PathBuf {
        self.data_root.join("swarm")
    }

    /// The manager's store.
    pub fn raft(&self) -> PathBuf {
        self.swarm().join("raft")
    }

    /// What is remembered of `swarm init` and `swarm join`.
    pub fn membership(&self) -> PathBuf {
        self.swarm().join("membership.json")
    }

    /// The daemon's id, made at the first start: what we make in the kernel carries it. A second copy lies below the exec root and
    /// lives as long as the kernel does, so that a damaged file does not make strangers of what is still there.
    pub fn daemon_id(&self) -> Result<String> {
        let (path, copy) = (self.data_root.join("daemon-id"), self.exec_root.join("daemon-id"));
        let kept = durable::load_or_set_aside(&path, parse_id)?;
        let known = match kept {
            Loaded::Whole(id) => Some(id),
            Loaded::Absent => None,
            Loaded::Damaged(aside) => {
                let copied = durable::load_as(&copy, parse_id).ok().flatten();
                let instead = if copied.is_some() {
                    "the copy below the exec root counts"
                } else {
                    "a new one is made"
                };
                tracing::warn!("{aside}; {instead}");
                copied
            }
        };
        let id = known.unwrap_or_else(|| format!("{:016x}", rand::rng().random::<u64>()));
        // Each only where it is not so: a start that changes nothing writes nothing.
        if !matches!(durable::load_as(&path, parse_id), Ok(Some(there)) if there == id) {
            durable::save(&path, id.as_bytes(), PRIVATE)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !matches!(durable::load_as(&copy, parse_id), Ok(Some(there)) if there == id) {
            durable::scratch(&copy, &durable::record::seal(id.as_bytes()), PRIVATE)
                .with_context(|| format!("cannot write {}", copy.display()))?;
        }
        Ok(id)
    }
}

fn parse_id(bytes: &[u8]) -> Result<String, &'static str> {
    match std::str::from_utf8(bytes).map(str::trim) {
        Ok(id) if id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(id.to_owned()),
        _ => Err("it does not hold sixteen hexadecimal digits"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_data_root_is_closed_to_others_also_one_that_was_open() {
        let dir = tempfile::tempdir().unwrap();
        let (data, exec) = (dir.path().join("data"), dir.path().join("exec"));
        Paths::create(&data, &exec).unwrap();
        assert_eq!((mode(&data), mode(&exec)), (0o710, 0o711));
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        Paths::create(&data, &exec).unwrap();
        assert_eq!(mode(&data), 0o710);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        Paths::create(&data, &exec).unwrap();
        assert_eq!(mode(&data), 0o700);
    }

    #[test]
    fn what_an_interrupted_write_has_left_of_a_key_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::create(&dir.path().join("data"), &dir.path().join("exec")).unwrap();
        drop(paths.lock().unwrap());
        fs::create_dir_all(paths.swarm().join("certificates")).unwrap();
        fs::create_dir_all(paths.raft()).unwrap();
        let left = ["certificates/.node.key.next.7-0.new", "raft/.key.7-1.new", ".membership.json.7-2.new"];
        let kept = ["certificates/node.key.next", "raft/key", "membership.json"];
        left.iter().chain(&kept).for_each(|name| fs::write(paths.swarm().join(name), "x").unwrap());
        let _lock = paths.lock().unwrap();
        assert!(left.iter().all(|name| !paths.swarm().join(name).exists()));
        assert!(kept.iter().all(|name| paths.swarm().join(name).exists()));
    }

    #[test]
    fn a_damaged_id_is_had_from_its_copy_as_long_as_the_machine_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::create(&dir.path().join("data"), &dir.path().join("exec")).unwrap();
        let (file, copy) = (paths.data_root.join("daemon-id"), paths.exec_root.join("daemon-id"));
        let id = paths.daemon_id().unwrap();
        assert_eq!(paths.daemon_id().unwrap(), id);
        for damage in [&b""[..], &[0; 44], b"not an id", b"0123456789abcde"] {
            fs::write(&file, damage).unwrap();
            assert_eq!(paths.daemon_id().unwrap(), id);
            assert_eq!(fs::read(paths.data_root.join("daemon-id.damaged")).unwrap(), damage);
        }
        fs::write(&copy, "").unwrap();
        assert_eq!(paths.daemon_id().unwrap(), id);
        // An older daemon's, without a checksum.
        fs::write(&file, "0123456789abcdef\n").unwrap();
        assert_eq!(paths.daemon_id().unwrap(), "0123456789abcdef");
        // The machine has been down: nothing carries the old one any more.
        fs::write(&file, "").unwrap();
        fs::remove_file(&copy).unwrap();
        let new = paths.daemon_id().unwrap();
        assert!(new != "0123456789abcdef" && new.len() == 16);
    }
}
