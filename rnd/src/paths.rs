//! Where everything lies. All of it below the daemon's own roots, so that any number of daemons share a machine.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
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
    /// Makes them where missing, private to root.
    pub fn create(data_root: &Path, exec_root: &Path) -> Result<Self> {
        for dir in [data_root, exec_root] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(Self { data_root: data_root.into(), exec_root: exec_root.into() })
    }

    /// Takes the data root for this process.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.data_root.join("lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err(_) => bail!(
                "data root {} is in use by another rnd; give this one its own --data-root, --exec-root and -H",
                self.data_root.display()
            ),
        }
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

    /// The daemon's id, made at the first start: what we make in the kernel carries it.
    pub fn daemon_id(&self) -> Result<String> {
        let path = self.data_root.join("daemon-id");
        match fs::read_to_string(&path) {
            Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
            Ok(_) => self.new_daemon_id(&path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.new_daemon_id(&path),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn new_daemon_id(&self, path: &Path) -> Result<String> {
        let id = format!("{:016x}", rand::rng().random::<u64>());
        write_atomically(path, id.as_bytes())?;
        Ok(id)
    }
}

/// Replaces a file whole, private to root, on disk before this returns.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let dir = path.parent().context("a file without a directory")?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
