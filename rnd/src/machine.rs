//! What the machine says of itself.

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use kernel::{facts::HostFacts, features};
use proto::model::NodeDescription;

/// Facts that do not change while the daemon runs.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Host name.
    pub hostname: String,
    /// `x86_64`, …
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Name of the distribution.
    pub os: String,
    /// CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// `1`, `2` or `hybrid`.
    pub cgroup_version: &'static str,
    /// What the kernel lacks, each with its consequence.
    pub missing: Vec<String>,
}

impl Machine {
    /// Looks around. Tries the kernel's features in a namespace of their own.
    pub fn look() -> Self {
        let uname = nix::sys::utsname::uname().ok();
        let field = |f: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|u| f(u).to_string_lossy().into_owned()).unwrap_or_default()
        };
        Self {
            hostname: field(|u| u.nodename()),
            arch: field(|u| u.machine()),
            kernel: field(|u| u.release()),
            os: pretty_name(),
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            memory_bytes: memory(),
            cgroup_version: cgroup_version(),
            missing: features::probe().iter().map(ToString::to_string).collect(),
        }
    }

    /// What this node tells the managers.
    pub fn describe(
        &self,
        advertise: IpAddr,
        data_path: IpAddr,
        labels: BTreeMap<String, String>,
    ) -> NodeDescription {
        let mtu = HostFacts::read().ok().and_then(|f| f.device_of(data_path).map(|d| d.mtu));
        NodeDescription {
            hostname: self.hostname.clone(),
            os: "linux".into(),
            arch: self.arch.clone(),
            nano_cpus: u64::from(self.cpus) * 1_000_000_000,
            memory_bytes: self.memory_bytes,
            engine_version: env!("CARGO_PKG_VERSION").into(),
            engine_labels: labels,
            advertise_addr: Some(advertise),
            data_path_addr: Some(data_path),
            underlay_mtu: mtu.unwrap_or(1500),
            missing_features: self.missing.clone(),
        }
    }
}

fn pretty_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn cgroup_version() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "2"
    } else if Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
        "hybrid"
    } else {
        "1"
    }
}

/// Search domains of the host's resolv.conf.
pub fn search_domains() -> Vec<String> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let line =
        text.lines().rev().find_map(|l| l.strip_prefix("search ").or_else(|| l.strip_prefix("domain ")));
    line.map(|l| l.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}
