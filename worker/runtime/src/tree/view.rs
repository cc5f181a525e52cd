//! The files of a container that does not run: its overlay and its volumes, mounted for one thread and gone with it.

use std::{
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::Value;

use super::{PLACE, Tree};

/// What a container's files consist of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// The container's directory: in it are `lower`, `upper`, `work` and `rootfs`.
    pub dir: PathBuf,
    /// What is mounted over its root file system.
    pub binds: Vec<Bind>,
    /// Nothing is to be written to its root file system.
    pub read_only: bool,
}

/// A directory or file of the machine's that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

impl Stopped {
    /// Of a container that was made with this OCI configuration.
    pub fn of(dir: &Path, config: &Value) -> Self {
        let text = |value: &Value| PathBuf::from(value.as_str().unwrap_or_default());
        let binds = config["mounts"].as_array().into_iter().flatten().filter(|m| m["type"] == "bind");
        let bind = |m: &Value| Bind {
            source: text(&m["source"]),
            target: text(&m["destination"]),
            read_only: m["options"].as_array().into_iter().flatten().any(|o| o == "ro"),
        };
        Self {
            dir: dir.to_owned(),
            binds: binds.map(bind).filter(|bind| bind.source.exists()).collect(),
            read_only: config["root"]["readonly"] == true,
        }
    }

    /// Mounts it all for this thread, which must be one of its own; `volumes` = what is mounted over the root file system too.
    pub fn mount(&self, volumes: bool) -> io::Result<Tree> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        // Short names, so that those of many layers fit into one mount, and without characters that would have a meaning there.
        std::env::set_current_dir(&self.dir)?;
        let mut layers: Vec<u32> = std::fs::read_dir("lower")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
            .collect();
        layers.sort_unstable();
        let lower: Vec<String> = layers.iter().map(|n| format!("lower/{n}")).collect();
        let options = format!("index=off,lowerdir={},upperdir=upper,workdir=work", lower.join(":"));
        mount(Some("overlay"), "rootfs", Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        let tree = Tree::new(Path::new("rootfs"))?;
        if volumes {
            for bind in &self.binds {
                self.bind(&tree, bind)?;
            }
        }
        if self.read_only {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(none, "rootfs", none, flags, none)?;
        }
        std::env::set_current_dir("/")?;
        Ok(tree)
    }

    fn bind(&self, tree: &Tree, bind: &Bind) -> io::Result<()> {
        let target = match tree.open(&bind.target, libc::O_PATH) {
            Ok(target) => target,
            // Its place is made with the container's first run.
            Err(_) if bind.source.is_dir() && !self.read_only => {
                tree.make_dirs(&bind.target)?;
                tree.open(&bind.target, PLACE)?
            }
            Err(_) => return Ok(()),
        };
        let path = format!("/proc/self/fd/{}", target.as_raw_fd());
        let none = None::<&str>;
        mount(Some(&bind.source), path.as_str(), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        if bind.read_only {
            let mounted = tree.open(&bind.target, libc::O_PATH)?;
            let path = format!("/proc/self/fd/{}", mounted.as_raw_fd());
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(none, path.as_str(), none, flags, none)?;
        }
        Ok(())
    }
}
