//! A container's group in the cgroup hierarchies of this machine.

use std::{fs, path::Path, thread::sleep, time::Duration};

use anyhow::{Context, Result};
use nix::unistd::Pid;
use shim_wire::cgroup::hierarchies;

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
        thaw(&group);
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

/// What is frozen does not die.
fn thaw(group: &Path) {
    for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let path = group.join(file);
        if path.exists() {
            // The kernel's, not a disk's.
            #[allow(clippy::disallowed_methods)]
            let _ = fs::write(path, thawed);
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
