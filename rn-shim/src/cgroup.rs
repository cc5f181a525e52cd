//! The cgroup hierarchies of this machine (v1, v2, or both) and a container's group in each.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where.
    pub mount: PathBuf,
    /// The unified (v2) one.
    pub unified: bool,
    /// The v1 controllers on it; none for the unified and for named ones.
    pub controllers: Vec<String>,
}

const V1_CONTROLLERS: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "rdma",
];

/// All mounted hierarchies, each once.
pub fn hierarchies() -> Vec<Hierarchy> {
    fs::read_to_string("/proc/self/mountinfo").map(|text| parse(&text)).unwrap_or_default()
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<(String, Hierarchy)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(device), Some(mount)) = (left.split(' ').nth(2), left.split(' ').nth(4)) else { continue };
        let mut right = right.split(' ');
        let (Some(kind), Some(options)) = (right.next(), right.nth(1)) else { continue };
        if (kind != "cgroup" && kind != "cgroup2") || found.iter().any(|(seen, _)| seen == device) {
            continue;
        }
        let controllers =
            options.split(',').filter(|option| V1_CONTROLLERS.contains(option)).map(str::to_owned).collect();
        let hierarchy = Hierarchy { mount: PathBuf::from(mount), unified: kind == "cgroup2", controllers };
        found.push((device.to_owned(), hierarchy));
    }
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

impl Hierarchy {
    /// A group's directory.
    pub fn group(&self, cgroup: &str) -> PathBuf {
        self.mount.join(cgroup.trim_start_matches('/'))
    }
}

/// Moves a process into the group in every hierarchy.
pub fn join(cgroup: &str, pid: Pid) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.group(cgroup);
        // A hierarchy that was mounted after the container was made has no group for it.
        if group.exists() {
            enter(&group, pid)?;
        }
    }
    Ok(())
}

/// Moves a process into the group of those hierarchies that the runtime library leaves out: the named ones, and on hybrid
/// machines the unified one.
pub fn join_uncontrolled(cgroup: &str, pid: Pid) {
    for hierarchy in hierarchies() {
        if hierarchy.controllers.is_empty() {
            let group = hierarchy.group(cgroup);
            let _ = fs::create_dir_all(&group);
            let _ = enter(&group, pid);
        }
    }
}

fn enter(group: &Path, pid: Pid) -> Result<()> {
    let file = group.join("cgroup.procs");
    // The kernel's, not a disk's.
    #[allow(clippy::disallowed_methods)]
    fs::write(&file, pid.to_string()).with_context(|| format!("write {}", file.display()))
}

/// Whether the kernel has killed one of the group's processes because of its memory limit.
pub fn oom_killed(cgroup: &str) -> bool {
    hierarchies().iter().any(|hierarchy| {
        let file = match hierarchy.unified {
            true => "memory.events",
            false => "memory.oom_control",
        };
        let text = fs::read_to_string(hierarchy.group(cgroup).join(file)).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    })
}

/// Kills what is left in the group and removes it from every hierarchy.
pub fn remove(cgroup: &str) {
    for hierarchy in hierarchies() {
        let group = hierarchy.group(cgroup);
        // A killed process leaves its group a moment after it was reaped.
        for attempt in 0..50 {
            if !group.exists() || fs::remove_dir(&group).is_ok() {
                break;
            }
            if attempt % 10 == 0 {
                for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
                    if let Ok(pid) = pid.parse() {
                        let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                    }
                }
                // The container may have made groups of its own.
                remove_children(&group);
            }
            sleep(Duration::from_millis(2));
        }
    }
}

fn remove_children(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_children(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_is_found_once() {
        let hybrid = "\
30 23 0:25 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:27 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /mnt/again rw,nosuid - cgroup cgroup rw,cpu,cpuacct
";
        let found = parse(hybrid);
        let mounts: Vec<_> = found.iter().filter_map(|hierarchy| hierarchy.mount.to_str()).collect();
        assert_eq!(
            mounts,
            ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/cpu,cpuacct"]
        );
        assert_eq!(found.iter().filter(|hierarchy| hierarchy.unified).count(), 1);
        assert_eq!(found.last().map(|hierarchy| hierarchy.controllers.len()), Some(2));
    }
}
