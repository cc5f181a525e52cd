//! The rn daemon: a worker and, on managers, a manager, behind one unix socket.
//!
//! * [`config`]: flags and `daemon.json` ([`config_file`]). [`host`]: where to listen. [`paths`]: where everything lies.
//! * [`daemon`]: start, serve, stop. [`swarm`]: init, join, leave, and what is remembered of them.
//! * [`metrics`]: numbers for Prometheus.
//! * [`local`]: what the daemon answers about itself. [`front`]: the socket, which passes the user's API to the manager. [`api`]:
//!   Docker's API, on the same socket.

mod api;
mod config;
mod config_file;
mod daemon;
mod front;
mod host;
mod local;
mod machine;
mod metrics;
mod paths;
mod port;
mod swarm;
mod swarm_state;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use tracing_subscriber::{EnvFilter, fmt};

use config::{Config, Flags, LogFormat};

/// What is left on blocking threads gets this long.
const LAST: Duration = Duration::from_millis(200);

/// One heap for all threads. The C library gives each new thread one of up to eight a core, and errands in other namespaces run on
/// threads of their own: what they leave behind, spread over all heaps, would be several times what is in use.
fn one_heap() {
    // SAFETY: sets a parameter of the allocator, before there is another thread. A refusal leaves things as they were.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

/// The filter for what an operator asked for. Raft's library reports each message that fails, at every level: those are counted
/// (`docs/metrics.md`), and what they mean is said in lines of our own. Who debugs, or names the library, gets them all.
fn operators(level: &str) -> String {
    let debugs = |l: &str| matches!(l.trim().to_ascii_lowercase().as_str(), "debug" | "trace" | "4" | "5");
    if level.contains("openraft") || level.split(',').any(debugs) {
        level.to_owned()
    } else {
        format!("openraft=off,{level}")
    }
}

fn main() -> ExitCode {
    one_heap();
    let config = match Config::load(Flags::parse()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("rnd: {error:#}");
            return ExitCode::from(1);
        }
    };
    let level = operators(&config.log_level);
    let filter = EnvFilter::try_new(&level).unwrap_or_else(|_| EnvFilter::new(operators("info")));
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match config.log_format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("rnd: cannot start: {error}");
            return ExitCode::from(1);
        }
    };
    let code = match runtime.block_on(daemon::run(config)) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("rnd: {error:#}");
            1
        }
    };
    runtime.shutdown_timeout(LAST);
    // Not `exit`: that runs the destructors of C++ statics while RocksDB's own threads may still use them. All that matters is
    // on disk by now, as it would have to be after a kill.
    // SAFETY: `_exit` ends the process and touches nothing of it.
    unsafe { nix::libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::operators;

    #[test]
    fn the_librarys_own_lines_are_for_who_debugs() {
        for (asked, filter) in [
            ("info", "openraft=off,info"),
            ("warn,manager=debug", "openraft=off,warn,manager=debug"),
            ("debug", "debug"),
            ("TRACE", "TRACE"),
            ("info,openraft=warn", "info,openraft=warn"),
        ] {
            assert_eq!(operators(asked), filter);
        }
    }
}
