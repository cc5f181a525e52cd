//! Many seeds, each in a process of its own, as many at a time as there are cores.

use std::{
    collections::BTreeMap,
    fmt,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};

use crate::Setting;

/// What a seed's process prints at its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The digest of the trace.
    pub digest: u64,
    /// What was counted.
    pub counts: BTreeMap<&'static str, u64>,
    /// What went wrong.
    pub error: Option<String>,
}

const COUNT: &str = "count ";
const FAILED: &str = "failed ";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{COUNT}{count} {what}")?;
        }
        writeln!(f, "digest {:016x}", self.digest)?;
        match &self.error {
            Some(error) => writeln!(f, "{FAILED}{error}"),
            None => Ok(()),
        }
    }
}

/// What all seeds together came to.
#[derive(Default)]
struct Total {
    counts: BTreeMap<String, u64>,
    failed: u64,
}

fn seed(seed: u64, setting: Setting, total: &Mutex<Total>) -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--quiet", "--seed", &seed.to_string(), "--seconds", &setting.seconds.to_string()])
        .args(setting.lying_disks.then_some("--lying-disks"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("the simulation's own program")?;
    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
    let mut why = None;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((count, what)) = line.strip_prefix(COUNT).and_then(|l| l.split_once(' ')) {
            *total.counts.entry(what.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
        why = line.strip_prefix(FAILED).map(str::to_owned).or(why);
    }
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = why.unwrap_or_else(|| stderr.lines().last().unwrap_or("it died").to_owned());
        println!("seed {seed} failed: {why}\n  make sim SEED={seed}");
        total.failed += 1;
    }
    Ok(())
}

/// Runs the seeds from `first` on, and prints what came of them. Whether all passed.
///
/// # Errors
/// The program cannot be started.
pub fn run(first: u64, count: u64, setting: Setting) -> Result<bool> {
    let start = Instant::now();
    let (next, total) = (AtomicU64::new(first), Mutex::new(Total::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= first + count {
                    return Ok(());
                }
                seed(n, setting, &total)?;
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a panic"))))
    })?;
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (what, count) in &total.counts {
        println!("{count:>12} {what}");
    }
    let (failed, took) = (total.failed, start.elapsed().as_secs_f64());
    println!("{count} seeds from {first} on in {took:.1} s: {failed} failed");
    Ok(failed == 0)
}
