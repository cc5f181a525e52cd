//! `rn-sim`: managers, dispatcher and agents as they are, over a simulated network, disk and clock.
//!
//! * [`world`]: one simulation, step by step. [`faults`]: what goes wrong. [`users`]: who asks for what, and was told what.
//! * [`host`], [`processes`]: machines and what runs on them. [`agent`]: containers.
//! * [`net`], [`tcp`], [`disk`], [`ambient`]: network, connections, disk, clock and chance.
//! * [`invariants`]: what must hold after each step. [`trace`]: what has happened. [`many`]: many seeds.
//!
//! Each seed has a process of its own, so that nothing is left over from another.

mod agent;
mod clock_and_random;
mod disk;
mod faults;
mod host;
mod invariants;
mod many;
mod net;
mod processes;
mod tcp;
mod trace;
mod users;
mod world;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{
    many::Report,
    trace::Trace,
    world::{Plan, World},
};

/// Seconds of faults, unless said otherwise.
const CHAOS: u64 = 20;

/// What is the same for all seeds.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Seconds of faults.
    pub seconds: u64,
    /// Whether disks break their promises, which must be found.
    pub lying_disks: bool,
}

/// What the command line asks for.
enum Mode {
    /// Seeds from the first on.
    Many {
        /// The first seed.
        first: u64,
        /// How many.
        count: u64,
    },
    /// One seed, told in full.
    One {
        /// Which.
        seed: u64,
        /// Only what it comes to.
        quiet: bool,
    },
}

fn mode() -> Result<(Mode, Setting)> {
    let (mut first, mut count, mut seed, mut quiet) = (0, 100, None, false);
    let mut setting = Setting { seconds: CHAOS, lying_disks: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64> {
            let text = args.next().with_context(|| format!("{arg} wants a number"))?;
            text.parse().with_context(|| format!("{arg} {text}"))
        };
        match arg.as_str() {
            "--seeds" => count = number()?,
            "--first" => first = number()?,
            "--seed" => seed = Some(number()?),
            "--seconds" => setting.seconds = number()?,
            "--lying-disks" => setting.lying_disks = true,
            "--quiet" => quiet = true,
            _ => bail!(
                "unknown option {arg}: --seeds N, --first N, --seed N [--quiet], --seconds N, --lying-disks"
            ),
        }
    }
    let mode = match seed {
        Some(seed) => Mode::One { seed, quiet },
        None => Mode::Many { first, count },
    };
    Ok((mode, setting))
}

fn main() -> ExitCode {
    let passed = mode().and_then(|(mode, setting)| match mode {
        Mode::Many { first, count } => many::run(first, count, setting),
        Mode::One { seed, quiet } => one(seed, quiet, setting),
    });
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the files of hosts are: in memory where that is possible.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    base.join(format!("rn-sim-{}", std::process::id()))
}

fn one(seed: u64, quiet: bool, setting: Setting) -> Result<bool> {
    if !quiet && std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    }
    let dir = scratch();
    // What a process left that was killed, and had the same number.
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("clearing {}", dir.display()));
        }
        _ => {}
    }
    let plan = Plan { seed, dir: dir.clone(), chaos: setting.seconds, lying_disks: setting.lying_disks };
    let trace = Trace::new(!quiet);
    trace.watch_panics();
    clock_and_random::begin(seed);
    let result = World::new(&plan, trace.clone()).and_then(|mut world| {
        let result = world.run(&plan);
        // What is still going on has no network any more to end on.
        std::mem::forget(world);
        result
    });
    std::fs::remove_dir_all(&dir).ok();
    let report = Report {
        digest: trace.digest(),
        counts: trace.counts(),
        error: result.err().map(|e| format!("{e:#}")),
    };
    if quiet && report.error.is_some() {
        for line in trace.last() {
            eprintln!("{line}");
        }
    }
    print!("{report}");
    Ok(report.error.is_none())
}
