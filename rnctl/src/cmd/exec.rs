//! `exec`.

use clap::Args;
use docker_api::detach_keys::DetachKeys;
use proto::exit_code;
use serde_json::{Value, json};

use super::{
    attach::check_terminal,
    service::flags::variables,
    stdio::{self, Ended, RawMode, Sized},
};
use crate::{api::Client, exit::Failure, output, parse::refusal};

/// Flags of `exec`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl exec -it web.1.abc sh\n\nExits as the command does.")]
pub struct ExecArgs {
    /// Send standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; NAME alone takes the value from here; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Run as this user [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Keys to leave the command by, with a terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// File of variables, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Give it all capabilities
    #[arg(long)]
    privileged: bool,
    /// Start the command and leave it
    #[arg(short, long)]
    detach: bool,
    /// The container, by name or id, then the command
    #[arg(value_names = ["CONTAINER", "COMMAND"], num_args = 2.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    container_and_command: Vec<String>,
}

/// Runs `exec`.
pub async fn run(rn: &Client, args: ExecArgs) -> Result<(), Failure> {
    let (tty, detach) = (args.tty, args.detach);
    let stdin = args.interactive && !detach;
    if !detach {
        check_terminal(args.interactive, tty)?;
    }
    let keys = DetachKeys::parse(&args.detach_keys).map_err(|e| Failure::usage("exec", refusal(e)))?;
    let mut words = args.container_and_command.into_iter();
    let container = words.next().unwrap_or_default();
    if container.starts_with('-') {
        return Err(Failure::usage("exec", format!("unknown option {container}")));
    }
    let env = variables(&args.env_file, args.env, &|name| std::env::var(name).ok())?;
    let size = stdio::console_size(tty);
    let mut wanted = json!({
        "AttachStdin": stdin, "AttachStdout": !detach, "AttachStderr": !detach, "Tty": tty, "Cmd": words.collect::<Vec<_>>(),
        "Env": env, "User": args.user, "WorkingDir": args.workdir, "Privileged": args.privileged,
        "DetachKeys": args.detach_keys,
    });
    let mut start = json!({"Detach": detach, "Tty": tty});
    if !size.is_empty() {
        wanted["ConsoleSize"] = json!(size);
        start["ConsoleSize"] = json!(size);
    }
    let made: Value = rn.post(&["containers", &container, "exec"]).body(&wanted).json().await?;
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    let start = rn.post(&["exec", &id, "start"]).body(&start);
    if detach {
        return start.done().await.map_err(not_started);
    }
    let (pieces, input) = start.upgrade().await.map_err(not_started)?.split(tty);
    // From here the terminal is the command's; the guard gives it back.
    let raw = if tty && stdin { RawMode::enter() } else { None };
    if tty {
        tokio::spawn(stdio::follow_size(rn.clone(), Sized("exec", id.clone()), false));
    }
    // The one half is kept, or the connection would look closed.
    let (input, kept) = if stdin { (Some(input), None) } else { (None, Some(input)) };
    let ended = stdio::carry(pieces, input, (tty && stdin).then_some(keys)).await;
    drop((raw, kept));
    if ended? == Ended::Detached {
        output::complain("read escape sequence");
        return Ok(());
    }
    let how: Value = rn.get(&["exec", &id, "json"]).json().await?;
    match how["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Code(code)),
        None => Err(Failure::local("the daemon ended the connection before the command was done")),
    }
}

/// A command that cannot be run has Docker's exit codes for that.
fn not_started(failure: Failure) -> Failure {
    let Failure::Daemon(error) = &failure else { return failure };
    match exit_code::of_program(&error.message) {
        None => failure,
        Some(code) => {
            output::complain(&failure.to_string());
            Failure::Code(code)
        }
    }
}
