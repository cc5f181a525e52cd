//! A container's control group, as the kernel has it: frozen or not, what it may use ([`Group::limit`]), what it has used
//! ([`usage`]). Whether the machine has cgroup v1, v2 or both is nobody's business but this module's.

use std::{fs, io, path::PathBuf, thread::sleep, time::Duration};

use proto::model::Resources;
use shim_wire::cgroup::{Hierarchy, hierarchies};

pub mod usage;

/// Microseconds of a period that shares of processors are counted in: Docker's.
const PERIOD: u64 = 100_000;
/// Freezing takes as long as the slowest system call of the container.
const FREEZE_TRIES: u32 = 1000;
/// Between two looks at whether it is frozen.
const FREEZE_PAUSE: Duration = Duration::from_millis(2);

/// A container's group in all hierarchies.
pub struct Group {
    /// Of cgroup v1: the controllers, and the directory.
    v1: Vec<(Vec<String>, PathBuf)>,
    /// Of cgroup v2.
    unified: Option<PathBuf>,
}

/// Where something is read or set: in cgroup v1 or in v2.
enum Place {
    V1(PathBuf),
    V2(PathBuf),
}

/// The kernel's files are no disk's.
#[allow(clippy::disallowed_methods)]
fn write(path: &std::path::Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

impl Group {
    /// The group of this path, as far as it exists.
    pub fn of(cgroup: &str) -> Self {
        let there = hierarchies().into_iter().filter(|h| h.group(cgroup).is_dir());
        let (unified, v1): (Vec<Hierarchy>, Vec<Hierarchy>) = there.partition(|h| h.unified);
        Self {
            v1: v1.into_iter().map(|h| (h.controllers.clone(), h.group(cgroup))).collect(),
            unified: unified.first().map(|h| h.group(cgroup)),
        }
    }

    fn v1(&self, controller: &str) -> Option<&PathBuf> {
        self.v1.iter().find(|(all, _)| all.iter().any(|c| c == controller)).map(|(_, dir)| dir)
    }

    /// Where a controller is, if it is anywhere; in v2 it is where this file of it is.
    fn place(&self, controller: &str, unified_file: &str) -> Option<Place> {
        if let Some(dir) = self.v1(controller) {
            return Some(Place::V1(dir.clone()));
        }
        let dir = self.unified.as_ref()?;
        dir.join(unified_file).exists().then(|| Place::V2(dir.clone()))
    }

    /// Whether its processes are stopped by the freezer.
    pub fn is_frozen(&self) -> bool {
        match self.place("freezer", "cgroup.freeze") {
            Some(Place::V1(dir)) => matches!(read(&dir.join("freezer.state")).trim(), "FROZEN" | "FREEZING"),
            Some(Place::V2(dir)) => read(&dir.join("cgroup.freeze")).trim() == "1",
            None => false,
        }
    }

    /// Stops all its processes; returns when none runs. Blocks.
    ///
    /// # Errors
    /// There is no freezer, or a process cannot be stopped; then all go on.
    pub fn freeze(&self) -> io::Result<()> {
        let (file, word, state, reached) = match self.place("freezer", "cgroup.freeze") {
            Some(Place::V1(dir)) => {
                (dir.join("freezer.state"), "FROZEN", dir.join("freezer.state"), "FROZEN")
            }
            Some(Place::V2(dir)) => (dir.join("cgroup.freeze"), "1", dir.join("cgroup.events"), "frozen 1"),
            None => return Err(io::Error::other("this machine has no freezer (cgroup)")),
        };
        for _ in 0..FREEZE_TRIES {
            // Again and again: a process that was just forked may have slipped through.
            write(&file, word)?;
            if read(&state).lines().any(|line| line.trim() == reached) {
                return Ok(());
            }
            sleep(FREEZE_PAUSE);
        }
        self.thaw()?;
        Err(io::Error::other("a process of it cannot be stopped: it waits for a device"))
    }

    /// Lets its processes go on. Fine if they do. Blocks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(&self) -> io::Result<()> {
        match self.place("freezer", "cgroup.freeze") {
            Some(Place::V1(dir)) => write(&dir.join("freezer.state"), "THAWED"),
            Some(Place::V2(dir)) => write(&dir.join("cgroup.freeze"), "0"),
            None => Ok(()),
        }
    }

    /// Sets what it may use from now on; 0 = as much as there is. Blocks.
    ///
    /// # Errors
    /// The kernel refuses, for example less memory than is used and cannot be given back. What came before is set.
    pub fn limit(&self, limits: &Resources) -> io::Result<()> {
        let or = |value: u64, none: &str| if value == 0 { none.to_owned() } else { value.to_string() };
        match self.place("memory", "memory.max") {
            Some(Place::V1(dir)) => {
                write(&dir.join("memory.limit_in_bytes"), &or(limits.memory_bytes, "-1"))?
            }
            Some(Place::V2(dir)) => write(&dir.join("memory.max"), &or(limits.memory_bytes, "max"))?,
            None => none("memory", limits.memory_bytes)?,
        }
        let quota = quota(limits.nano_cpus);
        match self.place("cpu", "cpu.max") {
            Some(Place::V1(dir)) => {
                write(&dir.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                write(&dir.join("cpu.cfs_quota_us"), &or(quota, "-1"))?;
            }
            Some(Place::V2(dir)) => write(&dir.join("cpu.max"), &format!("{} {PERIOD}", or(quota, "max")))?,
            None => none("cpu", quota)?,
        }
        match self.place("pids", "pids.max") {
            Some(Place::V1(dir) | Place::V2(dir)) => write(&dir.join("pids.max"), &or(limits.pids, "max")),
            None => none("pids", limits.pids),
        }
    }
}

/// What no controller counts cannot be limited.
fn none(controller: &str, wanted: u64) -> io::Result<()> {
    match wanted {
        0 => Ok(()),
        _ => Err(io::Error::other(format!("this machine has no cgroup controller {controller}"))),
    }
}

/// Microseconds of each period; 0 = no limit.
fn quota(nano_cpus: u64) -> u64 {
    if nano_cpus == 0 { 0 } else { (nano_cpus / (1_000_000_000 / PERIOD)).max(1_000) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    fn v1(dir: &std::path::Path, controllers: &[&str]) -> Group {
        let controllers = controllers.iter().map(|c| (*c).to_owned()).collect();
        Group { v1: vec![(controllers, dir.to_owned())], unified: None }
    }

    #[test]
    fn limits_are_written_as_each_version_wants_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let limits = Resources { nano_cpus: 1_500_000_000, memory_bytes: 64 << 20, pids: 0 };
        v1(dir.path(), &["memory", "cpu", "pids"]).limit(&limits).unwrap();
        assert_eq!(file("memory.limit_in_bytes"), "67108864");
        assert_eq!((file("cpu.cfs_quota_us"), file("cpu.cfs_period_us")), ("150000".into(), "100000".into()));
        assert_eq!(file("pids.max"), "max");
        for name in ["memory.max", "cpu.max", "cgroup.freeze"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let unified = Group { v1: Vec::new(), unified: Some(dir.path().to_owned()) };
        unified.limit(&Resources { pids: 7, ..Resources::default() }).unwrap();
        let set = (file("memory.max"), file("cpu.max"), file("pids.max"));
        assert_eq!(set, ("max".into(), "max 100000".into(), "7".into()));
        unified.thaw().unwrap();
        assert!(!unified.is_frozen());
        fs::write(dir.path().join("cgroup.freeze"), "1\n").unwrap();
        assert!(unified.is_frozen());
        let nothing = v1(dir.path(), &["memory"]);
        assert!(nothing.limit(&Resources { pids: 1, ..Resources::default() }).is_err());
    }
}
