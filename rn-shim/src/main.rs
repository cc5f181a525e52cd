//! One small process per container: runs it and keeps its status and output while the daemon is away.
//!
//! `run` is that process. It stays small because the heavy part, making the container, happens in a child that ends at
//! once; what remains is a single thread around one `poll`. `reap` cleans up after a shim that was killed. `exec` is a process of its own: it enters a running container,
//! runs a program there and ends with that program's exit code. Both read and write what crate `shim_wire` describes.

// Tests write and damage files as they like.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod attach;
mod cgroup;
mod control;
mod create;
mod device_filter;
mod error_log;
mod exec;
mod files;
mod logfile;
mod monitor;
mod program;
mod run;

use std::{ffi::OsString, path::Path, process::ExitCode};

use anyhow::{Result, bail};

const USAGE: &str = "usage: rn-shim run <container directory> | rn-shim reap <container directory> | rn-shim exec <request file> | rn-shim version";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            // One line: the daemon shows it to the user as the reason why a task was rejected.
            eprintln!("{error:#}");
            ExitCode::from(program::CANNOT_RUN)
        }
    }
}

fn dispatch(args: &[OsString]) -> Result<ExitCode> {
    match args {
        [verb, dir] if verb == "run" => run::run(Path::new(dir)).map(|()| ExitCode::SUCCESS),
        [verb, dir] if verb == "reap" => run::reap(Path::new(dir)).map(|()| ExitCode::SUCCESS),
        [verb, request] if verb == "exec" => exec::exec(Path::new(request)).map(ExitCode::from),
        [verb] if verb == "version" => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!(USAGE),
    }
}
