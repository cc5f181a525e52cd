//! Holding a host to a share of the machine's cores, by a control group of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::Host;

static NEXT: AtomicU32 = AtomicU32::new(0);
/// The kernel's period of a quota, in microseconds.
const PERIOD: u64 = 100_000;

/// A group with a quota of processor time. Deleted with the value; what still runs in it goes back to where this process is.
#[derive(Debug)]
pub struct Share {
    path: PathBuf,
    unified: bool,
}

/// Where the cpu controller is: its mount, and whether it is version 2.
fn controller() -> Result<(PathBuf, bool)> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, mount, kind, options, ..] = fields[..] else { continue };
        if kind == "cgroup" && options.split(',').any(|o| o == "cpu") {
            return Ok((mount.into(), false));
        }
        let controllers = Path::new(mount).join("cgroup.controllers");
        if kind == "cgroup2" && fs::read_to_string(controllers)?.split_whitespace().any(|c| c == "cpu") {
            return Ok((mount.into(), true));
        }
    }
    bail!("no cgroup hierarchy of this machine has the cpu controller")
}

impl Share {
    /// A group that takes what it gets; see [`Self::limit`].
    pub fn new() -> Result<Self> {
        let (mount, unified) = controller()?;
        let name = format!("rnt{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = mount.join(name);
        if unified {
            let file = mount.join("cgroup.subtree_control");
            fs::write(&file, "+cpu").with_context(|| file.display().to_string())?;
        }
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, unified })
    }

    /// One for each of these hosts, whose daemons are started anew in them.
    pub fn each(hosts: &mut [Host]) -> Result<Vec<Self>> {
        let held = hosts.iter_mut().map(|host| {
            let share = Self::new()?;
            share.hold(host)?;
            Ok(share)
        });
        held.collect()
    }

    /// From now on `percent` of one core.
    pub fn limit(&self, percent: u64) -> Result<()> {
        let quota = PERIOD * percent / 100;
        if self.unified {
            self.write("cpu.max", &format!("{quota} {PERIOD}"))
        } else {
            self.write("cpu.cfs_period_us", &PERIOD.to_string())?;
            self.write("cpu.cfs_quota_us", &quota.to_string())
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let file = self.path.join(file);
        fs::write(&file, text).with_context(|| format!("{text} > {}", file.display()))
    }

    /// Lets a host's daemon, which is started anew for it, and what it starts live in the group. From its start: a group of version
    /// 1 has no real time to give, and takes nobody who has some.
    fn hold(&self, host: &mut Host) -> Result<()> {
        host.stop(Signal::SIGTERM)?;
        host.group = Some(self.path.join("cgroup.procs"));
        host.start()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let parent = self.path.parent().map(|p| p.join("cgroup.procs")).unwrap_or_default();
        for _ in 0..50 {
            for pid in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
                // One that has just ended is gone by itself.
                let _ = fs::write(&parent, pid);
            }
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("cannot delete {}", self.path.display());
    }
}

/// Programs that compute for nothing, until dropped.
#[derive(Debug)]
pub struct BusyLoops(Vec<Child>);

impl BusyLoops {
    /// So many.
    pub fn start(n: usize) -> Result<Self> {
        let mut loops = Self(Vec::new());
        for _ in 0..n {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            loops.0.push(command.spawn().context("sh")?);
        }
        Ok(loops)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
