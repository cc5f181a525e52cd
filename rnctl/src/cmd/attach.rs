//! A container's own streams, on this terminal: for `attach`, and for `run` and `start` in the foreground.

use std::{io::IsTerminal, time::Duration};

use clap::Args;
use docker_api::detach_keys::DetachKeys;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    container::config::Attached,
    stdio::{self, RawMode, Sized},
};
use crate::{
    api::{Client, Response, Upgraded},
    exit::Failure,
    output::{self, listing::Row},
    parse::refusal,
};

/// Flags of `attach`.
#[derive(Debug, Args)]
#[command(after_help = "Exits as the container does. With a terminal, ctrl-p ctrl-q leaves it running.")]
pub struct AttachArgs {
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Keys to leave the container by, with a terminal [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Do not pass signals on to the container
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true,
          action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    sig_proxy: bool,
    /// The container, by name or id
    container: String,
}

/// How a container is attached to.
#[derive(Debug, Clone)]
pub struct How {
    /// Its id.
    pub container: String,
    /// What of it.
    pub streams: Attached,
    /// It has a terminal.
    pub tty: bool,
    /// It starts again by itself.
    pub restarts: bool,
    /// Keys to leave it by; empty = the usual ones.
    pub detach_keys: String,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The container has ended with this code.
    Exited(i32),
    /// The user has left it running.
    Detached,
}

/// Attached, and nothing carried yet: what the container says waits until [`Session::carry`].
pub struct Session {
    how: How,
    keys: Option<DetachKeys>,
    /// None where no stream is wanted.
    streams: Option<Upgraded>,
    /// The answer that says how it has ended.
    end: Response,
}

impl Session {
    /// Attaches, and has the daemon tell the end: of this run (`not-running`), of the next one (`next-exit`), of the container
    /// (`removed`). Once this has returned, nothing of a program that is started later is missed.
    ///
    /// # Errors
    /// The daemon's, or there are no such keys.
    pub async fn open(rn: &Client, how: How, until: &str) -> Result<Self, Failure> {
        let keys = DetachKeys::parse(&how.detach_keys).map_err(|e| Failure::local(refusal(e)))?;
        let keys = (how.tty && how.streams.stdin).then_some(keys);
        let Attached { stdin, stdout, stderr } = how.streams;
        let streams = match how.streams {
            Attached::NONE => None,
            _ => {
                let attach = rn.post(&["containers", &how.container, "attach"]);
                let attach = attach.flag("stream", true).flag("stdin", stdin);
                let attach = attach.flag("stdout", stdout).flag("stderr", stderr);
                let own_keys = Some(&how.detach_keys).filter(|keys| !keys.is_empty());
                Some(attach.maybe("detachKeys", own_keys).upgrade().await?)
            }
        };
        let end = rn.post(&["containers", &how.container, "wait"]).query("condition", until).send().await?;
        Ok(Self { how, keys, streams, end })
    }

