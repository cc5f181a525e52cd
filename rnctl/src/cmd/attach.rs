//! A container's own streams, on this terminal: for `attach`, and for `run` and `start` in the foreground.

use std::io::IsTerminal;

use clap::Args;
use futures::StreamExt;
use proto::pb::{
    self, attach_container_reply::Kind as Out, attach_container_request as request, exec_request,
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    sync::mpsc::{Receiver, Sender, channel},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    exec::{RawMode, window},
    get,
};
use crate::{connect::Daemon, exit::Failure, output};

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
#[derive(Debug, Clone, Default)]
pub struct How {
    /// By name or id.
    pub container: String,
    /// Feed its standard input.
    pub stdin: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Wait for its next start.
    pub next_start: bool,
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
    input: Sender<pb::AttachContainerRequest>,
    output: Streaming<pb::AttachContainerReply>,
}

fn wire(kind: request::Kind) -> pb::AttachContainerRequest {
    pb::AttachContainerRequest { kind: Some(kind) }
}

impl Session {
    /// Attaches. Once this has returned, nothing of a program that is started later is missed.
    ///
    /// # Errors
    /// The daemon's, or standard input is not what the terminal needs.
    pub async fn open(rn: &Daemon, how: How) -> Result<Self, Failure> {
        let (input, requests): (_, Receiver<_>) = channel(16);
        let (rows, cols) = if how.tty { window() } else { (0, 0) };
        let start = request::Start {
            container: how.container.clone(),
            stdin: how.stdin,
            next_start: how.next_start,
            rows: rows.into(),
            cols: cols.into(),
            detach_keys: how.detach_keys.clone(),
        };
        // The channel has room: nothing waits here.
        let _ = input.send(wire(request::Kind::Start(start))).await;
        let output = rn.local().attach_container(ReceiverStream::new(requests).boxed()).await?.into_inner();
        Ok(Self { how, input, output })
    }

    /// Carries everything both ways until the container has ended.
    ///
    /// # Errors
    /// The daemon is gone.
    pub async fn carry(self) -> Result<Ended, Failure> {
        let Self { how, input, mut output } = self;
        // From here the terminal is the program's; the guard gives it back. Who only looks keeps his keys.
        let _raw = if how.tty && how.stdin { RawMode::enter() } else { None };
        if how.stdin {
            tokio::spawn(forward_input(input.clone()));
        }
        if how.tty {
            tokio::spawn(forward_size(input.clone()));
        }
        let lost = || {
            Failure::local(format!(
                "the connection to the daemon was lost; container {} goes on without this terminal",
                output::short_id(&how.container)
            ))
            .with_help(format!("rnctl attach {0}, or rnctl logs -f {0}", output::short_id(&how.container)))
        };
        loop {
            let reply = match output.message().await {
                Ok(Some(reply)) => reply,
                Ok(None) => return Err(lost()),
                // What the daemon says itself has details.
                Err(status) if status.details().is_empty() => return Err(lost()),
                Err(status) => return Err(status.into()),
            };
            match reply.kind {
                Some(Out::Stdout(data)) => show(false, data).await,
                Some(Out::Stderr(data)) => show(true, data).await,
                Some(Out::ExitCode(code)) => return Ok(Ended::Exited(code)),
                Some(Out::Detached(_)) => return Ok(Ended::Detached),
                None => {}
            }
        }
    }
}

/// Writes; whoever reads may take long, and signals are passed on meanwhile.
async fn show(stderr: bool, data: Vec<u8>) {
    let _ = tokio::task::spawn_blocking(move || output::bytes(stderr, &data)).await;
}

async fn forward_input(sender: Sender<pb::AttachContainerRequest>) {
    let mut stdin = tokio::io::stdin();
    let mut data = vec![0; 32 * 1024];
    loop {
        let kind = match stdin.read(&mut data).await {
            Ok(n) if n > 0 => request::Kind::Stdin(data[..n].to_vec()),
            Ok(_) | Err(_) => request::Kind::CloseStdin(true),
        };
        let end = matches!(kind, request::Kind::CloseStdin(_));
        if sender.send(wire(kind)).await.is_err() || end {
            return;
        }
    }
}

async fn forward_size(sender: Sender<pb::AttachContainerRequest>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        let (rows, cols) = window();
        let resize = exec_request::Resize { rows: rows.into(), cols: cols.into() };
        if sender.send(wire(request::Kind::Resize(resize))).await.is_err() {
            return;
        }
    }
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

type Local = pb::local_client::LocalClient<tonic::transport::Channel>;

/// Passes signals on to a container, until it is aborted.
pub async fn pass_signals(mut local: Local, id: String) {
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
        let request = pb::KillContainerRequest { key: id.clone(), signal: name.into() };
        // It may have ended meanwhile.
        let _ = local.kill_container(request).await;
    }
}

/// `attach`.
pub async fn run(rn: &Daemon, args: AttachArgs) -> Result<(), Failure> {
    let detail = rn.local().inspect_container(get(&args.container)).await?.into_inner();
    let stdin = detail.open_stdin && !args.no_stdin;
    check_terminal(stdin, detail.tty)?;
    let how = How {
        container: detail.container.map(|c| c.id).unwrap_or_default(),
        stdin,
        tty: detail.tty,
        next_start: false,
        detach_keys: args.detach_keys,
    };
    let id = how.container.clone();
    let session = Session::open(rn, how).await?;
    let signals = (args.sig_proxy && !detail.tty).then(|| tokio::spawn(pass_signals(rn.local(), id)));
    let ended = session.carry().await;
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
