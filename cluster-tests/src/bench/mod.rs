//! What the benchmark programs share.
//!
//! Each figure stands next to a baseline taken in the same run, the two in turn (A B B A …), so that what else the machine does
//! falls on both. Figures are printed, with their aims and whether those were met; nothing fails for being slow.
//!
//! * [`table`]: figures as a readable table. [`paths`]: the same measurement over several paths, in turn.
//! * [`iperf`], [`wrk`]: the two traffic generators, as packaged. [`queries`]: one of our own for DNS. [`running`]: servers.
//! * [`handmade`]: what one would lay with plain `ip` and `nft` commands. [`nameserver`]: packaged servers with the same names.
//! * [`dockerd`]: Debian's, for the same requests. [`watch`]: when something first became true. [`task`]: one task from outside. [`cores`], [`memory`]: of processes.

pub mod cores;
pub mod dockerd;
pub mod handmade;
pub mod iperf;
pub mod memory;
pub mod nameserver;
pub mod paths;
pub mod queries;
pub mod running;
pub mod table;
pub mod task;
pub mod watch;
pub mod wrk;

use std::{fs, process::ExitCode, thread};

use anyhow::{Result, ensure};

use crate::interrupt;

/// Runs a benchmark and reports how it went. An interrupt ends it in order, so that nothing is left behind.
pub fn run(title: &str, bench: impl FnOnce() -> Result<()>) -> ExitCode {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "\n{title}\n  {} CPUs, Linux {}, load {} before the run",
        thread::available_parallelism().map_or(0, usize::from),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    );
    let outcome = root().and_then(|()| {
        interrupt::catch()?;
        bench()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{title}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "it makes namespaces and containers: run it as root");
    Ok(())
}