    /// Carries everything both ways until the container has ended.
    ///
    /// # Errors
    /// The daemon is gone.
    pub async fn carry(self, rn: &Client) -> Result<Ended, Failure> {
        let Self { how, keys, streams, end } = self;
        let lost = |failure: Failure| match failure {
            // What the daemon says itself.
            Failure::Daemon(error) => Failure::Daemon(error),
            _ => {
                let id = output::short_id(&how.container);
                Failure::local(format!(
                    "the connection to the daemon was lost; container {id} goes on without this terminal"
                ))
                .with_help(format!("rnctl attach {id}, or rnctl logs -f {id}"))
            }
        };
        if let Some(streams) = streams {
            let stdin = how.streams.stdin;
            // From here the terminal is the program's; the guard gives it back. Who only looks keeps his keys.
            let _raw = if how.tty && stdin { RawMode::enter() } else { None };
            let (pieces, input) = streams.split(how.tty);
            // The one half is kept, or the connection would look closed.
            let (input, _kept) = if stdin { (Some(input), None) } else { (None, Some(input)) };
            if stdio::carry(pieces, input, keys).await.map_err(lost)? == stdio::Ended::Detached {
                return Ok(Ended::Detached);
            }
        }
        if how.restarts {
            return run_ended(rn, &how.container).await.map(Ended::Exited).map_err(lost);
        }
        exit_code(end).await.map(Ended::Exited).map_err(lost)
    }
}

/// What an answer to `wait` says in the end.
///
/// # Errors
/// The daemon is gone, or could not wait.
pub async fn exit_code(end: Response) -> Result<i32, Failure> {
    let said: Value = end.json().await?;
    if let Some(why) = said.pointer("/Error/Message").and_then(Value::as_str).filter(|why| !why.is_empty()) {
        return Err(Failure::local(why));
    }
    let code = said.get("StatusCode").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    code.ok_or_else(|| Failure::local("the daemon ended the connection before the container was done"))
}

/// The exit code of a run that is over, of a container that starts again by itself.
async fn run_ended(rn: &Client, id: &str) -> Result<i32, Failure> {
    let look = |object: &Row| object.get("State").cloned().unwrap_or_default();
    let runs = |state: &Value| state["Running"] == true && state["Restarting"] != true;
    let first = rn.get(&["containers", id, "json"]).object().await?;
    let mut state = look(&first);
    while runs(&state) {
        // Its output has ended, and its end is about to be noted.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = rn.get(&["containers", id, "json"]).object().await?;
        let again = now.get("RestartCount") != first.get("RestartCount");
        state = look(&now);
        if again {
            break;
        }
    }
    Ok(state["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or_default())
}

/// Follows this terminal's size, if the container has a terminal.
pub fn follow_size(rn: &Client, how: &How, now: bool) -> Option<tokio::task::JoinHandle<()>> {
    let of = Sized("containers", how.container.clone());
    how.tty.then(|| tokio::spawn(stdio::follow_size(rn.clone(), of, now)))
}

/// Refuses what no terminal can be made of, in Docker's words.
///
/// # Errors
/// Standard input is to be a terminal's and is none.
pub fn check_terminal(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !std::io::stdin().is_terminal() {
        return Err(Failure::local(
            "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
        )
        .with_help("leave -t away"));
    }
    Ok(())
}

/// Passes signals on to a container, until it is aborted.
pub async fn pass_signals(rn: Client, id: String) {
    let open = |kind| signal(kind).ok();
    let (Some(mut int), Some(mut term), Some(mut hup), Some(mut quit), Some(mut usr1), Some(mut usr2)) = (
        open(SignalKind::interrupt()),
        open(SignalKind::terminate()),
        open(SignalKind::hangup()),
        open(SignalKind::quit()),
        open(SignalKind::user_defined1()),
        open(SignalKind::user_defined2()),
    ) else {
        return;
    };
    loop {
        let name = tokio::select! {
            _ = int.recv() => "INT",
            _ = term.recv() => "TERM",
            _ = hup.recv() => "HUP",
            _ = quit.recv() => "QUIT",
            _ = usr1.recv() => "USR1",
            _ = usr2.recv() => "USR2",
        };
        // It may have ended meanwhile.
        let _ = rn.post(&["containers", &id, "kill"]).query("signal", name).done().await;
    }
}

/// `attach`.
pub async fn run(rn: &Client, args: AttachArgs) -> Result<(), Failure> {
    let detail = rn.get(&["containers", &args.container, "json"]).object().await?;
    let state = detail.get("State").cloned().unwrap_or_default();
    let refused = |why: &str| Err(Failure::local(why));
    if state["Running"] == false {
        return refused("You cannot attach to a stopped container, start it first");
    }
    if state["Paused"] == true {
        return refused("You cannot attach to a paused container, unpause it first");
    }
    if state["Restarting"] == true {
        return refused("You cannot attach to a restarting container, wait until it is running");
    }
    let how = how(&detail, !args.no_stdin, args.detach_keys);
    check_terminal(how.streams.stdin, how.tty)?;
    let id = how.container.clone();
    let session = Session::open(rn, how.clone(), "not-running").await?;
    let _size = follow_size(rn, &how, true);
    let signals = (args.sig_proxy && !how.tty).then(|| tokio::spawn(pass_signals(rn.clone(), id)));
    let ended = session.carry(rn).await;
    if let Some(signals) = signals {
        signals.abort();
    }
    match ended? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => Err(Failure::Code(code)),
        Ended::Detached => {
            output::complain("read escape sequence");
            Ok(())
        }
    }
}

/// How a container can be attached to, by what the daemon says of it. `stdin`: if it reads any.
pub fn how(detail: &Row, stdin: bool, detach_keys: String) -> How {
    let part = |pointer: &str| {
        let mut names = pointer.split('.');
        let first = names.next().and_then(|name| detail.get(name)).cloned().unwrap_or_default();
        names.fold(first, |value, name| value.get(name).cloned().unwrap_or_default())
    };
    let policy = part("HostConfig.RestartPolicy.Name");
    How {
        container: part("Id").as_str().unwrap_or_default().to_owned(),
        streams: Attached { stdin: stdin && part("Config.OpenStdin") == true, stdout: true, stderr: true },
        tty: part("Config.Tty") == true,
        restarts: policy.as_str().is_some_and(|name| !matches!(name, "" | "no")),
        detach_keys,
    }
}
