//! The cgroup hierarchies of this machine (v1, v2, or both). A container's group has the same path in each
//! ([`ShimSpec::cgroup`](crate::ShimSpec)).

use std::{fs, path::PathBuf};

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
