//! The command line of rn.
//!
//! * [`api`]: the daemon, by Docker's Engine API; how a command uses it.
//! * [`cli`]: the command tree. Each command's flags stand beside its code in [`cmd`].
//! * [`parse`]: what users type (ports, mounts, sizes, durations) into values; pure.
//! * [`view`]: objects of the model into the rows and the JSON that Docker's users know; pure.
//! * [`output`]: tables, templates, relative times.
//! * [`context`]: which daemon is meant: flags, variables, and daemons with names.
//! * [`config`]: the client's settings. [`connect`]: the daemon's socket. [`exit`]: failures and exit codes.

#[allow(dead_code, reason = "commands move here group by group")]
mod api;
mod cli;
mod cmd;
mod config;
mod connect;
mod context;
mod credentials;
mod exit;
mod output;
mod parse;
mod view;

#[cfg(test)]
mod flags_table;

fn main() {
    let code = match run() {
        Ok(()) => 0,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                output::complain(&text);
            }
            failure.code()
        }
    };
    // A thread may still sit in a read of standard input: leave without waiting for it.
    std::process::exit(code);
}

fn run() -> Result<(), exit::Failure> {
    let cli = cli::parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| exit::Failure::local(format!("cannot start: {e}")))?;
    let result = runtime.block_on(cmd::run(cli));
    runtime.shutdown_background();
    result
}
