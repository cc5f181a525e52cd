//! Where the driver keeps what is its own.

use std::path::PathBuf;

use shim_wire::LogLimits;

use super::super::{RegistryConfig, UnpackLimit};

/// Where the driver lives.
#[derive(Debug, Clone)]
pub struct ShimConfig {
    /// What must survive a restart of the machine.
    pub data_root: PathBuf,
    /// What must not; a tmpfs.
    pub exec_root: PathBuf,
    /// The daemon's id; cgroups are named by it.
    pub daemon_id: String,
    /// The `rn-shim` program.
    pub shim: PathBuf,
    /// Limits of each container's log.
    pub log: LogLimits,
    /// How registries are spoken to.
    pub registries: RegistryConfig,
    /// The most that one layer, archive or import may unpack to.
    pub unpack_limit: UnpackLimit,
}

impl ShimConfig {
    /// The shim beside the running program, else the one in the search path.
    pub fn find_shim() -> PathBuf {
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("rn-shim")));
        match beside.filter(|path| path.exists()) {
            Some(path) => path,
            None => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found =
                    std::env::split_paths(&path).map(|dir| dir.join("rn-shim")).find(|path| path.exists());
                found.unwrap_or_else(|| PathBuf::from("/usr/libexec/rn/rn-shim"))
            }
        }
    }

    pub(super) fn dir(&self, id: &str) -> PathBuf {
        self.data_root.join("containers").join(id)
    }

    pub(super) fn run_dir(&self, id: &str) -> PathBuf {
        self.exec_root.join("containers").join(id)
    }

    pub(super) fn volumes(&self) -> PathBuf {
        self.data_root.join("volumes")
    }

    pub(super) fn cgroup(&self, id: &str) -> String {
        format!("/rn/{}/{id}", self.daemon_id)
    }
}
