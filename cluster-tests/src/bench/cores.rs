//! Which core a process runs on, and how long it has run.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};

/// The core for what generates traffic.
pub const GENERATOR: usize = 0;
/// The core for what is measured.
pub const SERVER: usize = 1;

/// Keeps the calling thread on one core; on a machine with a single one, nothing happens.
pub fn pin_thread(core: usize) -> Result<()> {
    pin_id(Pid::from_raw(0), core)
}

/// Keeps all threads of a process, and what they start, on one core.
pub fn pin(pid: i32, core: usize) -> Result<()> {
    threads(pid)?.into_iter().try_for_each(|thread| pin_id(thread, core))
}

/// Lets a process run anywhere again.
pub fn unpin(pid: i32) -> Result<()> {
    let mut all = CpuSet::new();
    for core in 0..std::thread::available_parallelism()?.get() {
        all.set(core)?;
    }
    threads(pid)?.into_iter().try_for_each(|thread| Ok(sched_setaffinity(thread, &all)?))
}

fn threads(pid: i32) -> Result<Vec<Pid>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))?;
    Ok(tasks
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect())
}

fn pin_id(id: Pid, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    match sched_setaffinity(id, &set) {
        // No such core, or the thread has ended meanwhile.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// CPU time that a process has used so far, its own and the kernel's for it.
pub fn cpu_time(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold blanks; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| -> Result<u64> { Ok(fields.get(n).context("stat")?.parse()?) };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("clock ticks")?;
    Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) as f64 / per_second as f64))
}
